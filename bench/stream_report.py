"""The figures of streams as Markdown: medians of all rounds, with the lowest and the highest."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import median
from typing import Final, TypeAlias

from bench.markdown import row, spread, verdict
from bench.sample import Sample
from bench.stream_contenders import (
    ALONE,
    CLIENT,
    CONTENDERS,
    EVENTS_BY_HAND,
    GRPC,
    GRPC_BY_HAND,
    HOLDERS,
    PACED_100,
    PHRASES_32,
    SAXGW_ARRAY,
    SAXGW_EVENTS,
    SAXGW_GRPC,
    SAXGW_LINES,
    TOKENS_8,
    WORKLOADS,
    StreamContender,
    Workload,
)

Round: TypeAlias = Mapping[Workload, Mapping[StreamContender, Sample]]
"""One sample of each contender under each load."""

Memory: TypeAlias = Mapping[StreamContender, Mapping[int, float]]
"""KiB per stream of each contender, by how many streams it held."""

_COLUMNS: Final[Mapping[str, tuple[Callable[[Sample], float], str]]] = {
    "CPU µs per item": (lambda sample: sample.cpu_us, ".0f"),
    "items/s": (lambda sample: sample.per_second, ",.0f"),
    "first item p50 ms": (lambda sample: sample.p50_ms, ".1f"),
    "p99 ms": (lambda sample: sample.p99_ms, ".1f"),
    "core busy %": (lambda sample: sample.busy * 100, ".0f"),
    "by others %": (lambda sample: sample.disturbed * 100, ".0f"),
}


def _first_item(samples: Mapping[StreamContender, Sample], contender: StreamContender) -> float:
    return samples[contender].p50_ms / samples[CLIENT].p50_ms


_Figure: TypeAlias = tuple[str, Callable[[Round, Workload], float], float | None, Sequence[Workload]]
"""Name, how to get it of a round, what it should be at the most, and the loads that it makes sense for."""

_AT_ONCE: Final = (PHRASES_32, TOKENS_8)
_ANY: Final = (PHRASES_32, TOKENS_8, PACED_100)

_FIGURES: Final[Sequence[_Figure]] = (
    ("CPU µs per item: saxgw SSE", lambda r, w: r[w][SAXGW_EVENTS].cpu_us, 60, _ANY),
    ("CPU: saxgw SSE ÷ SSE by hand", lambda r, w: r[w][SAXGW_EVENTS].cpu_us / r[w][EVENTS_BY_HAND].cpu_us, None, _ANY),
    ("CPU: saxgw NDJSON ÷ saxgw SSE", lambda r, w: r[w][SAXGW_LINES].cpu_us / r[w][SAXGW_EVENTS].cpu_us, None, _ANY),
    ("CPU: saxgw array ÷ saxgw SSE", lambda r, w: r[w][SAXGW_ARRAY].cpu_us / r[w][SAXGW_EVENTS].cpu_us, None, _ANY),
    (
        "CPU: saxgw gRPC ÷ (server floor + client floor)",
        lambda r, w: r[w][SAXGW_GRPC].cpu_us / (r[w][GRPC].cpu_us + r[w][CLIENT].cpu_us),
        1.15,
        _AT_ONCE,
    ),
    ("CPU: saxgw gRPC ÷ gRPC by hand", lambda r, w: r[w][SAXGW_GRPC].cpu_us / r[w][GRPC_BY_HAND].cpu_us, None, _ANY),
    (
        "first item: saxgw SSE ÷ client floor",
        lambda r, w: _first_item(r[w], SAXGW_EVENTS),
        None,
        [ALONE],
    ),
    (
        "first item: saxgw gRPC ÷ client floor",
        lambda r, w: _first_item(r[w], SAXGW_GRPC),
        None,
        [ALONE],
    ),
)

_BEYOND_CALL_KIB: Final = 25.0


def lines(rounds: Sequence[Round], memory: Memory) -> Iterator[str]:
    """The tables, line by line."""
    for workload in WORKLOADS:
        yield from (f"### {workload.name[0].upper()}{workload.name[1:]}", "")
        yield row("contender", *_COLUMNS)
        yield row("---", *("---:" for _ in _COLUMNS))
        for contender in CONTENDERS:
            samples = [each[workload][contender] for each in rounds if contender in each[workload]]
            if samples:
                yield row(
                    contender.name,
                    *(spread([figure(sample) for sample in samples], form) for figure, form in _COLUMNS.values()),
                )
        yield ""
    yield row("figure, round by round", "load", "measured", "aim", "")
    yield row("---", "---", "---:", "---:", "---")
    for name, figure, aim, workloads in _FIGURES:
        for workload in workloads:
            figures = [figure(each, workload) for each in rounds]
            yield row(name, workload.name, spread(figures, ".2f"), *verdict(median(figures), aim, ".2f"))
    yield ""
    yield from _memory(memory)


def _memory(memory: Memory) -> Iterator[str]:
    counts = sorted(memory[CLIENT])
    yield row("KiB of memory per idle stream", *(f"{count:,} streams" for count in counts))
    yield row("---", *("---:" for _ in counts))
    for contender in HOLDERS:
        yield row(contender.name, *(f"{memory[contender][count]:.1f}" for count in counts))
    beyond = [memory[SAXGW_EVENTS][count] - memory[CLIENT][count] for count in counts]
    yield row("saxgw SSE beyond its gRPC call", *(f"{kib:.1f}" for kib in beyond))
    verdicts = (verdict(kib, _BEYOND_CALL_KIB, ".0f") for kib in beyond)
    yield row("aim for that", *(f"{aim}, {reached}" for aim, reached in verdicts))
