"""The official client on a real cell, the dev cell, whose models compute; tests/test_clients.py has the others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from saxgw.devcell import DevCell
from saxgw.sax import (
    InvalidArgument,
    ModelDetail,
    ModelExists,
    ModelNotFound,
    SaxClient,
    ServerStats,
    ServerType,
    connect,
)
from tests.sax.clients import official_client

LM2B = "saxml.server.pax.lm.params.lm_cloud.LmCloudSpmd2BTest"

NGRAM = "saxgw.devcell.NgramLm"

MODEL = "/sax/test/lm2b"


@pytest_asyncio.fixture
async def cell() -> AsyncIterator[DevCell]:
    async with DevCell(model_servers=2) as cell:
        yield cell


@pytest.fixture(params=["official"])
def client(request: pytest.FixtureRequest) -> str:
    if request.param == "official":
        request.getfixturevalue("google")
    return str(request.param)


@pytest_asyncio.fixture
async def sax(client: str, cell: DevCell) -> AsyncIterator[SaxClient]:
    async with connect(cell.root) if client == "native" else official_client(cell.root) as sax:
        yield sax


async def test_the_life_of_a_model(sax: SaxClient, client: str) -> None:
    await sax.publish(MODEL, LM2B, "None", 1, {"NUM_SAMPLES": "2"})
    assert await sax.list_models("/sax/test") == [MODEL]
    with pytest.raises(ModelExists):
        await sax.publish(MODEL, LM2B, "None", 1)

    samples = await sax.generate(MODEL, "Alice was", {"temperature": 0.1, "per_example_max_decode_steps": 8})
    assert len(samples) == 2
    assert samples == sorted(samples, key=lambda sample: -sample.score)
    methods = ("lm.embed", "lm.generate", "lm.generate_stream", "lm.score") if client == "native" else ()
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


async def test_stats_and_cells(sax: SaxClient, client: str) -> None:
    """Google's module does not tell which classes of models the servers know."""
    native = client == "native"
    await sax.publish(MODEL, LM2B, "None", 1)
    cpu = ServerType("CHIP_TYPE_CPU", "CHIP_TOPOLOGY_1")
    assert await sax.stats("/sax/test") == ServerStats({cpu: 2}, {LM2B: 2, NGRAM: 2} if native else {})
    assert await sax.stats(MODEL) == ServerStats({cpu: 1}, {LM2B: 1, NGRAM: 1} if native else {})
    assert await sax.list_cells() == ["/sax/test"]
    with pytest.raises(ModelNotFound):
        await sax.stats("/sax/test/other")
