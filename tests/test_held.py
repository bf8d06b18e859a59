"""What requests hold together is bounded: who comes beyond that is refused at once, and all of it is given back."""

from __future__ import annotations

import asyncio
import gc
import gzip
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from types import FrameType
from typing import Any, cast

import aiohttp
import grpc
import pytest
from google.protobuf.message import Message

from saxgw import gateway as module
from saxgw.devcell import DevCell
from saxgw.devcell.news import News
from saxgw.gateway import Gateway
from saxgw.rpc.held import HeldBytes
from tests.callers import Caller, CallError
from tests.conftest import DOORS, connected, definition, settings
from tests.footprint import uncollected
from tests.held_model import HELD, PLAIN, TIMEOUT_S, HeldModel
from tests.telemetry.scrape import scrape
from tests.test_hostile import connection

MOST = 300_000
"""The limit for all requests together, and for one."""

LARGE = 200_000
"""What leaves room for small requests alone."""

MODEL = "/sax/test/lm"
SMALL: dict[str, Any] = {"model": MODEL, "suffixes": ["x"]}
GENERATE: dict[str, Any] = {"model": MODEL, "query": "x" * LARGE}

HEAD = b"POST /generate HTTP/1.1\r\nHost: x\r\n"
EXPECT = b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n"

every_door = pytest.mark.parametrize("door", DOORS)


class Watched(HeldBytes):
    """Tells a test of every change."""

    def __init__(self, most: int, tell: Callable[[int], object] | None = None) -> None:
        super().__init__(most, tell)
        self._news = News()

    def take(self, size: int) -> None:
        super().take(size)
        self._news.tell()

    def give_back(self, size: int) -> None:
        super().give_back(size)
        self._news.tell()

    async def until(self, condition: Callable[[int], bool]) -> None:
        """Waits until a condition on what is held is true."""
        async with asyncio.timeout(TIMEOUT_S):
            await self._news.until(lambda: condition(self.held))

    async def until_nothing(self) -> None:
        """Waits until nothing is held."""
        await self.until(lambda held: held == 0)


class Bench:
    """A gateway with little room, before a model that a test holds."""

    def __init__(self, gateway: Gateway, held: Watched, model: HeldModel) -> None:
        self.gateway = gateway
        self.held = held
        self.model = model

    async def hold(self, call: Caller, method: str = "Generate", **options: Any) -> asyncio.Task[Any]:
        """Has a large request held by the model."""
        asked = self.model.asked
        task = asyncio.ensure_future(call(method, GENERATE, **options))
        await self.model.until(lambda: self.model.asked > asked)
        assert LARGE < self.held.held < LARGE + 100
        return task

    async def is_full(self, call: Caller) -> None:
        """Checks that another large request is refused, and a small one is not."""
        with pytest.raises(CallError) as caught:
            await call("Generate", GENERATE)
        assert caught.value.reason == "TOO_MANY_REQUEST_BYTES"
        assert (await call("Score", SMALL))["scores"] == [-1.0]


