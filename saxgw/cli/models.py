"""Commands that change what a cell serves: publish, update, unpublish; and wait, until it does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from saxgw.cli.calls import calling
from saxgw.cli.command import Command, read_overrides
from saxgw.cli.progress import wait_for_replicas

if TYPE_CHECKING:
    from saxgw.cli.calls import Call

_REPLICAS = click.IntRange(min=0, max=2**31 - 1)


@click.command(cls=Command)
@click.argument("model")
@click.argument("model_path")
@click.argument("checkpoint")
@click.argument("replicas", type=_REPLICAS)
@click.argument("overrides", nargs=-1, callback=read_overrides, metavar="[KEY=JSON]...")
@click.option("--wait", is_flag=True, help="Wait until all replicas are ready, and tell meanwhile how many are.")
@calling(waits="wait")
async def publish(  # noqa: PLR0913 - it has so many arguments
    call: Call,
    *,
    model: str,
    model_path: str,
    checkpoint: str,
    replicas: int,
    overrides: dict[str, str],
    wait: bool,
) -> None:
    """Publish a model.

    MODEL is /sax/CELL/MODEL, MODEL_PATH the name of its class in the registry of the model servers, CHECKPOINT where
    its weights are ("None" for none), REPLICAS how many model servers shall load it. Settings of the class can follow:
    BATCH_SIZE=1.
    """
    await call.sax.publish(model, model_path, checkpoint, replicas, overrides)
    answer: dict[str, Any] = {
        "model": _full(model),
        "path": model_path,
        "checkpoint": checkpoint,
        "replicas": replicas,
    }
    if not call.out.json:
        call.out.line(f"{_full(model)} is published")
    if wait:
        answer["active_replicas"] = active = await wait_for_replicas(call, model, replicas)
        if not call.out.json:
            call.out.line(f"{_full(model)} has ready replicas: {active}")
    if call.out.json:
        call.out.as_json(answer)


@click.command(cls=Command)
@click.argument("model")
@click.option("--replicas", type=_REPLICAS, help="How many model servers shall load it.")
@click.option("--checkpoint", help='Where its weights are; "None" for none.')
@calling()
async def update(call: Call, *, model: str, replicas: int | None, checkpoint: str | None) -> None:
    """Change the number of replicas or the checkpoint of a published model. What is not given stays as it is."""
    if replicas is None and checkpoint is None:
        raise click.UsageError("say what to change: --replicas or --checkpoint", click.get_current_context())
    await _update(call, model, replicas, checkpoint)


@click.command("update_checkpoint", cls=Command, hidden=True)
@click.argument("model")
@click.argument("checkpoint")
@calling()
async def update_checkpoint(call: Call, *, model: str, checkpoint: str) -> None:
    """Change the checkpoint of a published model: `update --checkpoint` under its name in saxutil."""
    await _update(call, model, None, checkpoint)


async def _update(call: Call, model: str, replicas: int | None, checkpoint: str | None) -> None:
    detail = await call.sax.describe(model)
    replicas = detail.max_replicas if replicas is None else replicas
    checkpoint = detail.checkpoint if checkpoint is None else checkpoint
    await call.sax.update(model, detail.model_path, checkpoint, replicas)
    _tell(
        call,
        {"model": detail.model, "model_path": detail.model_path, "checkpoint": checkpoint, "replicas": replicas},
        f"{detail.model} is to have checkpoint {checkpoint} and {replicas} replicas",
    )


@click.command(cls=Command)
@click.argument("model")
@calling()
async def unpublish(call: Call, *, model: str) -> None:
    """Take a model off its cell. Model servers finish what they are doing for it."""
    await call.sax.unpublish(model)
    _tell(call, {"model": _full(model)}, f"{_full(model)} is not published any more")


@click.command(cls=Command)
@click.argument("model")
@click.option(
    "-n", "--replicas", type=_REPLICAS, default=1, show_default=True, help="How many model servers to wait for."
)
@calling(data=True)
async def wait(call: Call, *, model: str, replicas: int) -> None:
    """Wait until model servers have loaded a model, and tell meanwhile how many have."""
    active = await wait_for_replicas(call, model, replicas)
    _tell(call, {"model": _full(model), "active_replicas": active}, f"{_full(model)} has ready replicas: {active}")


def _full(model: str) -> str:
    """The name of a model as answers have it: with the slash that people may leave out."""
    return model if model.startswith("/") else f"/{model}"


def _tell(call: Call, answer: dict[str, Any], told: str) -> None:
    if call.out.json:
        call.out.as_json(answer)
    else:
        call.out.line(told)
