"""A gRPC server that answers every unary call with the same message, at once, for a few microseconds of CPU.

It shares a core with the load generator, so a grpc.aio server, at well over a hundred microseconds a call, would be the
bottleneck instead of what is measured. It knows as much of HTTP/2 (RFC 9113) as a gRPC client needs to see: headers are
not decoded, and windows are not counted. Its own window is opened as wide as goes, which lasts for 2 GiB of requests on
a connection; a client's, 64 KiB at first, is never exceeded by a few dozen small answers in flight.
"""

from __future__ import annotations

import asyncio
from typing import Final, cast

_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

_HEAD_SIZE: Final = 9
"""Bytes before the payload of each frame: length (3), type (1), flags (1), stream (4)."""

_DATA, _HEADERS, _SETTINGS, _PING, _WINDOW_UPDATE = 0, 1, 4, 6, 8

_ACK: Final = 1
_END_STREAM: Final = 1
_END_HEADERS: Final = 4

_WIDEST_WINDOW: Final = 2**31 - 1
_FIRST_WINDOW: Final = 2**16 - 1

_CONTENT_TYPE: Final = b"application/grpc"
_STATUS_KEY: Final = b"grpc-status"

# HPACK (RFC 7541): 0x88 is ":status: 200"; 0x0f 0x10 is "content-type" and 0x00 a new name, neither to be indexed.
_RESPONSE_HEADERS: Final = b"\x88\x0f\x10" + bytes([len(_CONTENT_TYPE)]) + _CONTENT_TYPE
_TRAILERS: Final = b"\x00" + bytes([len(_STATUS_KEY)]) + _STATUS_KEY + b"\x010"


def _frame(kind: int, flags: int, stream: bytes, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3) + bytes([kind, flags]) + stream + payload


_CONNECTION: Final = bytes(4)

_GREETING: Final = _frame(_SETTINGS, 0, _CONNECTION) + _frame(
    _WINDOW_UPDATE, 0, _CONNECTION, (_WIDEST_WINDOW - _FIRST_WINDOW).to_bytes(4)
)


class InstantServer(asyncio.Protocol):
    """One connection of the server: `loop.create_server(lambda: InstantServer(message), …)`."""

    def __init__(self, message: bytes) -> None:
        """Answers with `message`, a serialised protobuf message."""
        body = b"\x00" + len(message).to_bytes(4) + message  # not compressed, length, message
        # A response is these three with the number of its stream between them.
        self._before = len(_RESPONSE_HEADERS).to_bytes(3) + bytes([_HEADERS, _END_HEADERS])
        self._data = _RESPONSE_HEADERS + len(body).to_bytes(3) + bytes([_DATA, 0])
        self._trailers = body + len(_TRAILERS).to_bytes(3) + bytes([_HEADERS, _END_HEADERS | _END_STREAM])
        self._unread = b""
        self._greeted = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are not instances of it
        self._transport.write(_GREETING)

    def data_received(self, data: bytes) -> None:
        unread = self._unread + data
        at = 0
        if not self._greeted:
            if len(unread) < len(_PREFACE):
                self._unread = unread
                return
            at = len(_PREFACE)
            self._greeted = True
        answers = []
        size = len(unread)
        while at + _HEAD_SIZE <= size:
            end = at + _HEAD_SIZE + (unread[at] << 16 | unread[at + 1] << 8 | unread[at + 2])
            if end > size:
                break
            kind, flags = unread[at + 3], unread[at + 4]
            if kind in (_DATA, _HEADERS):
                if flags & _END_STREAM:
                    stream = unread[at + 5 : at + 9]
                    answers += [self._before, stream, self._data, stream, self._trailers, stream, _TRAILERS]
            elif kind in (_SETTINGS, _PING) and not flags & _ACK:
                payload = unread[at + _HEAD_SIZE : end] if kind == _PING else b""
                answers.append(_frame(kind, _ACK, _CONNECTION, payload))
            at = end
        self._unread = unread[at:]
        if answers:
            self._transport.write(b"".join(answers))
