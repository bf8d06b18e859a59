"""Time limits for tests in which something must happen before one is over."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.devcell.harness import TIMEOUT_S


def limits(first_s: float) -> Iterator[float]:
    """Time limits, each twice the last, for what must come to a certain point before its time is up.

    On a busy machine the first ones may be too short for that.
    """
    limit_s = first_s
    while limit_s < TIMEOUT_S:
        yield limit_s
        limit_s *= 2
    pytest.fail("it did not come to the point, whatever the time limit")
