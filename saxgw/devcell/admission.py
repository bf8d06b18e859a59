"""How many requests a method of a model takes at a time (Sax protocol §5.7)."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc

from saxgw.devcell.errors import Refusal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from saxgw.devcell.errors import Context
    from saxgw.devcell.fault import Fault
    from saxgw.devcell.pace import Pace


@dataclass
class _Queued:
    """A request that holds a slot and waits for its turn."""

    turn: asyncio.Future[None]
    expiry: asyncio.TimerHandle | None = None
    """What happens when its deadline passes before; None is nothing."""
    lost: bool = False
    """Whether its slot is never given back."""


class Admission:
    """Slots for requests that wait or run. There is no queue for slots: what finds none is refused.

    Args:
        model_key: Full name of the model.
        method: The method, such as "lm.generate".
        limit: How many slots there are.
        pace: How fast the server works, now and later.
    """

    def __init__(self, model_key: str, method: str, limit: int, pace: Pace) -> None:
        self._model_key = model_key
        self._method = method
        self._limit = limit
        self._pace = pace
        self._queue: deque[_Queued] = deque()
        self._taken = 0
        self._running = 0

    @asynccontextmanager
    async def slot(self, context: Context) -> AsyncIterator[None]:
        """Holds a slot for a call, from its turn on.

        It is given back however the request ends, by a deadline too; unless the server leaks, as Sax does.
        """
        if self._taken >= self._limit or self._pace.refuses(self._method):
            service = self._method.partition(".")[0]
            key = f"MethodKey(name={self._method!r}, service_id={service!r}, model_key={self._model_key!r})"
            raise Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, f"Too many requests: {key} {self._limit}")
        self._taken += 1
        await self._turn(context)
        try:
            if self._pace.seconds:
                await asyncio.sleep(self._pace.seconds)
            yield
        finally:
            self._end()

    async def _turn(self, context: Context) -> None:
        loop = asyncio.get_running_loop()
        queued = _Queued(loop.create_future())
        leaks, left_s = self._pace.leaks, context.time_remaining()
        if leaks and left_s is not None:
            queued.expiry = loop.call_later(left_s, self._lose, queued, leaks)
        self._queue.append(queued)
        self._advance()
        try:
            await queued.turn
        except asyncio.CancelledError:
            if not queued.turn.cancelled():
                if queued.turn.exception() is None:
                    self._end()
            elif not leaks:
                self._queue.remove(queued)
                self._taken -= 1
            # Sax does not notice who leaves its queue: they keep their slot, until their turn or their deadline comes.
            raise

    def _advance(self) -> None:
        while self._queue and (self._pace.at_a_time is None or self._running < self._pace.at_a_time):
            queued = self._queue.popleft()
            if queued.expiry:
                queued.expiry.cancel()
            if queued.lost:
                if not queued.turn.done():
                    queued.turn.set_exception(Refusal(grpc.StatusCode.CANCELLED, ""))
            elif queued.turn.cancelled():
                self._taken -= 1
            else:
                self._running += 1
                queued.turn.set_result(None)

    def _lose(self, queued: _Queued, leaks: Fault) -> None:
        """Loses the slot of a request whose deadline has passed; it is answered, though, when its turn would be."""
        queued.lost = leaks.strike(self._method)

    def _end(self) -> None:
        self._running -= 1
        self._taken -= 1
        self._advance()
