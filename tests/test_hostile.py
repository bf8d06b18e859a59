"""Callers who send too much, too slowly or nonsense: they are refused early, and others do not notice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import aiohttp
import grpc
import orjson
import pytest

from saxgw.devcell import DevCell
from saxgw.doors import http_server
from saxgw.gateway import Gateway
from saxgw.v1 import sax_service_pb2 as pb
from saxgw.v1 import sax_service_pb2_grpc
from tests.conftest import settings
from tests.patience import limits

LISTALL = b"GET /listall?sax_cell=/sax/test HTTP/1.1\r\nHost: x\r\n"


class Connection:
    """One connection to the HTTP door, byte by byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def send(self, data: bytes) -> None:
        self._writer.write(data)

    async def answer(self) -> tuple[int, dict[str, str], Any]:
        """Status, headers and body of the next answer."""
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = head.splitlines()[:-1]
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        body = await self._reader.readexactly(int(headers["content-length"]))
        return int(first.split()[1]), headers, orjson.loads(body)

    async def continues(self) -> bool:
        """Waits for the gateway to ask for the body."""
        return await self._reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"

    async def closed(self) -> bool:
        """Waits until the gateway hangs up."""
        return await self._reader.read() == b""


@asynccontextmanager
async def connection(gateway: Gateway) -> AsyncIterator[Connection]:
    host, port = gateway.http_address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield Connection(reader, writer)
    finally:
        writer.close()
        await writer.wait_closed()


@asynccontextmanager
async def others_served(gateway: Gateway) -> AsyncIterator[None]:
    """Asserts that well-behaved callers on both doors are served all along."""
    stopping = asyncio.Event()

    async def by_http() -> int:
        async with aiohttp.ClientSession(f"http://{gateway.http_address}") as http:
            served = 0
            while not stopping.is_set() or not served:
                async with http.get("/listall?sax_cell=/sax/test") as response:
                    assert response.status == 200
                served += 1
            return served

    async def by_grpc() -> int:
        async with grpc.aio.insecure_channel(gateway.grpc_address) as channel:
            stub = sax_service_pb2_grpc.SaxServiceStub(channel)
            served = 0
            while not stopping.is_set() or not served:
                await stub.ListAll(pb.ListAllRequest(sax_cell="/sax/test"))
                served += 1
            return served

    async with asyncio.TaskGroup() as others:
        for other in (by_http, by_grpc):
            others.create_task(other())
        yield
        stopping.set()


SLOW_HEADS = (b"", b"GET /lis", LISTALL, LISTALL + b"X-Slow: ")

SLOW_BODY = b"POST /generate HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"

SLOW_MESSAGES = (
    "saxgw.v1.SaxService/Generate",
    "saxgw.v1.SaxService/GenerateStream",
    "grpc.health.v1.Health/Check",
    "grpc.health.v1.Health/Watch",
    "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
)
"""Methods that are called without a message."""


async def test_others_are_served_while_some_are_slow(cell: DevCell) -> None:
    """Whatever is waited for, on either door, nobody else waits for it."""
    async with Gateway(settings(cell.root, header_timeout=600, body_timeout=600)) as gateway, AsyncExitStack() as slow:
        for sent in (*SLOW_HEADS, SLOW_BODY):
            (await slow.enter_async_context(connection(gateway))).send(sent)
        channel = await slow.enter_async_context(grpc.aio.insecure_channel(gateway.grpc_address))
        calls: list[Any] = [channel.stream_stream(f"/{method}")() for method in SLOW_MESSAGES]
        for call in calls:  # which sends its head alone
            await call.wait_for_connection()
        for _ in range(3):
            async with others_served(gateway):
                pass
        assert not any(call.done() for call in calls)
        for call in calls:
            call.cancel()


@pytest.mark.parametrize("sent", SLOW_HEADS, ids=["nothing", "line", "head", "in a header"])
async def test_slow_head(cell: DevCell, sent: bytes) -> None:
    """A head that does not arrive in time is answered with 408, and the connection is closed."""
    async with Gateway(settings(cell.root, header_timeout=0.2)) as gateway, connection(gateway) as slow:
        slow.send(sent)
        status, headers, answer = await slow.answer()
        assert (status, answer["error"]["code"], answer["error"]["status"]) == (408, 408, "DEADLINE_EXCEEDED")
        assert headers["connection"] == "close"
        assert headers["x-request-id"]
        assert await slow.closed()


