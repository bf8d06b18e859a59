"""The life of a model: published, loaded, updated, moved, unpublished; and of servers: started, stopped, restarted."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import grpc
import pytest
import pytest_asyncio

from saxgw.devcell import AdminServer, DevCell, ModelServer, Timing
from saxgw.sax.wire.admin_pb2 import JoinRequest, ListRequest, StatsRequest, WaitForReadyRequest
from saxgw.sax.wire.admin_pb2 import ModelServer as Specs
from saxgw.sax.wire.common_pb2 import FAILED, LOADED, LOADING
from saxgw.sax.wire.lm_pb2 import GenerateRequest
from saxgw.sax.wire.modelet_pb2 import GetStatusRequest, GetStatusResponse, LoadRequest
from tests.devcell.harness import (
    GATED,
    NGRAM,
    QUICK,
    TIMEOUT_S,
    Admin,
    Clock,
    Gate,
    admin_at,
    gated,
    lm_at,
    model,
    modelet_at,
    until,
)

ALICE = "/sax/test/alice"


async def status_until(server: ModelServer, wanted: object) -> GetStatusResponse.ModelWithStatus:
    """Asks a model server for its status until the model there has the wanted one."""
    async with modelet_at(server) as modelet, asyncio.timeout(TIMEOUT_S):
        while True:
            answer = await modelet.GetStatus(GetStatusRequest(include_failure_reasons=True, include_method_stats=True))
            for status in answer.models:
                if status.model_status == wanted:
                    return status
            await asyncio.sleep(0.01)


async def models_of(server: ModelServer) -> list[str]:
    async with modelet_at(server) as modelet:
        return [status.model_key for status in (await modelet.GetStatus(GetStatusRequest())).models]


async def test_publish_load_generate_unpublish(cell: DevCell, admin: Admin) -> None:
    (server,) = cell.model_servers
    await admin.publish(model("alice"))
    assert await admin.watch_until(ALICE, bool) == {server.address}
    await admin.ready(ALICE)
    listed = await admin.list_one(ALICE)
    assert list(listed.modelet_addresses) == [server.address]
    assert list(listed.model.method_names) == ["lm.embed", "lm.generate", "lm.generate_stream", "lm.score"]
    assert not listed.model.uuid
    async with lm_at(server) as lm:
        request = GenerateRequest(model_key=ALICE, text="Alice was")
        texts = (await lm.Generate(request)).texts
        assert len(texts) == 4
        await admin.unpublish(ALICE)
        assert not (await admin.stub.List(ListRequest())).published_models
        await publish_when_free(admin)
        await admin.ready(ALICE)
        assert (await lm.Generate(request)).texts == texts


async def publish_when_free(admin: Admin, name: str = "alice", path: str = NGRAM) -> None:
    """Publishes a model; while its former self is being unloaded, the admin asks to come back, and this does."""

    async def published() -> bool:
        try:
            await admin.publish(model(name, path))
        except grpc.aio.AioRpcError as error:
            text = f"model {{test {name}}} is being unpublished, please retry later"
            if (error.code(), error.details()) != (grpc.StatusCode.UNAVAILABLE, text):
                raise
            return False
        return True

    await until(published)


async def test_a_name_is_taken_until_the_last_server_has_unloaded(cell: DevCell, admin: Admin, gate: Gate) -> None:
    await admin.publish(model("alice", GATED))
    await status_until(cell.model_servers[0], LOADING)
    await admin.unpublish(ALICE)
    with pytest.raises(grpc.aio.AioRpcError, match="is being unpublished, please retry later"):
        await admin.publish(model("alice", GATED))
    gate.loads.release(2)
    await publish_when_free(admin, path=GATED)
    await admin.ready(ALICE)


async def test_a_model_is_announced_before_it_is_loaded(cell: DevCell, admin: Admin, gate: Gate) -> None:
    (server,) = cell.model_servers
    await admin.publish(model("alice", GATED))
    assert await admin.watch_until(ALICE, bool) == {server.address}
    await status_until(server, LOADING)
    waiting = asyncio.create_task(admin.ready(ALICE))
    async with lm_at(server) as lm:
        with pytest.raises(grpc.aio.AioRpcError, match="is still loading or already unloaded"):
            await lm.Generate(GenerateRequest(model_key=ALICE))
    assert not waiting.done()
    gate.loads.release()
    await waiting


async def test_0_replicas_are_ready_at_once(admin: Admin) -> None:
    await admin.publish(model("alice", replicas=0))
    await admin.ready(ALICE, 0)
    await admin.ready(ALICE, -1)


async def test_unpublishing_ends_those_who_wait(cell: DevCell, admin: Admin) -> None:
    await admin.publish(model("alice", path="No.one-knows"))
    watching = asyncio.ensure_future(admin.watch(ALICE))
    waiting = asyncio.ensure_future(admin.stub.WaitForReady(WaitForReadyRequest(model_id=ALICE, num_replicas=1)))
    # Both are held by the admin once it has answered what was sent after them on the same connection.
    await admin.list_one(ALICE)
    await admin.unpublish(ALICE)
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await waiting
    assert raised.value.code() is grpc.StatusCode.CANCELLED
    closing = await watching
    assert closing.result.has_fullset
    assert (closing.result.next_seqno, list(closing.result.values), list(closing.result.changelog)) == (0, [], [])
    assert closing.admin_server_id.startswith(f"{cell.admin.address}_")


async def test_a_failed_load_is_not_repeated(cell: DevCell, admin: Admin, gate: Gate) -> None:
    (server,) = cell.model_servers
    gate.loads.release(10)
    await admin.publish(model("alice", GATED, checkpoint="broken"))
    failed = await status_until(server, FAILED)
    assert failed.failure_reason == "the checkpoint is broken"
    # Another model is loaded after it: had the failed one been tried again, it would have passed the gate before.
    await admin.publish(model("bob", GATED))
    await admin.ready("/sax/test/bob")
    assert gate.loaded == 2
    assert (await admin.list_one(ALICE)).modelet_addresses == [server.address]


async def test_an_update_cures_a_failed_load(admin: Admin, gate: Gate) -> None:
    gate.loads.release(10)
    await admin.publish(model("alice", GATED, checkpoint="broken"))
    await admin.update(model("alice", GATED, checkpoint="good"))
    await admin.ready(ALICE)


async def test_a_new_checkpoint_is_loaded(cell: DevCell, admin: Admin, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one two three four five")
    (tmp_path / "b.txt").write_text("six seven eight nine ten")
    await admin.publish(model("alice", checkpoint=str(tmp_path / "a.txt")))
    await admin.ready(ALICE)
    async with lm_at(cell.model_servers[0]) as lm:
        assert "two" in (await lm.Generate(GenerateRequest(model_key=ALICE, text="one"))).texts[0].text
        await admin.update(model("alice", checkpoint=str(tmp_path / "b.txt")))
        await admin.ready(ALICE)
        assert "seven" in (await lm.Generate(GenerateRequest(model_key=ALICE, text="six"))).texts[0].text


async def test_a_new_checkpoint_that_cannot_be_loaded_is_a_failure(cell: DevCell, admin: Admin, gate: Gate) -> None:
    gate.open()
    await admin.publish(model("alice", GATED))
    await admin.ready(ALICE)
    await admin.update(model("alice", GATED, checkpoint="broken"))
    failed = await status_until(cell.model_servers[0], FAILED)
    assert failed.failure_reason == "the checkpoint is broken"
    await admin.update(model("alice", GATED))
    await admin.ready(ALICE)


async def test_another_number_of_replicas_loads_nothing_again(gate: Gate) -> None:
    gate.loads.release(10)
    async with (
        DevCell(model_servers=3, models=gated(gate), timing=QUICK) as cell,
        admin_at(cell.admin.address) as admin,
    ):
        await admin.publish(model("alice", GATED, replicas=2))
        await admin.ready(ALICE, 2)
        first = await admin.watch_until(ALICE, lambda addresses: len(addresses) == 2)
        await admin.update(model("alice", GATED, replicas=3))
        await admin.ready(ALICE, 3)
        assert gate.loaded == 3
        assert first < set((await admin.list_one(ALICE)).modelet_addresses)
        await admin.update(model("alice", GATED, replicas=1))
        (left,) = await admin.watch_until(ALICE, lambda addresses: len(addresses) == 1)
        assert (await admin.list_one(ALICE)).modelet_addresses == [left]

        async def only_one_left() -> bool:
            return [server.address for server in cell.model_servers if await models_of(server)] == [left]

        await until(only_one_left)
        assert gate.loaded == 3


async def test_models_share_servers_evenly(gate: Gate) -> None:
    gate.open()
    async with (
        DevCell(model_servers=2, models=gated(gate), timing=QUICK) as cell,
        admin_at(cell.admin.address) as admin,
    ):
        for name in "abcd":
            await admin.publish(model(name, GATED))
            await admin.ready(f"/sax/test/{name}")
        assert sorted([len(await models_of(server)) for server in cell.model_servers]) == [2, 2]
        stats = await admin.stub.Stats(StatsRequest())
        (kind,) = stats.model_server_type_stats
        assert (kind.chip_type, kind.chip_topology) == (Specs.CHIP_TYPE_CPU, Specs.CHIP_TOPOLOGY_1)
        assert kind.num_replicas == 2
        assert stats.num_servers_by_servable_model_path[NGRAM] == 2
        of_one = await admin.stub.Stats(StatsRequest(model_id="/sax/test/a"))
        assert [kind.num_replicas for kind in of_one.model_server_type_stats] == [1]


@pytest.mark.parametrize("where", ["the same port", "another port"])
async def test_a_restarted_admin_finds_its_models_and_their_servers(gate: Gate, port: int, where: str) -> None:
    gate.loads.release(2)
    async with DevCell(admin_port=port, models=gated(gate), timing=QUICK) as cell:
        async with admin_at(cell.admin.address) as admin:
            await admin.publish(model("alice", GATED))
            await admin.ready(ALICE)
            first = await admin.watch(ALICE)
        await cell.admin.stop()
        await cell.admin.start(0 if where == "another port" else None)
        assert (cell.admin.address == f"127.0.0.1:{port}") == (where == "the same port")
        async with admin_at(cell.admin.address) as again:
            await again.ready(ALICE)
            second = await again.watch(ALICE, first.result.next_seqno, first.admin_server_id)
            assert second.admin_server_id != first.admin_server_id
            assert second.result.has_fullset
            assert [mutation.addition for mutation in second.result.changelog] == [cell.model_servers[0].address]
        assert gate.loaded == 1


@pytest_asyncio.fixture
async def server(clock: Clock, cell: DevCell, port: int) -> ModelServer:
    """The cell's model server, which may come back to its port."""
    (server,) = cell.model_servers
    await server.stop()
    await server.start(port)
    await server.wait_joined()
    clock.advance()  # the admin gives up the address of the first start
    return server


