"""Sends load and takes the figures: `python -m bench.load JOB`, a Job as JSON, prints a Sample as JSON.

Every answer is checked; the first one that is wrong ends the process with an error.
"""

from __future__ import annotations

import os
import sys
import time
from functools import partial
from pathlib import Path
from statistics import quantiles
from typing import TYPE_CHECKING, Final

import click
import grpc.aio
import orjson

from bench.sample import Job, Load, Sample, WrongAnswer
from bench.serving import run, tune
from bench.stream_load import GrpcStreamLoad, HttpStreamLoad, ModelServerStreamLoad
from bench.unary_load import GrpcLoad, HttpLoad, ModelServerLoad
from saxgw.transcoding.framing import EVENT_STREAM_TYPE, JSON_TYPE, LINES_TYPE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

KINDS: Final[dict[str, Callable[[str], Load]]] = {
    "http": HttpLoad,
    "grpc": GrpcLoad,
    "model-server": ModelServerLoad,
    "events": partial(HttpStreamLoad, accept=EVENT_STREAM_TYPE),
    "lines": partial(HttpStreamLoad, accept=LINES_TYPE),
    "array": partial(HttpStreamLoad, accept=JSON_TYPE),
    "grpc-stream": GrpcStreamLoad,
    "model-server-stream": ModelServerStreamLoad,
}
"""What makes each kind of load, given a model."""


async def measure(job: Job) -> Sample:
    """Does what it says."""
    load = KINDS[job.kind](job.model)
    tune()
    await load.start(job.address, job.in_flight)
    await load.run_for(job.warm_up_s)
    load.latencies_s.clear()
    load.count = 0
    pids = (job.pid or os.getpid(), *job.other_pids)
    began, process_before, core_before = time.perf_counter(), _process_seconds(pids), _core_seconds(job.core)
    await load.run_for(job.seconds)
    ended, process_after, core_after = time.perf_counter(), _process_seconds(pids), _core_seconds(job.core)
    count = load.count
    cpu_seconds = process_after - process_before
    if count < job.in_flight or len(load.latencies_s) < 2:  # noqa: PLR2004 - as many as quantiles() needs
        raise WrongAnswer(f"only {count:g} answers within {job.seconds:g} s")
    percentiles_s = quantiles(load.latencies_s, n=100)
    return Sample(
        count=count,
        seconds=ended - began,
        cpu_seconds=cpu_seconds,
        others_seconds=max(0, core_after - core_before - cpu_seconds),
        p50_ms=percentiles_s[49] * 1e3,
        p99_ms=percentiles_s[98] * 1e3,
    )


def _process_seconds(pids: Iterable[int]) -> float:
    """User and system time of processes, all threads, in nanoseconds' resolution: Linux's clock_getcpuclockid(3)."""
    return sum(time.clock_gettime(~pid << 3 | 2) for pid in pids)


def _core_seconds(core: int) -> float:
    """The time that a core was not idle, since the machine started: proc(5), /proc/stat."""
    line = next(line for line in Path("/proc/stat").read_text().splitlines() if line.startswith(f"cpu{core} "))
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, line.split()[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    try:
        click.echo(orjson.dumps(run(measure(Job(**orjson.loads(sys.argv[1]))))))
    except (WrongAnswer, grpc.aio.AioRpcError, OSError) as error:
        sys.exit(str(error))
