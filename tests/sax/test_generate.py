"""Generating: what is sent and comes back, what is tried again and where, and what callers are told."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

import grpc
import pytest

from saxgw.sax import (
    AdminUnavailable,
    Busy,
    CellClient,
    CellError,
    CellNotFound,
    InvalidArgument,
    InvalidName,
    ModelNotFound,
    ReplicasUnavailable,
    Sample,
    SaxClient,
    connect,
)
from saxgw.sax.wire import admin_pb2, common_pb2, lm_pb2
from tests.devcell.harness import TIMEOUT_S, until
from tests.patience import limits
from tests.sax.clients import both_clients, both_hasty_clients, giving_up_soon
from tests.sax.conftest import Hasty
from tests.sax.scripted import (
    MODEL,
    Context,
    Hold,
    ScriptedCell,
    ScriptedModelServer,
    Step,
    answer,
    changes,
    full_set,
    refuse,
)

Code = grpc.StatusCode

UNREACHABLE = "127.0.0.1:1"
"""Nothing listens there: a connection is refused at once."""

TOO_MANY = refuse(Code.RESOURCE_EXHAUSTED, "Too many requests: MethodKey(lm.generate) 4")
NOT_LOADED = refuse(Code.NOT_FOUND, f"{MODEL} is still loading or already unloaded. Available models: /sax/test/secret")


def texts(*samples: tuple[str, float]) -> lm_pb2.GenerateResponse:
    return lm_pb2.GenerateResponse(texts=[lm_pb2.DecodedText(text=text, score=score) for text, score in samples])


async def served(cell: ScriptedCell, count: int = 1) -> list[ScriptedModelServer]:
    """Starts model servers that the admin names as replicas of MODEL."""
    servers = [await cell.model_server() for _ in range(count)]
    cell.admin.serve(*(server.address for server in servers))
    return servers


# What is sent and comes back.


@pytest.mark.parametrize("name", ["/sax/test/lm", "sax/test/lm"])
async def test_a_text_is_sent_as_it_is(cell: ScriptedCell, sax: CellClient, name: str) -> None:
    [server] = await served(cell)
    assert await sax.generate(name, "hé\n") == [Sample("hé\n", -0.5)]
    assert server.requests["Generate"] == [lm_pb2.GenerateRequest(model_key=MODEL, text="hé\n")]


@both_clients
async def test_extra_inputs_travel_by_their_kind(cell: ScriptedCell, sax: SaxClient) -> None:
    [server] = await served(cell)
    await sax.generate(MODEL, "x", {"temperature": 0.5, "top_k": 40, "stop": "!", "eos_id": [1, 2.5], "none": ()})
    [request] = server.requests["Generate"]
    assert request.extra_inputs == common_pb2.ExtraInputs(
        items={"temperature": 0.5, "top_k": 40},
        strings={"stop": "!"},
        tensors={"eos_id": common_pb2.Tensor(values=[1, 2.5]), "none": common_pb2.Tensor()},
    )


@pytest.mark.parametrize(
    ("response", "samples"),
    [
        (texts(("b", -2), ("a", -1)), [("b", -2), ("a", -1)]),
        (texts(), []),
        (texts(("a", -1), ("", 0)), [("a", -1)]),
        (texts(("a", -1), ("", 0), ("", 0)), [("a", -1), ("", 0)]),
        (texts(("", 0)), [("", 0)]),
        (texts(("", 0), ("a", -1)), [("", 0), ("a", -1)]),
        (texts(("a", -1), ("", -3)), [("a", -1), ("", -3)]),
    ],
    ids=["server's order", "none", "vLLM's extra entry", "one extra entry", "only empty", "empty first", "empty text"],
)
@both_clients
async def test_samples(
    cell: ScriptedCell, sax: SaxClient, response: lm_pb2.GenerateResponse, samples: list[tuple[str, float]]
) -> None:
    [server] = await served(cell)
    server.script["Generate"].append(answer(response))
    assert await sax.generate(MODEL, "x") == samples


async def test_no_deadline_goes_to_the_model_server(cell: ScriptedCell, sax: CellClient) -> None:
    """One that passes in its queue would cost it a slot for ever (§5.7)."""
    [server] = await served(cell)
    server.script["Generate"].append(hold := Hold())
    async with asyncio.timeout(60):
        call = asyncio.create_task(sax.generate(MODEL, "x"))
        await hold.begun.wait()
        hold.release.set()
        assert await call == [("held", -1)]
    assert hold.deadline_s is None


async def test_a_cancelled_call_is_cancelled_at_the_model_server(cell: ScriptedCell, sax: CellClient) -> None:
    [server] = await served(cell)
    server.script["Generate"].append(hold := Hold())
    call = asyncio.create_task(sax.generate(MODEL, "x"))
    await hold.begun.wait()
    call.cancel()
    await hold.cancelled.wait()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert await sax.generate(MODEL, "next") == [("next", -0.5)]


@both_clients
async def test_a_malformed_name_is_refused(cell: ScriptedCell, sax: SaxClient) -> None:
    with pytest.raises(InvalidName):
        await sax.generate("lm", "x")
    assert not cell.admin.requests


# What is tried again, and where.


@pytest.mark.parametrize(
    "refusal", [refuse(Code.UNAVAILABLE, "dormant"), NOT_LOADED, TOO_MANY, refuse(Code.CANCELLED, "")]
)
async def test_another_replica_is_asked(
    cell: ScriptedCell, sax: CellClient, monkeypatch: pytest.MonkeyPatch, refusal: Step
) -> None:
    for pause in ("_FIRST_PAUSE_S", "_LONGEST_PAUSE_S", "_FIRST_BUSY_PAUSE_S", "_LONGEST_BUSY_PAUSE_S"):
        monkeypatch.setattr(f"saxgw.sax.replicas.{pause}", 10 * TIMEOUT_S)
    first, second = await served(cell, 2)
    first.always["Generate"] = refusal
    for _ in range(20):
        assert await sax.generate(MODEL, "x") == [("x", -0.5)]
    assert len(second.requests["Generate"]) == 20
    assert len(first.requests["Generate"]) <= 1, "a failing replica is set aside"


async def test_a_replica_that_cannot_be_reached_is_passed_over(cell: ScriptedCell, sax: CellClient) -> None:
    server = await cell.model_server()
    cell.admin.serve(server.address, UNREACHABLE)
    for _ in range(20):
        assert await sax.generate(MODEL, "x") == [("x", -0.5)]


@pytest.mark.parametrize("refusal", [refuse(Code.UNAVAILABLE, "dormant"), NOT_LOADED, TOO_MANY])
@both_clients
async def test_the_only_replica_is_asked_again(cell: ScriptedCell, sax: SaxClient, refusal: Step) -> None:
    [server] = await served(cell)
    server.script["Generate"].extend([refusal] * 2)
    assert await sax.generate(MODEL, "x") == [("x", -0.5)]
    assert len(server.requests["Generate"]) == 3


async def test_a_request_survives_the_death_of_its_replica(cell: ScriptedCell, sax: CellClient) -> None:
    first, second = await served(cell, 2)
    holds = [Hold(), Hold()]
    for server, hold in zip((first, second), holds, strict=True):
        server.script["Generate"].append(hold)
    calls = [asyncio.create_task(sax.generate(MODEL, text)) for text in ("a", "b")]
    await asyncio.gather(*(hold.begun.wait() for hold in holds))  # one each: fewest outstanding
    await first.stop()
    holds[1].release.set()
    results = await asyncio.gather(*calls)
    assert [("held", -1)] in results
    assert [("a", -0.5)] in results or [("b", -0.5)] in results


async def test_the_replica_with_fewer_outstanding_calls_is_picked(cell: ScriptedCell, sax: CellClient) -> None:
    servers = await served(cell, 2)
    holds = [Hold() for _ in range(6)]
    for server, own in zip(servers, (holds[:3], holds[3:]), strict=True):
        server.script["Generate"].extend(own)
    calls = [asyncio.create_task(sax.generate(MODEL, "x")) for _ in holds]
    await asyncio.gather(*(hold.begun.wait() for hold in holds))  # three each, or this would wait for ever
    for hold in holds:
        hold.release.set()
    await asyncio.gather(*calls)


async def test_a_published_model_is_waited_for_until_it_has_a_replica(cell: ScriptedCell, sax: CellClient) -> None:
    cell.admin.publish(replicas=1)
    call = asyncio.create_task(sax.generate(MODEL, "x"))
    await cell.admin.called("WatchLoc", 1)
    server = await cell.model_server()
    cell.admin.news.put_nowait(changes(f"+{server.address}", next_seqno=1))
    assert await call == [("x", -0.5)]


async def test_more_requests_than_a_replica_takes_are_all_answered(cell: ScriptedCell) -> None:
    """A server of four slots serves two hundred requests that come at once, and is not asked without end."""
    [server] = await served(cell)
    running = 0

    async def four_slots(request: lm_pb2.GenerateRequest, context: Context) -> object:
        nonlocal running
        if running == 4:
            await TOO_MANY(request, context)
        running += 1
        await asyncio.sleep(0.005)  # the work
        running -= 1
        return texts((request.text, -1))

    server.always["Generate"] = four_slots
    async with connect(cell.root, replica_wait_s=60) as sax:
        results = await asyncio.gather(*(sax.generate(MODEL, str(number)) for number in range(200)))
    assert results == [[(str(number), -1)] for number in range(200)]
    assert len(server.requests["Generate"]) < 200 * 5


# What callers are told.


@both_clients
async def test_a_refusal_reaches_the_caller_with_the_servers_words(cell: ScriptedCell, sax: SaxClient) -> None:
    [server] = await served(cell)
    words = "The extra_inputs key `x` in the RPC request is not defined in ServableModel.extra_inputs."
    server.script["Generate"].append(refuse(Code.INVALID_ARGUMENT, words))
    with pytest.raises(InvalidArgument) as raised:
        await sax.generate(MODEL, "x", {"x": 1})
    assert str(raised.value) == f"/sax/test/lm refused the request: {words}"
    assert len(server.requests["Generate"]) == 1


@both_clients
async def test_an_error_inside_the_model_server_is_not_repeated(cell: ScriptedCell, sax: SaxClient) -> None:
    [server] = await served(cell)
    server.script["Generate"].append(refuse(Code.INTERNAL, "Preprocessing error: odd\nTraceback …\n  /opt/x.py"))
    with pytest.raises(CellError) as raised:
        await sax.generate(MODEL, "x")
    assert str(raised.value) == "a model server of /sax/test/lm answered INTERNAL: Preprocessing error: odd"
    assert raised.value.code is Code.INTERNAL
    assert len(server.requests["Generate"]) == 1


@both_clients
async def test_a_request_too_large_for_the_server(cell: ScriptedCell, sax: SaxClient) -> None:
    [server] = await served(cell)
    with pytest.raises(InvalidArgument, match=r"the request is \d+ bytes, .* takes 4194304; make it shorter"):
        await sax.generate(MODEL, "x" * (4 * 2**20))
    assert not server.requests["Generate"]


async def test_an_answer_too_large_for_us(cell: ScriptedCell) -> None:
    [server] = await served(cell)
    async with connect(cell.root, max_message_bytes=1000) as sax:
        with pytest.raises(CellError, match="over the limit of 1000; ask for less, or raise max_message_bytes"):
            await sax.generate(MODEL, "x" * 1000)
    assert len(server.requests["Generate"]) == 1, "it would be as large again"


async def test_answers_are_not_held_to_grpcs_default_limit(cell: ScriptedCell, sax: CellClient) -> None:
    [server] = await served(cell)
    server.script["Generate"].append(answer(texts(("x" * 5 * 2**20, -1))))
    [sample] = await sax.generate(MODEL, "x")
    assert len(sample.text) == 5 * 2**20


@pytest.mark.parametrize("code", [Code.UNKNOWN, Code.NOT_FOUND], ids=["as Google's admin", "intended code"])
async def test_a_model_that_is_not_published(cell: ScriptedCell, sax: CellClient, code: Code) -> None:
    words = f"model {MODEL} not found: rpc error: code = NotFound desc = NotFound"
    cell.admin.script["WatchLoc"].append(refuse(code, words))
    with pytest.raises(ModelNotFound, match="/sax/test/lm is not published; publish it first"):
        await sax.generate(MODEL, "x")
    [server] = await served(cell)
    assert await sax.generate(MODEL, "x") == [("x", -0.5)], "nothing remembers that it was not"
    assert len(server.requests["Generate"]) == 1


@both_clients
async def test_a_model_that_was_unpublished(cell: ScriptedCell, sax: SaxClient) -> None:
    [server] = await served(cell)
    await sax.generate(MODEL, "x")
    server.always["Generate"] = NOT_LOADED
    cell.admin.published.clear()
    cell.admin.news.put_nowait(full_set(next_seqno=0))
    with pytest.raises(ModelNotFound):
        await sax.generate(MODEL, "x")


async def test_an_admin_that_knows_no_watching(cell: ScriptedCell, sax: CellClient) -> None:
    cell.admin.always["WatchLoc"] = refuse(Code.UNIMPLEMENTED, "unknown method WatchLoc")
    with pytest.raises(CellError, match="the admin of /sax/test answered UNIMPLEMENTED: unknown method WatchLoc"):
        await sax.generate(MODEL, "x")


async def test_a_cell_that_is_not_there(tmp_path: Path) -> None:
    async with connect(str(tmp_path)) as sax:
        with pytest.raises(CellNotFound):
            await sax.generate(MODEL, "x")


async def test_an_admin_that_is_not_there(cell: ScriptedCell) -> None:
    """It is not waited for as long as for a replica."""
    cell.locate(UNREACHABLE)
    async with connect(cell.root, replica_wait_s=2 * TIMEOUT_S) as sax, asyncio.timeout(TIMEOUT_S):
        with giving_up_soon(), pytest.raises(AdminUnavailable, match="the admin of /sax/test is not available"):
            await sax.generate(MODEL, "x")


async def test_an_admin_that_comes_back_is_asked_at_once(cell: ScriptedCell, sax: CellClient) -> None:
    location = cell.location_file.read_bytes()
    cell.location_file.write_bytes(b"")
    with giving_up_soon(), pytest.raises(AdminUnavailable):
        await sax.generate(MODEL, "x")
    cell.location_file.write_bytes(location)
    await served(cell)
    assert await sax.generate(MODEL, "x") == [("x", -0.5)]


async def test_known_replicas_serve_while_the_admin_is_away(cell: ScriptedCell, sax: CellClient) -> None:
    await served(cell)
    await sax.generate(MODEL, "x")
    await cell.admin.stop()
    for _ in range(10):
        assert await sax.generate(MODEL, "x") == [("x", -0.5)]


async def test_an_admin_that_vanished_without_a_word_is_noticed(
    cell: ScriptedCell, sax: CellClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its watch ends in time, and the next begins with a look at the location file."""
    monkeypatch.setattr("saxgw.sax.admin._WATCH_S", 0.1)
    server = await cell.model_server()
    frozen = cell.admin
    frozen.publish(server.address)

    async def name_it_once(request: admin_pb2.WatchLocRequest, _: Context) -> admin_pb2.WatchLocResponse:
        if request.seqno:
            await asyncio.Event().wait()
        return full_set(server.address)

    frozen.always["WatchLoc"] = name_it_once
    await sax.generate(MODEL, "x")
    await frozen.called("WatchLoc", 2)
    (await cell.new_admin()).serve(server.address)
    await cell.admin.called("WatchLoc", 1)
    assert await sax.generate(MODEL, "x") == [("x", -0.5)]