async def test_dripping_head(cell: DevCell) -> None:
    """A byte now and then does not win more time."""
    async with Gateway(settings(cell.root, header_timeout=0.2)) as gateway, connection(gateway) as slow:

        async def drip() -> None:
            while True:
                slow.send(b"x")
                await asyncio.sleep(0.01)

        slow.send(LISTALL + b"X-Slow: ")
        dripping = asyncio.ensure_future(drip())
        assert (await slow.answer())[0] == 408
        dripping.cancel()


async def test_second_head_on_a_connection(cell: DevCell) -> None:
    """An idle connection may stay for a while; once it has begun another request, less time is left."""
    for timeout_s in limits(0.3):
        async with Gateway(settings(cell.root, header_timeout=timeout_s)) as gateway, connection(gateway) as slow:
            slow.send(LISTALL + b"\r\n")
            status, _, _ = await slow.answer()
            if status == 408:  # even that was slow
                continue
            assert status == 200
            idle = asyncio.ensure_future(slow.answer())
            done, _ = await asyncio.wait((idle,), timeout=2 * timeout_s)
            assert not done
            slow.send(LISTALL)
            assert (await idle)[0] == 408
            return


async def test_slow_body(cell: DevCell) -> None:
    """A body that does not arrive in time ends the request."""
    async with Gateway(settings(cell.root, body_timeout=0.2)) as gateway, connection(gateway) as slow:
        slow.send(SLOW_BODY)
        status, _, answer = await slow.answer()
        assert (status, answer["error"]["status"]) == (504, "DEADLINE_EXCEEDED")
        assert "body did not arrive in time" in answer["error"]["message"]


@pytest.mark.parametrize("method", SLOW_MESSAGES)
async def test_slow_message(cell: DevCell, method: str) -> None:
    """A message that does not arrive in time ends the call."""
    async with (
        Gateway(settings(cell.root, body_timeout=0.2)) as gateway,
        grpc.aio.insecure_channel(gateway.grpc_address) as channel,
    ):
        call: Any = channel.stream_stream(f"/{method}")(timeout=60)  # sends its head alone
        assert await call.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert await call.details() == "the request did not arrive in time"


async def test_too_many_connections(cell: DevCell) -> None:
    """One connection too many is told so and closed; when another has gone there is room."""
    async with Gateway(settings(cell.root, max_connections=2)) as gateway:
        async with connection(gateway) as first, connection(gateway) as second:
            for each in (first, second):
                each.send(LISTALL + b"\r\n")
                assert (await each.answer())[0] == 200
            async with connection(gateway) as third:
                status, headers, answer = await third.answer()
                assert (status, headers["retry-after"]) == (503, "1")
                assert (answer["error"]["status"], answer["error"]["details"][0]["reason"]) == (
                    "UNAVAILABLE",
                    "TOO_MANY_CONNECTIONS",
                )
                assert await third.closed()
            first.send(LISTALL + b"\r\n")
            assert (await first.answer())[0] == 200
        statuses = {503}
        async with asyncio.timeout(60):
            while 503 in statuses:  # the gateway has yet to notice that the two have gone
                async with connection(gateway) as next_one:
                    next_one.send(LISTALL + b"\r\n")
                    statuses = {(await next_one.answer())[0]}
        assert statuses == {200}


async def test_too_many_connections_on_the_grpc_door(cell: DevCell) -> None:
    """One connection too many is closed; those that stand are served on."""
    async with (
        Gateway(settings(cell.root, max_connections=1)) as gateway,
        grpc.aio.insecure_channel(gateway.grpc_address) as channel,
    ):
        stub = sax_service_pb2_grpc.SaxServiceStub(channel)
        await stub.ListAll(pb.ListAllRequest(sax_cell="/sax/test"))
        host, port = gateway.grpc_address.split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        async with asyncio.timeout(60):
            assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
        await stub.ListAll(pb.ListAllRequest(sax_cell="/sax/test"))


