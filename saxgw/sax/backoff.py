"""Pauses between tries."""

from __future__ import annotations

import random


def pause_s(failures: int, first_s: float, longest_s: float) -> float:
    """Returns how long to pause after that many failures in a row, the first counting as 1.

    The pause doubles with each failure up to `longest_s`, and then loses up to a half at random, so that many who
    failed together do not come back together.
    """
    return min(first_s * 2.0 ** min(failures - 1, 30), longest_s) * random.uniform(0.5, 1)  # noqa: S311 -- no secret
