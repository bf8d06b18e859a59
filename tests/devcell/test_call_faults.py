"""What the servers of a cell can do to calls: be slow, refuse, and lie."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import grpc
import pytest
import pytest_asyncio

from saxgw.devcell import DevCell, ModelServer
from saxgw.sax.wire.admin_pb2 import ListRequest
from saxgw.sax.wire.common_pb2 import FAILED, LOADED
from saxgw.sax.wire.lm_pb2 import GenerateRequest, ScoreRequest
from saxgw.sax.wire.modelet_pb2 import GetStatusRequest, GetStatusResponse
from tests.devcell.harness import NGRAM, QUICK, TIMEOUT_S, Admin, admin_at, lm_at, model, modelet_at, refusal, until
from tests.held_model import HELD, HeldModel

if TYPE_CHECKING:
    from saxgw.sax.wire.modelet_pb2_grpc import ModeletAsyncStub

ALICE = "/sax/test/alice"
SCORE = ScoreRequest(model_key=ALICE, suffix=["abc"])
GENERATE = GenerateRequest(model_key=ALICE, text="x")
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


@pytest.fixture
def held() -> HeldModel:
    """What the cell's model is held by; it is open."""
    held = HeldModel()
    held.open()
    return held


@pytest_asyncio.fixture
async def cell(held: HeldModel) -> AsyncIterator[DevCell]:
    """A cell of two model servers that may misbehave; both have loaded the held model under the name of Alice."""
    async with DevCell(model_servers=2, models=held.classes, timing=QUICK, faults=True) as cell:
        async with admin_at(cell.admin.address) as admin:
            await admin.publish(model("alice", HELD, replicas=2))
            await admin.ready(ALICE, 2)
        yield cell


@pytest_asyncio.fixture
async def admin(cell: DevCell) -> AsyncIterator[Admin]:
    """The admin of the cell."""
    async with admin_at(cell.admin.address) as admin:
        yield admin


async def test_calls_are_refused_until_told_otherwise(cell: DevCell) -> None:
    first, second = cell.model_servers
    async with lm_at(first) as lm, lm_at(second) as other:
        with first.faults.refuse(UNAVAILABLE, "going away", "Score") as fault:
            for _ in range(3):
                assert await refusal(lm.Score(SCORE)) == (UNAVAILABLE, "going away")
            assert fault.strikes == 3
            await lm.Generate(GENERATE)
            await other.Score(SCORE)
        assert not first.faults.active
        await lm.Score(SCORE)


async def test_so_many_calls_are_refused_and_the_next_is_answered(cell: DevCell) -> None:
    server = cell.model_servers[0]
    async with lm_at(server) as lm:
        fault = server.faults.refuse(grpc.StatusCode.INTERNAL, "out of luck", calls=2)
        assert await refusal(lm.Score(SCORE)) == (grpc.StatusCode.INTERNAL, "out of luck")
        assert fault in server.faults.active
        assert await refusal(lm.GenerateStream(GENERATE).read()) == (grpc.StatusCode.INTERNAL, "out of luck")
        assert fault not in server.faults.active
        await lm.Score(SCORE)
        assert fault.strikes == 2


async def test_a_test_may_wait_for_a_fault_to_strike(cell: DevCell) -> None:
    server = cell.model_servers[0]
    with server.faults.refuse(UNAVAILABLE, "no", "Score") as fault:
        striking = asyncio.create_task(fault.struck(2))
        async with lm_at(server) as lm:
            await refusal(lm.Score(SCORE))
            assert not striking.done()
            await refusal(lm.Score(SCORE))
        await striking


async def test_what_servers_say_to_each_other_is_refused_only_by_name(cell: DevCell) -> None:
    server = cell.model_servers[0]
    async with modelet_at(server) as modelet:
        with server.faults.refuse(UNAVAILABLE, "no"):
            await modelet.GetStatus(GetStatusRequest())
        with server.faults.refuse(UNAVAILABLE, "no", "GetStatus"):
            assert await refusal(modelet.GetStatus(GetStatusRequest())) == (UNAVAILABLE, "no")


