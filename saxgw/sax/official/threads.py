"""Threads for calls that block: so many at a time, and so many that wait for one."""

from __future__ import annotations

import asyncio
import queue
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from saxgw.sax.errors import Busy

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class Threads:
    """A pool of threads whose waiting line has an end. It belongs to one event loop.

    A call that runs cannot be stopped: whoever leaves it is free at once, and the thread is when the call returns.
    The threads are daemons, so that a process need not wait for them to end.

    Args:
        threads: how many calls run at a time.
        waiting: how many more may wait for their turn.
        name: begins the names of the threads.
    """

    def __init__(self, threads: int, waiting: int, name: str) -> None:
        self._most = threads
        self._most_waiting = waiting
        self._name = name
        self._started = 0
        self._running: set[asyncio.Future[Any]] = set()
        """Calls on a thread, left ones included."""
        self._waiting: dict[asyncio.Future[Any], Callable[[], Any]] = {}
        """Calls that wait for their turn, in its order."""
        self._work: queue.SimpleQueue[tuple[asyncio.Future[Any], Callable[[], Any]] | None] = queue.SimpleQueue()
        self._closed = False

    @property
    def in_use(self) -> bool:
        """Whether there are threads."""
        return self._started > 0 and not self._closed

    def check_open(self) -> None:
        """Raises RuntimeError if this is closed."""
        if self._closed:
            raise RuntimeError("this Sax client is closed")

    def submit(self, call: Callable[[], T]) -> asyncio.Future[T]:
        """Has `call` made on a thread; cancel what this returns to leave it, or to withdraw it while it waits.

        Raises Busy if too many wait already.
        """
        self.check_open()
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        if len(self._running) < self._most:
            self._begin(future, call)
        elif len(self._waiting) < self._most_waiting:
            self._waiting[future] = call
            future.add_done_callback(self._withdraw)
        else:
            raise Busy(
                f"all {self._most} threads of the official Sax client are in use and {len(self._waiting)} calls wait "
                "for one; try again later, or give it more threads"
            )
        return future

    async def run(self, call: Callable[[], T], timeout_s: float) -> T:
        """Returns what `call` returns. Raises Busy as submit(), or if its turn does not come in time; TimeoutError."""
        future = self.submit(call)
        try:
            async with asyncio.timeout(timeout_s):
                return await future
        except TimeoutError:
            if not future.cancelled():  # it is the call's own
                raise
            raise self.too_late(future) from None

    def too_late(self, future: asyncio.Future[Any]) -> Exception:
        """Returns what to raise for a call that was left because its time was up."""
        if future in self._running:
            return TimeoutError()
        return Busy(
            f"all {self._most} threads of the official Sax client were in use all the time; try again later, or give "
            "it more threads"
        )

    def close(self) -> None:
        """Cancels all calls and ends the threads, each when the call that it runs returns."""
        self._closed = True
        for future in [*self._running, *self._waiting]:
            future.cancel()
        for _ in range(self._started):
            self._work.put(None)

    def _begin(self, future: asyncio.Future[Any], call: Callable[[], Any]) -> None:
        self._running.add(future)
        if len(self._running) > self._started:
            self._started += 1
            threading.Thread(target=self._perform, name=f"{self._name}-{self._started}", daemon=True).start()
        self._work.put((future, call))

    def _withdraw(self, future: asyncio.Future[Any]) -> None:
        self._waiting.pop(future, None)

    def _perform(self) -> None:
        """What each thread does."""
        while (work := self._work.get()) is not None:
            future, call = work
            result = error = None
            try:
                result = call()
            except BaseException as raised:  # noqa: BLE001 -- whoever waits for the call is told
                error = raised
            with suppress(RuntimeError):  # the loop is closed, so nobody waits
                future.get_loop().call_soon_threadsafe(self._over, future, result, error)
            del work, future, call, result, error  # not to be kept until there is work again

    def _over(self, future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:  # noqa: ANN401 -- of any call
        self._running.discard(future)
        if not future.done():
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)
        while self._waiting and not self._closed:
            following = next(iter(self._waiting))
            call = self._waiting.pop(following)
            if not following.done():
                self._begin(following, call)
                return
