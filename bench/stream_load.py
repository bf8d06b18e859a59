"""Loads of streams."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar, cast

import grpc.aio
import orjson

from bench.sample import Load, WrongAnswer
from bench.streams import STREAMS
from saxgw.sax.wire.lm_pb2_grpc import LMServiceStub
from saxgw.transcoding.framing import EVENT_STREAM_TYPE, LINES_TYPE
from saxgw.v1.sax_service_pb2_grpc import SaxServiceStub

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Callable

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")

_ITEM: Final = b'{"results":'
"""What each item has once, in every framing."""

_EVENT_DATA: Final = b"data: "


class HttpStreamLoad(Load):
    """POST /generate_stream over one keep-alive connection for each stream."""

    def __init__(self, model: str, *, accept: str) -> None:
        super().__init__(model)
        self.stream = STREAMS[model]
        self._accept = accept
        self._good_bodies: set[bytes] = set()

    async def start(self, address: str, in_flight: int) -> None:
        host, port = address.split(":")
        body = self.stream.json_request
        head = (
            f"POST /generate_stream HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n"
            f"Accept: {self._accept}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        request = head.encode() + body
        for _ in range(in_flight):
            await asyncio.sleep(
                self.stream.interval_s
            )  # so that at any time as many streams are at each of their steps
            await asyncio.get_running_loop().create_connection(lambda: _Connection(self, request), host, int(port))

    def check(self, body: bytes) -> None:
        """Looks at all that came of a stream; JSON is not parsed for each, since all are the same."""
        if body in self._good_bodies:
            return
        expected = self.stream.json_values
        if self._accept == EVENT_STREAM_TYPE:
            values = _lines(body, _EVENT_DATA)
            expected = [*expected, {}] if self.stream.ends else expected
        elif self._accept == LINES_TYPE:
            values = _lines(body, b"")
        else:
            values = orjson.loads(body)
        if values != expected:
            raise WrongAnswer(body.decode(errors="replace"))
        self._good_bodies.add(body)


def _lines(body: bytes, prefix: bytes) -> list[Any]:
    return [orjson.loads(line.removeprefix(prefix)) for line in body.splitlines() if line and line.startswith(prefix)]


class _Connection(asyncio.Protocol):
    def __init__(self, load: HttpStreamLoad, request: bytes) -> None:
        self._load = load
        self._request = request
        self._unread = b""
        self._begun = False
        self._chunks: list[bytes] = []
        self._counted = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are not instances of it
        self._ask()

    def connection_lost(self, exc: Exception | None) -> None:
        self._load.fail(exc or WrongAnswer("the server closed a connection"))

    def data_received(self, data: bytes) -> None:
        unread = self._unread + data
        at = 0
        if not self._begun:
            at = unread.find(b"\r\n\r\n") + 4
            if at < 4:  # noqa: PLR2004 - it was not found
                self._unread = unread
                return
            if not unread.startswith(b"HTTP/1.1 200 "):
                self._load.fail(WrongAnswer(unread.decode(errors="replace")))
                return
            self._begun = True
        # Chunks: a size in hexadecimal digits, a line end, so many bytes, a line end. The last one is empty.
        while (end_of_size := unread.find(b"\r\n", at)) >= 0:
            begin = end_of_size + 2
            end = begin + int(unread[at:end_of_size], 16)
            if len(unread) < end + 2:
                break
            self._take(unread[begin:end])
            at = end + 2
        self._unread = unread[at:] if self._begun else b""

    def _take(self, chunk: bytes) -> None:
        load = self._load
        items = chunk.count(_ITEM)
        if items and not self._counted:
            load.latencies_s.append(time.perf_counter() - self._asked_at)
        self._counted += items
        load.count += items
        self._chunks.append(chunk)
        if not chunk or (self._counted and not load.stream.ends):
            try:
                load.check(b"".join(self._chunks))
            except (WrongAnswer, orjson.JSONDecodeError) as error:
                load.fail(error)
                return
            if not chunk:
                self._ask()

    def _ask(self) -> None:
        self._unread = b""
        self._begun = False
        self._chunks = []
        self._counted = 0
        self._asked_at = time.perf_counter()
        self._transport.write(self._request)


class GrpcStreamLoad(Load):
    """saxgw.v1 GenerateStream over one channel."""

    def __init__(self, model: str) -> None:
        super().__init__(model)
        self.stream = STREAMS[model]
        self._channel: grpc.aio.Channel | None = None
        self._reading: set[asyncio.Task[NoReturn]] = set()

    async def start(self, address: str, in_flight: int) -> None:
        stub = SaxServiceStub(self._connect(address))
        await self._start_calls(in_flight, stub.GenerateStream, self.stream.request, self.stream.messages)

    def _connect(self, address: str) -> grpc.aio.Channel:
        if self._channel is None:
            self._channel = grpc.aio.insecure_channel(address)
        return self._channel

    async def _start_calls(
        self,
        in_flight: int,
        rpc: Callable[[_Request], AsyncIterable[_Response]],
        request: _Request,
        expected: list[_Response],
    ) -> None:
        for _ in range(in_flight):
            await asyncio.sleep(self.stream.interval_s)  # as above
            reading = asyncio.create_task(self._read(rpc, request, expected))
            self._reading.add(reading)
            reading.add_done_callback(self._ended)

    async def _read(
        self, rpc: Callable[[_Request], AsyncIterable[_Response]], request: _Request, expected: list[_Response]
    ) -> NoReturn:
        while True:
            asked_at = time.perf_counter()
            at = 0
            async for message in rpc(request):
                if not at:
                    self.latencies_s.append(time.perf_counter() - asked_at)
                if at >= len(expected) or message != expected[at]:
                    raise WrongAnswer(str(message))
                at += 1
                self.count += 1
            if at < len(expected):
                raise WrongAnswer(f"a stream ended after {at} items")

    def _ended(self, reading: asyncio.Task[NoReturn]) -> None:
        if not reading.cancelled():
            self.fail(reading.exception() or WrongAnswer("no answer"))


class ModelServerStreamLoad(GrpcStreamLoad):
    """Sax's own GenerateStream over one channel, as the gateway calls a model server."""

    async def start(self, address: str, in_flight: int) -> None:
        stub = LMServiceStub(self._connect(address))
        await self._start_calls(
            in_flight, stub.GenerateStream, self.stream.model_server_request, self.stream.model_server_messages
        )
