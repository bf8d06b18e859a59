"""What the transcoder refuses, and in which words.

    TranscodingError
    ├── InvalidRule          an HTTP rule that cannot be served; raised when the transcoder is built
    ├── RouteNotFound        no rule has this path
    ├── MethodNotAllowed     rules have this path, none has this HTTP method
    ├── InvalidInput         a path, query or body that does not fit the request message
    └── InvalidMessage       a message without a JSON form, such as a Timestamp in the year 10000

Texts are for callers of the API: they say what was expected, quote what came, shortened when it is long, and never show
the words of an exception from below.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_QUOTED_CHARACTERS = 60
"""How much of a value is quoted."""

_PATH_CHARACTERS = 240
"""How much of a field's path is shown, from its end: callers can nest deeply and choose the keys of maps."""


class TranscodingError(Exception):
    """The base of everything that this package raises on purpose."""


class InvalidRule(TranscodingError):
    """A google.api.http rule that cannot be served, or two that clash."""


class RouteNotFound(TranscodingError):
    """No rule has this path."""

    def __init__(self, path: str) -> None:
        super().__init__(f"there is nothing at {quote(path)}")
        self.path = path


class MethodNotAllowed(TranscodingError):
    """The path is known, the HTTP method is not among those in `allow`, which is sorted."""

    def __init__(self, method: str, path: str, allow: tuple[str, ...]) -> None:
        super().__init__(f"{quote(path)} does not take {shorten(method)}; it takes {listed(allow)}")
        self.allow = allow


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing that is wrong with a request."""

    field: str
    """Path of the field, in the names of the .proto file: `results[2].score`. Empty for the body as a whole."""

    description: str
    """What was expected and what came instead."""

    def __str__(self) -> str:
        return f"{self.field}: {self.description}" if self.field else self.description


class InvalidInput(TranscodingError):
    """A request that does not fit its message; `str()` is one sentence for the caller."""

    def __init__(self, *violations: Violation) -> None:
        super().__init__("; ".join(map(str, violations)))
        self.violations = violations


class InvalidMessage(TranscodingError):
    """A message that JSON cannot express: the fault of who made the message, not of the caller."""


class Refusal(Exception):
    """A value that was refused deep inside a message, on its way up to become InvalidInput or InvalidMessage.

    Each level adds the step that leads to it, so that the way down costs nothing.
    """

    def __init__(self, description: str) -> None:
        super().__init__(description)
        self.description = description
        self._steps: list[str] = []

    def under(self, step: str) -> Refusal:
        """The same refusal, seen from one level further out: `step` is a field name, or a `[key]` or an `[index]`."""
        self._steps.append(step)
        return self

    def violation(self) -> Violation:
        """The refusal as it is told to the caller."""
        path = ""
        for step in reversed(self._steps):
            path += step if step.startswith("[") or not path else f".{step}"
        return Violation(path if len(path) <= _PATH_CHARACTERS else f"…{path[-_PATH_CHARACTERS:]}", self.description)


def too_deep() -> Refusal:
    """The refusal of an array or object beyond the depth limit."""
    return Refusal("nested too deeply; send fewer levels of arrays and objects")


def expected(what: str, value: Any) -> Refusal:  # noqa: ANN401 - `value` is any JSON value
    """The refusal of a JSON value that is not `what`, for example "an integer"."""
    return Refusal(f"expected {what}, got {quote(value)}")


def quote(value: Any) -> str:  # noqa: ANN401 - `value` is any JSON value
    """A JSON value as it is shown in a message: containers by their kind, scalars as JSON, shortened when long."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "an array"
    if isinstance(value, str):
        return f'"{shorten(value)}"'
    return orjson.dumps(value).decode()


def shorten(text: str) -> str:
    """`text` with everything unprintable escaped as in JSON, and no longer than a message can bear."""
    head = text[:_QUOTED_CHARACTERS].encode(errors="replace").decode()
    escaped = orjson.dumps(head).decode()[1:-1]
    return escaped if len(text) <= _QUOTED_CHARACTERS else f"{escaped}…"


def listed(names: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`, did you mean "x"?` for the known name closest to `name`, or nothing when none is close."""
    # The comparison is quadratic in the length of the name, which is the caller's.
    close = get_close_matches(name[:_QUOTED_CHARACTERS], list(known), n=1)
    return f'; did you mean "{close[0]}"?' if close else ""
