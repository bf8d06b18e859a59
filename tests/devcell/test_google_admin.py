"""A cell that behaves as Google's: ticks, one model per server, errors as UNKNOWN, what is lost and forgotten (§4)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
import pytest_asyncio

from saxgw.devcell import GOOGLE_TIMING, AdminServer, DevCell, DevCellError, ModelServer, Timing
from saxgw.sax.wire.admin_pb2 import JoinRequest, ListRequest, State, WaitForReadyRequest
from saxgw.sax.wire.admin_pb2 import ModelServer as Specs
from saxgw.sax.wire.common_pb2 import FAILED, LOADED
from saxgw.sax.wire.lm_pb2 import ScoreRequest
from saxgw.sax.wire.modelet_pb2 import GetStatusRequest
from tests.devcell.harness import (
    GATED,
    Admin,
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

ALICE = "/sax/test/alice"
BOB = "/sax/test/bob"
BY_HAND = Timing(poll_s=0.05, prune_after_s=60, connect_back_s=60, join_s=3600, location_s=0.02, tick_s=3600)
"""Ticks come when the test says so, and nobody joins again of their own accord."""
UNKNOWN = grpc.StatusCode.UNKNOWN


@pytest.fixture
def gate() -> Gate:
    """The gate of the cell's model, for loads and steps: open."""
    gate = Gate()
    gate.open()
    return gate


@pytest_asyncio.fixture
async def cell(gate: Gate) -> AsyncIterator[DevCell]:
    """A cell of Google's with two model servers."""
    async with DevCell(model_servers=2, models=gated(gate), timing=BY_HAND, faults=True, google=True) as cell:
        yield cell
        gate.open()


@pytest_asyncio.fixture
async def admin(cell: DevCell) -> AsyncIterator[Admin]:
    """Its admin."""
    async with admin_at(cell.admin.address) as admin:
        yield admin


def unknown(text: str, code: str) -> tuple[grpc.StatusCode, str]:
    """An error as Google's admin sends it."""
    return UNKNOWN, f"{text}: rpc error: code = {code} desc = {code}"


async def statuses(server: ModelServer) -> dict[str, int]:
    async with modelet_at(server) as modelet:
        models = (await modelet.GetStatus(GetStatusRequest())).models
    return {status.model_key: status.model_status for status in models}


async def test_nothing_happens_before_the_tick(cell: DevCell, admin: Admin) -> None:
    """A published model is listed at once; it has servers, and watchers learn of them, at the next tick."""
    await admin.publish(model("alice", GATED))
    assert not (await admin.list_one(ALICE)).modelet_addresses
    watching = asyncio.ensure_future(admin.watch(ALICE))
    waiting = asyncio.ensure_future(admin.ready(ALICE))
    await admin.list_one(ALICE)
    assert [await statuses(server) for server in cell.model_servers] == [{}, {}]
    assert not watching.done()
    assert not waiting.done()
    cell.admin.tick()
    (address,) = (await admin.list_one(ALICE)).modelet_addresses
    answer = await watching
    assert [mutation.addition for mutation in answer.result.changelog] == [address]
    await waiting

    async def described() -> bool:
        return "lm.generate" in (await admin.list_one(ALICE)).model.method_names

    await until(described)


async def test_ticks_come_by_themselves(gate: Gate) -> None:
    async with (
        DevCell(models=gated(gate), timing=Timing(tick_s=0.05, poll_s=0.05), google=True) as cell,
        admin_at(cell.admin.address) as admin,
    ):
        await admin.publish(model("alice", GATED))
        await admin.ready(ALICE)


def test_its_intervals_are_those_of_sax() -> None:
    assert GOOGLE_TIMING.tick_s == 10
    assert GOOGLE_TIMING.prune_after_s == 25


async def test_only_such_an_admin_has_ticks(tmp_path: Path) -> None:
    ordinary, stopped = AdminServer(tmp_path), AdminServer(tmp_path, google=True)
    async with ordinary:
        with pytest.raises(DevCellError, match="make it with google=True"):
            ordinary.tick()
    with pytest.raises(DevCellError, match="only an admin that runs"):
        stopped.tick()


