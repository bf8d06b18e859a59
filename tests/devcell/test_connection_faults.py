"""What the servers of a cell can do to their connections: die, stand still, hang up, and answer by halves."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import grpc
import pytest
import pytest_asyncio

from saxgw.devcell import DevCell, DevCellError
from saxgw.sax.wire.admin_pb2 import ListRequest, PublishRequest, UnpublishRequest, UpdateRequest
from saxgw.sax.wire.lm_pb2 import GenerateRequest, GenerateResponse, ScoreRequest
from saxgw.sax.wire.lm_pb2_grpc import LMServiceStub
from tests.devcell.harness import (
    QUICK,
    TIMEOUT_S,
    Clock,
    Gate,
    admin_at,
    gated,
    lm_at,
    model,
    modelet_at,
    refusal,
    until,
)
from tests.footprint import sockets
from tests.held_model import HELD, HeldModel

ALICE = "/sax/test/alice"
SCORE = ScoreRequest(model_key=ALICE, suffix=["abc"])
GENERATE = GenerateRequest(model_key=ALICE, text="x")
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
OWN_CONNECTION = [("grpc.use_local_subchannel_pool", 1)]
"""Channels to the same address share one otherwise."""
ADDRESSES = ["the same address", "another address"]


@pytest.fixture
def held() -> HeldModel:
    """What the cell's model is held by."""
    return HeldModel()


@pytest_asyncio.fixture
async def cell(held: HeldModel) -> AsyncIterator[DevCell]:
    """A cell of three model servers that may misbehave; all have loaded the held model under the name of Alice."""
    async with DevCell(model_servers=3, models=held.classes, timing=QUICK, faults=True) as cell:
        async with admin_at(cell.admin.address) as admin:
            await admin.publish(model("alice", HELD, replicas=3))
            await admin.ready(ALICE, 3)
        yield cell


async def scores(address: str) -> bool:
    """Tells whether a model server has Alice, to a client that has never seen it."""
    async with grpc.aio.insecure_channel(address, OWN_CONNECTION) as channel:
        try:
            await LMServiceStub(channel).Score(SCORE, timeout=TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            if error.code() not in (UNAVAILABLE, grpc.StatusCode.NOT_FOUND):
                raise
            return False
    return True


def port_of(address: str) -> int:
    return int(address.rpartition(":")[2])


async def test_each_server_has_an_address_of_its_own(cell: DevCell) -> None:
    addresses = {server.address for server in cell.model_servers}
    assert len(addresses) == 3
    async with admin_at(cell.admin.address) as admin:
        assert set((await admin.list_one(ALICE)).modelet_addresses) == addresses
        assert await admin.watch_until(ALICE, lambda known: len(known) == 3) == addresses
    assert [await scores(address) for address in addresses] == [True] * 3


async def test_nothing_is_left_behind() -> None:
    """Neither tasks nor sockets, whatever state the servers are in when the cell ends."""
    async with DevCell(timing=QUICK, faults=True):
        pass
    tasks, before = len(asyncio.all_tasks()), sockets()
    async with DevCell(model_servers=3, timing=QUICK, faults=True) as cell:
        killed, frozen, _ = cell.model_servers
        async with lm_at(frozen) as stub:
            frozen.faults.freeze()
            frozen.faults.slow(1, "Generate")
            hanging = stub.Score(SCORE)
            await killed.faults.kill()
            cell.admin.faults.freeze()
            cell.admin.faults.refuse(UNAVAILABLE, "no")
            hanging.cancel()
    await until(lambda: len(asyncio.all_tasks()) <= tasks)
    await until(lambda: sockets() <= before)


async def test_a_cell_that_was_not_asked_to_does_nothing_wrong() -> None:
    async with DevCell(timing=QUICK) as cell:
        with pytest.raises(DevCellError, match=r"make it with DevCell\(faults=True\)"):
            _ = cell.admin.faults
        with pytest.raises(DevCellError, match=r"make it with DevCell\(faults=True\)"):
            _ = cell.model_servers[0].faults


async def test_a_killed_server_resets_its_connections_and_finishes_nothing(cell: DevCell, held: HeldModel) -> None:
    server = cell.model_servers[1]
    reader, writer = await asyncio.open_connection("127.0.0.1", port_of(server.address))
    await reader.readexactly(9)  # the server's settings: the relay has it all
    async with lm_at(server) as lm:
        call = asyncio.ensure_future(lm.Generate(GENERATE, timeout=TIMEOUT_S))
        await held.until(lambda: held.running == 1)
        await server.faults.kill()
        with pytest.raises(ConnectionResetError):
            await reader.read()
        assert (await refusal(call))[0] is UNAVAILABLE
        await held.until(lambda: held.left == 1)
        assert held.ended == 0
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port_of(server.address))
    writer.close()
    assert [await scores(other.address) for other in cell.model_servers] == [True, False, True]


