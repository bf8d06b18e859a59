"""How often the servers of a dev cell look after each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Intervals and time limits, in seconds. They are a tenth of Sax's (Sax protocol §4.3, §5.1), or less."""

    poll_s: float = 1.0
    """The admin asks each model server for its status this often."""

    prune_after_s: float = 5.0
    """A model server that has been silent for so long is taken out of the cell; one that hangs, within twice that."""

    connect_back_s: float = 10.0
    """How long the admin tries to reach a model server that joins. Such servers give up after 10 s themselves."""

    join_s: float = 2.0
    """A model server joins again this often, which cures everything that made the admin forget it."""

    location_s: float = 0.1
    """A model server looks this often whether location.proto has been written anew, and joins at once then."""

    tick_s: float = 1.0
    """An admin that behaves as Google's acts this often; any other one acts at once."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value <= 0:
                raise ValueError(f"{name} must be above 0, got {value}")


GOOGLE_TIMING: Final = Timing(
    poll_s=10.0, prune_after_s=25.0, connect_back_s=10.0, join_s=900.0, location_s=5.0, tick_s=10.0
)
"""Sax's own intervals."""
