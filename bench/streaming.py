"""`python -m bench.streaming` measures what streams cost: CPU time per item, time to the first, memory while idle."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Final

import click
import orjson

from bench import process, stream_report
from bench.contenders import Cell, Conditions, cell
from bench.hold import Job
from bench.stream_contenders import CONTENDERS, HOLDERS, PACED_100, UNPACED, WORKLOADS, StreamContender, Workload
from bench.streams import HELD

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bench.sample import Sample

_WARM_UP: Final = 100
_HELD_COUNTS: Final = (2_000, 10_000)
"""How many streams are held, besides those that warm up."""


@click.command()
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(min=1), help="Samples of each contender.")
@click.option("--seconds", default=2.0, show_default=True, help="How long one sample takes.")
@click.option("--warm-up", default=0.5, show_default=True, help="Seconds of load before each sample.")
def main(rounds: int, seconds: float, warm_up: float) -> None:
    """Measure what streams cost the gateway, next to floors and to a gateway by hand.

    Contenders take turns, each in a new process on a core of its own; load generator and model server share another.
    Every answer is checked; one that is wrong ends the bench.
    """
    core, other_core = process.two_cores()
    process.allow_sockets(_WARM_UP + max(_HELD_COUNTS))
    samples: list[dict[Workload, Mapping[StreamContender, Sample]]] = []
    with cell(other_core) as behind:
        for number in range(1, rounds + 1):
            click.echo(f"round {number} of {rounds}, load average {os.getloadavg()[0]:.1f}", err=True)
            samples.append({})
            for workload in WORKLOADS:
                click.echo(workload.name, err=True)
                conditions = Conditions(
                    core=core,
                    other_core=other_core,
                    in_flight=workload.in_flight,
                    warm_up_s=warm_up,
                    seconds=seconds,
                    model=workload.stream.model,
                )
                samples[-1][workload] = _samples(workload, behind, conditions)
        memory = _memory(behind, core, other_core)
    click.echo(f"\nPython {sys.version.split()[0]}, {rounds} rounds of {seconds:g} s\n")
    for line in stream_report.lines(samples, memory):
        click.echo(line)


def _samples(workload: Workload, behind: Cell, conditions: Conditions) -> dict[StreamContender, Sample]:
    samples = {}
    for contender in CONTENDERS:
        if workload is PACED_100 and contender in UNPACED:
            continue
        sample = samples[contender] = contender.on(workload.stream).measure(behind, conditions)
        click.echo(f"{sample.cpu_us:8.1f} µs {sample.per_second:8.0f}/s  {contender.name}", err=True)
    return samples


def _memory(behind: Cell, core: int, other_core: int) -> dict[StreamContender, Mapping[int, float]]:
    memory: dict[StreamContender, Mapping[int, float]] = {}
    for contender in HOLDERS:
        with contender.on(HELD).loaded(behind, core, other_core, HELD.model) as target:
            job = Job(
                kind=contender.load, address=target.address, warm_up=_WARM_UP, counts=_HELD_COUNTS, pid=target.pid
            )
            printed = process.run(target.load_core, "bench.hold", orjson.dumps(job).decode())
        costs = {int(count): kib for count, kib in orjson.loads(printed).items()}
        memory[contender] = costs
        click.echo(f"{', '.join(f'{kib:.1f}' for kib in costs.values())} KiB  {contender.name}", err=True)
    return memory


if __name__ == "__main__":
    main()
