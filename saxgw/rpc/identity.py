"""Who calls, and what it may do, once that is known."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from saxgw.globs import Globs, InvalidGlob

_PART: Final = r"[a-z0-9_*?-]+"

_MODELS: Final = re.compile(rf"/sax/{_PART}/{_PART}")
"""What a pattern for models may be; names have no other characters."""

ALL_MODELS: Final = ("/sax/*/*",)


@dataclass(frozen=True, slots=True)
class Identity:
    """A caller that has said who it is, and was believed. Raises InvalidGlob for a pattern that is for no model."""

    name: str
    """Tells callers apart, in logs and in limits: an API key's name, or `jwt:` and the subject of a token."""

    scopes: frozenset[str]
    """What it may do: `read`, `generate`, `admin`. None includes another."""

    models: tuple[str, ...] = ALL_MODELS
    """Patterns for the models that it may do it with, `/sax/<cell>/<model>` with `*` and `?`."""

    _models: Globs = field(init=False, repr=False, compare=False)
    _cells: Globs = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for pattern in self.models:
            if not _MODELS.fullmatch(pattern):
                raise InvalidGlob(f'"{pattern}" is not a pattern for models; write one such as /sax/test/* or /sax/*/*')
        object.__setattr__(self, "_models", Globs(self.models))
        object.__setattr__(self, "_cells", Globs(pattern.rpartition("/")[0] for pattern in self.models))

    def may_use(self, model: str) -> bool:
        """Whether a model, `/sax/<cell>/<model>`, is among its own."""
        return self._models.match(model)

    def may_see(self, cell: str) -> bool:
        """Whether a cell, `/sax/<cell>`, may have models of its own."""
        return self._cells.match(cell)