async def test_errors_are_unknown_and_tell_their_code_in_words(cell: DevCell, admin: Admin) -> None:
    await admin.publish(model("alice", GATED))
    assert await refusal(admin.publish(model("alice", GATED))) == unknown(
        "model {test alice} already exists", "AlreadyExists"
    )
    assert await refusal(admin.list_one(BOB)) == unknown("model {test bob} not found", "NotFound")
    assert await refusal(admin.watch(BOB)) == unknown("model /sax/test/bob not found", "NotFound")
    assert await refusal(admin.publish(model("bob", ""))) == unknown(
        'model path "" must match "^[a-zA-Z]+[a-zA-Z0-9_.-]*$"', "InvalidArgument"
    )
    assert await refusal(admin.watch(ALICE, -1)) == (
        UNKNOWN,
        "WatchLoc seqno -1 should be non-negative rpc error: code = InvalidArgument desc = InvalidArgument",
    )
    with cell.model_servers[0].faults.refuse(grpc.StatusCode.INTERNAL, "broken", "GetStatus"):
        join = JoinRequest(address=cell.model_servers[0].address, model_server=Specs())
        code, text = await refusal(admin.stub.Join(join))
    assert code is UNKNOWN
    assert (text or "").endswith(
        "Start failed to initialize state: getStatus RPC error: rpc error: code = Internal desc = broken"
    )


async def test_who_cannot_be_called_back_is_told_so_without_a_code(tmp_path: Path) -> None:
    timing = Timing(connect_back_s=0.2)
    async with AdminServer(tmp_path, timing=timing, google=True) as server, admin_at(server.address) as admin:
        code, text = await refusal(admin.stub.Join(JoinRequest(address="127.0.0.1:1", model_server=Specs())))
        assert code is UNKNOWN
        assert text == (
            "failed to start a connection with 127.0.0.1:1: Start failed to create a client for model server "
            "127.0.0.1:1: context deadline exceeded"
        )


async def test_unpublishing_ends_waiters_with_a_code_of_its_own(admin: Admin) -> None:
    await admin.publish(model("alice", GATED))
    waiting = asyncio.ensure_future(admin.stub.WaitForReady(WaitForReadyRequest(model_id=ALICE, num_replicas=1)))
    await admin.list_one(ALICE)
    await admin.unpublish(ALICE)
    assert await refusal(waiting) == (grpc.StatusCode.CANCELLED, "Canceled")


async def test_a_name_is_free_again_after_a_tick(cell: DevCell, admin: Admin) -> None:
    """The servers answer for the model until then."""
    await admin.publish(model("alice", GATED))
    cell.admin.tick()
    await admin.ready(ALICE)
    (address,) = (await admin.list_one(ALICE)).modelet_addresses
    (server,) = (server for server in cell.model_servers if server.address == address)
    await admin.unpublish(ALICE)
    assert await refusal(admin.publish(model("alice", GATED))) == unknown(
        "model {test alice} is being unpublished, please retry later", "Unavailable"
    )
    async with lm_at(server) as lm:
        await lm.Score(ScoreRequest(model_key=ALICE))
    cell.admin.tick()
    await admin.publish(model("alice", GATED))

    async def unloaded() -> bool:
        return not await statuses(server)

    await until(unloaded)