@pytest.mark.parametrize("where", ["the same port", "another port"])
async def test_a_restarted_model_server_gets_its_model_again(
    server: ModelServer, clock: Clock, admin: Admin, gate: Gate, where: str
) -> None:
    before = server.address
    gate.loads.release(2)
    await admin.publish(model("alice", GATED))
    await admin.watch_until(ALICE, lambda addresses: addresses == {server.address})
    await admin.ready(ALICE)
    await server.stop()
    await server.start(0 if where == "another port" else None)
    assert (server.address == before) == (where == "the same port")
    clock.advance()
    await status_until(server, LOADED)
    assert await admin.watch_until(ALICE, lambda addresses: addresses == {server.address})
    await admin.ready(ALICE)


async def test_a_silent_model_server_leaves_the_cell_and_may_come_back(
    server: ModelServer, clock: Clock, admin: Admin, gate: Gate
) -> None:
    gate.open()
    await admin.publish(model("alice", GATED))
    await admin.watch_until(ALICE, lambda addresses: addresses == {server.address})
    await admin.ready(ALICE)
    await server.stop()
    seen = await admin.watch(ALICE)
    clock.advance()
    gone = await admin.watch(ALICE, seen.result.next_seqno, seen.admin_server_id)
    assert [mutation.deletion for mutation in gone.result.changelog] == [server.address]
    assert not (await admin.list_one(ALICE)).modelet_addresses
    assert not (await admin.stub.Stats(StatsRequest())).model_server_type_stats
    await server.start()
    await admin.ready(ALICE)


