"""Streams of messages as one HTTP body: which framing a caller gets, and the bytes around each message.

An answer ends with `end`, or with one `error` if it fails after it has begun. An answer that ends with neither was cut
off on its way.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

EVENT_STREAM_TYPE: Final = "text/event-stream"
JSON_TYPE: Final = "application/json"
LINES_TYPE: Final = "application/x-ndjson"


class Framing(ABC):
    """The framing of one stream. Messages and errors are given as JSON on one line."""

    content_type: ClassVar[str]
    """The content type of the whole body."""

    keepalive: ClassVar[bytes | None] = None
    """What may be sent between messages to show that the stream is alive, if there is such a thing."""

    @abstractmethod
    def message(self, data: bytes) -> bytes:
        """The bytes for one message."""

    @abstractmethod
    def error(self, data: bytes) -> bytes:
        """The bytes that end a stream which fails; `data` is an object that has `error` as its only member."""

    @abstractmethod
    def end(self) -> bytes:
        """The bytes that end a stream which succeeds."""


class EventStream(Framing):
    """Server-sent events (WHATWG HTML, "Server-sent events").

    A message is an event without a type, which browsers call `message`, with the numbers from 1 on as ids. At the end
    is an event `end`, or an event `error` with the error as its data. Browsers connect again when a stream ends without
    the page closing it, and name the last id then; who gets such a request should answer 204, which stops them.
    """

    content_type = EVENT_STREAM_TYPE
    keepalive = b": keepalive\n\n"

    def __init__(self) -> None:
        self._sent = 0

    def message(self, data: bytes) -> bytes:
        self._sent += 1
        return b"id: %d\ndata: %b\n\n" % (self._sent, data)

    def error(self, data: bytes) -> bytes:
        return b"event: error\ndata: %b\n\n" % data

    def end(self) -> bytes:
        return b"event: end\ndata: {}\n\n"


class Lines(Framing):
    """Newline-delimited JSON: a line for each message; an error is the last line."""

    content_type = LINES_TYPE

    def message(self, data: bytes) -> bytes:
        return data + b"\n"

    def error(self, data: bytes) -> bytes:
        return data + b"\n"

    def end(self) -> bytes:
        return b""


class JsonArray(Framing):
    """One JSON array of all messages, each on a line of its own; an error is its last element."""

    content_type = JSON_TYPE

    def __init__(self) -> None:
        self._before = b"["

    def message(self, data: bytes) -> bytes:
        before, self._before = self._before, b",\n"
        return before + data

    def error(self, data: bytes) -> bytes:
        return self.message(data) + b"]\n"

    def end(self) -> bytes:
        return b"]\n" if self._before != b"[" else b"[]\n"


_FRAMINGS: Final[Mapping[str, type[Framing]]] = {
    EventStream.content_type: EventStream,
    JsonArray.content_type: JsonArray,
    Lines.content_type: Lines,
    "application/ndjson": Lines,
    "application/jsonl": Lines,
}
"""The last two are other names that the same thing goes by."""


def choose_framing(accept: str) -> Framing:
    """The framing that an `Accept` header prefers (RFC 9110 section 12.5.1); lines if it does not name any.

    Of several with the same weight it is the first.
    """
    best: type[Framing] = Lines
    best_weight = 0.0
    for part in accept.split(","):
        media_type, *parameters = (piece.strip().lower() for piece in part.split(";"))
        framing, weight = _FRAMINGS.get(media_type), _weight(parameters)
        if framing is not None and weight > best_weight:
            best, best_weight = framing, weight
    return best()


def prefers_events(accept: str) -> bool:
    """Whether `choose_framing` gives an EventStream."""
    return EVENT_STREAM_TYPE in accept.lower() and isinstance(choose_framing(accept), EventStream)


def _weight(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0
