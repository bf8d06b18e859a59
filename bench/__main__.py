"""`python -m bench` measures what a call costs."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from bench import process, report
from bench.contenders import CONTENDERS, Conditions, Contender, cell

if TYPE_CHECKING:
    from bench.sample import Sample


@click.command()
@click.option("--rounds", default=5, show_default=True, type=click.IntRange(min=1), help="Samples of each contender.")
@click.option("--seconds", default=2.5, show_default=True, help="How long one sample takes.")
@click.option("--warm-up", default=1.0, show_default=True, help="Seconds of load before each sample.")
@click.option("--in-flight", default=32, show_default=True, type=click.IntRange(min=1), help="Requests at once.")
def main(rounds: int, seconds: float, warm_up: float, in_flight: int) -> None:
    """Measure what a call costs the gateway, next to floors and to a server as the replaced one was.

    Contenders take turns, each in a new process on a core of its own; load generator and model server share another.
    Every answer is checked; one that is wrong ends the bench.
    """
    core, other_core = process.two_cores()
    conditions = Conditions(core=core, other_core=other_core, in_flight=in_flight, warm_up_s=warm_up, seconds=seconds)
    samples: list[dict[Contender, Sample]] = []
    with cell(other_core) as behind:
        for number in range(1, rounds + 1):
            click.echo(f"round {number} of {rounds}, load average {os.getloadavg()[0]:.1f}", err=True)
            samples.append({})
            for contender in CONTENDERS:
                sample = samples[-1][contender] = contender.measure(behind, conditions)
                click.echo(f"{sample.cpu_us:8.0f} µs {sample.per_second:8.0f}/s  {contender.name}", err=True)
    click.echo(f"\nPython {sys.version.split()[0]}, {in_flight} in flight, {rounds} rounds of {seconds:g} s\n")
    for line in report.lines(samples):
        click.echo(line)


if __name__ == "__main__":
    main()
