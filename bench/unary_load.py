"""Loads of unary calls."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, NoReturn, TypeVar, cast

import grpc.aio
import orjson

from bench import example
from bench.sample import Load, WrongAnswer
from saxgw.sax.wire.lm_pb2_grpc import LMServiceStub
from saxgw.v1.sax_service_pb2_grpc import SaxServiceStub

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")


class HttpLoad(Load):
    """POST /generate over one keep-alive connection for each request in flight."""

    async def start(self, address: str, in_flight: int) -> None:
        host, port = address.split(":")
        head = (
            f"POST /generate HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(example.JSON_REQUEST)}\r\n\r\n"
        )
        request = head.encode() + example.JSON_REQUEST
        good_bodies: set[bytes] = set()
        for _ in range(in_flight):
            await asyncio.get_running_loop().create_connection(
                lambda: _HttpConnection(self, request, good_bodies), host, int(port)
            )


class _HttpConnection(asyncio.Protocol):
    def __init__(self, load: Load, request: bytes, good_bodies: set[bytes]) -> None:
        """`good_bodies` are those found to be right, shared by all connections: JSON is not parsed for each."""
        self._load = load
        self._request = request
        self._good_bodies = good_bodies
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are not instances of it
        self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        self._load.fail(exc or WrongAnswer("the server closed a connection"))

    def data_received(self, data: bytes) -> None:
        received = self._received = self._received + data
        head, end_of_head, body = received.partition(b"\r\n\r\n")
        if not end_of_head:
            return
        _, _, after_name = head.lower().partition(b"\r\ncontent-length:")
        length = int(after_name.partition(b"\r\n")[0])
        if len(body) < length:
            return
        if not head.startswith(b"HTTP/1.1 200 ") or not self._is_good(body):
            self._load.fail(WrongAnswer(received.decode(errors="replace")))
            return
        self._load.latencies_s.append(time.perf_counter() - self._sent_at)
        self._load.count += 1
        self._received = b""
        self._send()

    def _is_good(self, body: bytes) -> bool:
        if body not in self._good_bodies:
            if orjson.loads(body) != example.JSON_RESPONSE:
                return False
            self._good_bodies.add(body)
        return True

    def _send(self) -> None:
        self._sent_at = time.perf_counter()
        self._transport.write(self._request)


class GrpcLoad(Load):
    """saxgw.v1 Generate over one channel."""

    async def start(self, address: str, in_flight: int) -> None:
        stub = SaxServiceStub(grpc.aio.insecure_channel(address))
        self._start_calls(in_flight, stub.Generate, example.REQUEST, example.RESPONSE)

    def _start_calls(
        self, in_flight: int, rpc: Callable[[_Request], Awaitable[_Response]], request: _Request, expected: _Response
    ) -> None:
        self._calling = [asyncio.create_task(self._call(rpc, request, expected)) for _ in range(in_flight)]
        for calling in self._calling:
            calling.add_done_callback(self._ended)

    async def _call(
        self, rpc: Callable[[_Request], Awaitable[_Response]], request: _Request, expected: _Response
    ) -> NoReturn:
        while True:
            sent_at = time.perf_counter()
            response = await rpc(request)
            if response != expected:
                raise WrongAnswer(str(response))
            self.latencies_s.append(time.perf_counter() - sent_at)
            self.count += 1

    def _ended(self, calling: asyncio.Task[NoReturn]) -> None:
        if not calling.cancelled():
            self.fail(calling.exception() or WrongAnswer("no answer"))


class ModelServerLoad(GrpcLoad):
    """Sax's own Generate over one channel, as the gateway calls a model server."""

    async def start(self, address: str, in_flight: int) -> None:
        stub = LMServiceStub(grpc.aio.insecure_channel(address))
        self._start_calls(in_flight, stub.Generate, example.MODEL_SERVER_REQUEST, example.MODEL_SERVER_RESPONSE)
