"""The client on a real cell: the dev cell, whose models compute."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from saxgw.devcell import DevCell
from saxgw.sax import CellClient, InvalidArgument, ModelDetail, ModelExists, ModelNotFound, connect

LM2B = "saxml.server.pax.lm.params.lm_cloud.LmCloudSpmd2BTest"

MODEL = "/sax/test/lm2b"


@pytest_asyncio.fixture
async def sax() -> AsyncIterator[CellClient]:
    async with DevCell(model_servers=2) as cell, connect(cell.root) as sax:
        yield sax


async def test_the_life_of_a_model(sax: CellClient) -> None:
    await sax.publish(MODEL, LM2B, "None", 1, {"NUM_SAMPLES": "2"})
    assert await sax.list_models("/sax/test") == [MODEL]
    with pytest.raises(ModelExists):
        await sax.publish(MODEL, LM2B, "None", 1)

    samples = await sax.generate(MODEL, "Alice was", {"temperature": 0.1, "per_example_max_decode_steps": 8})
    assert len(samples) == 2
    assert samples == sorted(samples, key=lambda sample: -sample.score)
    assert await sax.describe(MODEL) == ModelDetail(
        MODEL, LM2B, "None", 1, 1, {"NUM_SAMPLES": "2"}, ("lm.generate", "lm.generate_stream", "lm.score")
    )

    await sax.update(MODEL, LM2B, "None", 2)
    detail = await sax.describe(MODEL)
    assert (detail.max_replicas, detail.overrides) == (2, {"NUM_SAMPLES": "2"})
    assert len(await sax.generate(MODEL, "Alice was")) == 2

    await sax.unpublish(MODEL)
    assert await sax.list_models("/sax/test") == []
    for call in (sax.describe(MODEL), sax.unpublish(MODEL), sax.generate(MODEL, "x")):
        with pytest.raises(ModelNotFound):
            await call


async def test_a_name_may_be_published_again_at_once(sax: CellClient) -> None:
    for _ in range(3):
        await sax.publish(MODEL, LM2B, "None", 1)
        assert await sax.generate(MODEL, "Alice was", {"per_example_max_decode_steps": 1})
        await sax.unpublish(MODEL)


async def test_an_update_keeps_the_model_path(sax: CellClient) -> None:
    await sax.publish(MODEL, LM2B, "None", 1)
    with pytest.raises(InvalidArgument, match="model path can't be changed"):
        await sax.update(MODEL, "a.B", "None", 1)


async def test_an_extra_input_that_the_model_does_not_take(sax: CellClient) -> None:
    await sax.publish(MODEL, LM2B, "None", 1)
    with pytest.raises(InvalidArgument, match="The extra_inputs key `beam_size`"):
        await sax.generate(MODEL, "x", {"beam_size": 4})
