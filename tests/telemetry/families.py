"""The metrics that there are, whether or not they have been seen yet."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from saxgw.telemetry.metrics import Metrics


class Family(NamedTuple):
    """One metric."""

    name: str
    """As /metrics tells it."""

    kind: str
    labels: tuple[str, ...]
    documentation: str


def families() -> Iterator[Family]:
    """All of a gateway's."""
    collectors: Any = Metrics("0").registry._collector_to_names  # noqa: SLF001 - nothing public tells labels
    for collector in collectors:
        [metric] = collector.describe()
        name = f"{metric.name}_total" if metric.type == "counter" else metric.name
        assert name in collectors[collector]
        yield Family(name, metric.type, collector._labelnames, metric.documentation)  # noqa: SLF001 - as above
