"""What a gateway costs that stands beside an application: `python -m bench.sidecar`.

How long it is from starting `saxgw serve` until it is ready, how much memory it has then, and how much once it holds a
thousand generates, which a model server of a dev cell keeps waiting. Start and rest are those of a gateway that nobody
has called yet; the first start, which reads the files from disk, is not counted.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import sys
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Final

import aiohttp
import click
import grpc.aio

from bench.markdown import row, spread, verdict
from bench.process import allow_sockets
from saxgw.devcell import DevCell, LanguageModel, Piece, Settings
from saxgw.devcell.news import News
from saxgw.sax import connect
from saxgw.v1 import sax_service_pb2, sax_service_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from saxgw.devcell import ExtraInput

MODEL: Final = "/sax/test/held"
"""To be published with PATH."""

PATH: Final = "bench.Held"
"""The model path of Held."""

_CALLS: Final = 1000
_QUERY: Final = "Q: Who is Harry Potter's mom? A: "
_SETTLE_S: Final = 1.0
_TIMEOUT_S: Final = 60.0

_READY_AIM_S: Final = 1.5
_REST_AIM_MIB: Final = 90.0


@dataclass(frozen=True, kw_only=True)
class _Settings(Settings):
    BATCH_SIZE: int = 10 * _CALLS


class Held(LanguageModel):
    """Never answers, and counts how many calls it has."""

    settings_class = _Settings
    held = 0
    news = News()

    @classmethod
    def load(cls, checkpoint: str, settings: Settings) -> Held:  # noqa: ARG003 - as its base has it
        return cls()

    @property
    def extra_inputs(self) -> Mapping[str, ExtraInput]:
        return {}

    async def generate(self, text: str, extra_inputs: Mapping[str, ExtraInput]) -> AsyncIterator[Sequence[Piece]]:  # type: ignore[override]  # noqa: ARG002 - an asynchronous generator is one of the kinds that it may be
        self._count(1)
        try:
            await asyncio.Event().wait()
            yield []
        finally:
            self._count(-1)

    def score(self, prefix: str, suffixes: Sequence[str], extra_inputs: Mapping[str, ExtraInput]) -> list[float]:  # noqa: ARG002 - as its base has it
        return [0.0 for _ in suffixes]

    @classmethod
    def _count(cls, more: int) -> None:
        cls.held += more
        cls.news.tell()

    @classmethod
    async def until(cls, held: int) -> None:
        """Waits until it has so many calls."""
        async with asyncio.timeout(_TIMEOUT_S):
            await cls.news.until(lambda: cls.held == held)


@dataclass(frozen=True)
class Gateway:
    """One that is running, in a process of its own."""

    http_address: str
    grpc_address: str
    pid: int
    ready_s: float

    @property
    def resident_mib(self) -> float:
        """What it has in memory: proc(5), /proc/pid/statm."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


@asynccontextmanager
async def running_gateway(sax_root: str, *options: str) -> AsyncIterator[Gateway]:
    """Starts a gateway, with these flags besides, and ends it in the end."""
    began = time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "saxgw", "serve", f"--sax-root={sax_root}", "--http-port=0", "--grpc-port=0", "--log-level=error"),
        f"--min-in-flight={_CALLS}",  # what it sends on costs more than what waits in its line
        *options,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None  # noqa: S101 - for the type checker
    try:
        line = (await process.stdout.readline()).decode()
        ready_s = time.perf_counter() - began
        found = re.search(r"http://(\S+) and grpc ([^\s,]+)", line)
        if found is None:
            raise RuntimeError(f"the gateway did not start; it said: {line}")
        yield Gateway(found[1], found[2], process.pid, ready_s)
    finally:
        process.kill()
        await process.wait()


@asynccontextmanager
async def _by_http(gateway: Gateway) -> AsyncIterator[Callable[[], Awaitable[object]]]:
    async with aiohttp.ClientSession(
        f"http://{gateway.http_address}", connector=aiohttp.TCPConnector(limit=0)
    ) as session:
        yield lambda: session.post("/generate", json={"model": MODEL, "query": _QUERY})


