"""How long one large body holds up all other callers: `python -m bench.large_bodies`.

While one body is decoded or encoded, on the event loop or in the thread that the HTTP door has for it, another task
does nothing but come round. What it waits at the most is what every other caller of the gateway waits.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, Any, Final

import click
import orjson

from bench import serving
from bench.transcoding import REQUEST, RESPONSE
from saxgw.compute import Compute
from saxgw.transcoding import Codec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_RUNS: Final = 5
_SIZES: Final = (2**15, 2**17, 2**20, 2**22)


def _bodies(size: int) -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """What a body of about so many bytes consists of, its message and its JSON value."""
    yield "text", REQUEST, {"query": "word\n" * (size // 6)}
    yield "numbers", REQUEST, {"extra_inputs": {"x": [at / 7 for at in range(size // 19)]}}
    yield "names", REQUEST, {"extra_inputs": {f"{at:08}": {"a": []} for at in range(size // 20)}}
    results = [{"text": f"some text {at:8}", "score": -at / 7} for at in range(size // 52)]
    yield "results", RESPONSE, {"results": results}


async def _come_round(gaps: list[float]) -> None:
    last = time.perf_counter()
    while True:
        await asyncio.sleep(0)
        now = time.perf_counter()
        gaps.append(now - last)
        last = now


async def _longest_wait_ms(work: Callable[[], object], compute: Compute | None) -> float:
    gaps: list[float] = []
    other = asyncio.ensure_future(_come_round(gaps))
    await asyncio.sleep(0)
    if compute is None:
        work()
    else:
        await compute.run(work)
    await asyncio.sleep(0)
    other.cancel()
    with suppress(asyncio.CancelledError):
        await other
    return max(gaps) * 1000


async def _main() -> None:
    serving.tune()
    codec = Codec()
    compute = Compute(1, "bench")
    click.echo("| body | KiB | read on the loop, ms | in a thread | written on the loop, ms | in a thread |")
    click.echo("| --- | ---: | ---: | ---: | ---: | ---: |")
    for size in _SIZES:
        for name, message_class, value in _bodies(size):
            data = orjson.dumps(value)
            works = (
                partial(codec.decode, data, message_class),
                partial(codec.encode, codec.decode(data, message_class)),
            )
            cells = [
                f"{median([await _longest_wait_ms(work, where) for _ in range(_RUNS)]):.1f}"
                for work in works
                for where in (None, compute)
            ]
            click.echo(f"| {name} | {len(data) // 1024} | {' | '.join(cells)} |")
    await compute.close()


if __name__ == "__main__":
    serving.run(_main())
