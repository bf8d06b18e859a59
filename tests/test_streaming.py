"""Streams of a model through every door: what comes when, what goes wrong on the way, and who leaves."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from saxgw.devcell import DevCell
from saxgw.gateway import Gateway
from saxgw.sax.wire.admin_pb2 import Location
from saxgw.sax.wire.modelet_pb2 import GetStatusRequest
from tests.callers import Caller, CallError, active_replicas
from tests.conftest import DOORS, connected, definition, settings
from tests.devcell.harness import modelet_at, undebugged, until
from tests.held_model import ASTRAL, EMOJI_REVISED, EMPTY_PIECES, HELD, PLAIN, SAMPLES, ZWJ_SPLIT, HeldModel, written
from tests.patience import limits

MODEL = "/sax/test/lm"
REQUEST = {"model": MODEL, "query": "x"}

ONE_SLOT = {"BATCH_SIZE": "1", "MAX_LIVE_BATCHES": "1"}
"""Overrides with which the model server takes one request at a time."""

pytestmark = pytest.mark.parametrize("door", DOORS)


@asynccontextmanager
async def streaming(
    door: str, held: HeldModel, overrides: dict[str, str] | None = None, **changed: Any
) -> AsyncIterator[tuple[Caller, DevCell]]:
    """A caller of a gateway before a model that goes on as the test says."""
    async with (
        DevCell(models=held.classes) as cell,
        Gateway(settings(cell.root, **changed)) as gateway,
        connected(gateway, door) as call,
    ):
        await call("Publish", definition(MODEL, model_path=HELD, overrides=overrides or {}))
        await active_replicas(call, MODEL, 1)
        yield call, cell


async def collect(messages: AsyncGenerator[dict[str, Any]], received: list[dict[str, Any]]) -> None:
    """Adds messages to those received, up to an error."""
    async for message in messages:
        received.append(message)  # noqa: PERF401 - what has come before the error counts


def joined(messages: list[dict[str, Any]]) -> list[str]:
    """The text of each sample of a stream."""
    texts: dict[int, str] = {}
    for message in messages:
        for sample, item in enumerate(message["results"]):
            texts[sample] = texts.get(sample, "")[: item["prefix_len"]] + item["text"]
    return list(texts.values())


async def test_each_step_as_it_comes(door: str) -> None:
    """A step is with the caller before the model makes the next one, and the first long before the last."""
    held = HeldModel(PLAIN)
    async with streaming(door, held) as (call, _), aclosing(call.stream("GenerateStream", REQUEST)) as messages:
        for (piece,) in PLAIN:
            held.release()
            (item,) = (await anext(messages))["results"]
            assert (item["text"], item["scores"]) == (piece.text, [piece.score])
        await held.until(lambda: held.ended == 1)
        with pytest.raises(StopAsyncIteration):
            await anext(messages)


@pytest.mark.parametrize(
    "steps",
    [PLAIN, EMOJI_REVISED, ZWJ_SPLIT, ASTRAL, EMPTY_PIECES, SAMPLES],
    ids=["plain", "emoji revised", "ZWJ split", "astral", "empty pieces", "samples"],
)
async def test_stream_is_what_generate_returns(door: str, steps: Any) -> None:
    """However characters are cut and texts are taken back, a stream adds up to the texts of the unary call."""
    held = HeldModel(steps)
    held.open()
    async with streaming(door, held) as (call, _):
        messages = await call("GenerateStream", REQUEST)
        whole = (await call("Generate", REQUEST))["results"]
    assert joined(messages) == [text for text, _ in written(steps)]
    assert sorted(joined(messages)) == sorted(result["text"] for result in whole)


@pytest.mark.parametrize("steps", [PLAIN, EMOJI_REVISED, ZWJ_SPLIT], ids=["plain", "emoji revised", "ZWJ split"])
async def test_increments(door: str, steps: Any) -> None:
    """Increments only add: joined, they are the text of the unary call; half an emoji is never shown."""
    held = HeldModel(steps)
    held.open()
    async with streaming(door, held) as (call, _):
        messages = await call("GenerateStream", {**REQUEST, "increments": True})
        (whole,) = (await call("Generate", REQUEST))["results"]
    texts = [message["results"][0]["text"] for message in messages]
    assert "".join(texts) == whole["text"]
    assert "\N{REPLACEMENT CHARACTER}" not in "".join(texts)
    prefixes = [message["results"][0]["prefix_len"] for message in messages]
    assert prefixes == [len("".join(texts[:at])) for at in range(len(texts))]


async def test_increments_of_a_model_that_takes_text_back(door: str) -> None:
    """What was sent as an increment cannot be taken back: the stream ends, and says what to do."""
    held = HeldModel(SAMPLES)
    held.open()
    received: list[dict[str, Any]] = []
    async with streaming(door, held) as (call, _):
        with pytest.raises(CallError, match="without increments") as caught:
            await collect(call.stream("GenerateStream", {**REQUEST, "increments": True}), received)
    assert (caught.value.code, caught.value.reason) == ("ABORTED", "TEXT_REVISED")
    assert len(received) == 2


async def test_model_fails_in_the_middle(door: str) -> None:
    """What has come is good; then comes one error, with nothing of the model's in it."""
    held = HeldModel([PLAIN[0], RuntimeError("a secret")])
    held.open()
    received: list[dict[str, Any]] = []
    async with streaming(door, held) as (call, _):
        with pytest.raises(CallError) as caught:
            await collect(call.stream("GenerateStream", REQUEST), received)
    assert [message["results"][0]["text"] for message in received] == ["Once"]
    assert (caught.value.code, caught.value.reason) == ("INTERNAL", "CELL_ERROR")
    assert "secret" not in caught.value.message


