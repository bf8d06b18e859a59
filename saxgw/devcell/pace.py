"""How fast a model server works, and what that does to its callers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from saxgw.devcell.fault import Fault


@dataclass
class Pace:
    """What a model server makes of its data calls beside computing them; as it is at first, nothing."""

    seconds: float = 0.0
    """How much longer each call takes when its turn has come."""

    at_a_time: int | None = None
    """How many calls of a method may have their turn, None for all; further ones queue, with a slot each."""

    leaks: Fault | None = None
    """By its strikes a slot is lost when the deadline of its call passes in the queue, as in Sax (Sax protocol §5.7).

    Its methods are named as in "lm.generate".
    """

    overloads: list[Fault] = field(default_factory=list)
    """Faults by whose strikes a method has no slot; their methods are named in the same way."""

    def refuses(self, method: str) -> bool:
        """Tells whether a call finds no slot, whatever slots there are."""
        return any(overload.strike(method) for overload in tuple(self.overloads))