async def test_a_killed_server_keeps_its_port_from_others(cell: DevCell) -> None:
    server = cell.model_servers[0]
    await server.faults.kill()
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("127.0.0.1", port_of(server.address)))
    await server.stop()
    await until(lambda: is_free(port_of(server.address)))


def is_free(port: int) -> bool:
    """Tells whether a port may be had. Others may have been quicker, but they come and go."""
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize("where", ADDRESSES)
async def test_a_killed_model_server_comes_back(clock: Clock, cell: DevCell, where: str) -> None:
    server = cell.model_servers[1]
    before = server.address
    await server.faults.restart(0 if where == "another address" else None)
    clock.advance()  # the admin gives up what it still knows of another address
    assert (server.address == before) == (where == "the same address")
    await server.wait_joined()
    async with admin_at(cell.admin.address) as admin:
        await admin.watch_until(ALICE, lambda known: server.address in known)
    await until(lambda: scores(server.address))


async def test_a_client_finds_a_server_again_that_came_back_to_its_address(cell: DevCell) -> None:
    server = cell.model_servers[1]
    async with lm_at(server) as lm:
        await lm.Score(SCORE, timeout=TIMEOUT_S)
        await server.faults.kill()
        assert (await refusal(lm.Score(SCORE, timeout=TIMEOUT_S)))[0] is UNAVAILABLE
        await server.start()
        await until(lambda: scores(server.address))
        await lm.Score(SCORE, timeout=TIMEOUT_S, wait_for_ready=True)


@pytest.mark.parametrize("where", ADDRESSES)
async def test_a_killed_admin_comes_back_and_its_model_servers_join_again(cell: DevCell, where: str) -> None:
    before = cell.admin.address
    await cell.admin.faults.kill()
    async with admin_at(before) as admin:
        assert (await refusal(admin.list_one(ALICE)))[0] is UNAVAILABLE
    await cell.admin.start(0 if where == "another address" else None)
    assert (cell.admin.address == before) == (where == "the same address")
    async with admin_at(cell.admin.address) as admin:
        await admin.ready(ALICE, 3)
        assert await admin.watch_until(ALICE, lambda known: len(known) == 3) == {
            server.address for server in cell.model_servers
        }


async def test_threads_that_compute_do_not_keep_a_server_alive(gate: Gate) -> None:
    """A model that computes cannot be interrupted; the server dies nevertheless, and may come back meanwhile."""
    gate.loads.release(2)
    async with DevCell(models=gated(gate), timing=QUICK, faults=True) as cell, admin_at(cell.admin.address) as admin:
        (server,) = cell.model_servers
        await admin.publish(model("alice", "test.Gated"))
        await admin.ready(ALICE)
        async with lm_at(server) as lm:
            call = asyncio.ensure_future(lm.Generate(GENERATE, timeout=TIMEOUT_S))
            await until(lambda: gate.begun == 1)
            await server.faults.restart()
            assert (await refusal(call))[0] is UNAVAILABLE
        await until(lambda: scores(server.address))
        gate.open()