async def test_model_refuses_at_once(door: str) -> None:
    """An error before the first step is the call's own, as that of a unary call."""
    held = HeldModel([ValueError("the prompt is too long")])
    held.open()
    async with streaming(door, held) as (call, _):
        with pytest.raises(CallError, match="the prompt is too long") as caught:
            await call("GenerateStream", REQUEST)
    assert (caught.value.code, caught.value.reason) == ("INVALID_ARGUMENT", "REFUSED_BY_CELL")


async def test_model_server_goes_away_in_the_middle(door: str) -> None:
    """A stream that breaks off is UNAVAILABLE, and is not begun again elsewhere."""
    held = HeldModel(PLAIN)
    async with streaming(door, held) as (call, cell), aclosing(call.stream("GenerateStream", REQUEST)) as messages:
        held.release()
        await anext(messages)
        await held.until(lambda: held.asked == 2)
        await cell.model_servers[0].stop()
        with pytest.raises(CallError, match="in the middle") as caught:
            await anext(messages)
    assert (caught.value.code, caught.value.reason) == ("UNAVAILABLE", "STREAM_BROKEN")
    assert held.asked == 2


@pytest.mark.parametrize("method", ["Generate", "GenerateStream"])
async def test_caller_leaves_before_the_first_word(door: str, method: str) -> None:
    """The model server is told to stop, and the only slot is free for the next caller."""
    held = HeldModel(PLAIN)
    async with streaming(door, held, ONE_SLOT) as (call, _):
        leaving = asyncio.ensure_future(call(method, REQUEST))
        await held.until(lambda: held.running == 1)
        leaving.cancel()
        await held.until(lambda: held.left == 1)
        held.open()
        assert await call(method, REQUEST)


async def test_caller_leaves_in_the_middle(door: str) -> None:
    """The same in the middle of a stream."""
    held = HeldModel(PLAIN)
    async with streaming(door, held, ONE_SLOT) as (call, _):
        async with aclosing(call.stream("GenerateStream", REQUEST)) as messages:
            held.release()
            await anext(messages)
        await held.until(lambda: held.left == 1)
        held.open()
        assert len(await call("GenerateStream", REQUEST)) == 3


@pytest.mark.parametrize("method", ["Generate", "GenerateStream"])
async def test_caller_leaves_while_it_waits_for_room(door: str, method: str) -> None:
    """Who leaves while the model server is busy with others is never sent there."""
    held = HeldModel(PLAIN)
    async with streaming(door, held, ONE_SLOT) as (call, cell):
        first = asyncio.ensure_future(call(method, REQUEST))
        await held.until(lambda: held.running == 1)
        second = asyncio.ensure_future(call(method, REQUEST))
        await until(lambda: has_refused(cell))
        second.cancel()
        with suppress(asyncio.CancelledError):
            await second
        held.open()
        assert await first
        assert (held.running, held.ended, held.left) == (0, 1, 0)


async def has_refused(cell: DevCell) -> bool:
    """Whether the model server has refused a request for want of room."""
    async with modelet_at(cell.model_servers[0]) as modelet:
        status = await modelet.GetStatus(GetStatusRequest(include_method_stats=True))
    return any(stats.errors_per_second for model in status.models for stats in model.method_stats)


@pytest.mark.parametrize("steps", [0, 1], ids=["before the first step", "in the middle"])
async def test_deadline(door: str, steps: int) -> None:
    """A passed deadline ends the stream with DEADLINE_EXCEEDED, whatever the model does, and stops the model."""
    for timeout_s in limits(0.3):
        held = HeldModel(PLAIN)
        received: list[dict[str, Any]] = []
        async with streaming(door, held) as (call, _):
            held.release(steps)
            with pytest.raises(CallError) as caught:
                await collect(call.stream("GenerateStream", REQUEST, timeout_s=timeout_s), received)
            assert caught.value.code == "DEADLINE_EXCEEDED"
            if held.asked > steps and len(received) == steps:
                await held.until(lambda: held.left == 1)  # noqa: B023 - it is called here
                return