async def test_the_admin_refuses_too(cell: DevCell, admin: Admin) -> None:
    with cell.admin.faults.refuse(grpc.StatusCode.RESOURCE_EXHAUSTED, "later", "List", calls=1):
        assert await refusal(admin.list_one(ALICE)) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "later")
        assert (await admin.list_one(ALICE)).model.model_id == ALICE


async def test_faults_outlast_a_restart_and_clear_ends_them_all(cell: DevCell) -> None:
    server = cell.model_servers[0]
    fault = server.faults.refuse(UNAVAILABLE, "no", "Score")
    server.faults.slow(TIMEOUT_S, "Generate")
    await server.faults.restart()
    await server.wait_joined()
    async with lm_at(server) as lm:
        assert await refusal(lm.Score(SCORE)) == (UNAVAILABLE, "no")
        server.faults.freeze()
        server.faults.clear()
        assert fault.over
        assert not server.faults.active
        assert not server.faults.relay.frozen
        with server.faults.refuse(UNAVAILABLE, "again", "Score"):
            assert await refusal(lm.Score(SCORE)) == (UNAVAILABLE, "again")


async def test_answers_come_late(cell: DevCell, held: HeldModel) -> None:
    """The call is carried out at once; its answer, which could be sent, is not yet."""
    server = cell.model_servers[0]
    async with lm_at(server) as lm:
        with server.faults.slow(TIMEOUT_S, "Generate", "GenerateStream"):
            late = asyncio.ensure_future(lm.Generate(GENERATE))
            stream = lm.GenerateStream(GENERATE)
            first = asyncio.ensure_future(stream.read())
            await held.until(lambda: held.ended == 1 and held.running == 1)
            await lm.Score(SCORE)
            assert not late.done()
            assert not first.done()
            late.cancel()
            stream.cancel()
        with server.faults.slow(0.001, "Generate", calls=1):
            await lm.Generate(GENERATE)


async def test_slowness_may_outlast_a_deadline(cell: DevCell) -> None:
    server = cell.model_servers[0]
    async with lm_at(server) as lm:
        with server.faults.slow(TIMEOUT_S):
            code, _ = await refusal(lm.Score(SCORE, timeout=0.05))
        assert code is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_a_model_server_denies_a_model_that_the_admin_lists_on_it(cell: DevCell, admin: Admin) -> None:
    liar, honest = cell.model_servers
    await admin.publish(model("bob", HELD, replicas=2))
    await admin.ready("/sax/test/bob", 2)
    text = f"{ALICE} is still loading or already unloaded. Available models: "
    async with lm_at(liar) as lm, lm_at(honest) as other:
        with liar.faults.disown(ALICE):
            for call in (lm.Score(SCORE), lm.Generate(GENERATE), lm.GenerateStream(GENERATE).read()):
                assert await refusal(call) == (grpc.StatusCode.NOT_FOUND, text)
            await lm.Score(ScoreRequest(model_key="/sax/test/bob"))
            await other.Score(SCORE)
            assert liar.address in (await admin.list_one(ALICE)).modelet_addresses
            await admin.ready(ALICE, 2)
        await lm.Score(SCORE)


async def test_a_model_server_claims_to_have_loaded_what_it_has_not(cell: DevCell, admin: Admin) -> None:
    """The admin believes it, lists it and calls it ready; its next look after the end finds the truth."""
    bob = ScoreRequest(model_key="/sax/test/bob")
    await admin.publish(model("bob", HELD, replicas=0))
    with cell.model_servers[0].faults.claim("/sax/test/bob"), cell.model_servers[1].faults.claim("/sax/test/bob"):
        await admin.update(model("bob", HELD))
        await admin.ready("/sax/test/bob")
        (address,) = (await admin.list_one("/sax/test/bob")).modelet_addresses
        (liar,) = (server for server in cell.model_servers if server.address == address)
        async with modelet_at(liar) as modelet:
            statuses = {status.model_key: status.model_status for status in (await status_of(modelet)).models}
        assert statuses == {ALICE: LOADED, "/sax/test/bob": LOADED}
        async with lm_at(liar) as lm:
            assert (await refusal(lm.Score(bob)))[0] is grpc.StatusCode.NOT_FOUND
            await lm.Score(SCORE)
    await until(lambda: answers(liar, bob))


