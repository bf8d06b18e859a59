"""Streams of both clients on a real cell, whose model goes on when the test says so."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import grpc
import pytest

from saxgw.devcell import DevCell, Piece
from saxgw.sax import CellError, InvalidArgument, ModelNotFound, Revised, SaxClient, StreamBroken, StreamItem, connect
from tests.devcell.harness import TIMEOUT_S, until
from tests.held_model import EMOJI_REVISED, HELD, PLAIN, SAMPLES, STREAMS, HeldModel, written
from tests.sax.clients import official_client

MODEL = "/sax/test/lm"


@pytest.fixture(params=["native", "official"], autouse=True)
def client(request: pytest.FixtureRequest) -> str:
    if request.param == "official":
        request.getfixturevalue("google")
    return str(request.param)


@asynccontextmanager
async def streaming(client: str, held: HeldModel) -> AsyncIterator[tuple[SaxClient, DevCell]]:
    """A client of a cell with a published model."""
    async with (
        DevCell(models=held.classes) as cell,
        connect(cell.root) if client == "native" else official_client(cell.root) as sax,
    ):
        await sax.publish(MODEL, HELD, "None", 1)
        await sax.wait_for_ready(MODEL)
        try:
            yield sax, cell
        finally:
            held.open()  # so that no thread of the official client waits for a step


async def collected(sax: SaxClient, **arguments: Any) -> list[list[StreamItem]]:
    return [items async for items in sax.generate_stream(MODEL, "x", **arguments)]


def joined(steps: list[list[StreamItem]]) -> list[tuple[str, float]]:
    """Text and score of each sample of a stream."""
    return written([[Piece(item.text, sum(item.scores), item.prefix_len) for item in items] for items in steps])


async def test_each_step_as_it_comes(client: str) -> None:
    """A step is with the caller before the model makes the next one."""
    held = HeldModel(PLAIN)
    async with streaming(client, held) as (sax, _), aclosing(sax.generate_stream(MODEL, "x")) as steps:
        for (piece,) in PLAIN:
            held.release()
            [item] = await anext(steps)
            assert (item.text, list(item.scores)) == (piece.text, [piece.score])
        held.open()
        with pytest.raises(StopAsyncIteration):
            await anext(steps)


@pytest.mark.parametrize("steps", STREAMS.values(), ids=STREAMS)
async def test_a_stream_is_what_generate_returns(client: str, steps: Any) -> None:
    held = HeldModel(steps)
    held.open()
    async with streaming(client, held) as (sax, _):
        samples = await sax.generate(MODEL, "x")
        assert sorted(joined(await collected(sax))) == sorted(samples)


async def test_increments_only_add(client: str) -> None:
    held = HeldModel(EMOJI_REVISED)
    held.open()
    async with streaming(client, held) as (sax, _):
        steps = await collected(sax, increments=True)
        assert [item.text for [item] in steps] == ["a ", "", "\N{RABBIT FACE}", "!"]
        held.steps = SAMPLES
        with pytest.raises(Revised):
            await collected(sax, increments=True)


async def test_a_model_that_fails_in_the_middle(client: str) -> None:
    held = HeldModel([PLAIN[0], RuntimeError("a secret")])
    held.open()
    async with streaming(client, held) as (sax, _), aclosing(sax.generate_stream(MODEL, "x")) as steps:
        assert await anext(steps) == [("Once", 0, [-1.0])]
        with pytest.raises(CellError) as raised:
            await anext(steps)
        assert raised.value.code is grpc.StatusCode.INTERNAL
        assert "secret" not in str(raised.value)


async def test_a_model_that_refuses_at_once(client: str) -> None:
    held = HeldModel([ValueError("the text is refused")])
    held.open()
    async with streaming(client, held) as (sax, _):
        with pytest.raises(InvalidArgument, match="the text is refused"):
            await collected(sax)
        with pytest.raises(InvalidArgument, match="extra_inputs key `style`"):
            await collected(sax, extra_inputs={"style": "plain"})
        await sax.unpublish(MODEL)

        async def is_gone() -> bool:
            with pytest.raises((ModelNotFound, InvalidArgument)) as caught:
                await collected(sax)
            return caught.type is ModelNotFound  # its model server may have it for a moment longer

        await until(is_gone)


async def test_a_model_server_that_goes_away_in_the_middle(client: str) -> None:
    held = HeldModel(PLAIN)
    async with streaming(client, held) as (sax, cell), aclosing(sax.generate_stream(MODEL, "x")) as steps:
        held.release()
        assert len(await anext(steps)) == 1
        await cell.model_servers[0].stop()
        with pytest.raises(StreamBroken):
            await anext(steps)


async def test_a_reader_who_leaves_is_free_at_once(client: str) -> None:
    """The work is stopped with the native client; with the official one it goes on to its end, whoever reads it."""
    held = HeldModel(PLAIN)
    async with streaming(client, held) as (sax, _):
        steps = sax.generate_stream(MODEL, "x")
        held.release()
        await anext(steps)
        await asyncio.wait_for(steps.aclose(), TIMEOUT_S)
        if client == "native":
            await held.until(lambda: held.left == 1)
        else:
            assert held.running == 1
            held.open()
            await held.until(lambda: held.ended == 1)
            assert held.left == 0


async def test_a_slow_reader_holds_the_model_up(client: str) -> None:
    """A few steps are on their way, and what gRPC has room for; not thousands."""
    piece = Piece("x" * 20_000, -1.0)
    held = HeldModel(itertools.chain(itertools.repeat([piece], 3_000)))
    held.open()
    async with streaming(client, held) as (sax, _), aclosing(sax.generate_stream(MODEL, "x")) as steps:
        await anext(steps)
        # Whoever comes later is served, so the model has had time to go on.
        for _ in range(5):
            assert await sax.score(MODEL, "x", ["y"]) == [-1.0]
        assert held.asked < 1_000
        received = 1
        async for _ in steps:
            received += 1
        assert received >= 3_000
