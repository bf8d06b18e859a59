"""Model servers that take their time, queue, and lose slots."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import grpc
import pytest
import pytest_asyncio

from saxgw.devcell import DevCell, ModelServer
from saxgw.sax.wire.lm_pb2 import GenerateRequest, GenerateResponse, ScoreRequest
from tests.devcell.harness import QUICK, TIMEOUT_S, admin_at, lm_at, model, refusal, until
from tests.held_model import HELD, HeldModel

if TYPE_CHECKING:
    from saxgw.sax.wire.lm_pb2_grpc import LMServiceAsyncStub

ALICE = "/sax/test/alice"
GENERATE = GenerateRequest(model_key=ALICE, text="x")
NOBODYS = GenerateRequest(model_key="/sax/test/nobody", text="x")
SCORE = ScoreRequest(model_key=ALICE)
FULL = grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.fixture
def held() -> HeldModel:
    """What the server's model is held by."""
    return HeldModel()


@pytest_asyncio.fixture
async def server(held: HeldModel) -> AsyncIterator[ModelServer]:
    """The only server of a cell; each method of its model has three slots."""
    async with DevCell(models=held.classes, timing=QUICK, faults=True) as cell:
        async with admin_at(cell.admin.address) as admin:
            await admin.publish(model("alice", HELD, BATCH_SIZE="1", MAX_LIVE_BATCHES="3"))
            await admin.ready(ALICE)
        yield cell.model_servers[0]


@pytest_asyncio.fixture
async def lm(server: ModelServer) -> AsyncIterator[LMServiceAsyncStub]:
    """Its data methods."""
    async with lm_at(server) as lm:
        yield lm


def generate(
    lm: LMServiceAsyncStub, timeout_s: float | None = None, request: GenerateRequest = GENERATE
) -> asyncio.Future[GenerateResponse]:
    return asyncio.ensure_future(lm.Generate(request, timeout=timeout_s))


async def take(lm: LMServiceAsyncStub) -> asyncio.Future[GenerateResponse]:
    """Takes a slot as soon as there is one: who leaves gives it back a little later."""
    async with asyncio.timeout(TIMEOUT_S):
        while True:
            call = generate(lm)
            # What is refused is refused before that which was sent after it, and is refused too.
            assert (await refusal(generate(lm, request=NOBODYS)))[0] is grpc.StatusCode.NOT_FOUND
            if not call.done():
                return call
            assert (await refusal(call))[0] is FULL


async def fill(lm: LMServiceAsyncStub, slots: int) -> list[asyncio.Future[GenerateResponse]]:
    """Takes so many slots, one after another; they must be all that are left."""
    calls = [await take(lm) for _ in range(slots)]
    assert (await refusal(generate(lm)))[0] is FULL
    return calls


async def expire(server: ModelServer, lm: LMServiceAsyncStub, calls: int) -> None:
    """Lets the deadline of so many calls pass while they are in the queue."""
    timeout_s = 0.1
    with server.faults.slow(0, "Generate") as begun:
        async with asyncio.timeout(TIMEOUT_S):
            while begun.strikes < calls:
                before = begun.strikes
                assert (await refusal(generate(lm, timeout_s)))[0] is grpc.StatusCode.DEADLINE_EXCEEDED
                await lm.Score(SCORE)  # what was sent before it has come, if it was sent at all
                if begun.strikes == before:  # the deadline has passed on the way, on a busy machine
                    timeout_s *= 2


async def test_calls_take_longer_and_keep_their_slots_meanwhile(
    server: ModelServer, lm: LMServiceAsyncStub, held: HeldModel
) -> None:
    held.open()
    with server.faults.work(seconds=TIMEOUT_S):
        waiting = await fill(lm, 3)
        assert held.asked == 0
        for call in waiting:
            call.cancel()
    await until(lambda: answers(lm))
    with server.faults.work(seconds=0.001):
        assert (await generate(lm)).texts


async def answers(lm: LMServiceAsyncStub) -> bool:
    """Tells whether there is a slot."""
    try:
        await generate(lm, TIMEOUT_S)
    except grpc.aio.AioRpcError as error:
        if error.code() is not FULL:
            raise
        return False
    return True


async def test_calls_have_their_turn_one_after_another(
    server: ModelServer, lm: LMServiceAsyncStub, held: HeldModel
) -> None:
    """In the order in which they came; each method has a queue of its own."""
    server.faults.work(at_a_time=1)
    calls = await fill(lm, 3)
    await held.until(lambda: held.asked == 1)
    await lm.Score(SCORE)
    assert (held.running, held.asked) == (1, 1)
    for number in (1, 2, 3):
        held.release(3)
        assert (await calls[number - 1]).texts
        assert held.ended == number


async def test_who_leaves_the_queue_gives_the_slot_back(
    server: ModelServer, lm: LMServiceAsyncStub, held: HeldModel
) -> None:
    server.faults.work(at_a_time=1)
    first, second, third = await fill(lm, 3)
    second.cancel()
    fourth = await take(lm)
    held.open()
    for call in (first, third, fourth):
        assert (await call).texts
    assert held.left == 0
    server.faults.work(seconds=TIMEOUT_S)
    for call in await fill(lm, 3):
        call.cancel()


async def test_a_deadline_that_passes_in_the_queue_costs_a_slot(
    server: ModelServer, lm: LMServiceAsyncStub, held: HeldModel
) -> None:
    """Until the model is loaded again (Sax protocol §5.7)."""
    leaks = server.faults.work(at_a_time=1, leaks=True)
    first = generate(lm)
    await held.until(lambda: held.running == 1)
    await expire(server, lm, 2)
    await leaks.struck(2)
    held.open()
    assert (await first).texts
    # Two of three slots are gone, for good.
    assert (await generate(lm)).texts
    server.faults.clear()
    server.faults.work(seconds=TIMEOUT_S)
    (last,) = await fill(lm, 1)
    last.cancel()
    server.faults.clear()
    await server.faults.restart()
    await until(lambda: loaded_again(lm))
    server.faults.work(seconds=TIMEOUT_S)
    for call in await fill(lm, 3):
        call.cancel()


async def loaded_again(lm: LMServiceAsyncStub) -> bool:
    try:
        await lm.Score(SCORE, wait_for_ready=True, timeout=TIMEOUT_S)
    except grpc.aio.AioRpcError as error:
        if error.code() not in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNAVAILABLE):
            raise
        return False
    return True


async def test_who_leaves_a_leaking_queue_without_a_deadline_costs_nothing(
    server: ModelServer, lm: LMServiceAsyncStub, held: HeldModel
) -> None:
    """Sax does not notice them; their slots come back when it would have been their turn."""
    server.faults.work(at_a_time=1, leaks=True)
    first, second, third = await fill(lm, 3)
    second.cancel()
    third.cancel()
    await asyncio.wait((second, third))
    # The server has heard of both before it refuses this, which was sent after.
    assert (await refusal(generate(lm)))[0] is FULL
    held.open()
    assert (await first).texts
    server.faults.work(seconds=TIMEOUT_S)
    for call in await fill(lm, 3):
        call.cancel()


async def test_without_the_fault_a_deadline_costs_nothing(
    server: ModelServer, lm: LMServiceAsyncStub, held: HeldModel
) -> None:
    server.faults.work(at_a_time=1)
    first = generate(lm)
    await held.until(lambda: held.running == 1)
    await expire(server, lm, 2)
    held.open()
    assert (await first).texts
    server.faults.work(seconds=TIMEOUT_S)
    for call in await fill(lm, 3):
        call.cancel()
