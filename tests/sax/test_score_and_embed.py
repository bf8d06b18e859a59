"""Scoring and embedding: what is sent and comes back. They find their replica as generating does (test_generate.py)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import grpc
import pytest

from saxgw.sax import (
    Busy,
    CellClient,
    CellError,
    InvalidArgument,
    InvalidName,
    ModelNotFound,
    ReplicasUnavailable,
    SaxClient,
)
from saxgw.sax.wire import common_pb2, lm_pb2
from tests.patience import limits
from tests.sax.clients import both_clients, both_hasty_clients
from tests.sax.conftest import Hasty
from tests.sax.scripted import MODEL, Hold, ScriptedCell, ScriptedModelServer, answer, refuse

Code = grpc.StatusCode

Operation = Callable[[SaxClient], Awaitable[list[float]]]

CALLS: dict[str, Operation] = {
    "Score": lambda sax: sax.score(MODEL, "x", ["yy"]),
    "Embed": lambda sax: sax.embed(MODEL, "x"),
}

ANSWERS: dict[str, list[float]] = {"Score": [-2], "Embed": [0.6, -0.8]}

RESPONSES = {"Score": lm_pb2.ScoreResponse(logp=[-5]), "Embed": lm_pb2.EmbedResponse(embedding=[-5])}

every_call = pytest.mark.parametrize("rpc", CALLS)


async def served(cell: ScriptedCell, count: int = 1) -> list[ScriptedModelServer]:
    """Starts model servers that the admin names as replicas of MODEL."""
    servers = [await cell.model_server() for _ in range(count)]
    cell.admin.serve(*(server.address for server in servers))
    return servers


@both_clients
async def test_a_text_and_its_continuations_are_sent_as_they_are(cell: ScriptedCell, sax: SaxClient) -> None:
    [server] = await served(cell)
    assert await sax.score("sax/test/lm", "hé\n", [" 🐇", "", " 日本"], {"temperature": 0.5}) == [-2, 0, -3]
    assert server.requests["Score"] == [
        lm_pb2.ScoreRequest(
            model_key=MODEL,
            prefix="hé\n",
            suffix=[" 🐇", "", " 日本"],
            extra_inputs=common_pb2.ExtraInputs(items={"temperature": 0.5}),
        )
    ]


async def test_no_text_is_one_empty_text_to_the_model(cell: ScriptedCell, sax: CellClient) -> None:
    [server] = await served(cell)
    assert await sax.score(MODEL, "x", ()) == [0]
    assert server.requests["Score"] == [lm_pb2.ScoreRequest(model_key=MODEL, prefix="x")]


@both_clients
async def test_one_text_is_not_taken_for_a_sequence_of_its_characters(cell: ScriptedCell, sax: SaxClient) -> None:
    with pytest.raises(TypeError, match="suffixes must be a sequence of texts"):
        await sax.score(MODEL, "x", "abc")
    assert not cell.admin.requests


@both_clients
async def test_a_vector_keeps_its_precision(cell: ScriptedCell, sax: SaxClient) -> None:
    [server] = await served(cell)
    vector = [0.1, -1e-300, 3.0]
    server.script["Embed"].append(answer(lm_pb2.EmbedResponse(embedding=vector)))
    assert await sax.embed("sax/test/lm", "hé", {"stop": "!"}) == vector
    assert server.requests["Embed"] == [
        lm_pb2.EmbedRequest(model_key=MODEL, text="hé", extra_inputs=common_pb2.ExtraInputs(strings={"stop": "!"}))
    ]


@every_call
@pytest.mark.parametrize(
    "code", [Code.UNAVAILABLE, Code.NOT_FOUND, Code.RESOURCE_EXHAUSTED], ids=["dormant", "not loaded", "busy"]
)
@both_clients
async def test_another_replica_is_asked(cell: ScriptedCell, sax: SaxClient, rpc: str, code: Code) -> None:
    first, second = await served(cell, 2)
    first.always[rpc] = refuse(code, "not I")
    for _ in range(10):
        assert await CALLS[rpc](sax) == ANSWERS[rpc]
    assert len(second.requests[rpc]) == 10


@every_call
@both_clients
async def test_a_refusal_reaches_the_caller_with_the_servers_words(
    cell: ScriptedCell, sax: SaxClient, rpc: str
) -> None:
    [server] = await served(cell)
    server.script[rpc].append(refuse(Code.INVALID_ARGUMENT, f"{MODEL} does not support lm.x"))
    with pytest.raises(InvalidArgument) as raised:
        await CALLS[rpc](sax)
    assert str(raised.value) == "/sax/test/lm refused the request: /sax/test/lm does not support lm.x"


@every_call
@both_clients
async def test_an_error_inside_the_model_server(cell: ScriptedCell, sax: SaxClient, rpc: str) -> None:
    [server] = await served(cell)
    server.script[rpc].append(refuse(Code.INTERNAL, "Preprocessing error: odd\nTraceback …\n  /opt/x.py"))
    with pytest.raises(CellError) as raised:
        await CALLS[rpc](sax)
    assert str(raised.value) == "a model server of /sax/test/lm answered INTERNAL: Preprocessing error: odd"
    assert len(server.requests[rpc]) == 1


@every_call
@both_clients
async def test_a_request_too_large_for_the_server(cell: ScriptedCell, sax: SaxClient, rpc: str) -> None:
    await served(cell)
    text = "x" * (4 * 2**20)
    with pytest.raises(InvalidArgument, match=r"the request is \d+ bytes, .* takes 4194304; make it shorter"):
        await (sax.score(MODEL, "", [text]) if rpc == "Score" else sax.embed(MODEL, text))


@every_call
@both_clients
async def test_a_model_that_is_not_published(cell: ScriptedCell, sax: SaxClient, rpc: str) -> None:
    assert cell.admin.published == {}
    with pytest.raises(ModelNotFound, match="/sax/test/lm is not published; publish it first"):
        await CALLS[rpc](sax)


@every_call
@both_clients
async def test_a_malformed_name_is_refused(cell: ScriptedCell, sax: SaxClient, rpc: str) -> None:
    with pytest.raises(InvalidName):
        await (sax.score("lm", "x", ["y"]) if rpc == "Score" else sax.embed("lm", "x"))
    assert not cell.admin.requests


@every_call
async def test_no_replica_ready_in_time(cell: ScriptedCell, hasty: Hasty, rpc: str) -> None:
    [server] = await served(cell)
    server.always[rpc] = refuse(Code.UNAVAILABLE, "dormant")
    async with hasty(0.2) as sax:
        with pytest.raises(ReplicasUnavailable, match=r"within 0\.2 s"):
            await CALLS[rpc](sax)


@every_call
@both_hasty_clients
async def test_all_replicas_busy_all_the_time(cell: ScriptedCell, hasty: Hasty, rpc: str) -> None:
    server = await cell.model_server()
    server.always[rpc] = refuse(Code.RESOURCE_EXHAUSTED, "Too many requests: MethodKey(…) 4")
    for limit_s in limits(0.2):
        cell.admin.serve(server.address)
        async with hasty(limit_s) as sax:
            with pytest.raises((Busy, ReplicasUnavailable)) as raised:
                await CALLS[rpc](sax)
        if server.requests[rpc]:
            break
    assert raised.type is Busy


@every_call
async def test_a_cancelled_call_is_cancelled_at_the_model_server(cell: ScriptedCell, sax: CellClient, rpc: str) -> None:
    [server] = await served(cell)
    server.script[rpc].append(hold := Hold(RESPONSES[rpc]))
    call = asyncio.ensure_future(CALLS[rpc](sax))
    await hold.begun.wait()
    assert hold.deadline_s is None
    call.cancel()
    await hold.cancelled.wait()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert await CALLS[rpc](sax) == ANSWERS[rpc]