async def test_idle_connection(cell: DevCell, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that has nothing to ask any more is closed after a while; so is one that stops within a head."""
    monkeypatch.setattr(http_server, "_IDLE_S", 0.2)
    for more in (b"", b"GET /lis"):
        async with Gateway(settings(cell.root)) as gateway, connection(gateway) as idle:
            idle.send(LISTALL + b"\r\n" + more)
            assert (await idle.answer())[0] == 200
            async with asyncio.timeout(60):
                assert await idle.closed()


async def test_long_headers(cell: DevCell) -> None:
    """Headers and metadata are taken up to the limit and refused beyond it, before the request is looked at."""
    async with Gateway(settings(cell.root, max_header_bytes=2048)) as gateway, others_served(gateway):
        for length, status in ((1900, 200), (2100, 431)):
            async with connection(gateway) as each:
                each.send(LISTALL + b"X-Long: " + b"x" * length + b"\r\n\r\n")
                assert (await each.answer())[0] == status
        async with grpc.aio.insecure_channel(gateway.grpc_address) as channel:
            stub = sax_service_pb2_grpc.SaxServiceStub(channel)
            request = pb.ListAllRequest(sax_cell="/sax/test")
            await stub.ListAll(request, metadata=[("x-long", "x" * 1000)])
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.ListAll(request, metadata=[("x-long", "x" * 2100)])
            assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_deep_json(cell: DevCell) -> None:
    """JSON may be nested as deep as the setting says."""
    deep: Any = 1
    for _ in range(10):
        deep = [deep]
    body = {"model": "/sax/test/lm", "query": "x", "extra_inputs": {"a": deep}}
    async with (
        Gateway(settings(cell.root, max_json_depth=5)) as gateway,
        aiohttp.ClientSession(f"http://{gateway.http_address}") as http,
        http.post("/generate", json=body) as response,
    ):
        assert response.status == 400
        assert "deep" in (await response.json())["error"]["message"]


@pytest.mark.parametrize(
    "nonsense",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 500,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /generate HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /generate HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /generate HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n",
        b"\x00" * 1000,
    ],
    ids=["TLS", "HTTP/2", "version", "length", "two lengths", "chunk", "zeros"],
)
async def test_nonsense(cell: DevCell, nonsense: bytes) -> None:
    """What is not a request is answered with 400 in the usual form, and the connection is closed."""
    async with Gateway(settings(cell.root)) as gateway, others_served(gateway), connection(gateway) as hostile:
        hostile.send(nonsense)
        status, headers, answer = await hostile.answer()
        assert (status, answer["error"]["status"]) == (400, "INVALID_ARGUMENT")
        assert headers["x-request-id"]
        assert await hostile.closed()


async def test_nonsense_on_the_grpc_door(cell: DevCell) -> None:
    """The gRPC door hangs up on what is not HTTP/2, and serves others on."""
    async with Gateway(settings(cell.root)) as gateway, others_served(gateway):
        host, port = gateway.grpc_address.split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(LISTALL + b"\r\n")
        async with asyncio.timeout(60):
            await reader.read()
        writer.close()
        await writer.wait_closed()


async def test_refused_before_the_body(cell: DevCell) -> None:
    """A call too many is refused before its body has come, over HTTP with Retry-After."""
    async with (
        Gateway(settings(cell.root, max_calls=1)) as gateway,
        connection(gateway) as first,
        connection(gateway) as second,
    ):
        head = b"POST /generate HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\nExpect: 100-continue\r\n\r\n"
        first.send(head)
        assert await first.continues()
        second.send(head)
        status, headers, answer = await second.answer()
        assert (status, headers["retry-after"]) == (429, "1")
        assert answer["error"]["details"][0]["reason"] == "TOO_MANY_CALLS"


async def test_refused_before_the_message(cell: DevCell) -> None:
    """A call too many is refused before its message has come, over gRPC."""
    async with (
        Gateway(settings(cell.root, max_calls=1)) as gateway,
        connection(gateway) as first,
        grpc.aio.insecure_channel(gateway.grpc_address) as channel,
    ):
        first.send(b"POST /generate HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\nExpect: 100-continue\r\n\r\n")
        assert await first.continues()
        call: Any = channel.stream_unary("/saxgw.v1.SaxService/Generate")(timeout=60)
        assert await call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
