"""docs/observability.md tells of what there is."""

from __future__ import annotations

import re
from pathlib import Path

from tests.telemetry.families import families

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/observability.md").read_text()


def test_metrics_table() -> None:
    """The table has every metric with its type, labels and help, as /metrics has them."""
    table = "| metric | type | labels | |\n| --- | --- | --- | --- |\n" + "".join(
        f"| `{name}` | {kind} | {', '.join(labels)} | {documentation} |\n"
        for name, kind, labels, documentation in families()
    )
    assert table in PAGE, f"put this into docs/observability.md:\n{table}"


def test_links() -> None:
    """Links to files of the repository lead somewhere."""
    targets = [target for target in re.findall(r"\]\(([^)#]+)\)", PAGE) if "://" not in target]
    assert targets
    assert all((ROOT / "docs" / target).exists() for target in targets)
