"""What a gateway tells of errors is what its client raises; what goes wrong with the gateway has errors of its own."""

from __future__ import annotations

import asyncio
import inspect
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import cast

import grpc
import pytest

from saxgw.doors.grpc import GrpcDoor
from saxgw.gateway import endpoints
from saxgw.remote import GatewayClient, GatewayError, GatewayUnavailable, connect
from saxgw.sax import (
    CellError,
    InvalidArgument,
    InvalidName,
    ModelDetail,
    SaxClient,
    SaxError,
    StreamBroken,
    StreamItem,
    errors,
)
from tests.conftest import settings

Code = grpc.StatusCode

WORDS = "what is wrong with /sax/test/lm; what to do"


class Failing:
    """A Sax client whose calls fail, or do not end."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.begun = asyncio.Event()
        """Set when a call has begun."""
        self.waits = 0
        """How often wait_for_ready was called; only the first call does not return at once."""

    async def list_models(self, _: str) -> list[str]:
        await self._fail()
        return []

    async def unpublish(self, _: str) -> None:
        await self._fail()

    async def generate_stream(self, *_: object, **__: object) -> AsyncIterator[list[StreamItem]]:
        yield [StreamItem("good", 0, [-1.0])]
        await self._fail()

    async def wait_for_ready(self, *_: object) -> None:
        self.waits += 1
        if self.waits == 1:
            await self._fail()

    async def describe(self, model: str) -> ModelDetail:
        return ModelDetail(model, "a.B", "None", 1, self.waits - 1, {}, ())

    async def _fail(self) -> None:
        self.begun.set()
        if self.error is None:
            await asyncio.Event().wait()
        else:
            raise self.error


@asynccontextmanager
async def served(failing: Failing, **changed: object) -> AsyncIterator[tuple[GatewayClient, GrpcDoor]]:
    """The gRPC door of a gateway in front of it, and a client of that."""
    table = endpoints(settings("/unused", **changed), cast("SaxClient", failing))
    async with (
        GrpcDoor(table, "127.0.0.1", 0, max_request_bytes=1000) as door,
        connect(f"127.0.0.1:{door.port}", admin_timeout_s=20, max_message_bytes=1000) as sax,
    ):
        yield sax, door


ALL: list[SaxError] = [
    *(
        kind(WORDS)
        for _, kind in inspect.getmembers(errors, inspect.isclass)
        if issubclass(kind, SaxError) and kind not in (SaxError, CellError)
    ),
    *(CellError(code, WORDS) for code in Code if code is not Code.OK),
]


@pytest.mark.parametrize("error", ALL, ids=lambda error: f"{type(error).__name__} {getattr(error, 'code', '')}")
async def test_errors_of_a_cell(error: SaxError) -> None:
    """Class, words and, where there is one, code of each error come through the gateway as they are."""
    async with served(Failing(error)) as (sax, _):
        with pytest.raises(type(error)) as raised:
            await sax.list_models("/sax/test")
    assert type(raised.value) is type(error)
    assert str(raised.value) == WORDS
    assert getattr(raised.value, "code", None) == getattr(error, "code", None)


async def test_an_error_in_the_middle_of_a_stream() -> None:
    async with served(Failing(StreamBroken(WORDS))) as (sax, _):
        stream = sax.generate_stream("/sax/test/lm", "x")
        assert [item.text for item in await anext(stream)] == ["good"]
        with pytest.raises(StreamBroken, match=WORDS):
            await anext(stream)


async def test_the_gateway_leaves_in_the_middle_of_a_stream() -> None:
    async with served(Failing()) as (sax, door):
        stream = sax.generate_stream("/sax/test/lm", "x")
        await anext(stream)
        await door.drain(0)
        with pytest.raises(StreamBroken, match=r"the gateway at 127.0.0.1:\d+ went away in the middle"):
            await anext(stream)


async def test_nobody_is_there() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        async with connect(address) as sax:
            for call in (sax.list_cells(), sax.unpublish("/sax/test/lm"), anext(sax.generate_stream("sax/a/b", "x"))):
                with pytest.raises(GatewayUnavailable) as raised:
                    await call
                assert str(raised.value) == (
                    f"no gateway could be reached at {address}; check that it runs, that this is the address of "
                    "its gRPC door, and that it takes calls without TLS"
                )


async def test_somebody_else_is_there() -> None:
    """A server of other services, and one that does not speak gRPC at all."""
    async with GrpcDoor((), "127.0.0.1", 0) as door, connect(f"127.0.0.1:{door.port}") as sax:
        with pytest.raises(GatewayError, match="is no saxgw") as raised:
            await sax.list_cells()
        assert raised.value.code is Code.UNIMPLEMENTED

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        async with connect(f"{host}:{port}") as sax:
            with pytest.raises(GatewayUnavailable):
                await sax.list_cells()


async def test_a_change_that_may_have_been_made() -> None:
    """A gateway that leaves a change unanswered leaves the question whether it was made; the error tells so."""
    failing = Failing()
    async with served(failing) as (sax, door):
        change = asyncio.create_task(sax.unpublish("sax/test/lm"))
        await failing.begun.wait()
        await door.drain(0)
        with pytest.raises(GatewayUnavailable, match="not known; look at /sax/test/lm before trying again"):
            await change


async def test_time_limits() -> None:
    """Those of the client and, where it has none, that of the gateway."""
    async with (
        served(Failing(), generate_timeout=0.1) as (patient, door),
        connect(f"127.0.0.1:{door.port}", admin_timeout_s=0.1, data_timeout_s=0.1) as hasty,
    ):
        with pytest.raises(GatewayError, match="did not answer in time; try again later") as raised:
            await hasty.list_models("/sax/test")
        assert raised.value.code is Code.DEADLINE_EXCEEDED
        with pytest.raises(GatewayError, match="whether it carried out the request is not known"):
            await hasty.unpublish("/sax/test/lm")
        for sax in (hasty, patient):
            stream = await begun_stream(sax)
            with pytest.raises(GatewayError, match="did not answer in time"):
                await anext(stream)


async def begun_stream(sax: GatewayClient) -> AsyncIterator[list[StreamItem]]:
    """A stream whose first message has come; on a busy machine the time of some may be up before."""
    async with asyncio.timeout(60):
        while True:
            stream = sax.generate_stream("/sax/test/lm", "x")
            with suppress(GatewayError):
                await anext(stream)
                return stream


async def test_waiting_goes_on_when_the_gateway_stops_waiting() -> None:
    """wait_for_ready has no time limit, whatever the gateway's is."""
    failing = Failing()
    async with served(failing, generate_timeout=0.1) as (sax, _):
        await asyncio.wait_for(sax.wait_for_ready("/sax/test/lm"), 60)
    assert failing.waits >= 2  # more if the answer to the second one, too, came too late


