"""What workers bring and cost: `python -m bench.workers`.

Gateways with one process and with two take turns. Everything runs on all cores, the load generator and the model server
too, so that on two cores two workers cannot serve twice as much: they take what one leaves idle. That their requests
cost what those of one do is what tells how they do on more cores. There are as many connections as requests in flight,
since it is these that are spread over workers; one gRPC channel would have one worker.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Final

import click
import orjson

from bench import process
from bench.contenders import cell, saxgw
from bench.example import MODEL
from bench.markdown import row, spread, verdict
from bench.sample import Job, Sample

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from bench.contenders import Cell

_COUNTS: Final = (1, 2)

_MIB_AIM: Final = 90.0
"""For one worker at rest."""


@dataclass(frozen=True)
class _Figures:
    """Of one gateway."""

    sample: Sample

    rest_mib: float
    """What one process that serves has in memory once it is ready."""

    loaded_mib: float
    """The same after the load."""

    supervisor_mib: float
    """What the process has that serves nothing; 0 if there is none."""


_COLUMNS: Final[Mapping[str, tuple[Callable[[_Figures], float], str]]] = {
    "requests/s": (lambda figures: figures.sample.per_second, ",.0f"),
    "CPU µs per request": (lambda figures: figures.sample.cpu_us, ".0f"),
    "cores busy": (lambda figures: figures.sample.busy, ".2f"),
    "p50 ms": (lambda figures: figures.sample.p50_ms, ".1f"),
    "p99 ms": (lambda figures: figures.sample.p99_ms, ".1f"),
    "MiB per worker at rest": (lambda figures: figures.rest_mib, ".0f"),
    "MiB under load": (lambda figures: figures.loaded_mib, ".0f"),
    "MiB of the supervisor": (lambda figures: figures.supervisor_mib, ".0f"),
}


def _measure(behind: Cell, workers: int, in_flight: int, warm_up_s: float, seconds: float) -> _Figures:
    with process.serving(None, *saxgw(behind), f"--workers={workers}") as server:
        serving = _children(server.pid) if workers > 1 else [server.pid]
        rest_mib = _resident_mib(serving)
        job = Job(
            kind="http",
            address=server.addresses[0],
            model=MODEL,
            in_flight=in_flight,
            warm_up_s=warm_up_s,
            seconds=seconds,
            core=min(os.sched_getaffinity(0)),
            pid=serving[0],
            other_pids=tuple(serving[1:]),
        )
        sample = Sample(**orjson.loads(process.run(None, "bench.load", orjson.dumps(job).decode())))
        supervisor_mib = _resident_mib([server.pid]) if workers > 1 else 0
        return _Figures(sample, rest_mib, _resident_mib(serving), supervisor_mib)


def _children(pid: int) -> list[int]:
    """The children of a process: proc(5)."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _resident_mib(pids: Sequence[int]) -> float:
    """What the largest of these processes has in memory: proc(5), /proc/pid/statm."""
    pages = max(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids)
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def _lines(rounds: Sequence[Mapping[int, _Figures]]) -> Iterator[str]:
    yield row("workers", *_COLUMNS)
    yield row("---:", *("---:" for _ in _COLUMNS))
    for count in _COUNTS:
        figures = [each[count] for each in rounds]
        yield row(str(count), *(spread([get(one) for one in figures], form) for get, form in _COLUMNS.values()))
    yield ""
    yield row("round by round", "measured", "aim", "")
    yield row("---", "---:", "---:", "---")
    faster = [each[2].sample.per_second / each[1].sample.per_second for each in rounds]
    yield row("requests/s: two workers ÷ one", spread(faster, ".2f"), "", "")
    dearer = [each[2].sample.cpu_us / each[1].sample.cpu_us for each in rounds]
    yield row("CPU per request: two workers ÷ one", spread(dearer, ".2f"), "", "")
    rest_mib = [each[2].rest_mib for each in rounds]
    yield row("MiB of one worker at rest", spread(rest_mib, ".0f"), *verdict(median(rest_mib), _MIB_AIM, ".0f"))


@click.command()
@click.option("--rounds", default=5, show_default=True, type=click.IntRange(min=1), help="Samples of each.")
@click.option("--seconds", default=4.0, show_default=True, help="How long one sample takes.")
@click.option("--warm-up", default=1.0, show_default=True, help="Seconds of load before each sample.")
@click.option("--in-flight", default=64, show_default=True, type=click.IntRange(min=1), help="Requests at once.")
def main(rounds: int, seconds: float, warm_up: float, in_flight: int) -> None:
    """Measure requests per second, CPU per request and memory of one and of two workers."""
    samples: list[dict[int, _Figures]] = []
    with cell(None) as behind:
        for number in range(1, rounds + 1):
            click.echo(f"round {number} of {rounds}, load average {os.getloadavg()[0]:.1f}", err=True)
            samples.append({count: _measure(behind, count, in_flight, warm_up, seconds) for count in _COUNTS})
    cores = len(os.sched_getaffinity(0))
    click.echo(f"\nPython {sys.version.split()[0]}, {cores} cores, {in_flight} in flight, {rounds} rounds\n")
    for line in _lines(samples):
        click.echo(line)


if __name__ == "__main__":
    main()
