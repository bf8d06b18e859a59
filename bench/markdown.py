"""Figures in Markdown tables."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def row(*cells: str) -> str:
    """A row of a table."""
    return f"| {' | '.join(cells)} |"


def spread(values: Sequence[float], form: str) -> str:
    """The median, with the lowest and the highest; `form` is a format specification such as ".2f"."""
    return f"{median(values):{form}} ({min(values):{form}}–{max(values):{form}})"  # noqa: RUF001 - typography in a report is meant
