"""What commands print: text for people, or JSON for programs."""

from __future__ import annotations

import math
import os
import sys
from typing import TYPE_CHECKING, Any, Final

import orjson

from saxgw.cli.command import Failed

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_REPLACEMENT: Final = "\ufffd"

_VISIBLE: Final = {
    **dict.fromkeys((*range(0x20), *range(0x7F, 0xA0)), _REPLACEMENT),
    ord("\n"): "\n",
    ord("\t"): "\t",
    ord("\r"): None,
}
"""What a terminal is shown of control characters, which could do anything to it: a model may write them."""


class Output:
    """Standard output.

    Args:
        json: Whether what is printed shall be JSON. Commands ask.
    """

    def __init__(self, *, json: bool) -> None:
        self.json: Final = json
        self._terminal = sys.stdout is not None and sys.stdout.isatty()
        self._in_line = False

    def write(self, text: str) -> None:
        """Writes text as it is, at once."""
        if text:
            self._put((text.translate(_VISIBLE) if self._terminal else text).encode())
            self._in_line = not text.endswith("\n")

    def line(self, text: str = "") -> None:
        """Writes a line of text."""
        self.write(f"{text}\n")

    def end_line(self) -> None:
        """Ends a line that was begun."""
        if self._in_line:
            self.write("\n")

    def interrupted(self) -> None:
        """Ends a line that will not be finished, where the shell's prompt would stand behind it otherwise."""
        if self._terminal:
            self.end_line()

    def as_json(self, value: Any) -> None:  # noqa: ANN401 - whatever JSON has
        """Writes a line of JSON, in the form that the HTTP API has."""
        self._put(orjson.dumps(_finite(value), option=orjson.OPT_APPEND_NEWLINE))

    def table(self, header: Sequence[str], rows: Iterable[Sequence[str | float]]) -> None:
        """Writes rows in columns as wide as they need; numbers stand to the right."""
        columns = list(zip(header, *rows, strict=True))
        widths = [max(len(_cell(value)) for value in column) for column in columns]
        to_right = [len(column) > 1 and not isinstance(column[1], str) for column in columns]
        for row in zip(*columns, strict=True):
            cells = (
                _cell(value).rjust(width) if right else _cell(value).ljust(width)
                for value, width, right in zip(row, widths, to_right, strict=True)
            )
            self.line("  ".join(cells).rstrip())

    def _put(self, data: bytes) -> None:
        if sys.stdout is None:  # as it is where a shell has closed it
            return
        try:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            discard_output()
            raise Failed(f"the output cannot be written: {error.strerror}") from error


def discard_output() -> None:
    """Lets go of what is not written yet, which would be tried again when the process ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _cell(value: str | float) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _finite(value: Any) -> Any:  # noqa: ANN401 - whatever JSON has
    """Numbers that JSON has no form for, as the strings that protobuf's JSON has for them."""
    match value:
        case float() if math.isnan(value):
            return "NaN"
        case float() if math.isinf(value):
            return "Infinity" if value > 0 else "-Infinity"
        case dict():
            return {key: _finite(item) for key, item in value.items()}
        case list():
            return [_finite(item) for item in value]
    return value
