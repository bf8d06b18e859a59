"""A gRPC server that answers every call with the same messages, for a few microseconds of CPU.

It shares a core with the load generator, so a grpc.aio server, at well over a hundred microseconds a call, would be the
bottleneck instead of what is measured. It knows as much of HTTP/2 (RFC 9113) as a gRPC client needs to see: headers are
not decoded. Its own window is opened as wide as goes, which lasts for 2 GiB of requests on a connection; its client's
windows are heeded, so a client that does not read gets no more than fits in there.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, cast

if TYPE_CHECKING:
    from collections.abc import Iterable

_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

_HEAD_SIZE: Final = 9
"""Bytes before the payload of each frame: length (3), type (1), flags (1), stream (4)."""

_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _WINDOW_UPDATE = 0, 1, 3, 4, 6, 8

_ACK: Final = 1
_END_STREAM: Final = 1
_END_HEADERS: Final = 4

_INITIAL_WINDOW_SIZE: Final = 4
"""The setting of a stream's first window. Settings are six bytes: number (2) and value (4)."""

_WIDEST_WINDOW: Final = 2**31 - 1
_FIRST_WINDOW: Final = 2**16 - 1

_CONTENT_TYPE: Final = b"application/grpc"
_STATUS_KEY: Final = b"grpc-status"

# HPACK (RFC 7541): 0x88 is ":status: 200"; 0x0f 0x10 is "content-type" and 0x00 a new name, neither to be indexed.
_RESPONSE_HEADERS: Final = b"\x88\x0f\x10" + bytes([len(_CONTENT_TYPE)]) + _CONTENT_TYPE
_TRAILERS: Final = b"\x00" + bytes([len(_STATUS_KEY)]) + _STATUS_KEY + b"\x010"


def _head(kind: int, flags: int, size: int) -> bytes:
    """A frame's head but for the number of its stream."""
    return size.to_bytes(3) + bytes([kind, flags])


def _frame(kind: int, flags: int, stream: bytes, payload: bytes = b"") -> bytes:
    return _head(kind, flags, len(payload)) + stream + payload


_CONNECTION: Final = bytes(4)

_GREETING: Final = _frame(_SETTINGS, 0, _CONNECTION) + _frame(
    _WINDOW_UPDATE, 0, _CONNECTION, (_WIDEST_WINDOW - _FIRST_WINDOW).to_bytes(4)
)

_BEFORE: Final = _head(_HEADERS, _END_HEADERS, len(_RESPONSE_HEADERS))
_AFTER: Final = _head(_HEADERS, _END_HEADERS | _END_STREAM, len(_TRAILERS))


class Answer:
    """What every call is answered with.

    Args:
        messages: Serialised protobuf messages, of less than 16 KiB each: a frame holds no more.
        ends: Whether the call ends after the last of them; otherwise it is held until the client leaves.
        interval_s: Seconds from one message of a call to the next; 0 is as fast as the client takes them.
    """

    def __init__(self, messages: Iterable[bytes], *, ends: bool = True, interval_s: float = 0) -> None:
        bodies = [b"\x00" + len(message).to_bytes(4) + message for message in messages]  # not compressed, length
        self.frames = [(_head(_DATA, 0, len(body)), body) for body in bodies]
        """Head and payload of each message's frame; the number of the stream belongs between them."""
        self.ends = ends
        self.interval_s = interval_s


class _Call:
    """A call that has not got all of its messages yet."""

    __slots__ = ("asked", "sent", "stream", "window")

    def __init__(self, stream: bytes, window: int) -> None:
        self.stream = stream
        """The number of its stream, as in a frame's head."""
        self.window = window
        """How many bytes more the client takes on this stream."""
        self.asked = False
        """Whether all of the request is here."""
        self.sent = 0
        """How many messages were sent."""


class InstantServer(asyncio.Protocol):
    """One connection of the server: `loop.create_server(lambda: InstantServer(answer), …)`."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._unread = b""
        self._greeted = False
        self._window = self._first_window = _FIRST_WINDOW
        """How many bytes more the client takes on all streams together, and on one that is new."""
        self._calls: dict[bytes, _Call] = {}
        self._tick: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are not instances of it
        self._transport.write(_GREETING)
        if self._answer.interval_s:
            self._set_tick()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        if self._tick is not None:
            self._tick.cancel()

    def data_received(self, data: bytes) -> None:
        unread = self._unread + data
        at = 0
        if not self._greeted:
            if len(unread) < len(_PREFACE):
                self._unread = unread
                return
            at = len(_PREFACE)
            self._greeted = True
        out: list[bytes] = []
        size = len(unread)
        while at + _HEAD_SIZE <= size:
            end = at + _HEAD_SIZE + (unread[at] << 16 | unread[at + 1] << 8 | unread[at + 2])
            if end > size:
                break
            stream = unread[at + 5 : at + 9]
            self._take(unread[at + 3], unread[at + 4], stream, unread[at + _HEAD_SIZE : end], out)
            at = end
        self._unread = unread[at:]
        for call in list(self._calls.values()):
            if call.asked and not (call.sent and self._answer.interval_s):
                self._send(call, out)
        if out:
            self._transport.write(b"".join(out))

    def _take(self, kind: int, flags: int, stream: bytes, payload: bytes, out: list[bytes]) -> None:
        """Reads one frame, and puts into `out` what it is answered with at once."""
        if kind in (_DATA, _HEADERS):
            call = self._calls.get(stream)
            if call is None:
                call = self._calls[stream] = _Call(stream, self._first_window)
            if flags & _END_STREAM:
                call.asked = True
                out += (_BEFORE, stream, _RESPONSE_HEADERS)
        elif kind == _WINDOW_UPDATE:
            if stream == _CONNECTION:
                self._window += int.from_bytes(payload)
            elif (call := self._calls.get(stream)) is not None:
                call.window += int.from_bytes(payload)
        elif kind == _RST_STREAM:
            self._calls.pop(stream, None)
        elif kind == _PING and not flags & _ACK:
            out.append(_frame(_PING, _ACK, _CONNECTION, payload))
        elif kind == _SETTINGS and not flags & _ACK:
            self._set(payload)
            out.append(_frame(_SETTINGS, _ACK, _CONNECTION))

    def _set(self, settings: bytes) -> None:
        for at in range(0, len(settings), 6):
            number, value = int.from_bytes(settings[at : at + 2]), int.from_bytes(settings[at + 2 : at + 6])
            if number == _INITIAL_WINDOW_SIZE:
                for call in self._calls.values():
                    call.window += value - self._first_window
                self._first_window = value

    def _send(self, call: _Call, out: list[bytes]) -> None:
        """Puts into `out` what is due of a call's messages and has room in the client's windows."""
        frames, stream = self._answer.frames, call.stream
        due = min(call.sent + 1, len(frames)) if self._answer.interval_s else len(frames)
        while call.sent < due:
            head, body = frames[call.sent]
            if len(body) > self._window or len(body) > call.window:
                return
            self._window -= len(body)
            call.window -= len(body)
            call.sent += 1
            out += (head, stream, body)
        if call.sent == len(frames):
            del self._calls[stream]
            if self._answer.ends:
                out += (_AFTER, stream, _TRAILERS)

    def _set_tick(self) -> None:
        self._tick = asyncio.get_running_loop().call_later(self._answer.interval_s, self._next_messages)

    def _next_messages(self) -> None:
        self._set_tick()
        out: list[bytes] = []
        for call in list(self._calls.values()):
            if call.asked:
                self._send(call, out)
        if out:
            self._transport.write(b"".join(out))
