"""Streams of a model through every door: what comes when, what goes wrong on the way, and who leaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest

from saxgw.devcell import DevCell
from saxgw.gateway import Gateway
from tests.callers import Caller, CallError, active_replicas
from tests.conftest import DOORS, connected, definition, settings
from tests.devcell.harness import GATED, Gate, gated, until

MODEL = "/sax/test/lm"
REQUEST = {"model": MODEL, "query": "x"}

pytestmark = pytest.mark.parametrize("door", DOORS)


@asynccontextmanager
async def streaming(
    door: str, gate: Gate, step_text: Callable[[int], str] = "{} ".format
) -> AsyncIterator[tuple[Caller, DevCell]]:
    """A caller of a gateway whose model says what `step_text` returns, as the gate lets it."""
    gate.loads.release()
    async with (
        DevCell(models=gated(gate, step_text)) as cell,
        Gateway(settings(cell.root, replica_wait=1)) as gateway,
        connected(gateway, door) as call,
    ):
        one_slot = {"BATCH_SIZE": "1", "MAX_LIVE_BATCHES": "1"}
        await call("Publish", definition(MODEL, model_path=GATED, overrides=one_slot))
        await active_replicas(call, MODEL, 1)
        try:
            yield call, cell
        finally:
            gate.open()


async def test_each_step_as_it_comes(door: str) -> None:
    """A step is with the caller before the model makes the next one."""
    gate = Gate()
    async with streaming(door, gate) as (call, _), aclosing(call.stream("GenerateStream", REQUEST)) as messages:
        for number in range(3):
            gate.steps.release()
            (item,) = (await anext(messages))["results"]
            assert (item["text"], item["prefix_len"], item["scores"]) == (f"{number} ", 2 * number, [-1.0])
        assert gate.ended == 0 or number == 2
        with pytest.raises(StopAsyncIteration):
            await anext(messages)


async def test_model_fails_in_the_middle(door: str) -> None:
    """What has come is good; then comes one error, with nothing of the model's in it."""

    def text(step: int) -> str:
        if step == 1:
            raise RuntimeError("a secret")
        return "good"

    gate = Gate()
    gate.steps.release(2)
    received: list[dict[str, Any]] = []
    async with streaming(door, gate, text) as (call, _):
        with pytest.raises(CallError) as caught:
            await collect(call.stream("GenerateStream", REQUEST), received)
    assert [message["results"][0]["text"] for message in received] == ["good"]
    assert (caught.value.code, caught.value.reason) == ("INTERNAL", "CELL_ERROR")
    assert "secret" not in caught.value.message


async def collect(messages: AsyncGenerator[dict[str, Any]], received: list[dict[str, Any]]) -> None:
    """Adds messages to those received, up to an error."""
    async for message in messages:
        received.append(message)  # noqa: PERF401 - what has come before the error counts


async def test_model_server_goes_away_in_the_middle(door: str) -> None:
    """A stream that breaks off is UNAVAILABLE, and is not begun again elsewhere."""
    gate = Gate()
    async with streaming(door, gate) as (call, cell), aclosing(call.stream("GenerateStream", REQUEST)) as messages:
        gate.steps.release()
        await anext(messages)
        stopping = asyncio.ensure_future(cell.model_servers[0].stop())
        with pytest.raises(CallError) as caught:
            await anext(messages)
        gate.open()
        await stopping
    assert (caught.value.code, caught.value.reason) == ("UNAVAILABLE", "STREAM_BROKEN")
    assert "in the middle" in caught.value.message
    assert gate.begun == 1


async def test_caller_leaves_in_the_middle(door: str) -> None:
    """The model server is told to stop, and the only slot is free for the next caller."""
    gate = Gate()
    async with streaming(door, gate) as (call, _):
        async with aclosing(call.stream("GenerateStream", REQUEST)) as messages:
            gate.steps.release()
            await anext(messages)
        gate.steps.release()  # the step that the model is at; the next one it does not begin
        await until(lambda: gate.ended == 1)
        gate.open()
        assert len(await call("GenerateStream", REQUEST)) == 3


async def test_deadline_in_the_middle(door: str) -> None:
    """A deadline that passes between two steps ends the stream with DEADLINE_EXCEEDED, whatever the model does."""
    gate = Gate()
    async with (
        streaming(door, gate) as (call, _),
        aclosing(call.stream("GenerateStream", REQUEST, timeout_s=0.5)) as messages,
    ):
        gate.steps.release()
        await anext(messages)
        with pytest.raises(CallError) as caught:
            await anext(messages)
        assert caught.value.code == "DEADLINE_EXCEEDED"
        gate.open()
        await until(lambda: gate.ended == 1)


async def test_deadline_before_the_first_step(door: str) -> None:
    """A deadline that passes before the first step is the call's own error."""
    gate = Gate()
    async with streaming(door, gate) as (call, _):
        with pytest.raises(CallError) as caught:
            await call("GenerateStream", REQUEST, timeout_s=0.3)
        assert caught.value.code == "DEADLINE_EXCEEDED"


async def test_characters_in_pieces(door: str) -> None:
    """Prefixes count code points, and what is joined from several steps arrives as it was sent."""
    pieces = ["\U0001f469\u200d", "\U0001f680", "h\u00e9"]
    gate = Gate()
    gate.open()
    async with streaming(door, gate, pieces.__getitem__) as (call, _):
        items = [message["results"][0] for message in await call("GenerateStream", REQUEST)]
        (whole,) = (await call("Generate", REQUEST))["results"]
    assert [(item["text"], item["prefix_len"]) for item in items] == list(zip(pieces, [0, 2, 3], strict=True))
    assert "".join(item["text"] for item in items) == whole["text"] == "".join(pieces)