async def test_another_server_takes_over_from_a_silent_one(clock: Clock, gate: Gate) -> None:
    gate.open()
    async with (
        DevCell(model_servers=2, models=gated(gate), timing=QUICK) as cell,
        admin_at(cell.admin.address) as admin,
    ):
        await admin.publish(model("alice", GATED))
        await admin.ready(ALICE)
        (address,) = (await admin.list_one(ALICE)).modelet_addresses
        (dying,) = (server for server in cell.model_servers if server.address == address)
        (other,) = (server for server in cell.model_servers if server is not dying)
        await dying.stop()
        clock.advance()
        await admin.watch_until(ALICE, lambda addresses: addresses == {other.address})
        await admin.ready(ALICE)


async def test_a_server_with_other_specs_is_another_server(cell: DevCell, admin: Admin, gate: Gate) -> None:
    """Unlike in Sax, its old address leaves the watch sets (§4.8)."""
    gate.open()
    (server,) = cell.model_servers
    await admin.publish(model("alice", GATED))
    await admin.ready(ALICE)
    specs = Specs(chip_type=Specs.CHIP_TYPE_GPU_L4, servable_model_paths=["other.Path"])
    await admin.stub.Join(JoinRequest(address=server.address, model_server=specs))
    answer = await admin.watch(ALICE, 1, (await admin.watch(ALICE)).admin_server_id)
    assert answer.result.changelog[0].deletion == server.address


