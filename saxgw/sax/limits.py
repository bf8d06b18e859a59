"""How many requests of one method one replica is sent at a time: a number that follows what the replica takes.

A model server refuses requests beyond its admission limit, and takes the slot of a request for ever if its deadline
passes in the server's queue (Sax protocol §5.7). So what it has no room for waits here. The limit cannot be asked for:
it shows when it is reached, by RESOURCE_EXHAUSTED.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_CAUTION: Final = 10
"""How many times as many answers as the limit it takes to try one request more, once a limit was found. Each try that
comes too early is a refused request, which then goes first in the line."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Between what the limits of replicas move."""

    least: int = 1
    """Requests at a time that are always tried."""

    first: int = 16
    """Requests at a time before anything is known, within the other two; more and more until the first is refused."""

    most: int = 1000
    """Requests at a time that are never exceeded."""


class Limit:
    """The limit of one method on one replica, and how many requests are under way there."""

    __slots__ = ("_bounds", "_found", "_limit", "in_flight")

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._limit = float(min(max(bounds.first, bounds.least), bounds.most))
        self._found = False
        self.in_flight = 0
        """Requests that were sent and are not over."""

    @property
    def current(self) -> int:
        """How many may be in flight."""
        return int(self._limit)

    @property
    def has_room(self) -> bool:
        """Whether one more may be sent."""
        return self.in_flight < int(self._limit)

    def answered(self) -> None:
        """Notes that a request in flight was taken, and tries more from now on if there was no room for others."""
        if self.in_flight >= int(self._limit):
            more = 1 / (_CAUTION * self._limit) if self._found else 1.0
            self._limit = min(self._limit + more, self._bounds.most)

    def refused(self, stated: int | None) -> None:
        """Notes that a request in flight was refused for want of room.

        `stated` is the server's own limit if it named one. What it has taken of ours is a limit too, as there may be
        other gateways.
        """
        self._found = True
        taken = self.in_flight - 1
        self._limit = float(max(self._bounds.least, min(taken, self._limit if stated is None else stated)))
