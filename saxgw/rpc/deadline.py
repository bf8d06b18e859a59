"""Deadlines: made at the door of what the caller asks for, and enforced by an interceptor (rpc/expiry.py)."""

from __future__ import annotations

import math
import re
import time
from dataclasses import dataclass
from typing import Final, Self

_GRPC_TIMEOUT: Final = re.compile(r"([0-9]{1,8})([HMSmun])")
_GRPC_UNIT_S: Final = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment after which nobody waits for the answer any more."""

    at: float
    """The moment in seconds of time.monotonic(), which is the clock of event loops too. Asking the loop for the time
    would cost a system call to find the loop."""

    timeout_s: float
    """How long the caller gave from the start of the call, in seconds."""

    @classmethod
    def after(cls, timeout_s: float) -> Self:
        """The deadline that is `timeout_s` seconds from now; 0 or less has passed already."""
        return cls(time.monotonic() + timeout_s, timeout_s)

    def remaining_s(self) -> float:
        """Seconds that are left; negative once it has passed."""
        return self.at - time.monotonic()

    def earliest(self, other: Self | None) -> Self:
        """The earlier of the two."""
        return other if other is not None and other.at < self.at else self


def decode_grpc_timeout(text: str) -> float:
    """Seconds of a `Grpc-Timeout` header: at most eight digits and a unit, one of H M S m u n.

    Raises ValueError with a sentence for the caller.
    """
    if match := _GRPC_TIMEOUT.fullmatch(text.strip()):
        return int(match[1]) * _GRPC_UNIT_S[match[2]]
    raise ValueError(f'expected up to eight digits and one of H, M, S, m, u, n, such as 500m, got "{text}"')


def decode_seconds(text: str) -> float:
    """Seconds of an `X-Request-Timeout` header: a decimal number, not negative.

    Raises ValueError with a sentence for the caller.
    """
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:  # NaN compares false
        raise ValueError(f'expected a number of seconds, such as 2.5, got "{text}"')
    return seconds