async def status_of(modelet: ModeletAsyncStub) -> GetStatusResponse:
    return await modelet.GetStatus(GetStatusRequest())


async def answers(server: ModelServer, request: ScoreRequest) -> bool:
    """Tells whether the server has the model."""
    async with lm_at(server) as lm:
        try:
            await lm.Score(request)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.NOT_FOUND:
                raise
            return False
    return True


async def test_a_failure_may_be_claimed_to_be_a_success(cell: DevCell, admin: Admin) -> None:
    server = cell.model_servers[0]
    await admin.publish(model("bob", "saxgw.devcell.NgramLm", checkpoint="/no/such/file", replicas=2))
    async with modelet_at(server) as modelet:

        async def bob_is(status: int) -> bool:
            models = (await status_of(modelet)).models
            return [model.model_status for model in models if model.model_key == "/sax/test/bob"] == [status]

        await until(lambda: bob_is(FAILED))
        with server.faults.claim("/sax/test/bob"):
            assert await bob_is(LOADED)
        assert await bob_is(FAILED)


async def test_an_overloaded_server_has_no_slot(cell: DevCell) -> None:
    server = cell.model_servers[0]
    key = f"MethodKey(name='lm.score', service_id='lm', model_key='{ALICE}')"
    full = (grpc.StatusCode.RESOURCE_EXHAUSTED, f"Too many requests: {key} 40000")
    async with lm_at(server) as lm:
        with server.faults.overload("Score"):
            assert await refusal(lm.Score(SCORE)) == full
            await lm.Generate(GENERATE)
            # What else is wrong with a call is found first.
            missing = lm.Score(ScoreRequest(model_key="/sax/test/bob"))
            assert (await refusal(missing))[0] is grpc.StatusCode.NOT_FOUND
        await lm.Score(SCORE)
        fault = server.faults.overload(calls=2)
        assert await refusal(lm.Score(SCORE)) == full
        code, text = await refusal(lm.GenerateStream(GENERATE).read())
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "lm.generate_stream" in (text or "")
        await lm.Score(SCORE)
        assert fault.strikes == 2


@pytest.mark.parametrize("method", ["Publish", "generate", ""])
async def test_faults_of_methods_that_are_not_there(cell: DevCell, method: str) -> None:
    with pytest.raises(ValueError, match=f'there is no method "{method}"; there are Embed, Export, Generate'):
        cell.model_servers[0].faults.refuse(UNAVAILABLE, "no", method)
    with pytest.raises(ValueError, match="calls must be at least 1, got 0"):
        cell.admin.faults.slow(1, calls=0)


async def test_an_unknown_method_is_unimplemented_with_or_without_faults(cell: DevCell) -> None:
    with cell.admin.faults.refuse(UNAVAILABLE, "no"):
        async with grpc.aio.insecure_channel(cell.admin.address) as channel:
            call = channel.unary_unary("/sax.Admin/Nothing", ListRequest.SerializeToString, ListRequest.FromString)
            assert (await refusal(call(ListRequest())))[0] is grpc.StatusCode.UNIMPLEMENTED


async def test_a_model_server_that_refuses_to_load_is_asked_again(cell: DevCell, admin: Admin) -> None:
    for server in cell.model_servers:
        server.faults.refuse(UNAVAILABLE, "busy", "Load", calls=2)
    await admin.publish(model("carol", NGRAM, replicas=2))
    await admin.ready("/sax/test/carol", 2)
    assert not any(server.faults.active for server in cell.model_servers)
