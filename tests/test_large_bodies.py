"""Bodies that would hold up the event loop are decoded and encoded in a thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import orjson
import pytest
import pytest_asyncio

from saxgw.doors import http as door
from saxgw.doors.http_server import HttpLimits
from saxgw.rpc.call import Call
from saxgw.rpc.endpoint import make_endpoints
from saxgw.transcoding import Match
from tests.transcoding.schema import POOL, message_class

THREADS = "saxgw-large-bodies"
LIMITS = HttpLimits(max_body_bytes=2**24)
LARGE = "word " * (door.LARGE_BYTES // 5)


class Echo:
    """Answers each request of SearchRequest's form with itself; what else the service has is of no interest."""

    async def search(self, request: Any, _: Call) -> Any:
        return request

    def __getattr__(self, name: str) -> Any:
        return self.search


@pytest_asyncio.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    service = POOL.FindServiceByName("transcoding.test.Library")
    async with (
        door.HttpDoor(make_endpoints(service, Echo()), "127.0.0.1", 0, limits=LIMITS) as server,
        aiohttp.ClientSession(f"http://127.0.0.1:{server.port}") as session,
    ):
        yield session


async def search(http: aiohttp.ClientSession, value: dict[str, Any]) -> tuple[int, Any]:
    async with http.get("/v1/search", data=orjson.dumps(value), headers={"Content-Type": "application/json"}) as answer:
        return answer.status, orjson.loads(await answer.read())


def codec_threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith(THREADS)}


async def test_large_bodies_take_a_thread(http: aiohttp.ClientSession) -> None:
    """One thread, which is not there before the first large body; the answers are the same as those of small ones."""
    others = codec_threads()  # of gateways that are there for other tests
    small = {"query": "word", "years": [1, 2]}
    status, answer = await search(http, small)
    assert (status, answer | small) == (200, answer)
    assert not codec_threads() - others
    large = [{"query": f"{n} {LARGE}", "years": [n]} for n in range(4)]
    for value, (status, answer) in zip(large, await asyncio.gather(*(search(http, v) for v in large)), strict=True):
        assert (status, answer | value) == (200, answer)
    assert len(codec_threads() - others) == 1


async def test_large_bodies_that_do_not_fit(http: aiohttp.ClientSession) -> None:
    """They are refused in the same words as small ones."""
    status, answer = await search(http, {"query": LARGE, "years": [1, "x"]})
    assert status == 400
    assert answer["error"]["details"][0]["field_violations"] == [
        {"field": "years[1]", "description": 'expected an integer, got "x"', "reason": ""}
    ]


async def test_others_are_answered_meanwhile(http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a large body is being decoded, small requests are answered."""
    decode: Callable[..., Any] = Match.decode
    entered, go_on = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def slow_decode(match: Match, body: bytes, **options: Any) -> Any:
        if len(body) >= door.LARGE_BYTES:
            loop.call_soon_threadsafe(entered.set)
            assert go_on.wait(60)
        return decode(match, body, **options)

    monkeypatch.setattr(Match, "decode", slow_decode)
    large = asyncio.ensure_future(search(http, {"query": LARGE}))
    try:
        await asyncio.wait_for(entered.wait(), 60)
        assert (await search(http, {"query": "word"}))[0] == 200
        assert not large.done()
    finally:
        go_on.set()
    assert (await large)[0] == 200


async def test_threads_end_with_the_door() -> None:
    """Closing the door ends the thread."""
    service = POOL.FindServiceByName("transcoding.test.Library")
    others = codec_threads()
    async with door.HttpDoor(make_endpoints(service, Echo()), "127.0.0.1", 0, limits=LIMITS) as server:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{server.port}") as session:
            await search(session, {"query": LARGE})
        assert codec_threads() - others
    assert not codec_threads() - others


async def test_raw_bodies_of_any_type() -> None:
    """A google.api.HttpBody takes any content type and keeps it, both ways."""
    service = POOL.FindServiceByName("transcoding.test.Library")
    raw = message_class("google.api.HttpBody")

    class Files(Echo):
        async def raw(self, request: Any, _: Call) -> Any:
            return raw(content_type=request.content_type, data=request.data[::-1])

    async with (
        door.HttpDoor(make_endpoints(service, Files()), "127.0.0.1", 0) as server,
        aiohttp.ClientSession(f"http://127.0.0.1:{server.port}") as session,
        session.post("/v1/raw", data=b"\x00\xff", headers={"Content-Type": "image/png"}) as answer,
    ):
        assert (answer.status, answer.content_type, await answer.read()) == (200, "image/png", b"\xff\x00")
