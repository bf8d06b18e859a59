"""A line of requests that wait for room on any of a model's replicas: first come, first served."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class Line(Generic[T]):
    """Requests in the order in which they came; each leaves with a place `T`, or without one.

    `give_back` is called with a place whose owner was cancelled with it in hand.
    """

    def __init__(self, give_back: Callable[[T], None]) -> None:
        self._give_back = give_back
        self._waiting: OrderedDict[asyncio.Future[T | None], None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._waiting)

    async def join(self, *, first: bool) -> T | None:
        """Waits for a place; returns None if the line was dismissed. Who was sent back goes first (`first`)."""
        waiter: asyncio.Future[T | None] = asyncio.get_running_loop().create_future()
        self._waiting[waiter] = None
        if first:
            self._waiting.move_to_end(waiter, last=False)
        try:
            return await waiter
        except asyncio.CancelledError:
            self._waiting.pop(waiter, None)
            place = None if waiter.cancelled() or not waiter.done() else waiter.result()
            if place is not None:
                self._give_back(place)
            raise

    def serve(self, choose: Callable[[], T | None]) -> None:
        """Gives places to those who have come first, as long as `choose` finds any."""
        while self._waiting:
            waiter = next(iter(self._waiting))
            if not waiter.done():  # it is if its owner has just been cancelled, and will leave by itself
                place = choose()
                if place is None:
                    return
                waiter.set_result(place)
            del self._waiting[waiter]

    def dismiss(self) -> None:
        """Sends all away without a place."""
        waiting, self._waiting = self._waiting, OrderedDict()
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(None)