async def test_a_server_has_one_model(cell: DevCell, admin: Admin) -> None:
    for name in ("alice", "bob", "carol"):
        await admin.publish(model(name, GATED))
    cell.admin.tick()
    cell.admin.tick()
    await admin.ready(ALICE)
    await admin.ready(BOB)
    listed = {
        published.model.model_id: list(published.modelet_addresses)
        for published in (await admin.stub.List(ListRequest())).published_models
    }
    assert sorted(len(addresses) for addresses in listed.values()) == [0, 1, 1]
    # A server whose model is unpublished is free in the same tick; one that is taken from a model, in the next.
    await admin.unpublish(ALICE)
    cell.admin.tick()
    await admin.ready("/sax/test/carol")
    await admin.publish(model("dan", GATED))
    await admin.update(model("bob", GATED, replicas=0))
    cell.admin.tick()
    assert not (await admin.list_one("/sax/test/dan")).modelet_addresses
    assert not (await admin.list_one(BOB)).modelet_addresses
    cell.admin.tick()
    await admin.ready("/sax/test/dan")


async def test_every_update_loads_again(cell: DevCell, admin: Admin, gate: Gate) -> None:
    """Even one that changes the number of replicas alone; that acts at the next tick."""
    await admin.publish(model("alice", GATED))
    cell.admin.tick()
    await admin.ready(ALICE)
    await admin.update(model("alice", GATED, replicas=2))
    await until(lambda: gate.loaded == 2)
    assert len((await admin.list_one(ALICE)).modelet_addresses) == 1
    cell.admin.tick()
    await admin.ready(ALICE, 2)
    assert gate.loaded == 3


async def test_a_failed_load_stays_failed(cell: DevCell, admin: Admin) -> None:
    await admin.publish(model("alice", GATED, checkpoint="broken", replicas=2))
    cell.admin.tick()

    async def failed() -> bool:
        return [await statuses(server) for server in cell.model_servers] == [{ALICE: FAILED}] * 2

    await until(failed)
    await admin.update(model("alice", GATED, replicas=2))
    cell.admin.tick()
    await admin.list_one(ALICE)
    assert await failed()
    assert len((await admin.list_one(ALICE)).modelet_addresses) == 2


def saved(cell: DevCell) -> list[str]:
    path = Path(cell.root, "sax/test/state.proto")
    return [published.model_id for published in State.FromString(path.read_bytes()).models] if path.exists() else []


async def test_what_has_changed_since_the_last_tick_dies_with_the_admin(cell: DevCell, admin: Admin) -> None:
    await admin.publish(model("alice", GATED))
    assert saved(cell) == []
    cell.admin.tick()
    assert saved(cell) == [ALICE]
    await admin.publish(model("bob", GATED))
    await admin.update(model("alice", GATED, checkpoint="other"))
    await cell.admin.faults.restart()
    async with admin_at(cell.admin.address) as again:
        (published,) = (await again.stub.List(ListRequest())).published_models
        assert (published.model.model_id, published.model.checkpoint_path) == (ALICE, "None")
        await again.unpublish(ALICE)
    await cell.admin.faults.restart()
    async with admin_at(cell.admin.address) as again:
        assert (await again.list_one(ALICE)).model.model_path == GATED


async def test_an_admin_that_comes_back_to_its_address_is_not_noticed(cell: DevCell, admin: Admin) -> None:
    """Its location is the same, so no model server joins; one that does is adopted, and loads its model again."""
    await admin.publish(model("alice", GATED))
    cell.admin.tick()
    await admin.ready(ALICE)
    await cell.admin.faults.restart()
    async with admin_at(cell.admin.address) as again:
        cell.admin.tick()
        assert not (await again.list_one(ALICE)).modelet_addresses


async def test_an_admin_elsewhere_adopts_what_is_loaded_and_has_it_loaded_again(
    cell: DevCell, admin: Admin, gate: Gate
) -> None:
    await admin.publish(model("alice", GATED))
    cell.admin.tick()
    await admin.ready(ALICE)
    assert gate.loaded == 1
    await cell.admin.faults.restart(0)
    async with admin_at(cell.admin.address) as again:
        await again.ready(ALICE)
        await until(lambda: gate.loaded == 2)
        assert not (await again.list_one(ALICE)).modelet_addresses
        cell.admin.tick()
        (address,) = (await again.list_one(ALICE)).modelet_addresses
        assert await again.watch_until(ALICE, bool) == {address}