async def test_a_frozen_server_answers_nobody_until_it_thaws(cell: DevCell, held: HeldModel) -> None:
    """Neither calls that it had, nor new ones, nor new connections; those to other servers are not touched."""
    server = cell.model_servers[2]
    held.open()
    async with lm_at(server) as lm, grpc.aio.insecure_channel(server.address, OWN_CONNECTION) as late:
        await lm.Score(SCORE, timeout=TIMEOUT_S)
        server.faults.freeze()
        waiting = [asyncio.ensure_future(stub.Generate(GENERATE)) for stub in (lm, LMServiceStub(late))]
        # The system accepts for a stopped process, and that is all that happens.
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(server.address))
        hearing = asyncio.create_task(reader.read(1))
        assert await scores(cell.model_servers[0].address)
        await until(lambda: late.get_state() is grpc.ChannelConnectivity.CONNECTING)
        assert not any(call.done() for call in (*waiting, hearing))
        code, _ = await refusal(lm.Score(SCORE, timeout=0.1))
        assert code is grpc.StatusCode.DEADLINE_EXCEEDED
        assert held.ended == 0
        server.faults.thaw()
        assert [len((await call).texts) for call in waiting] == [1, 1]
        assert await hearing
        writer.close()


async def test_a_frozen_server_answers_no_pings(cell: DevCell) -> None:
    server = cell.model_servers[2]
    # gRPC has two timeouts for a ping, of which the longer one would count.
    options = [("grpc.keepalive_time_ms", 100), ("grpc.http2.ping_timeout_ms", 100)]
    async with grpc.aio.insecure_channel(server.address, options) as channel:
        lm = LMServiceStub(channel)
        # There are no pings without a call, and none must go unanswered before the server freezes.
        await channel.channel_ready()
        server.faults.freeze()
        assert await refusal(lm.Score(SCORE, timeout=TIMEOUT_S)) == (UNAVAILABLE, "Stream removed (ping timeout)")
        server.faults.thaw()


async def test_an_answer_that_froze_on_its_way_arrives_later(cell: DevCell, held: HeldModel) -> None:
    server = cell.model_servers[2]
    async with lm_at(server) as lm:
        call = asyncio.ensure_future(lm.Generate(GENERATE, timeout=TIMEOUT_S))
        await held.until(lambda: held.running == 1)
        server.faults.freeze()
        held.open()
        await held.until(lambda: held.ended == 1)
        assert await scores(cell.model_servers[0].address)
        assert not call.done()
        server.faults.thaw()
        assert (await call).texts


async def test_a_frozen_model_server_does_not_join(cell: DevCell) -> None:
    server = cell.model_servers[2]
    server.faults.freeze()
    await cell.admin.faults.restart()
    async with admin_at(cell.admin.address) as admin:
        others = {other.address for other in cell.model_servers if other is not server}
        await admin.ready(ALICE, 2)
        assert set((await admin.list_one(ALICE)).modelet_addresses) == others
        server.faults.thaw()
        await admin.ready(ALICE, 3)


async def test_a_frozen_admin_stands_still_and_goes_on_where_it_was(cell: DevCell) -> None:
    admin_faults = cell.admin.faults
    async with admin_at(cell.admin.address) as admin:
        await admin.list_one(ALICE)
        admin_faults.freeze()
        unpublishing = asyncio.ensure_future(admin.unpublish(ALICE))
        code, _ = await refusal(admin.stub.List(ListRequest(), timeout=0.1))
        assert code is grpc.StatusCode.DEADLINE_EXCEEDED
        assert all([await scores(server.address) for server in cell.model_servers])
        assert not unpublishing.done()
        admin_faults.thaw()
        await unpublishing
        assert not (await admin.stub.List(ListRequest())).published_models


async def test_a_frozen_server_can_be_killed_and_comes_back_awake(cell: DevCell) -> None:
    server = cell.model_servers[0]
    async with lm_at(server) as lm:
        server.faults.freeze()
        call = asyncio.ensure_future(lm.Score(SCORE, timeout=TIMEOUT_S))
        await server.faults.kill()
        assert (await refusal(call))[0] is UNAVAILABLE
    server.faults.freeze()
    await server.start()
    await until(lambda: scores(server.address))


