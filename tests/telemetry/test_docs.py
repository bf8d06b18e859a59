"""docs/observability.md tells of what there is."""

from __future__ import annotations

from pathlib import Path

from saxgw.telemetry.metrics import Metrics

PAGE = (Path(__file__).parent.parent.parent / "docs/observability.md").read_text()


def test_metrics_table() -> None:
    """The table has every metric with its type, labels and help, as /metrics has them."""
    rows = []
    for collector, names in Metrics("0").registry._collector_to_names.items():  # noqa: SLF001 - nothing public tells labels
        [family] = collector.describe()  # type: ignore[attr-defined]  # all of ours can
        name = f"{family.name}_total" if family.type == "counter" else family.name
        assert name in names
        labels = ", ".join(collector._labelnames)  # type: ignore[attr-defined]  # noqa: SLF001 - as above
        rows.append(f"| `{name}` | {family.type} | {labels} | {family.documentation} |\n")
    table = "| metric | type | labels | |\n| --- | --- | --- | --- |\n" + "".join(rows)
    assert table in PAGE, f"put this into docs/observability.md:\n{table}"