async def test_deadline_while_it_waits_for_room(door: str) -> None:
    """A deadline passes for who waits for a busy model server as for anybody else."""
    held = HeldModel(PLAIN)
    async with streaming(door, held, ONE_SLOT) as (call, _):
        first = asyncio.ensure_future(call("GenerateStream", REQUEST))
        await held.until(lambda: held.running == 1)
        with pytest.raises(CallError) as caught:
            await call("GenerateStream", REQUEST, timeout_s=0.3)
        assert caught.value.code == "DEADLINE_EXCEEDED"
        held.open()
        await first


async def test_deadline_though_nothing_answers(door: str) -> None:
    """A frozen admin does not hold the deadline up: nothing behind the gateway answers, and the gateway does."""
    held = HeldModel(PLAIN)
    async with streaming(door, held) as (call, cell):
        await cell.admin.stop()
        async with silent_server() as address:
            move_admin(cell, address)
            with pytest.raises(CallError) as caught:
                await call("GenerateStream", {**REQUEST, "model": "/sax/test/other"}, timeout_s=0.5)
        assert caught.value.code == "DEADLINE_EXCEEDED"


@asynccontextmanager
async def silent_server() -> AsyncIterator[str]:
    """The address of a server that takes connections and never says anything."""
    writers: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda _, writer: writers.append(writer), "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    try:
        yield f"{host}:{port}"
    finally:
        server.close()
        for writer in writers:
            writer.close()
        await asyncio.gather(*(writer.wait_closed() for writer in writers), return_exceptions=True)


def move_admin(cell: DevCell, address: str) -> None:
    """Has clients look for the cell's admin at another address."""
    Path(cell.root, "sax", "test", "location.proto").write_bytes(Location(location=address).SerializeToString())


async def test_two_thousand_streams(door: str) -> None:
    """2,000 streams stand open at once, are all served, and hold no thread."""
    count = 2000
    held = HeldModel(PLAIN)
    async with streaming(door, held, min_in_flight=count, max_in_flight=count, max_queue=count) as (call, _):
        threads = gateway_threads()
        with undebugged():
            streams = [asyncio.ensure_future(call("GenerateStream", REQUEST)) for _ in range(count)]
            await held.until(lambda: held.running == count)
            assert gateway_threads() <= threads
            held.open()
            answers = await asyncio.gather(*streams)
    assert {tuple(joined(answer)) for answer in answers} == {("Once upon a time",)}


async def test_abandoned_calls_leave_nothing(door: str) -> None:
    """After thousands of calls that were left at each point, there is no task and no thread more than before."""
    rounds, at_once = 7, 500
    held = HeldModel(PLAIN)
    async with streaming(door, held, min_in_flight=at_once, max_in_flight=at_once) as (call, _):
        held.release(len(PLAIN))
        await call("GenerateStream", REQUEST)  # whatever is made once is made now
        tasks, threads = len(asyncio.all_tasks()), gateway_threads()
        with undebugged():
            for number in range(rounds):
                if number % 2:
                    await leave_in_the_middle(call, held, at_once)
                else:
                    await leave_at_once(call, held, at_once)
                assert held.left == (number + 1) * at_once
        await until(lambda: len(asyncio.all_tasks()) <= tasks)
        assert gateway_threads() <= threads
        held.open()
        assert joined(await call("GenerateStream", REQUEST)) == ["Once upon a time"]


def gateway_threads() -> set[str]:
    """The names of the threads that are neither the model server's nor asyncio's.

    Those of asyncio are some few: if they were held, so many calls would never run at once.
    """
    return {
        thread.name for thread in threading.enumerate() if not thread.name.startswith(("asyncio_", "saxgw-devcell"))
    }


async def leave_at_once(call: Caller, held: HeldModel, count: int) -> None:
    """Begins calls of both kinds, and leaves them once the model has them all."""
    left = held.left
    methods = ("Generate", "GenerateStream")
    calls = [asyncio.ensure_future(call(methods[number % 2], REQUEST)) for number in range(count)]
    await held.until(lambda: held.running == count)
    for each in calls:
        each.cancel()
    await asyncio.wait(calls)
    await held.until(lambda: held.left == left + count)


async def leave_in_the_middle(call: Caller, held: HeldModel, count: int) -> None:
    """Begins streams, and leaves them once each has its first message."""
    left = held.left
    streams = [call.stream("GenerateStream", REQUEST) for _ in range(count)]
    firsts = [asyncio.ensure_future(anext(stream)) for stream in streams]
    await held.until(lambda: held.running == count)
    held.release(count)
    await asyncio.gather(*firsts)
    await asyncio.gather(*(stream.aclose() for stream in streams))
    await held.until(lambda: held.left == left + count)
