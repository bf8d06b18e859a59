"""Pauses between tries."""

from __future__ import annotations

import random
from typing import Final

_SHARE: Final = 0.2
"""How many retries each request pays for."""

_RESERVE: Final = 500.0
"""How many retries there may be beyond that: when a replica dies, all that it had at a time are sent to another."""


class RetryBudget:
    """Keeps retries a small share of all requests, however many fail, so that it is not they that keep servers down."""

    def __init__(self) -> None:
        self._left = _RESERVE

    def earn(self) -> None:
        """Notes a request that was answered."""
        self._left = min(self._left + _SHARE, _RESERVE)

    def spend(self) -> bool:
        """Whether one more retry is allowed, which is taken then."""
        if self._left < 1:
            return False
        self._left -= 1
        return True


def pause_s(failures: int, first_s: float, longest_s: float) -> float:
    """Returns how long to pause after that many failures in a row, the first counting as 1.

    The pause doubles with each failure up to `longest_s`, and then loses up to a half at random, so that many who
    failed together do not come back together.
    """
    return min(first_s * 2.0 ** min(failures - 1, 30), longest_s) * random.uniform(0.5, 1)  # noqa: S311 -- no secret
