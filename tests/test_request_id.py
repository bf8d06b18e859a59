"""X-Request-Id: the caller's own if it is sane, another one otherwise, and in every answer of both doors."""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from typing import Any

import aiohttp
import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saxgw.gateway import SERVICE, Gateway
from saxgw.rpc.call import request_id
from saxgw.v1 import sax_service_pb2 as pb

OWN = "an-id:of/my+own=1.2~3@x_4"
MADE = re.compile(r"[0-9a-f]{16}")

INSANE = ["", " ", "two words", "x" * 129, "tab\tin-it", 'quo"te', "é", "{json}", "comma,comma"]


@given(st.text(max_size=200))
def test_what_is_made_of_a_proposal(proposed: str) -> None:
    """Whatever is proposed, the id is one that a header and a log line can hold."""
    taken = request_id(proposed)
    assert re.fullmatch(r"[!-~]{1,128}", taken)
    assert taken == proposed or MADE.fullmatch(taken)


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/listall?sax_cell=/sax/test", None, 200),
        ("HEAD", "/listall?sax_cell=/sax/test", None, 200),
        ("POST", "/generate", '{"model": "/sax/test/nothing", "query": "x"}', 404),
        ("POST", "/generate", "{malformed", 400),
        ("POST", "/generate_stream", '{"model": "/sax/test/nothing", "query": "x"}', 404),
        ("GET", "/no/such/path", None, 404),
        ("GET", "/generate", None, 405),
        ("OPTIONS", "/generate", None, 204),
        ("GET", "/", None, 200),
        ("GET", "/openapi.json", None, 200),
        ("GET", "/docs", None, 200),
        ("GET", "/livez", None, 200),
    ],
)
async def test_http(http: aiohttp.ClientSession, method: str, path: str, body: str | None, status: int) -> None:
    """Calls, errors, refusals and pages have it over HTTP."""
    for proposed in (OWN, None, *INSANE[1:3]):
        headers = {"Content-Type": "application/json"} | ({} if proposed is None else {"X-Request-Id": proposed})
        async with http.request(method, path, data=body, headers=headers) as response:
            assert response.status == status
            [answered] = response.headers.getall("X-Request-Id")
        assert answered == OWN if proposed == OWN else MADE.fullmatch(answered)


@pytest.mark.parametrize("proposed", INSANE)
async def test_insane_over_http(gateway: Gateway, proposed: str) -> None:
    """What is not sane is replaced, and never comes back."""
    head = f"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Request-Id: {proposed}\r\n\r\n"
    assert MADE.fullmatch(await _answered(gateway, head.encode()))


@pytest.mark.parametrize(
    "sent", [b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\nHost: x\r\nLong: " + b"x" * 100_000 + b"\r\n\r\n"]
)
async def test_malformed_http(gateway: Gateway, sent: bytes) -> None:
    """What never became a request gets a new one."""
    assert MADE.fullmatch(await _answered(gateway, sent))


async def _answered(gateway: Gateway, sent: bytes) -> str:
    """The id in the answer to bytes."""
    reader, writer = await asyncio.open_connection(*gateway.http_address.split(":"))
    writer.write(sent)
    answer = (await reader.readuntil(b"\r\n\r\n")).decode()
    writer.close()
    with suppress(ConnectionError):  # what it had sent and nobody has read may have the connection reset
        await writer.wait_closed()
    [found] = re.findall(r"(?im)^x-request-id: (.*)\r$", answer)
    return str(found)


async def test_stream_over_http(http: aiohttp.ClientSession, published: str) -> None:
    """The head of a stream has it."""
    headers = {"Accept": "text/event-stream", "X-Request-Id": OWN}
    async with http.post("/generate_stream", json={"model": published, "query": "x"}, headers=headers) as response:
        assert response.headers["X-Request-Id"] == OWN
        assert b"event: end" in await response.read()


@pytest.mark.parametrize("proposed", [OWN, None, "two words", "x" * 129])
@pytest.mark.parametrize(
    ("method", "request_", "code"),
    [
        ("ListAll", pb.ListAllRequest(sax_cell="/sax/test"), "OK"),
        ("Generate", pb.GenerateRequest(model="/sax/test/nothing", query="x"), "NOT_FOUND"),
        ("GenerateStream", pb.GenerateStreamRequest(model="/sax/test/nothing", query="x"), "NOT_FOUND"),
        ("Generate", pb.GenerateRequest(), "INVALID_ARGUMENT"),
        ("Generate", None, "INVALID_ARGUMENT"),
        ("NoSuchMethod", None, "UNIMPLEMENTED"),
    ],
    ids=["answer", "error", "stream's error", "refused", "malformed", "unknown method"],
)
async def test_grpc(channel: grpc.aio.Channel, method: str, request_: Any, code: str, proposed: str | None) -> None:
    """Answers, errors and refusals have it over gRPC, in the trailing metadata."""
    streams = method == "GenerateStream"
    call: Any = (channel.unary_stream if streams else channel.unary_unary)(f"/{SERVICE.full_name}/{method}")
    data = b"\xff" if request_ is None else request_.SerializeToString()
    running = call(data, metadata=None if proposed is None else [("x-request-id", proposed)])
    assert (await running.code()).name == code
    [answered] = [value for key, value in await running.trailing_metadata() if key == "x-request-id"]
    assert answered == OWN if proposed == OWN else MADE.fullmatch(answered)


async def test_stream_over_grpc(channel: grpc.aio.Channel, published: str) -> None:
    """The end of a stream has it."""
    call: Any = channel.unary_stream(f"/{SERVICE.full_name}/GenerateStream")
    running = call(
        pb.GenerateStreamRequest(model=published, query="x").SerializeToString(), metadata=[("x-request-id", OWN)]
    )
    assert [_ async for _ in running]
    assert ("x-request-id", OWN) in list(await running.trailing_metadata())
