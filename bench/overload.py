"""What is left of a cell's capacity when more is asked of it than it has: `python -m bench.overload`.

A gateway in a process of its own stands before three model servers of a dev cell that take eight requests at a time
and need 100 ms for each. Requests come at 1, 2 and 5 times what that makes, evenly, whether or not others are answered.
Goodput is what is answered within a second per second of load. Once the gateway keeps to what model servers take, and
once it does not (`--min-in-flight` without bound, no line to speak of), as a client does that only tries again.
`--gateways N` spreads the load over several, none of which knows of the others.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
import time
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from statistics import quantiles
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import click
import orjson

from bench.markdown import row
from saxgw.devcell import DevCell, LanguageModel, Piece
from saxgw.sax import connect

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from saxgw.devcell import ExtraInput

_MODEL: Final = "/sax/test/slow"
_PATH: Final = "bench.Slow"
_SERVERS: Final = 3
_SLOTS: Final = 8
_SERVICE_S: Final = 0.1
_CAPACITY: Final = _SERVERS * _SLOTS / _SERVICE_S
_IN_TIME_S: Final = 1.0
"""What is answered later is of no use to anybody, as in an application that people wait for."""

_LINE: Final = 120
"""How many requests may wait, in all gateways together: half a second's."""

_WITHOUT: Final = ("--min-in-flight=100000", "--max-in-flight=100000", "--max-queue=100000")


class _Slow(LanguageModel):
    """Answers after a time, without any work."""

    @classmethod
    def load(cls, checkpoint: str, settings: Any) -> _Slow:  # noqa: ANN401, ARG003 - as its base has it
        return cls()

    @property
    def extra_inputs(self) -> Mapping[str, ExtraInput]:
        return {}

    async def generate(self, text: str, extra_inputs: Mapping[str, ExtraInput]) -> AsyncIterator[Sequence[Piece]]:  # type: ignore[override]  # noqa: ARG002 - an asynchronous generator is one of the kinds that it may be
        await asyncio.sleep(_SERVICE_S)
        yield [Piece("late", -1.0)]

    def score(self, prefix: str, suffixes: Sequence[str], extra_inputs: Mapping[str, ExtraInput]) -> list[float]:  # noqa: ARG002 - as its base has it
        return [0.0 for _ in suffixes]


@dataclass
class _Seen:
    """What became of the requests of one run."""

    good_s: list[float] = field(default_factory=list)
    refused: int = 0
    late: int = 0
    failed: int = 0


@asynccontextmanager
async def _gateway(sax_root: str, *options: str) -> AsyncIterator[str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "saxgw", "serve", f"--sax-root={sax_root}", "--http-port=0", "--grpc-port=0", "--log-level=error"),
        *options,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None  # noqa: S101 - for the type checker
    try:
        found = re.search(r"http://(\S+)", (await process.stdout.readline()).decode())
        if found is None:
            raise RuntimeError("the gateway did not start")
        yield found[1]
    finally:
        process.kill()
        await process.wait()


async def _one(session: aiohttp.ClientSession, seen: _Seen) -> None:
    body = orjson.dumps({"model": _MODEL, "query": "x"})
    began = time.perf_counter()
    try:
        async with session.post(
            "/generate", data=body, headers={"Content-Type": "application/json", "X-Request-Timeout": "10"}
        ) as answer:
            await answer.read()
    except aiohttp.ClientError:
        seen.failed += 1
        return
    took_s = time.perf_counter() - began
    if answer.status == 429:  # noqa: PLR2004 - RESOURCE_EXHAUSTED
        seen.refused += 1
    elif answer.status != 200:  # noqa: PLR2004 - OK
        seen.failed += 1
    elif took_s > _IN_TIME_S:
        seen.late += 1
    else:
        seen.good_s.append(took_s)


async def _load(addresses: Sequence[str], per_second: float, seconds: float) -> _Seen:
    seen = _Seen()
    async with AsyncExitStack() as stack:
        sessions = [
            await stack.enter_async_context(
                aiohttp.ClientSession(
                    f"http://{address}",
                    connector=aiohttp.TCPConnector(limit=0),
                    timeout=aiohttp.ClientTimeout(total=30),
                )
            )
            for address in addresses
        ]
        tasks = []
        began = time.perf_counter()
        for number in range(int(per_second * seconds)):
            await asyncio.sleep(max(0, began + number / per_second - time.perf_counter()))
            tasks.append(asyncio.create_task(_one(sessions[number % len(sessions)], seen)))
        await asyncio.gather(*tasks)
    return seen


async def _main(seconds: float, gateways: int) -> None:
    click.echo(f"capacity: {_CAPACITY:.0f} requests/s, {gateways} gateways, {os.cpu_count()} cores\n")
    click.echo(row("load", "line", "goodput/s", "of 1 x", "p99 ms of good ones", "refused %", "late %", "failed %"))
    click.echo(row("---", "---", "---:", "---:", "---:", "---:", "---:", "---:"))
    async with DevCell(model_servers=_SERVERS, models={_PATH: _Slow}) as cell:
        async with connect(cell.root) as sax:
            overrides = {"BATCH_SIZE": str(_SLOTS), "MAX_LIVE_BATCHES": "1"}
            await sax.publish(_MODEL, _PATH, "None", _SERVERS, overrides)
            await sax.wait_for_ready(_MODEL, _SERVERS)
        for name, options in (("yes", (f"--max-queue={_LINE // gateways}",)), ("no", _WITHOUT)):
            first = 0.0
            for times in (1, 2, 5):
                async with AsyncExitStack() as stack:
                    addresses = [
                        await stack.enter_async_context(_gateway(cell.root, *options)) for _ in range(gateways)
                    ]
                    await _load(addresses, _CAPACITY / 2, 2)  # so that limits are known
                    seen = await _load(addresses, _CAPACITY * times, seconds)
                sent = int(_CAPACITY * times * seconds)
                goodput = len(seen.good_s) / seconds
                first = first or goodput
                p99_ms = quantiles(seen.good_s, n=100)[-1] * 1000 if len(seen.good_s) > 1 else 0
                shares = (f"{part / sent * 100:.0f}" for part in (seen.refused, seen.late, seen.failed))
                click.echo(
                    row(f"{times} x", name, f"{goodput:.0f}", f"{goodput / first:.2f}", f"{p99_ms:.0f}", *shares)
                )


@click.command()
@click.option("--seconds", default=6.0, show_default=True, help="How long each load lasts.")
@click.option("--gateways", default=1, show_default=True, type=click.IntRange(min=1), help="How many share the load.")
def main(seconds: float, gateways: int) -> None:
    """Measure goodput at 1, 2 and 5 times the capacity of a cell, with and without the gateway's line."""
    asyncio.run(_main(seconds, gateways))


if __name__ == "__main__":
    main()
