"""The dashboard for Grafana asks for metrics and labels that exist, and for all of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.telemetry.families import families

DASHBOARD = orjson.loads((Path(__file__).parents[2] / "deploy/grafana/saxgw.json").read_bytes())

OF_PROMETHEUS = {"job", "instance"}
"""Labels that a scraper adds."""

_SELECTOR = re.compile(r"(saxgw_\w+)(?:\{([^}]*)\})?")


def targets() -> list[tuple[str, dict[str, Any]]]:
    """Title and query of all that is drawn."""
    return [(panel["title"], target) for panel in DASHBOARD["panels"] for target in panel.get("targets", [])]


def labels_by_sample() -> Iterator[tuple[str, set[str]]]:
    """Name and labels of each sample that /metrics may have."""
    for name, kind, labels, _ in families():
        if kind == "histogram":
            yield f"{name}_bucket", {*labels, "le"}
            yield from ((f"{name}_{suffix}", {*labels}) for suffix in ("count", "sum"))
        else:
            yield name, {*labels}


SAMPLES = dict(labels_by_sample())


@pytest.mark.parametrize(("title", "target"), targets(), ids=lambda value: value if isinstance(value, str) else "")
def test_expressions(title: str, target: dict[str, Any]) -> None:
    """Each expression has balanced parentheses, metrics that exist, and no labels but theirs."""
    expression = target["expr"]
    for opening, closing in ("()", "{}", "[]"):
        assert expression.count(opening) == expression.count(closing), title
    selectors = _SELECTOR.findall(expression)
    assert selectors
    kept = set(re.findall(r"\w+", " ".join(re.findall(r"by \(([^)]*)\)", expression))))
    for name, matchers in selectors:
        had = SAMPLES[name] | OF_PROMETHEUS
        assert set(re.findall(r"(\w+)(?:=~|!=|!~|=)", matchers)) <= had
        assert kept <= had
        assert ("rate(" in expression) == name.endswith(("_total", "_bucket", "_count", "_sum"))
    assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= kept - {"le"}


def test_nothing_is_left_out() -> None:
    """Every metric is drawn somewhere."""
    drawn = {name for _, target in targets() for name, _ in _SELECTOR.findall(target["expr"])}
    families = {re.sub(r"_(bucket|count|sum)$", "", name) for name in SAMPLES}
    assert {re.sub(r"_(bucket|count|sum)$", "", name) for name in drawn} == families


def test_panels() -> None:
    """Panels have an id each, fit the grid's 24 columns, and do not lie on one another."""
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = [panel["gridPos"] for panel in panels]
    assert all(place["x"] + place["w"] <= 24 for place in places)
    for a, b in combinations(places, 2):
        apart = (
            a["x"] + a["w"] <= b["x"]
            or b["x"] + b["w"] <= a["x"]
            or a["y"] + a["h"] <= b["y"]
            or b["y"] + b["h"] <= a["y"]
        )
        assert apart, (a, b)


def test_variables() -> None:
    """The variables that expressions use are there, and are filled by a metric that exists."""
    variables = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}
    used = set(re.findall(r"\$(\w+)", " ".join(target["expr"] for _, target in targets()))) - {"__rate_interval"}
    assert used | {"datasource"} == set(variables)
    for name in used:
        assert variables[name]["query"]["query"] == f"label_values(saxgw_build_info, {name})"
