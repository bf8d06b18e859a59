"""The two ways to a cell, straight and through a gateway, as environments for `saxgw`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TypeAlias

from saxgw.devcell import DevCell
from saxgw.gateway import Gateway
from tests.conftest import settings
from tests.held_model import HELD, HeldModel
from tests.process import run

MODEL = "/sax/test/held"

Saxgw: TypeAlias = Callable[..., Awaitable[tuple[int, str, str]]]
"""Runs `saxgw` with arguments; returns exit code, standard output and standard error."""


@asynccontextmanager
async def leading_to(way: str, cell: DevCell) -> AsyncIterator[Mapping[str, str]]:
    """Variables that lead to any cell."""
    if way == "straight":
        yield {"SAX_ROOT": cell.root}
    else:
        async with Gateway(settings(cell.root)) as gateway:
            yield {"SAXGW_SERVER": gateway.grpc_address}


@asynccontextmanager
async def holding(way: str, held: HeldModel) -> AsyncIterator[Mapping[str, str]]:
    """Variables that lead to a cell that has such a model as MODEL."""
    async with DevCell(models=held.classes) as cell, leading_to(way, cell) as environment:
        code, _, errors = await run("publish", MODEL, HELD, "None", "1", "--wait", environment=environment)
        assert code == 0, errors
        yield environment
        held.open()