@pytest.mark.parametrize("refusal", [NOT_LOADED, refuse(Code.UNAVAILABLE, "dormant")])
async def test_no_replica_ready_in_time(cell: ScriptedCell, refusal: Step) -> None:
    loaded, other = await served(cell, 2)
    for server in (loaded, other):
        server.always["Generate"] = refusal
    other.always["GetStatus"] = refuse(Code.INTERNAL, "")
    async with connect(cell.root, replica_wait_s=0.25) as sax:
        with pytest.raises(ReplicasUnavailable) as raised:
            await sax.generate(MODEL, "x")
    assert str(raised.value) == (
        "no model server took the request for /sax/test/lm within 0.25 s (replicas asked for: 2, ready: 1); "
        "try again later"
    )


async def test_a_model_without_any_replica_in_time(cell: ScriptedCell) -> None:
    cell.admin.publish(replicas=3)
    async with connect(cell.root, replica_wait_s=0.1) as sax:
        with pytest.raises(ReplicasUnavailable, match=r"within 0.1 s \(replicas asked for: 3, ready: 0\)"):
            await sax.generate(MODEL, "x")


async def test_a_model_that_asks_for_no_replica(cell: ScriptedCell) -> None:
    cell.admin.publish(replicas=0)
    async with connect(cell.root, replica_wait_s=0.1) as sax:
        with pytest.raises(ReplicasUnavailable) as raised:
            await sax.generate(MODEL, "x")
    assert str(raised.value) == "/sax/test/lm is published with 0 replicas; update it to have 1 or more"


