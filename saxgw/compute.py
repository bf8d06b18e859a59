"""Threads for work that would hold up the event loop."""

from __future__ import annotations

import asyncio
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

Result = TypeVar("Result")

_SWITCH_S: Final = 0.001
"""How long a thread that computes may keep Python's lock from the event loop. Python's own 5 ms are spent at each point
where the loop lets go of the lock, which it does several times each time that it comes round."""


class _FrequentSwitches:
    """Has Python switch between threads more often while anybody computes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._computing = 0
        self._usual_s = sys.getswitchinterval()

    def begin(self) -> None:
        with self._lock:
            self._computing += 1
            if self._computing == 1:
                self._usual_s = sys.getswitchinterval()
                sys.setswitchinterval(min(_SWITCH_S, self._usual_s))

    def end(self) -> None:
        with self._lock:
            self._computing -= 1
            if not self._computing:
                sys.setswitchinterval(self._usual_s)


_frequent_switches: Final = _FrequentSwitches()


class Compute:
    """A small pool of threads. Calls beyond its size wait their turn; a call cancelled while it waits never runs.

    Args:
        threads: Calls that run at a time.
        name: Begins the names of the threads.
    """

    def __init__(self, threads: int, name: str) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._unfinished: set[asyncio.Future[Any]] = set()

    async def run(self, call: Callable[[], Result]) -> Result:
        """Returns what `call` returns in a thread. Cancelling this does not interrupt a call that runs already."""
        loop = asyncio.get_running_loop()
        finished: asyncio.Future[None] = loop.create_future()
        # The pool keeps what was cancelled in its line until its turn comes; what it was about is not to wait there.
        calls = [call]

        def make() -> Result:
            return calls.pop()()

        future = self._pool.submit(make)
        future.add_done_callback(lambda _: calls.clear())
        del call
        _frequent_switches.begin()
        self._unfinished.add(finished)
        finished.add_done_callback(self._unfinished.discard)
        # Told by the thread itself: the future that is awaited here is over as soon as it is cancelled.
        future.add_done_callback(lambda _: _frequent_switches.end())
        future.add_done_callback(lambda _: loop.call_soon_threadsafe(finished.set_result, None))
        try:
            return await asyncio.wrap_future(future)
        finally:
            del future  # what it raises has this frame in its traceback, and with it all that the call was about

    async def close(self) -> None:
        """Waits for the running calls and ends the threads; waiting calls are cancelled."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        if self._unfinished:
            await asyncio.wait(self._unfinished)
        self._pool.shutdown()