@asynccontextmanager
async def _by_grpc(gateway: Gateway) -> AsyncIterator[Callable[[], Awaitable[object]]]:
    async with grpc.aio.insecure_channel(gateway.grpc_address) as channel:
        sax = sax_service_pb2_grpc.SaxServiceStub(channel)
        yield lambda: sax.Generate(sax_service_pb2.GenerateRequest(model=MODEL, query=_QUERY))


_DOORS: Final[Mapping[str, Callable[[Gateway], AbstractAsyncContextManager[Callable[[], Awaitable[object]]]]]] = {
    "HTTP": _by_http,
    "gRPC": _by_grpc,
}


async def _call(generate: Callable[[], Awaitable[object]]) -> None:
    await generate()
    raise RuntimeError("a generate was answered that should have been held")


async def _holding(gateway: Gateway, door: str) -> float:
    """MiB with all calls held that come through one door, each over HTTP with a connection of its own."""
    async with _DOORS[door](gateway) as generate, asyncio.TaskGroup() as group:
        calls = [group.create_task(_call(generate)) for _ in range(_CALLS)]
        await Held.until(_CALLS)
        await asyncio.sleep(_SETTLE_S)
        resident = gateway.resident_mib
        for call in calls:
            call.cancel()
    await Held.until(0)
    return resident


async def _at_rest(sax_root: str) -> tuple[float, float]:
    """Seconds to ready, and MiB then."""
    async with running_gateway(sax_root) as gateway:
        await asyncio.sleep(_SETTLE_S)
        return gateway.ready_s, gateway.resident_mib


def _image_mb(name: str) -> float | None:
    """MB of a container image, unpacked; None if there is none."""
    for engine in filter(None, map(shutil.which, ("docker", "podman"))):
        found = subprocess.run(  # noqa: S603 - the engine is found on PATH, and the name is an argument to it alone
            [engine, "image", "inspect", "--format", "{{.Size}}", name], capture_output=True, text=True, check=False
        )
        if found.returncode == 0:
            return int(found.stdout) / 1e6
    return None


async def _main(rounds: int, image: str) -> None:
    async with DevCell(model_servers=1, models={PATH: Held}) as cell:
        async with connect(cell.root) as sax:
            await sax.publish(MODEL, PATH, "None", 1)
            await sax.wait_for_ready(MODEL)
        starts = [await _at_rest(cell.root) for _ in range(rounds + 1)][1:]
        held: dict[str, Sequence[float]] = {}
        for door in _DOORS:
            values = []
            for _ in range(rounds):
                async with running_gateway(cell.root) as gateway:
                    values.append(await _holding(gateway, door))
            held[door] = values
    click.echo(row("what", "median (lowest to highest)", "aim", ""))
    click.echo(row("---", "---:", "---:", "---"))
    ready_s, rest_mib = ([start[at] for start in starts] for at in range(2))
    figures: list[tuple[str, Sequence[float], float | None, str, str]] = [
        ("from exec to ready", ready_s, _READY_AIM_S, ".2f", "s"),
        ("memory at rest", rest_mib, _REST_AIM_MIB, ".0f", "MiB"),
        *((f"memory with {_CALLS} generates held, {door}", held[door], None, ".0f", "MiB") for door in _DOORS),
    ]
    for name, figure, aim, form, unit in figures:
        click.echo(row(f"{name}, {unit}", spread(figure, form), *verdict(median(figure), aim, form)))
    size = _image_mb(image)
    click.echo(row("image, MB", f"there is no {image}" if size is None else f"{size:.0f}", "", ""))


@click.command()
@click.option("--rounds", default=5, show_default=True, type=click.IntRange(min=1), help="How often each is measured.")
@click.option("--image", default="saxgw", show_default=True, help="Image whose size to tell, if there is one.")
def main(rounds: int, image: str) -> None:
    """Measure start, memory and image of a gateway that stands beside an application."""
    allow_sockets(3 * _CALLS)
    asyncio.run(_main(rounds, image))


if __name__ == "__main__":
    main()
