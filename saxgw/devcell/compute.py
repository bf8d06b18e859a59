"""Threads for work that would hold up the event loop."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

Result = TypeVar("Result")


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
        future = self._pool.submit(call)
        self._unfinished.add(finished)
        finished.add_done_callback(self._unfinished.discard)
        # Told by the thread itself: the future that is awaited here is over as soon as it is cancelled.
        future.add_done_callback(lambda _: loop.call_soon_threadsafe(finished.set_result, None))
        return await asyncio.wrap_future(future)

    async def close(self) -> None:
        """Waits for the running calls and ends the threads; waiting calls are cancelled."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        if self._unfinished:
            await asyncio.wait(self._unfinished)
        self._pool.shutdown()
