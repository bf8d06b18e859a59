"""The Sax clients on a real cell, the dev cell, whose models compute: straight, through a gateway, and Google's own.

All are one SaxClient, so there is one body of tests.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager

import pytest
import pytest_asyncio

from saxgw import remote
from saxgw.devcell import DevCell
from saxgw.gateway import Gateway
from saxgw.sax import (
    CellNotFound,
    InvalidArgument,
    InvalidName,
    ModelDetail,
    ModelExists,
    ModelNotFound,
    ReplicasUnavailable,
    Revised,
    SaxClient,
    ServerStats,
    ServerType,
    StreamItem,
    connect,
)
from saxgw.sax.official import OfficialClient
from tests.conftest import WAYS, settings
from tests.held_model import EMOJI_REVISED, HELD, PLAIN, STREAMS, HeldModel, written
from tests.sax.clients import official_client, standing_in

LM2B = "saxml.server.pax.lm.params.lm_cloud.LmCloudSpmd2BTest"

NGRAM = "saxgw.devcell.NgramLm"

MODEL = "/sax/test/lm2b"


@asynccontextmanager
async def client(way: str, root: str, replica_wait_s: float = 10.0) -> AsyncIterator[SaxClient]:
    """A client of the cells under a root."""
    if way == "straight":
        async with connect(root, replica_wait_s=replica_wait_s) as straight:
            yield straight
    else:
        async with (
            Gateway(settings(root, replica_wait=replica_wait_s)) as gateway,
            remote.connect(gateway.grpc_address) as through_gateway,
        ):
            yield through_gateway


@pytest_asyncio.fixture
async def cell() -> AsyncIterator[DevCell]:
    async with DevCell(model_servers=2) as cell:
        yield cell


@pytest_asyncio.fixture(params=(*WAYS, "official"))
async def sax(
    request: pytest.FixtureRequest, cell: DevCell, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[SaxClient]:
    if request.param == "official":
        with standing_in(monkeypatch):
            async with official_client(cell.root) as sax:
                yield sax
    else:
        async with client(request.param, cell.root) as sax:
            yield sax


async def test_the_life_of_a_model(sax: SaxClient) -> None:
    await sax.publish(MODEL, LM2B, "None", 1, {"NUM_SAMPLES": "2"})
    assert await sax.list_models("/sax/test") == [MODEL]
    with pytest.raises(ModelExists):
        await sax.publish(MODEL, LM2B, "None", 1)

    samples = await sax.generate(MODEL, "Alice was", {"temperature": 0.1, "per_example_max_decode_steps": 8})
    assert len(samples) == 2
    assert samples == sorted(samples, key=lambda sample: -sample.score)
    # Google's module does not tell the methods of a model, nor which classes of models servers know.
    methods = () if isinstance(sax, OfficialClient) else ("lm.embed", "lm.generate", "lm.generate_stream", "lm.score")
    assert await sax.describe(MODEL) == ModelDetail(MODEL, LM2B, "None", 1, 1, {"NUM_SAMPLES": "2"}, methods)

    await sax.update(MODEL, LM2B, "None", 2)
    detail = await sax.describe(MODEL)
    assert (detail.max_replicas, detail.overrides) == (2, {"NUM_SAMPLES": "2"})
    assert len(await sax.generate(MODEL, "Alice was")) == 2

    await sax.unpublish(MODEL)
    assert await sax.list_models("/sax/test") == []
    for call in (sax.describe(MODEL), sax.unpublish(MODEL), sax.generate(MODEL, "x")):
        with pytest.raises(ModelNotFound):
            await call


async def test_a_name_may_be_published_again_at_once(sax: SaxClient) -> None:
    for _ in range(3):
        await sax.publish(MODEL, LM2B, "None", 1)
        assert await sax.generate(MODEL, "Alice was", {"per_example_max_decode_steps": 1})
        await sax.unpublish(MODEL)


async def test_an_update_keeps_the_model_path(sax: SaxClient) -> None:
    await sax.publish(MODEL, LM2B, "None", 1)
    with pytest.raises(InvalidArgument, match="model path can't be changed"):
        await sax.update(MODEL, "a.B", "None", 1)


async def test_an_extra_input_that_the_model_does_not_take(sax: SaxClient) -> None:
    await sax.publish(MODEL, LM2B, "None", 1)
    with pytest.raises(InvalidArgument, match="The extra_inputs key `beam_size`"):
        await sax.generate(MODEL, "x", {"beam_size": 4})


async def test_texts_are_scored_and_embedded(sax: SaxClient) -> None:
    await sax.publish(MODEL, LM2B, "None", 1)
    [sensible, odd] = await sax.score(MODEL, "The White", [" Rabbit", " potato"])
    assert odd < sensible < 0
    assert await sax.score(MODEL, "The White", []) == [0]
    rabbit, rabbits, trial = [await sax.embed(MODEL, text) for text in ("the Rabbit", "rabbits!", "a trial")]
    assert cosine(rabbit, rabbits) > cosine(rabbit, trial)
    with pytest.raises(InvalidArgument, match="there is no text to embed"):
        await sax.embed(MODEL, "")


def cosine(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


async def test_waiting_until_two_replicas_are_ready(sax: SaxClient) -> None:
    await sax.publish(MODEL, LM2B, "None", 2)
    await sax.wait_for_ready(MODEL, 2)
    assert (await sax.describe(MODEL)).active_replicas == 2


@pytest.mark.parametrize("sax", ["straight", "official"], indirect=True)
async def test_waiting_outlasts_a_restart_of_the_admin_and_ends_with_the_model(cell: DevCell, sax: SaxClient) -> None:
    await sax.publish(MODEL, LM2B, "None", 3)
    await sax.wait_for_ready(MODEL, 2)
    wait = asyncio.create_task(sax.wait_for_ready(MODEL, 3))
    for _ in range(2):
        await sax.list_models("/sax/test")  # on the same connection as the wait's questions, and behind them
    await cell.admin.stop()
    await cell.admin.start(0)
    await sax.wait_for_ready(MODEL, 2)
    assert not wait.done()
    await sax.unpublish(MODEL)
    with pytest.raises(ModelNotFound):
        await wait


async def test_stats_and_cells(sax: SaxClient) -> None:
    await sax.publish(MODEL, LM2B, "None", 1)
    cpu = ServerType("CHIP_TYPE_CPU", "CHIP_TOPOLOGY_1")
    told = not isinstance(sax, OfficialClient)
    assert await sax.stats("/sax/test") == ServerStats({cpu: 2}, {LM2B: 2, NGRAM: 2} if told else {})
    assert await sax.stats(MODEL) == ServerStats({cpu: 1}, {LM2B: 1, NGRAM: 1} if told else {})
    assert await sax.list_cells() == ["/sax/test"]
    with pytest.raises(ModelNotFound):
        await sax.stats("/sax/test/other")


MALFORMED = "/sax/test/Upper"


async def test_what_cannot_be_is_refused_before_anything_is_sent(way: str) -> None:
    clients: dict[str, AbstractAsyncContextManager[SaxClient]] = {
        "straight": connect("/does/not/exist"),
        "gateway": remote.connect("127.0.0.1:1"),
    }
    async with clients[way] as sax:
        for call in (
            sax.publish(MALFORMED, "a.B", "None", 1),
            sax.publish(MODEL, "a,B", "None", 1),
            sax.publish(MODEL, "a.B", "", 1),
            sax.update(MALFORMED, "a.B", "None", 1),
            sax.unpublish(MALFORMED),
            sax.list_models("/sax/test/lm"),
            sax.describe(MALFORMED),
            sax.wait_for_ready(MALFORMED),
            sax.stats(MALFORMED),
            sax.generate(MALFORMED, "x"),
            anext(sax.generate_stream(MALFORMED, "x")),
            sax.score(MALFORMED, "x", ["y"]),
            sax.embed(MALFORMED, "x"),
        ):
            with pytest.raises(InvalidName):
                await call
        for replicas in (-1, 2**31):
            with pytest.raises(InvalidArgument, match=f"between 0 and 2147483647, got {replicas}"):
                await sax.publish(MODEL, "a.B", "None", replicas)
            with pytest.raises(InvalidArgument, match=f"between 0 and 2147483647, got {replicas}"):
                await sax.wait_for_ready(MODEL, replicas)
        with pytest.raises(TypeError, match="suffixes must be a sequence of texts"):
            await sax.score(MODEL, "x", "abc")


async def test_no_such_cell(sax: SaxClient) -> None:
    with pytest.raises(CellNotFound, match="there is no cell /sax/other"):
        await sax.list_models("/sax/other")


async def test_no_replica_in_time(way: str, cell: DevCell) -> None:
    async with client(way, cell.root, replica_wait_s=0.1) as sax:
        await sax.publish(MODEL, LM2B, "None", 0)
        with pytest.raises(ReplicasUnavailable, match="published with 0 replicas"):
            await sax.generate(MODEL, "x")


async def test_extra_inputs_of_every_kind(sax: SaxClient) -> None:
    """A number, a text and a list of numbers reach the model as such; it takes only those that it has."""
    await sax.publish(MODEL, LM2B, "None", 1)
    assert await sax.generate(MODEL, "x", {"temperature": 0, "per_example_max_decode_steps": True})
    with pytest.raises(InvalidArgument, match="`temperature` is a tensor"):
        await sax.generate(MODEL, "x", {"temperature": [0.5, 1]})
    with pytest.raises(InvalidArgument, match="temperature must be a number"):
        await sax.generate(MODEL, "x", {"temperature": "warm"})


async def test_a_closed_client_is_of_no_use(sax: SaxClient) -> None:
    await sax.list_models("/sax/test")
    await sax.aclose()
    with pytest.raises(RuntimeError, match="this Sax client is closed"):
        await sax.list_models("/sax/test")


@asynccontextmanager
async def holding(way: str, held: HeldModel) -> AsyncIterator[SaxClient]:
    """A client of a cell that has published such a model as MODEL."""
    async with DevCell(models=held.classes) as cell, client(way, cell.root) as sax:
        await sax.publish(MODEL, HELD, "None", 1)
        await sax.wait_for_ready(MODEL)
        yield sax


@pytest.mark.parametrize("steps", STREAMS)
async def test_a_stream_is_passed_on_as_it_is(way: str, steps: str) -> None:
    held = HeldModel(STREAMS[steps])
    held.open()
    async with holding(way, held) as sax:
        items = [list(item) async for item in sax.generate_stream(MODEL, "x")]
        samples = [(sample.text, sample.score) for sample in await sax.generate(MODEL, "x")]
    texts = ["" for _ in items[0]]
    scores = [0.0 for _ in items[0]]
    for step in items:
        for at, item in enumerate(step):
            texts[at] = texts[at][: item.prefix_len] + item.text
            scores[at] += sum(item.scores)
    streamed = list(zip(texts, scores, strict=True))
    assert streamed == written(STREAMS[steps])
    assert sorted(samples) == sorted(streamed)


async def test_a_stream_that_only_adds(way: str) -> None:
    """What stands for an incomplete character is held back."""
    held = HeldModel(EMOJI_REVISED)
    held.open()
    async with holding(way, held) as sax:
        texts = [[item.text for item in step] async for step in sax.generate_stream(MODEL, "x", increments=True)]
    assert texts == [["a "], [""], ["\N{RABBIT FACE}"], ["!"]]


async def test_a_stream_that_takes_text_back_although_it_should_only_add(way: str) -> None:
    held = HeldModel(STREAMS["astral"])
    held.open()
    async with holding(way, held) as sax:
        with pytest.raises(Revised):
            async for _ in sax.generate_stream(MODEL, "x", increments=True):
                pass


async def test_leaving_a_stream_stops_the_model(way: str) -> None:
    held = HeldModel(PLAIN)
    async with holding(way, held) as sax:
        async with aclosing(sax.generate_stream(MODEL, "x")) as stream:
            held.release()
            [item] = await anext(stream)
            assert (item.text, item.prefix_len, list(item.scores)) == StreamItem("Once", 0, [-1.0])
        await held.until(lambda: held.left == 1)


async def test_cancelling_a_call_stops_the_model(way: str) -> None:
    held = HeldModel(PLAIN)
    async with holding(way, held) as sax:
        call = asyncio.create_task(sax.generate(MODEL, "x"))
        await held.until(lambda: held.running == 1)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await held.until(lambda: held.left == 1)
