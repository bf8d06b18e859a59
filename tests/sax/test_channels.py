"""Channels: shared, counted, closed; how they connect."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest
import pytest_asyncio

from saxgw.sax.channels import Channels
from saxgw.sax.wire import modelet_pb2
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
    states = [reached.is_connected, await reached.connect(), reached.is_connected]
    assert states == [False, True, True]
    assert not await channels.open(UNREACHABLE).connect()
    assert not server.requests
    await server.stop()


async def test_a_server_that_comes_back_is_found_within_two_seconds(channels: Channels) -> None:
    server = await ScriptedModelServer().start()
    connection = channels.open(server.address)
    assert await connection.connect()
    await server.stop()
    await connection.channel.wait_for_state_change(grpc.ChannelConnectivity.READY)
    for _ in range(3):  # some failures, so that the pause between attempts has grown
        assert not await connection.connect()
    await server.start(server.address)
    async with asyncio.timeout(2.5):
        await connection.modelet.GetStatus(modelet_pb2.GetStatusRequest(), wait_for_ready=True)
    await server.stop()


async def test_a_proxy_for_the_web_is_not_used(channels: Channels, monkeypatch: pytest.MonkeyPatch) -> None:
    server = await ScriptedModelServer().start()
    monkeypatch.setenv("http_proxy", f"http://{UNREACHABLE}")
    assert await channels.open(server.address).connect()
    await server.stop()
