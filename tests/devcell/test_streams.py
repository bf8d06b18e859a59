"""Streams of a model that waits: texts that are revised, callers that leave, and very many at once (§5.6)."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest

from saxgw.devcell import ModelServer, Piece
from saxgw.sax.wire.lm_pb2 import GenerateRequest, GenerateStreamResponse
from saxgw.sax.wire.lm_pb2_grpc import LMServiceStub
from saxgw.sax.wire.modelet_pb2 import LoadRequest
from tests.devcell.harness import QUICK, TIMEOUT_S, lm_at, modelet_at, refusal, undebugged
from tests.held_model import HELD, PLAIN, STREAMS, HeldModel, Step, written

BOB = "/sax/test/bob"
REQUEST = GenerateRequest(model_key=BOB, text="x")

Stream = grpc.aio.UnaryStreamCall[GenerateRequest, GenerateStreamResponse]


@asynccontextmanager
async def served(root: Path, held: HeldModel, **overrides: str) -> AsyncIterator[ModelServer]:
    """A model server that has loaded the held model as bob."""
    async with ModelServer(root, models=held.classes, timing=QUICK) as server:
        async with modelet_at(server) as modelet:
            await modelet.Load(LoadRequest(model_key=BOB, model_path=HELD, checkpoint_path="None", overrides=overrides))
        yield server


def one_at_a_time(root: Path, held: HeldModel) -> Any:
    """The same, with one slot for each method."""
    return served(root, held, BATCH_SIZE="1", MAX_LIVE_BATCHES="1")


async def read_all(stream: AsyncIterable[GenerateStreamResponse]) -> list[tuple[str, float]]:
    """Reads a stream to its end as a client does, and returns the samples that it adds up to."""
    samples: list[tuple[str, float]] = []
    async for response in stream:
        samples = samples or [("", 0.0) for _ in response.items]
        for number, item in enumerate(response.items):
            text, score = samples[number]
            assert 0 <= item.prefix_len <= len(text)
            samples[number] = (text[: item.prefix_len] + item.text, score + sum(item.scores))
    return samples


async def text_of_next(stream: Stream) -> str:
    response = await stream.read()
    assert isinstance(response, GenerateStreamResponse)
    return response.items[0].text


@pytest.mark.parametrize("steps", STREAMS.values(), ids=STREAMS)
async def test_a_stream_adds_up_to_what_generate_returns(tmp_path: Path, steps: Iterable[Step]) -> None:
    held = HeldModel(steps)
    held.open()
    async with served(tmp_path, held) as server, lm_at(server) as lm:
        samples = await read_all(lm.GenerateStream(REQUEST))
        assert samples == written(steps)
        texts = (await lm.Generate(REQUEST)).texts
    assert [(decoded.text, decoded.score) for decoded in texts] == sorted(samples, key=lambda sample: -sample[1])
    assert held.ended == 2


async def test_a_revision_tells_how_much_it_keeps(tmp_path: Path) -> None:
    """In code points; a model that would keep more than there is keeps what there is."""
    held = HeldModel([[Piece("a🐇", -1.0)], [Piece("b", -1.0, 1)], [Piece("c", -1.0)], [Piece("d", -1.0, 9)]])
    held.open()
    async with served(tmp_path, held) as server, lm_at(server) as lm:
        items = [response.items[0] async for response in lm.GenerateStream(REQUEST)]
    assert [(item.prefix_len, item.text) for item in items] == [(0, "a🐇"), (1, "b"), (2, "c"), (3, "d")]


async def test_each_step_is_sent_when_it_is_made(tmp_path: Path) -> None:
    held = HeldModel()
    async with served(tmp_path, held) as server, lm_at(server) as lm:
        stream = lm.GenerateStream(REQUEST)
        for number, step in enumerate(PLAIN, 1):
            held.release()
            assert await text_of_next(stream) == step[0].text
            assert held.asked <= number + 1
        assert await stream.read() is grpc.aio.EOF
    assert (held.ended, held.left) == (1, 0)


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (ValueError("the text is odd"), grpc.StatusCode.INVALID_ARGUMENT, "the text is odd"),
        (RuntimeError("a secret"), grpc.StatusCode.INTERNAL, f"lm.generate_stream of {BOB} failed"),
    ],
    ids=["refused", "failed"],
)
@pytest.mark.parametrize("before", [0, 1])
async def test_an_error_ends_a_stream_after_what_was_sent(
    tmp_path: Path, error: Exception, code: grpc.StatusCode, text: str, before: int
) -> None:
    held = HeldModel([*PLAIN[:before], error])
    held.open()
    async with served(tmp_path, held) as server, lm_at(server) as lm:
        stream = lm.GenerateStream(REQUEST)
        for step in PLAIN[:before]:
            assert await text_of_next(stream) == step[0].text
        assert await refusal(stream.read()) == (code, text)


# Callers that leave.


def cancel(stream: Stream, _: grpc.aio.Channel) -> Awaitable[None]:
    stream.cancel()
    return asyncio.sleep(0)


def hang_up(_: Stream, channel: grpc.aio.Channel) -> Awaitable[None]:
    return channel.close()


def asked(held: HeldModel, steps: int) -> bool:
    return held.asked == steps


def left(held: HeldModel, calls: int) -> bool:
    return held.left == calls


Leave = Callable[[Stream, grpc.aio.Channel], Awaitable[None]]

every_way = pytest.mark.parametrize("leave", [cancel, hang_up])


@every_way
@pytest.mark.parametrize("steps", [0, 2], ids=["before the first step", "between steps"])
async def test_a_caller_that_leaves_a_stream_ends_it(tmp_path: Path, leave: Leave, steps: int) -> None:
    """The model is not asked again, and the slot is free."""
    held = HeldModel()
    async with one_at_a_time(tmp_path, held) as server:
        for turn in range(3):
            async with grpc.aio.insecure_channel(server.address) as channel:
                stream = LMServiceStub(channel).GenerateStream(REQUEST)
                reading = asyncio.ensure_future(stream.read())
                held.release(steps)
                await held.until(partial(asked, held, (turn + 1) * (steps + 1)))
                await leave(stream, channel)
                await held.until(partial(left, held, turn + 1))
                await asyncio.gather(reading, return_exceptions=True)
        async with lm_at(server) as lm:
            held.release(3)
            assert await read_all(lm.GenerateStream(REQUEST)) == written(PLAIN)
    assert held.asked == 3 * (steps + 1) + 3
    assert held.running == 0


@every_way
async def test_a_slow_reader_that_leaves_ends_the_stream(tmp_path: Path, leave: Leave) -> None:
    """It leaves while what was made for it cannot be sent."""
    held = HeldModel(itertools.repeat([Piece("x" * 100_000, -1.0)]))
    async with one_at_a_time(tmp_path, held) as server:
        async with grpc.aio.insecure_channel(server.address) as channel:
            stream = LMServiceStub(channel).GenerateStream(REQUEST)
            held.release(1000)
            await stream.read()
            await stands_still(held)
            await leave(stream, channel)
            await held.until(lambda: held.left == 1)
        made = held.asked
        assert made < 200
        held.steps = PLAIN
        async with lm_at(server) as lm:
            assert await read_all(lm.GenerateStream(REQUEST)) == written(PLAIN)
        assert held.asked == made + len(PLAIN)


async def stands_still(held: HeldModel) -> None:
    """Waits until no more steps are asked for: the connection is full."""
    made = -1
    while made != held.asked:
        made = held.asked
        await asyncio.sleep(0.1)


async def test_a_deadline_ends_a_stream(tmp_path: Path) -> None:
    held = HeldModel()
    async with one_at_a_time(tmp_path, held) as server, lm_at(server) as lm:
        timeout_s = 0.2
        async with asyncio.timeout(TIMEOUT_S):
            while not held.asked:  # on a busy machine the deadline may pass before the model is asked for anything
                code, _ = await refusal(lm.GenerateStream(REQUEST, timeout=timeout_s).read())
                assert code is grpc.StatusCode.DEADLINE_EXCEEDED
                timeout_s *= 2
        await held.until(lambda: held.running == 0)
        assert held.left > 0
        held.release(3)
        assert await read_all(lm.GenerateStream(REQUEST)) == written(PLAIN)


async def test_a_caller_that_leaves_generate_ends_it(tmp_path: Path) -> None:
    held = HeldModel()
    async with one_at_a_time(tmp_path, held) as server, lm_at(server) as lm:
        call = lm.Generate(REQUEST)
        waiting = asyncio.ensure_future(call)
        held.release()
        await held.until(lambda: held.asked == 2)
        waiting.cancel()
        await held.until(lambda: held.left == 1)
        held.release(3)
        assert (await lm.Generate(REQUEST)).texts[0].text == written(PLAIN)[0][0]


# Many.


async def test_two_thousand_streams_are_held_open_without_a_thread_for_each(tmp_path: Path) -> None:
    count = 2000
    held = HeldModel()
    with undebugged():
        async with served(tmp_path, held) as server, lm_at(server) as lm:
            threads = threading.active_count()
            streams = [lm.GenerateStream(REQUEST) for _ in range(count)]
            first = asyncio.gather(*map(text_of_next, streams))
            await held.until(lambda: held.asked == count)
            held.release(count)
            assert set(await first) == {"Once"}
            await held.until(lambda: held.asked == 2 * count)
            assert held.running == count
            assert threading.active_count() < threads + 10
            for stream in streams[::2]:
                stream.cancel()
            await held.until(lambda: held.left == count // 2)
            held.open()
            assert set(await asyncio.gather(*map(text_of_next, streams[1::2]))) == {" upon"}
            await held.until(lambda: held.ended == count // 2)
    assert held.running == 0


async def test_a_server_that_stops_ends_what_it_has(tmp_path: Path) -> None:
    held = HeldModel()
    async with served(tmp_path, held) as server, lm_at(server) as lm:
        calls = [asyncio.ensure_future(lm.GenerateStream(REQUEST).read()) for _ in range(50)]
        await held.until(lambda: held.running == 50)
        await server.stop()
        results = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(result, grpc.aio.AioRpcError) for result in results)
    await held.until(lambda: held.left == 50)
    assert held.running == 0
