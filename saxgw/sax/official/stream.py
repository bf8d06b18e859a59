"""From a callback on a thread to an asynchronous generator."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from saxgw.sax.api import StreamItem

if TYPE_CHECKING:
    from saxgw.sax.official.parts import Step

_AHEAD: Final = 4
"""Steps of a stream that a thread may be ahead of its reader."""


class Feed:
    """Steps of a stream, put in on a thread and taken out on the event loop where this was made.

    A reader who is slow holds the thread up, and with it the model server. A reader who has left does not: what comes
    then is dropped, because nothing but the deadline stops the module.

    Args:
        until: when the call ends at the latest, by time.monotonic().
    """

    def __init__(self, until: float) -> None:
        self._until = until
        self._loop = asyncio.get_running_loop()
        self._steps: asyncio.Queue[list[StreamItem] | None] = asyncio.Queue()
        self._room = threading.Semaphore(_AHEAD)
        self._left = False
        self._late = False

    def put(self, last: bool, step: Step) -> None:  # noqa: FBT001 -- the module calls it so
        """The callback. It must not raise: the exception would cross Go (Sax protocol §7.1)."""
        if last or self._left:
            return
        if not self._room.acquire(timeout=max(0.0, self._until - time.monotonic())):
            self._left = self._late = True
        if not self._left:
            self._tell([StreamItem(text, prefix_len, scores) for text, prefix_len, scores in step])

    def finish(self, call: asyncio.Future[None]) -> None:
        """Ends the feed with the call that fills it, as its done callback."""
        if call.cancelled() or call.exception() is not None:  # looked at here, since take() need not come to it
            self.leave()
        self._steps.put_nowait(None)

    async def take(self, call: asyncio.Future[None]) -> list[StreamItem] | None:
        """The next step, or None at the end; raises what `call` raised, or TimeoutError if steps came too late."""
        step = await self._steps.get()
        if step is None:
            await call
            if self._late:
                raise TimeoutError
        self._room.release()
        return step

    def leave(self) -> None:
        """Nobody takes steps any more."""
        self._left = True
        self._room.release()

    def _tell(self, step: list[StreamItem]) -> None:
        with suppress(RuntimeError):  # the loop is closed, so nobody reads
            self._loop.call_soon_threadsafe(self._steps.put_nowait, step)
