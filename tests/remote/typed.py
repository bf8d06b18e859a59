"""Calls of the gateway's client as its users write them: checked for their types, never run."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import assert_type

from saxgw import remote, sax


async def calls() -> None:
    async with remote.connect("localhost:50051", admin_timeout_s=5, data_timeout_s=60.0) as client:
        assert_type(client, remote.GatewayClient)
        assert_type(await client.list_cells(), list[str])
        assert_type(await client.list_models("/sax/test"), list[str])
        assert_type(await client.describe("/sax/test/lm"), sax.ModelDetail)
        assert_type(await client.stats("/sax/test"), sax.ServerStats)
        assert_type(await client.generate("/sax/test/lm", "x", {"a": 1, "b": "c", "d": [0.5]}), list[sax.Sample])
        assert_type(await client.score("/sax/test/lm", "x", ["y"]), list[float])
        assert_type(await client.embed("/sax/test/lm", "x"), list[float])
        assert_type(client.generate_stream("/sax/test/lm", "x"), AsyncGenerator[list[sax.StreamItem]])


async def either(way: sax.SaxClient) -> None:
    """Takes any client of cells."""
    await way.publish("/sax/test/lm", "a.B", "None", 1, {"BATCH_SIZE": "1"})


async def both() -> None:
    await either(remote.connect("localhost:50051"))
    await either(sax.connect("/srv/sax"))


def errors(error: remote.GatewayError | remote.GatewayUnavailable) -> sax.SaxError:
    return error
