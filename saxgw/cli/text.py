"""Commands that have a model work on a text: generate, score and embed."""

from __future__ import annotations

from contextlib import aclosing
from itertools import zip_longest
from typing import TYPE_CHECKING

import click
import orjson

from saxgw.cli.calls import calling
from saxgw.cli.command import Command, Failed, read_text, read_texts
from saxgw.cli.extra_inputs import ExtraInput, extra_inputs
from saxgw.cli.samples import Samples

if TYPE_CHECKING:
    from saxgw.cli.calls import Call

_Inputs = dict[str, ExtraInput]


@click.command(cls=Command)
@click.argument("model")
@click.argument("query", callback=read_text, metavar="QUERY|-")
@click.option(
    "--stream/--no-stream", default=None, help="Show text as it comes.  [default: unless -n or --terse is given]"
)
@click.option(
    "-n",
    "--samples",
    type=click.IntRange(min=1),
    help="Show so many samples only: the best or, with --stream, the first.",
)
@click.option("--terse", is_flag=True, help="Show the texts only, best first.")
@extra_inputs
@calling(data=True)
async def generate(  # noqa: PLR0913 - it has so many options
    call: Call,
    *,
    model: str,
    query: str,
    extra_inputs: _Inputs,
    samples: int | None,
    stream: bool | None,
    terse: bool,
) -> None:
    """Have a model continue a text, and show it as it comes.

    Of several samples the first is shown as it comes, the others when they are complete; scores follow each. "-" reads
    QUERY from standard input. With --output json there is a line of JSON for each message of the stream.
    """
    if stream if stream is not None else (samples is None and not terse):
        await _stream(call, model, query, extra_inputs, Samples(call.out, samples, terse=terse))
        return
    results = (await call.sax.generate(model, query, extra_inputs))[:samples]
    if call.out.json:
        call.out.as_json({"results": [{"text": text, "score": score} for text, score in results]})
        return
    shown = Samples(call.out, None, terse=terse)
    shown.show(results)


async def _stream(call: Call, model: str, query: str, extra_inputs: _Inputs, shown: Samples) -> None:
    from saxgw.sax import Revised  # noqa: PLC0415 - calls.py has imported it by now

    try:
        async with aclosing(call.sax.generate_stream(model, query, extra_inputs, increments=True)) as steps:
            async for items in steps:
                if call.out.json:
                    call.out.as_json(
                        {
                            "results": [
                                {"text": item.text, "prefix_len": item.prefix_len, "scores": list(item.scores)}
                                for item in items
                            ]
                        }
                    )
                else:
                    shown.add(items)
    except Revised:
        raise Failed("the model has taken back text that was shown already; use --no-stream") from None
    shown.finish()


@click.command(cls=Command)
@click.argument("model")
@click.argument("prefix", callback=read_text, metavar="PREFIX|-")
@click.argument("suffixes", callback=read_texts, nargs=-1, required=True, metavar="SUFFIX...")
@extra_inputs
@calling(data=True)
async def score(call: Call, *, model: str, prefix: str, suffixes: tuple[str, ...], extra_inputs: _Inputs) -> None:
    """Tell how likely a model finds each SUFFIX after PREFIX: natural logarithms, so that higher is better.

    "-" reads PREFIX from standard input.
    """
    scores = await call.sax.score(model, prefix, suffixes, extra_inputs)
    if call.out.json:
        call.out.as_json({"scores": scores})
        return
    # Some models give several numbers for a text.
    quoted = [orjson.dumps(suffix).decode() for suffix in suffixes] if len(scores) == len(suffixes) else []
    call.out.table(
        ["SCORE", "SUFFIX"],
        zip_longest(scores, quoted, fillvalue=""),
    )


@click.command(cls=Command)
@click.argument("model")
@click.argument("text", callback=read_text, metavar="TEXT|-")
@extra_inputs
@calling(data=True)
async def embed(call: Call, *, model: str, text: str, extra_inputs: _Inputs) -> None:
    """Print the vector that stands for what a text says, a number a line. "-" reads TEXT from standard input."""
    embedding = await call.sax.embed(model, text, extra_inputs)
    if call.out.json:
        call.out.as_json({"embedding": embedding})
    else:
        call.out.write("".join(f"{number:.6g}\n" for number in embedding))
