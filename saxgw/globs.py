"""Globs for names and paths.

`*` is any text without a slash, `?` one character that is no slash, `**`, which stands at the end alone, everything.
What a caller wrote is matched in linear time, so that nobody can keep the gateway busy with a long name.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

_DOTS: Final = re.compile(r"(?:.*/)?\.\.?(?:/.*)?", re.DOTALL)
"""A path with a segment that leads elsewhere than the path says."""


class InvalidGlob(ValueError):
    """A glob makes no sense; the message quotes it."""


class Globs:
    """Some globs, of which a text need match one.

    A text with a segment `.` or `..` matches none: `/checkpoints/**` would lead anywhere otherwise. Raises InvalidGlob.
    """

    def __init__(self, globs: Iterable[str]) -> None:
        self._pattern = re.compile("|".join(map(_regular_expression, globs)) or r"(?!)", re.DOTALL)

    def match(self, text: str) -> bool:
        """Whether one of the globs is for all of the text."""
        return self._pattern.fullmatch(text) is not None and _DOTS.fullmatch(text) is None


def _regular_expression(glob: str) -> str:
    """The glob as a regular expression.

    Each part between two wildcards is looked for where it comes first, and never again: with wildcards that stop at
    slashes a later place cannot match where the first one does not.
    """
    tail = ".*" if glob.endswith("**") else ""
    first, *rest = ("".join(map(_character, part)) for part in glob.removesuffix("**").split("*"))
    if not glob or "" in rest[:-1] or (tail and rest and not rest[-1]):
        raise InvalidGlob(f'"{glob}" is not a pattern; * is for what has no slash, and ** stands at the end alone')
    last = rest.pop() if rest and not tail else None
    middle = "".join(f"(?>[^/]*?{part})" for part in rest)
    return first + middle + (tail if last is None else f"[^/]*{last}")


def _character(character: str) -> str:
    return "[^/]" if character == "?" else re.escape(character)
