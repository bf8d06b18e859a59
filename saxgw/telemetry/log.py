"""The log of the process: lines for people or in JSON, written where they hold up nobody.

A line that is logged is put aside, which costs next to nothing; a thread writes what has come together, 50 times a
second at the most. So a terminal or a pipe that is slow holds up that thread and not the event loop, and the thread
does not take turns with the event loop for each line. What does not fit in memory is dropped and counted.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections import deque
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import orjson

from saxgw.telemetry.call_log import CallLine

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import TextIO

_MOST_LINES: Final = 10_000
"""How many lines wait to be written at the most."""

_ATOMIC_BYTES: Final = 4096
"""How much of what is written to a pipe stays together (Linux's PIPE_BUF). Several workers may share one."""

_GATHER_S: Final = 0.02
"""How long lines are gathered before they are written together."""

_LAST_LINES_S: Final = 2.0
"""How long the last lines may take to be written when the process ends."""


class JsonFormatter(logging.Formatter):
    """One JSON object a line, of the same form for calls and for all else: time, level, logger, and then its own."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC),
            "level": record.levelname.lower(),
            "logger": record.name,
        }
        if isinstance(record, CallLine):
            line.update(record.fields)
        else:
            line["message"] = _printable(record.getMessage())
            if record.exc_info:
                line["exception"] = _printable(self.formatException(record.exc_info))
        return orjson.dumps(line, option=orjson.OPT_UTC_Z).decode()


class TextFormatter(logging.Formatter):
    """Lines for people: time, level, logger and message; and below it what has gone wrong, if that is known."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")


class BackgroundHandler(logging.Handler):
    """Has a thread write lines to a stream.

    Args:
        stream: Where to; it may be slow.
        most_lines: How many lines may wait for it. More are dropped, and their number is told once there is room again.
    """

    def __init__(self, stream: TextIO, most_lines: int = _MOST_LINES) -> None:
        super().__init__()
        self._stream = stream
        self._most_lines = most_lines
        self._waiting: deque[CallLine | str] = deque()
        self._dropped = 0
        self._dropped_before = 0
        """How many of them were told of."""
        self._come = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="saxgw-log", daemon=True)
        self._thread.start()

    def handle(self, record: logging.LogRecord) -> bool:
        """Puts a line aside. Without the lock that handlers have otherwise: deques have what they need."""
        if self.filter(record):
            self.emit(record)
        return True

    def emit(self, record: logging.LogRecord) -> None:
        """Puts a line aside; that of a call is formatted later, as nothing in it changes any more."""
        if len(self._waiting) >= self._most_lines:
            self._dropped += 1
            return
        try:
            self._waiting.append(record if isinstance(record, CallLine) else self.format(record))
        except Exception:  # noqa: BLE001 - as all handlers do with a message that does not fit its arguments
            self.handleError(record)
        if not self._come.is_set():
            self._come.set()

    def close(self) -> None:
        """Writes what is left, for as long as a stream that is stuck may be given."""
        if self._closing.is_set():  # by logging itself, when the process ends
            return
        self._closing.set()
        self._come.set()
        self._thread.join(_LAST_LINES_S)
        super().close()

    def _run(self) -> None:
        try:
            while not self._closing.is_set():
                self._come.wait()
                self._closing.wait(_GATHER_S)
                self._come.clear()
                self._write()
            self._write()
        except (BrokenPipeError, ValueError):  # nobody reads it any more, and there is nowhere to say so
            pass

    def _write(self) -> None:
        waiting = [self._waiting.popleft() for _ in range(len(self._waiting))]
        lines = [line if isinstance(line, str) else self.format(line) for line in waiting]
        if dropped := self._dropped - self._dropped_before:
            message = f"{dropped} log lines were dropped: they could not be written, or not fast enough"
            lines.append(self.format(logging.LogRecord("saxgw.log", logging.WARNING, "", 0, message, None, None)))
        left = len(waiting)
        try:
            for together in _at_once(lines):
                self._stream.write("\n".join([*together, ""]))
                self._stream.flush()
                left -= len(together)
        except BrokenPipeError:
            raise
        except OSError:  # such as a full disk, which may have room again
            self._dropped += left
        else:
            self._dropped_before += dropped


@contextmanager
def logging_to_stderr(level: str, form: str) -> Iterator[None]:
    """Has all that is logged at `level` or above written to standard error, until left.

    `form` is "json", "text", or "auto": text on a terminal, JSON otherwise.
    """
    as_text = form == "text" or (form == "auto" and sys.stderr.isatty())
    # A buffer of its own: a thread that is stuck in that of sys.stderr keeps the process from ending.
    handler = BackgroundHandler(
        open(sys.stderr.fileno(), "w", encoding=sys.stderr.encoding, errors="backslashreplace", closefd=False)  # noqa: SIM115 - the thread may need it to the end
    )
    handler.setFormatter(TextFormatter() if as_text else JsonFormatter())
    root = logging.getLogger()
    root.setLevel(level.upper())
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
        handler.close()


def _at_once(lines: Iterable[str]) -> Iterator[list[str]]:
    """Lines that go out by one system call, in which lines of other processes on the same pipe do not get."""
    together: list[str] = []
    size = 0
    for line in lines:
        line_size = len(line.encode(errors="replace")) + 1
        if size + line_size > _ATOMIC_BYTES and together:
            yield together
            together, size = [], 0
        together.append(line)
        size += line_size
    if together:
        yield together


def _printable(text: str) -> str:
    """The text without lone surrogates, which stand for bytes that are no UTF-8 and have no JSON."""
    return text.encode(errors="replace").decode()