async def test_whoever_watched_another_admin_gets_a_changelog_from_the_start(cell: DevCell, admin: Admin) -> None:
    """No full set, as long as nothing is folded: clients that keep their old set keep dead addresses (§4.6)."""
    await admin.publish(model("alice", GATED))
    cell.admin.tick()
    answer = await admin.watch(ALICE, 7, "another admin")
    assert not answer.result.has_fullset
    assert (answer.result.next_seqno, len(answer.result.changelog)) == (1, 1)


async def test_a_model_server_that_comes_back_too_soon_never_gets_its_model_again(cell: DevCell, admin: Admin) -> None:
    """Its Join changes nothing, and the admin still believes that it is ready (§4.7, §4.8)."""
    await admin.publish(model("alice", GATED, replicas=2))
    cell.admin.tick()
    await admin.ready(ALICE, 2)
    server = cell.model_servers[0]
    await server.faults.restart()
    await server.wait_joined()
    cell.admin.tick()
    await admin.ready(ALICE, 2)
    assert server.address in (await admin.list_one(ALICE)).modelet_addresses
    assert await statuses(server) == {}
    async with lm_at(server) as lm:
        assert (await refusal(lm.Score(ScoreRequest(model_key=ALICE))))[0] is grpc.StatusCode.NOT_FOUND
    # Elsewhere it is another server, which is idle, but all the replicas seem to be there.
    await admin.update(model("alice", GATED, replicas=3))
    await server.faults.restart(0)
    await server.wait_joined()
    cell.admin.tick()
    await until(lambda: has(server, ALICE))


async def has(server: ModelServer, model_id: str) -> bool:
    return (await statuses(server)).get(model_id) == LOADED


async def test_what_cannot_be_unloaded_is_believed_to_be_there(
    cell: DevCell, admin: Admin, caplog: pytest.LogCaptureFixture
) -> None:
    """A restarted server refuses to unload what it has not, so that scaling down and up brings nothing back (§4.8)."""
    await admin.publish(model("alice", GATED, replicas=2))
    cell.admin.tick()
    await admin.ready(ALICE, 2)
    server, other = cell.model_servers
    await server.faults.restart()
    with server.faults.slow(0, "GetStatus") as polled:
        await polled.struck(2)  # the answer to the first one has come
    await admin.update(model("alice", GATED, replicas=1))
    cell.admin.tick()
    assert list((await admin.list_one(ALICE)).modelet_addresses) == [other.address]
    await until(lambda: f"{ALICE} not found, cannot unload." in caplog.text)
    await admin.update(model("alice", GATED, replicas=2))
    cell.admin.tick()
    assert len((await admin.list_one(ALICE)).modelet_addresses) == 2
    await admin.ready(ALICE, 2)
    assert await statuses(server) == {}


async def test_a_silent_server_is_pruned_at_a_tick(clock: Clock, cell: DevCell, admin: Admin) -> None:
    await admin.publish(model("alice", GATED))
    cell.admin.tick()
    await admin.ready(ALICE)
    (address,) = (await admin.list_one(ALICE)).modelet_addresses
    (silent,) = (server for server in cell.model_servers if server.address == address)
    (other,) = (server for server in cell.model_servers if server is not silent)
    silent.faults.freeze()

    async def replaced() -> bool:
        clock.advance()
        with other.faults.slow(0, "GetStatus") as polled:
            await polled.struck(3)  # the answer to the second one, at least, is of the time that it is now
        cell.admin.tick()
        return list((await admin.list_one(ALICE)).modelet_addresses) == [other.address]

    await until(replaced)  # an answer may have been on its way when the server froze
    assert await admin.watch_until(ALICE, lambda known: known == {other.address}) == {other.address}
    await admin.ready(ALICE)
    # What hung is not told that it was pruned: it does not come back before it joins again (§4.8).
    silent.faults.thaw()
    await admin.update(model("alice", GATED, replicas=2))
    cell.admin.tick()
    assert len((await admin.list_one(ALICE)).modelet_addresses) == 1