async def test_connections_can_be_reset_while_the_server_lives_on(cell: DevCell, held: HeldModel) -> None:
    server = cell.model_servers[0]
    async with lm_at(server) as lm:
        stream = lm.GenerateStream(GENERATE)
        held.release()
        first = await stream.read()
        assert first is not grpc.aio.EOF
        server.faults.reset()
        assert (await refusal(stream.read()))[0] is UNAVAILABLE
        await held.until(lambda: held.left == 1)
        await lm.Score(SCORE, wait_for_ready=True, timeout=TIMEOUT_S)


@pytest.mark.parametrize("after_bytes", [0, 1, 20])
async def test_an_answer_can_be_lost_whole_or_by_half(cell: DevCell, held: HeldModel, after_bytes: int) -> None:
    server = cell.model_servers[0]
    held.open()
    async with lm_at(server) as lm:
        fault = server.faults.drop_answers("Generate", calls=1, after_bytes=after_bytes)
        code, _ = await refusal(lm.Generate(GENERATE, timeout=TIMEOUT_S))
        assert code is UNAVAILABLE
        assert held.ended == 1
        assert fault.over
    # The channel above may take a while to notice that its connection has gone.
    async with grpc.aio.insecure_channel(server.address, OWN_CONNECTION) as channel:
        answer = await LMServiceStub(channel).Generate(GENERATE, timeout=TIMEOUT_S)
        assert isinstance(answer, GenerateResponse)


async def test_only_the_callers_connection_breaks(cell: DevCell, held: HeldModel) -> None:
    server = cell.model_servers[0]
    async with lm_at(server) as one, grpc.aio.insecure_channel(server.address, OWN_CONNECTION) as channel:
        other = asyncio.ensure_future(LMServiceStub(channel).Generate(GENERATE))
        await held.until(lambda: held.running == 1)
        with server.faults.drop_answers("Score"):
            assert (await refusal(one.Score(SCORE, timeout=TIMEOUT_S)))[0] is UNAVAILABLE
        held.open()
        assert (await other).texts


async def test_the_admin_carries_out_writes_of_which_nobody_learns(cell: DevCell) -> None:
    async with admin_at(cell.admin.address) as admin:
        with cell.admin.faults.drop_answers("Publish", "Update", "Unpublish"):
            bob = model("bob", HELD)
            assert (await refusal(admin.stub.Publish(PublishRequest(model=bob))))[0] is UNAVAILABLE
            assert (await admin.list_one("/sax/test/bob")).model.checkpoint_path == "None"
            bob.checkpoint_path = "other"
            assert (await refusal(admin.stub.Update(UpdateRequest(model=bob))))[0] is UNAVAILABLE
            assert (await admin.list_one("/sax/test/bob")).model.checkpoint_path == "other"
            assert (await refusal(admin.stub.Unpublish(UnpublishRequest(model_id=ALICE))))[0] is UNAVAILABLE
        listed = (await admin.stub.List(ListRequest())).published_models
        assert [published.model.model_id for published in listed] == ["/sax/test/bob"]
        await admin.unpublish("/sax/test/bob")


async def test_what_a_freeze_held_up_comes_in_full(cell: DevCell, held: HeldModel) -> None:
    """More than the buffers on the way hold, through a server that freezes in the middle of it."""
    server = cell.model_servers[0]
    held.open()
    text = "y" * 3_000_000
    async with lm_at(server) as lm, modelet_at(server):
        calls = [
            asyncio.ensure_future(lm.Generate(GenerateRequest(model_key=ALICE, text=text), timeout=TIMEOUT_S))
            for _ in range(4)
        ]
        await asyncio.sleep(0)
        server.faults.freeze()
        assert await scores(cell.model_servers[1].address)
        server.faults.thaw()
        for call in calls:
            assert len((await call).texts) == 1
