"""Channels: shared, counted, closed; how they connect."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from saxgw.sax.channels import Channels
from saxgw.sax.wire import modelet_pb2
from tests.devcell.harness import until
from tests.ports import kept_port
from tests.sax.scripted import ScriptedModelServer

UNREACHABLE = "127.0.0.1:1"


@pytest_asyncio.fixture
async def channels() -> AsyncIterator[Channels]:
    channels = Channels(2**20)
    yield channels
    await channels.aclose()


async def test_who_asks_for_the_same_address_shares_a_channel(channels: Channels) -> None:
    assert channels.open("a:1") is channels.open("a:1")
    assert channels.open("a:1") is not channels.open("b:1")
    assert len(channels) == 2


async def test_the_last_user_closes_the_channel(channels: Channels) -> None:
    server = channels.open("a:1")
    channels.open("a:1")
    channels.share(server)
    for left in (1, 1, 0):
        channels.release(server)
        assert len(channels) == left
    assert channels.open("a:1") is not server


async def test_a_fresh_channel_leaves_the_old_one_to_its_users(channels: Channels) -> None:
    old = channels.open("a:1")
    fresh = channels.open("a:1", fresh=True)
    assert fresh is not old
    assert channels.open("a:1") is fresh
    channels.release(old)
    assert channels.open("a:1") is fresh
    assert len(channels) == 1


async def test_connecting_tells_whether_somebody_is_there(channels: Channels) -> None:
    server = await ScriptedModelServer().start()
    reached = channels.open(server.address)
    states = [reached.is_connected]
    await until(reached.connect)
    assert [*states, reached.is_connected] == [False, True]
    assert not await channels.open(UNREACHABLE).connect()
    assert not server.requests
    await server.stop()


async def test_a_server_that_comes_back_is_soon_found(channels: Channels) -> None:
    """It is tried six times in less than two seconds; as gRPC does it of itself, that takes nearly fifteen."""
    attempts = asyncio.Semaphore(0)

    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        attempts.release()
        writer.close()

    with kept_port() as port:
        connection = channels.open(f"127.0.0.1:{port}")
        async with await asyncio.start_server(hang_up, "127.0.0.1", port):
            call = asyncio.ensure_future(
                connection.modelet.GetStatus(modelet_pb2.GetStatusRequest(), wait_for_ready=True)
            )
            await attempts.acquire()
            async with asyncio.timeout(12):
                for _ in range(5):
                    await attempts.acquire()
        server = await ScriptedModelServer().start(connection.address)
        await call
        await server.stop()


async def test_a_proxy_for_the_web_is_not_used(channels: Channels, monkeypatch: pytest.MonkeyPatch) -> None:
    server = await ScriptedModelServer().start()
    monkeypatch.setenv("http_proxy", f"http://{UNREACHABLE}")
    await until(channels.open(server.address).connect)
    await server.stop()
