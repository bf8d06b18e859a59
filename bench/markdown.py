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


def verdict(value: float, aim: float | None, form: str) -> tuple[str, str]:
    """Two cells: what a value should be at the most, and whether it is; empty without an aim."""
    return ("", "") if aim is None else (f"≤ {aim:{form}}", "reached" if value <= aim else "missed")