@asynccontextmanager
async def little_room(monkeypatch: pytest.MonkeyPatch, **changed: Any) -> AsyncIterator[Bench]:
    counted: list[Watched] = []

    def watched(*arguments: Any) -> Watched:
        counted.append(Watched(*arguments))
        return counted[-1]

    monkeypatch.setattr(module, "HeldBytes", watched)
    model = HeldModel()
    limits = {"max_request_bytes": MOST, "max_held_request_bytes": MOST, **changed}
    async with DevCell(models=model.classes) as cell, Gateway(settings(cell.root, **limits)) as gateway:
        async with connected(gateway, "grpc") as call:
            await call("Publish", definition(MODEL, model_path=HELD))
            await call("WaitForReady", {"model": MODEL})
        [held] = counted
        await held.until_nothing()
        yield Bench(gateway, held, model)


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Makes a Bench, as a context."""
    return lambda **changed: little_room(monkeypatch, **changed)


Room = Callable[..., Any]


@every_door
async def test_beyond_the_limit(room: Room, door: str) -> None:
    """It is RESOURCE_EXHAUSTED in the same words at all doors, with a time to come back; what is held is answered."""
    async with room() as bench, connected(bench.gateway, door) as call:
        first = await bench.hold(call)
        with pytest.raises(CallError) as caught:
            await call("Generate", GENERATE)
        await bench.is_full(call)
        bench.model.open()
        assert (await first)["results"]
        assert bench.held.held == 0
        assert (await call("Generate", GENERATE))["results"]
    assert str(caught.value) == (
        "RESOURCE_EXHAUSTED: the gateway has no room for this request beside the others: it holds 300000 bytes of "
        "requests at once; try again later"
    )
    info, retry = caught.value.details
    assert (info["reason"], info["domain"]) == ("TOO_MANY_REQUEST_BYTES", "saxgw")
    assert retry["retry_delay"] == "1s"


async def test_doors_share_the_limit(room: Room) -> None:
    """What came through one door leaves no room at the others."""
    async with (
        room() as bench,
        connected(bench.gateway, "grpc") as by_grpc,
        connected(bench.gateway, "v1 routes") as by_http,
    ):
        for holder, other in ((by_grpc, by_http), (by_http, by_grpc)):
            holding = await bench.hold(holder)
            await bench.is_full(other)
            holding.cancel()
            await bench.held.until_nothing()


@every_door
async def test_failures(room: Room, door: str) -> None:
    """A request that cannot be decoded, or fails a check, or at the model server, is given back."""
    async with room() as bench, connected(bench.gateway, door) as call:
        bench.model.steps = [ValueError("no")]
        bench.model.open()
        incomplete = {"model": MODEL, "prefix": GENERATE["query"]}
        for method, request, fields in (("Generate", GENERATE, []), ("Score", incomplete, ["suffixes"])):
            with pytest.raises(CallError) as caught:
                await call(method, request)
            assert (caught.value.code, caught.value.fields) == ("INVALID_ARGUMENT", fields)
            assert bench.held.held == 0


@every_door
async def test_failures_are_no_garbage(room: Room, door: str) -> None:
    """What failed calls leave to the garbage collector holds no requests: memory would have to do for those as well."""
    unready, unpublished = {**GENERATE, "model": "/sax/test/unready"}, {**GENERATE, "model": "/sax/test/none"}
    async with room() as bench, connected(bench.gateway, door) as call:
        await call("Publish", definition("/sax/test/unready", model_path=HELD, replicas=0))
        failures = [(unpublished, None), (unready, 0.5), ({**GENERATE, "model": "x"}, None)]
        gc.collect()
        with uncollected():
            gc.set_debug(gc.DEBUG_SAVEALL)
            try:
                for request, timeout_s in failures:
                    with suppress(CallError):
                        await call("Generate", request, timeout_s=timeout_s)
                gc.collect()
                frames = [each for each in gc.garbage if type(each) is FrameType]
                held = [each.f_code.co_qualname for each in frames if any(map(is_large, each.f_locals.values()))]
            finally:
                gc.set_debug(0)
                gc.garbage.clear()
        assert held == []


def is_large(thing: object) -> bool:
    """Whether something is a large request, in whichever form."""
    kind = type(thing)  # isinstance() asks a proxy for what it stands for, which may be gone
    if issubclass(kind, Message):
        return cast("Message", thing).ByteSize() >= LARGE
    return issubclass(kind, (str, bytes)) and len(cast("str | bytes", thing)) >= LARGE


async def test_malformed_requests(room: Room) -> None:
    """Neither JSON nor a message: refused by either door, and given back."""
    nonsense = b"\xff" * LARGE
    async with (
        room() as bench,
        grpc.aio.insecure_channel(bench.gateway.grpc_address) as channel,
        aiohttp.ClientSession(f"http://{bench.gateway.http_address}") as http,
    ):
        async with http.post("/generate", data=nonsense, headers={"Content-Type": "application/json"}) as response:
            assert response.status == 400
        assert bench.held.held == 0
        generate: Any = channel.unary_unary("/saxgw.v1.SaxService/Generate")
        call = generate(nonsense)
        assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert bench.held.held == 0


@every_door
@pytest.mark.parametrize("method", ["Generate", "GenerateStream"])
async def test_callers_who_leave(room: Room, door: str, method: str) -> None:
    """A caller who hangs up gives back what its request held."""
    async with room() as bench, connected(bench.gateway, door) as call:
        holding = await bench.hold(call, method)
        await bench.is_full(call)
        holding.cancel()
        with suppress(asyncio.CancelledError):
            await holding
        await bench.held.until_nothing()
        await bench.model.until(lambda: bench.model.left == 1)


@every_door
async def test_deadlines(room: Room, door: str) -> None:
    """So does a deadline that passes."""
    async with room() as bench, connected(bench.gateway, door) as call:
        holding = await bench.hold(call, timeout_s=2)
        with pytest.raises(CallError) as caught:
            await holding
        assert caught.value.code == "DEADLINE_EXCEEDED"
        await bench.held.until_nothing()


@every_door
async def test_streams(room: Room, door: str) -> None:
    """A stream holds its request until its end."""
    async with room() as bench, connected(bench.gateway, door) as call:
        stream = call.stream("GenerateStream", GENERATE)
        first = asyncio.ensure_future(anext(stream))
        await bench.model.until(lambda: bench.model.asked == 1)
        bench.model.release()
        await first
        await bench.is_full(call)
        bench.model.open()
        assert len([message async for message in stream]) == len(PLAIN) - 1
        assert bench.held.held == 0


@every_door
async def test_drain(room: Room, door: str) -> None:
    """What a drain ends is given back."""
    async with room(drain_timeout=0.1) as bench, connected(bench.gateway, door) as call:
        holding = await bench.hold(call)
        await bench.gateway.__aexit__(None, None, None)
        with pytest.raises(CallError) as caught:
            await holding
        assert caught.value.reason == "SHUTTING_DOWN"
        assert bench.held.held == 0


async def test_only_what_has_come_counts(room: Room) -> None:
    """A slow sender who announces much holds what it has sent; when it hangs up within the body, nothing."""
    async with room() as bench:
        async with connection(bench.gateway) as slow:
            slow.send(HEAD + EXPECT % LARGE)
            assert await slow.continues()
            assert bench.held.held == 0
            slow.send(b'{"query":"')
            await bench.held.until(lambda held: held == 10)
            async with connection(bench.gateway) as other:
                other.send(HEAD + EXPECT % (MOST - 9))
                assert (await other.answer())[0] == 429
            async with connection(bench.gateway) as other:
                other.send(HEAD + EXPECT % (MOST - 10))
                assert await other.continues()
        await bench.held.until_nothing()


async def test_slow_bodies(room: Room) -> None:
    """A body that does not arrive in time is given back as far as it came."""
    async with room(body_timeout=1) as bench, connection(bench.gateway) as slow:
        slow.send(HEAD + b"Content-Length: 100\r\n\r\n{")
        await bench.held.until(lambda held: held == 1)
        assert (await slow.answer())[0] == 504
        assert bench.held.held == 0


async def test_refused_before_the_body(room: Room) -> None:
    """Over HTTP a request is refused before its body has come, if it says how large that is, with Retry-After."""
    async with room() as bench, connected(bench.gateway, "grpc") as call, connection(bench.gateway) as next_one:
        holding = await bench.hold(call)
        next_one.send(HEAD + EXPECT % LARGE)
        status, headers, answer = await next_one.answer()
        assert (status, headers["retry-after"]) == (429, "1")
        assert answer["error"]["details"][0]["reason"] == "TOO_MANY_REQUEST_BYTES"
        holding.cancel()
        await bench.held.until_nothing()


@pytest.mark.parametrize("room_left", [True, False])
async def test_refused_within_the_body(room: Room, room_left: bool) -> None:  # noqa: FBT001 - by pytest
    """A body of unknown size is taken as far as there is room, be it for all requests or for one, and then refused."""
    async with room() as bench, connected(bench.gateway, "grpc") as call, connection(bench.gateway) as sender:
        holding = None if room_left else await bench.hold(call)
        before, most = bench.held.held, MOST - bench.held.held
        sender.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        sender.send(b"%x\r\n%s\r\n" % (most, b"x" * most))
        await bench.held.until(lambda held: held == MOST)
        sender.send(b"1\r\nx\r\n")
        status, _, answer = await sender.answer()
        if holding is None:
            assert (status, answer["error"]["status"]) == (413, "INVALID_ARGUMENT")
        else:
            assert (status, answer["error"]["details"][0]["reason"]) == (429, "TOO_MANY_REQUEST_BYTES")
        assert bench.held.held == before
        if holding is not None:
            holding.cancel()
            await bench.held.until_nothing()


async def test_packed_bodies(room: Room) -> None:
    """What is packed counts unpacked."""
    body = b'{"model":"%s","query":"%s"}' % (MODEL.encode(), b"x" * LARGE)
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    async with room() as bench, aiohttp.ClientSession(f"http://{bench.gateway.http_address}") as http:
        sending = asyncio.ensure_future(http.post("/generate", data=gzip.compress(body), headers=headers))
        await bench.model.until(lambda: bench.model.running == 1)
        assert bench.held.held == len(body)
        bench.model.open()
        async with await sending as response:
            assert response.status == 200
        assert bench.held.held == 0


async def test_metrics(room: Room) -> None:
    """What is held is told in whole steps of 64 KiB, and what was refused is counted by its reason."""
    async with room(admin_port=0) as bench, connected(bench.gateway, "grpc") as call:
        holding = await bench.hold(call)
        await bench.is_full(call)
        scraped = await scrape(bench.gateway.admin_address)
        assert scraped.value("saxgw_held_request_bytes") == 3 * 2**16
        assert scraped.value("saxgw_calls_refused_total", reason="TOO_MANY_REQUEST_BYTES") == 1
        holding.cancel()
        await bench.held.until_nothing()
        assert (await scrape(bench.gateway.admin_address)).value("saxgw_held_request_bytes") == 0