async def test_too_many_calls() -> None:
    failing = Failing()
    async with served(failing, max_calls=1) as (sax, _):
        first = asyncio.create_task(sax.list_models("/sax/test"))
        await failing.begun.wait()
        with pytest.raises(GatewayError, match="as many as it takes at once") as raised:
            await sax.list_models("/sax/test")
        assert raised.value.code is Code.RESOURCE_EXHAUSTED
        first.cancel()
        await asyncio.wait((first,))


async def test_a_request_that_is_too_large() -> None:
    async with served(Failing()) as (sax, _):
        with pytest.raises(InvalidArgument, match="larger than the gateway"):
            await sax.generate("/sax/test/lm", "x" * 2000)


@pytest.mark.parametrize(
    "address",
    [
        "",
        "localhost",
        "localhost:",
        ":50051",
        "localhost:0",
        "localhost:70000",
        "http://localhost:8888",
        "a b:1",
        "::1:50051",
    ],
)
def test_addresses_that_are_none(address: str) -> None:
    with pytest.raises(InvalidName, match="write HOST:PORT"):
        connect(address)


@pytest.mark.parametrize("address", ["localhost:50051", "10.0.0.1:1", "[::1]:50051", "gateway.example.com:65535"])
async def test_addresses(address: str) -> None:
    async with connect(address):
        pass
