"""Commands that tell what there is: ls and stats."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import click

from saxgw.cli.calls import calling
from saxgw.cli.command import Command

if TYPE_CHECKING:
    from saxgw.cli.calls import Call
    from saxgw.sax import ModelDetail

_AT_ONCE: Final = 16
"""How many models are asked about at a time."""


@click.command(cls=Command)
@click.argument("name", default="/sax")
@click.option("-l", "--details", is_flag=True, help="Tell of each model of a cell what `ls MODEL` tells.")
@calling()
async def ls(call: Call, *, name: str, details: bool) -> None:
    """List cells, the models of a cell, or what there is to know of one model.

    NAME is /sax or nothing, /sax/CELL, or /sax/CELL/MODEL.
    """
    match name.strip("/").split("/"):
        case ["sax"] | [""]:
            await _list_cells(call)
        case ["sax", cell] if details:
            await _describe_all(call, f"/sax/{cell}")
        case ["sax", cell]:
            await _list_models(call, f"/sax/{cell}")
        case ["sax", _, _]:
            await _describe(call, name.rstrip("/"))
        case _:
            raise click.UsageError(
                f'"{name}" names neither a cell nor a model; write /sax/CELL or /sax/CELL/MODEL',
                click.get_current_context(),
            )


async def _list_cells(call: Call) -> None:
    cells = await call.sax.list_cells()
    if call.out.json:
        call.out.as_json({"cells": cells})
    else:
        call.out.write("".join(f"{cell}\n" for cell in cells))


async def _list_models(call: Call, cell: str) -> None:
    models = await call.sax.list_models(cell)
    if call.out.json:
        call.out.as_json({"models": models})
    else:
        call.out.write("".join(f"{model}\n" for model in models))


async def _describe(call: Call, model: str) -> None:
    detail = await call.sax.describe(model)
    if call.out.json:
        call.out.as_json(_json(detail))
        return
    for key, value in (
        ("model", detail.model),
        ("model path", detail.model_path),
        ("checkpoint", detail.checkpoint),
        ("replicas", f"{detail.active_replicas} ready of {detail.max_replicas} asked for"),
        ("methods", " ".join(detail.methods) or "-"),
        ("overrides", " ".join(f"{name}={value}" for name, value in sorted(detail.overrides.items())) or "-"),
    ):
        call.out.line(f"{key:<10}  {value}")


async def _describe_all(call: Call, cell: str) -> None:
    from saxgw.sax import ModelNotFound  # noqa: PLC0415 - calls.py has imported it by now

    room = asyncio.Semaphore(_AT_ONCE)

    async def describe(model: str) -> ModelDetail | None:
        async with room:
            try:
                return await call.sax.describe(model)
            except ModelNotFound:  # it was there a moment ago
                return None

    found = await asyncio.gather(*map(describe, await call.sax.list_models(cell)))
    details = [detail for detail in found if detail is not None]
    if call.out.json:
        for detail in details:
            call.out.as_json(_json(detail))
        return
    call.out.table(
        ["MODEL", "MODEL PATH", "CHECKPOINT", "ASKED FOR", "READY", "METHODS"],
        [
            (
                detail.model,
                detail.model_path,
                detail.checkpoint,
                detail.max_replicas,
                detail.active_replicas,
                " ".join(detail.methods) or "-",
            )
            for detail in details
        ],
    )


def _json(detail: ModelDetail) -> dict[str, Any]:
    return {
        "model": detail.model,
        "model_path": detail.model_path,
        "checkpoint": detail.checkpoint,
        "max_replicas": detail.max_replicas,
        "active_replicas": detail.active_replicas,
        "details": {"overrides": dict(detail.overrides), "methods": list(detail.methods)},
    }


@click.command(cls=Command)
@click.argument("name")
@calling()
async def stats(call: Call, *, name: str) -> None:
    """Count the model servers of a cell, or those that a model is assigned to.

    NAME is /sax/CELL or /sax/CELL/MODEL.
    """
    counted = await call.sax.stats(name)
    if call.out.json:
        call.out.as_json(
            {
                "servers": [
                    {"chip_type": kind.chip_type, "chip_topology": kind.chip_topology, "count": count}
                    for kind, count in counted.by_type.items()
                ],
                "servers_by_model_path": dict(counted.by_model_path),
            }
        )
        return
    by_type = [(*kind, count) for kind, count in counted.by_type.items()]
    call.out.table(["CHIP TYPE", "CHIP TOPOLOGY", "SERVERS"], by_type)
    call.out.line()
    call.out.table(["MODEL PATH", "SERVERS"], counted.by_model_path.items())