async def test_clients_get_the_data_address_and_lists_show_the_other(cell: DevCell, admin: Admin, gate: Gate) -> None:
    gate.open()
    async with ModelServer(Path(cell.root), "elsewhere", models=gated(gate), timing=QUICK) as other:
        specs = Specs(servable_model_paths=["other.Path", GATED])
        await admin.stub.Join(JoinRequest(address=other.address, model_server=specs, data_address="127.0.0.1:9"))
        await admin.publish(model("alice", GATED, replicas=2))
        await admin.watch_until(ALICE, lambda addresses: "127.0.0.1:9" in addresses)
        await admin.ready(ALICE, 2)
        addresses = set((await admin.list_one(ALICE)).modelet_addresses)
        assert addresses == {cell.model_servers[0].address, other.address}


async def test_a_server_without_paths_keeps_its_models(tmp_path: Path, gate: Gate) -> None:
    """It has models of its own, which are no business of the admin's."""
    gate.open()
    own = "/sax/test/own"
    async with (
        AdminServer(tmp_path, timing=QUICK) as server,
        admin_at(server.address) as admin,
        ModelServer(tmp_path, "elsewhere", models=gated(gate), timing=QUICK) as static,
        modelet_at(static) as modelet,
    ):
        await modelet.Load(LoadRequest(model_key=own, model_path=GATED, checkpoint_path="None"))
        await admin.stub.Join(JoinRequest(address=static.address, model_server=Specs()))
        await admin.publish(model("alice"))
        assert not (await admin.list_one(ALICE)).modelet_addresses
        assert await models_of(static) == [own]


async def test_models_outlive_a_cell_with_a_root(tmp_path: Path, gate: Gate) -> None:
    gate.open()
    models = gated(gate)
    async with DevCell(tmp_path, models=models, timing=QUICK) as cell, admin_at(cell.admin.address) as admin:
        assert cell.root == str(tmp_path)
        await admin.publish(model("alice", GATED))
    async with DevCell(tmp_path, models=models, timing=QUICK) as cell, admin_at(cell.admin.address) as admin:
        await admin.ready(ALICE)


async def test_a_server_that_hangs_does_not_hold_up_the_others(tmp_path: Path) -> None:
    """Other servers join while the admin tries to reach an address where nobody answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        host, port = listener.getsockname()
        listener.settimeout(0)
        async with AdminServer(tmp_path, timing=QUICK) as server, admin_at(server.address) as admin:
            joining = asyncio.ensure_future(
                admin.stub.Join(JoinRequest(address=f"{host}:{port}", model_server=Specs()))
            )
            connection, _ = await asyncio.get_running_loop().sock_accept(listener)
            with connection:
                await admin.publish(model("alice"))
                async with ModelServer(tmp_path, timing=QUICK):
                    await admin.ready(ALICE)
                assert not joining.done()
                joining.cancel()


async def test_a_server_that_hangs_is_given_up(tmp_path: Path) -> None:
    """A Join of an address where nobody answers fails by itself."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        host, port = listener.getsockname()
        async with (
            AdminServer(tmp_path, timing=Timing(connect_back_s=0.2)) as server,
            admin_at(server.address) as admin,
        ):
            with pytest.raises(grpc.aio.AioRpcError, match="context deadline exceeded") as raised:
                await admin.stub.Join(JoinRequest(address=f"{host}:{port}", model_server=Specs()))
    assert raised.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
