"""Holds streams open and tells what they cost: `python -m bench.hold JOB`, a Job as JSON, prints KiB by count as JSON.

Its streams send one item, which is checked, and never end.
"""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
import grpc.aio
import orjson

from bench.load import KINDS
from bench.sample import WrongAnswer
from bench.serving import run, tune
from bench.streams import HELD

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bench.sample import Load

_AT_ONCE: Final = 100
"""How many streams are begun before the first of them must have their item."""

_CHECK_S: Final = 0.01
_SETTLE_S: Final = 0.5
_TIMEOUT_S: Final = 60.0


@dataclass(frozen=True, kw_only=True)
class Job:
    """What to hold, and whose memory to look at."""

    kind: str
    """One of bench.load.KINDS."""

    address: str

    warm_up: int
    """How many streams to open first, whose cost does not count."""

    counts: tuple[int, ...]
    """How many streams to hold besides, in rising order."""

    pid: int | None = None
    """The process whose memory counts; if None this one's, which tells the cost of client calls."""


async def hold(job: Job) -> Mapping[int, float]:
    """KiB of resident memory per stream, by how many there are."""
    tune()
    load = KINDS[job.kind](HELD.model)
    pid = job.pid or os.getpid()
    await _open(load, job.address, job.warm_up)
    before = _resident_kib(pid)
    costs = {}
    for count in job.counts:
        await _open(load, job.address, job.warm_up + count)
        costs[count] = (_resident_kib(pid) - before) / count
    return costs


async def _open(load: Load, address: str, count: int) -> None:
    """Opens streams until `count` have their first item."""
    async with asyncio.timeout(_TIMEOUT_S):
        while (have := len(load.latencies_s)) < count:
            opening = min(_AT_ONCE, count - have)
            await load.start(address, opening)
            while len(load.latencies_s) < have + opening:
                await load.run_for(_CHECK_S)
    await load.run_for(_SETTLE_S)


def _resident_kib(pid: int) -> float:
    """What a process has in memory: proc(5), /proc/pid/statm."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1024


if __name__ == "__main__":
    try:
        click.echo(orjson.dumps(run(hold(Job(**orjson.loads(sys.argv[1])))), option=orjson.OPT_NON_STR_KEYS))
    except (WrongAnswer, grpc.aio.AioRpcError, OSError) as error:
        sys.exit(str(error))
