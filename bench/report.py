"""The bench's figures as Markdown: medians of all rounds, with the lowest and the highest."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import median
from typing import Final, TypeAlias

from bench.contenders import (
    AIOHTTP,
    CLIENT,
    CONTENDERS,
    GRPC,
    GRPC_BY_HAND,
    JSON_BY_HAND,
    SAXGW_GRPC,
    SAXGW_JSON,
    THREADED,
    THREADED_LISTING,
    Contender,
)
from bench.markdown import row, spread, verdict
from bench.sample import Sample

Round: TypeAlias = Mapping[Contender, Sample]
"""One sample of each contender, taken one after the other."""

_COLUMNS: Final[Mapping[str, tuple[Callable[[Sample], float], str]]] = {
    "CPU µs per request": (lambda sample: sample.cpu_us, ".0f"),
    "requests/s": (lambda sample: sample.per_second, ",.0f"),
    "p50 ms": (lambda sample: sample.p50_ms, ".1f"),
    "p99 ms": (lambda sample: sample.p99_ms, ".1f"),
    "core busy %": (lambda sample: sample.busy * 100, ".0f"),
    "by others %": (lambda sample: sample.disturbed * 100, ".0f"),
}

_RATIOS: Final[Sequence[tuple[str, Callable[[Round], float], float | None]]] = (
    (
        "CPU: saxgw JSON ÷ (aiohttp floor + client floor)",
        lambda r: r[SAXGW_JSON].cpu_us / (r[AIOHTTP].cpu_us + r[CLIENT].cpu_us),
        1.25,
    ),
    (
        "CPU: saxgw gRPC ÷ (server floor + client floor)",
        lambda r: r[SAXGW_GRPC].cpu_us / (r[GRPC].cpu_us + r[CLIENT].cpu_us),
        1.15,
    ),
    ("CPU: saxgw JSON ÷ JSON by hand", lambda r: r[SAXGW_JSON].cpu_us / r[JSON_BY_HAND].cpu_us, None),
    ("CPU: saxgw gRPC ÷ gRPC by hand", lambda r: r[SAXGW_GRPC].cpu_us / r[GRPC_BY_HAND].cpu_us, None),
    ("CPU: FastAPI ÷ saxgw JSON", lambda r: r[THREADED].cpu_us / r[SAXGW_JSON].cpu_us, None),
    ("CPU: FastAPI with a listing ÷ saxgw JSON", lambda r: r[THREADED_LISTING].cpu_us / r[SAXGW_JSON].cpu_us, None),
    ("requests/s: saxgw JSON ÷ FastAPI", lambda r: r[SAXGW_JSON].per_second / r[THREADED].per_second, None),
)


def lines(rounds: Sequence[Round]) -> Iterator[str]:
    """The tables, line by line."""
    yield row("contender", *_COLUMNS)
    yield row("---", *("---:" for _ in _COLUMNS))
    for contender in CONTENDERS:
        samples = [each[contender] for each in rounds]
        yield row(
            contender.name,
            *(spread([figure(sample) for sample in samples], form) for figure, form in _COLUMNS.values()),
        )
    yield ""
    yield row("ratio, round by round", "measured", "aim", "")
    yield row("---", "---:", "---:", "---")
    for name, ratio, aim in _RATIOS:
        ratios = [ratio(each) for each in rounds]
        yield row(name, spread(ratios, ".2f"), *verdict(median(ratios), aim, ".2f"))