async def test_neither_replicas_nor_admin_in_reach(cell: ScriptedCell) -> None:
    [server] = await served(cell)
    async with connect(cell.root, replica_wait_s=0.2) as sax:
        await until(partial(answers, sax))
        with giving_up_soon():
            await server.stop()
            await cell.admin.stop()
            with pytest.raises(ReplicasUnavailable) as raised:
                await sax.generate(MODEL, "x")
    assert str(raised.value) == (
        "no model server of /sax/test/lm could be reached, and neither could the admin of /sax/test; "
        "try again later, or check that they run"
    )


async def answers(sax: SaxClient) -> bool:
    """Tells whether a replica was found in time."""
    try:
        await sax.generate(MODEL, "x")
    except ReplicasUnavailable:
        return False
    return True


@pytest.mark.parametrize("refusal", [TOO_MANY, refuse(Code.CANCELLED, "")], ids=["at its limit", "sheds load"])
@both_hasty_clients
async def test_all_replicas_busy_all_the_time(cell: ScriptedCell, hasty: Hasty, refusal: Step) -> None:
    server = await cell.model_server()
    server.always["Generate"] = refusal
    for limit_s in limits(0.2):
        cell.admin.serve(server.address)
        server.requests.clear()
        async with hasty(limit_s) as sax:
            with pytest.raises((Busy, ReplicasUnavailable)) as raised:
                await sax.generate(MODEL, "x")
        if len(server.requests["Generate"]) > 1:
            break
    assert raised.type is Busy
    assert str(raised.value) == "the model servers of /sax/test/lm have as many requests as they take; try again later"
    assert len(server.requests["Generate"]) < 20
