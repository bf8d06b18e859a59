"""A tour of a Sax cell from Python: `python -m examples.client SAX_ROOT`.

There is no gateway in it: `saxgw.sax` speaks to the cell itself.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import click

from saxgw.sax import ModelNotFound, SaxClient, SaxError, connect

MODEL = "/sax/test/alice"
MODEL_PATH = "saxgw.devcell.NgramLm"

BRIEF = {"per_example_max_decode_steps": 12}


async def tour(sax: SaxClient) -> None:
    """Does once what there is to do with a model."""
    click.echo(f"cells: {await sax.list_cells()}")

    await sax.publish(MODEL, MODEL_PATH, checkpoint="None", replicas=1, overrides={"NUM_SAMPLES": "2"})
    async with asyncio.timeout(60):  # it waits as long as it takes, which for large models is minutes
        await sax.wait_for_ready(MODEL)
    click.echo(f"models: {await sax.list_models('/sax/test')}")
    detail = await sax.describe(MODEL)
    click.echo(f"{detail.model} is a {detail.model_path}, ready on {detail.active_replicas} model server")

    for text, score in await sax.generate(MODEL, "The White Rabbit", BRIEF):
        click.echo(f"{score:8.2f} The White Rabbit{text}")

    click.echo("word by word: Alice was", nl=False)
    async with aclosing(sax.generate_stream(MODEL, "Alice was", BRIEF, increments=True)) as steps:
        async for items in steps:
            click.echo(items[0].text, nl=False)  # of the first of two samples
    click.echo()

    suffixes = [" Rabbit", " potato"]
    for suffix, score in zip(suffixes, await sax.score(MODEL, "The White", suffixes), strict=True):
        click.echo(f"{score:8.2f} The White{suffix}")

    rabbit, rabbits, trial = [await sax.embed(MODEL, text) for text in ("the Rabbit", "rabbits!", "a trial")]
    click.echo(
        f"a rabbit is like rabbits {_likeness(rabbit, rabbits):.2f}, like a trial {_likeness(rabbit, trial):.2f}"
    )

    await sax.update(MODEL, MODEL_PATH, checkpoint="None", replicas=2)
    click.echo(f"model servers: {sum((await sax.stats('/sax/test')).by_type.values())}")

    await sax.unpublish(MODEL)
    try:
        await sax.describe(MODEL)
    except ModelNotFound as error:
        click.echo(f"as it should be: {error}")


def _likeness(a: list[float], b: list[float]) -> float:
    """The cosine of two vectors of length 1."""
    return sum(x * y for x, y in zip(a, b, strict=True))


async def run(root: str) -> None:
    """Tours the cell /sax/test under `root`."""
    async with connect(root) as sax:
        await tour(sax)


@click.command()
@click.argument("root", metavar="SAX_ROOT")
def main(root: str) -> None:
    """Publish a model in /sax/test, use it in every way, and unpublish it."""
    try:
        asyncio.run(run(root))
    except SaxError as error:  # whatever goes wrong with a cell; its message is for people
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    main()
