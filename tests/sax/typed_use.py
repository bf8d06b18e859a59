"""The Sax client as its users would write it: checked by mypy, never run."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import assert_type

import grpc

from saxgw.sax import (
    CellClient,
    CellError,
    ExtraInputs,
    InvalidName,
    ModelDetail,
    ModelNotFound,
    Sample,
    SaxClient,
    SaxError,
    ServerStats,
    ServerType,
    StreamItem,
    connect,
    official,
    parse_model,
)


async def connecting() -> None:
    async with connect("gs://bucket/sax-root") as sax:
        assert_type(sax, CellClient)
        await using(sax)
    async with connect("/srv/sax", admin_timeout_s=5, replica_wait_s=60.0, idle_s=60, max_message_bytes=2**20) as sax:
        await sax.aclose()
    async with official.connect("/srv/sax", call_timeout_s=60, threads=8, waiting=100) as theirs:
        assert_type(theirs, official.OfficialClient)
        await using(theirs)


async def using(sax: SaxClient) -> None:
    assert_type(await sax.list_cells(), list[str])
    assert_type(await sax.list_models("/sax/test"), list[str])
    await sax.publish("/sax/test/lm", "a.B", "None", 1)
    await sax.publish("/sax/test/lm", model_path="a.B", checkpoint="None", replicas=1, overrides={"BATCH_SIZE": "1"})
    await sax.wait_for_ready("/sax/test/lm")
    await sax.wait_for_ready("/sax/test/lm", replicas=2)
    await sax.update("/sax/test/lm", "a.B", "None", 2)

    detail = await sax.describe("/sax/test/lm")
    assert_type(detail, ModelDetail)
    assert_type(detail.active_replicas, int)
    assert_type(detail.overrides, Mapping[str, str])
    assert_type(detail.methods, tuple[str, ...])
    detail.max_replicas = 2  # type: ignore[misc]  # what a cell has told does not change

    stats = await sax.stats("/sax/test")
    assert_type(stats, ServerStats)
    assert_type(stats.by_type, Mapping[ServerType, int])

    inputs: ExtraInputs = {"temperature": 0.1, "per_example_top_k": 40, "stop": "!", "eos_id": [1, 2]}
    samples = await sax.generate("/sax/test/lm", "Once", inputs)
    assert_type(samples, list[Sample])
    for text, score in samples:
        assert_type(text, str)
        assert_type(score, float)
    await sax.generate("/sax/test/lm", "Once", {"stop": None})  # type: ignore[dict-item]  # nothing has no form

    stream = sax.generate_stream("/sax/test/lm", "Once", increments=True)
    assert_type(stream, AsyncGenerator[list[StreamItem], None])
    async with aclosing(stream) as steps:
        async for items in steps:
            assert_type(items, list[StreamItem])
            assert_type(items[0].prefix_len, int)
            assert_type(items[0].scores, Sequence[float])

    assert_type(await sax.score("/sax/test/lm", "The White", [" Rabbit"]), list[float])
    assert_type(await sax.embed("/sax/test/lm", "the Rabbit", extra_inputs=inputs), list[float])
    await sax.unpublish("/sax/test/lm")


async def failing(sax: SaxClient) -> str:
    try:
        await sax.unpublish(parse_model("sax/test/lm"))
    except InvalidName as error:
        assert_type(error, InvalidName)
        value_error: ValueError = error
        return str(value_error)
    except ModelNotFound:
        return "there is none"
    except CellError as error:
        assert_type(error.code, grpc.StatusCode)
    except SaxError as error:
        return str(error)
    return "done"
