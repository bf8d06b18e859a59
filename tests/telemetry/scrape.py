"""Reads /metrics as Prometheus does."""

from __future__ import annotations

from collections.abc import Iterator

import aiohttp
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families


class Scraped:
    """What /metrics had at one moment."""

    def __init__(self, text: str) -> None:
        self.families: dict[str, Metric] = {}
        for family in text_string_to_metric_families(text):
            assert family.name not in self.families, f"{family.name} is there twice"
            self.families[family.name] = family

    def value(self, name: str, **labels: str) -> float:
        """The value of the one sample that has these labels; 0 if there is none."""
        values = [value for had, value in self.samples(name) if labels.items() <= had.items()]
        assert len(values) <= 1, f"{name} {labels} has {len(values)} samples"
        return values[0] if values else 0.0

    def samples(self, name: str) -> Iterator[tuple[dict[str, str], float]]:
        """Labels and value of each sample of a name."""
        for family in self.families.values():
            yield from ((sample.labels, sample.value) for sample in family.samples if sample.name == name)


async def scrape(admin_address: str | None) -> Scraped:
    """Reads the metrics of a gateway."""
    async with aiohttp.ClientSession() as http, http.get(f"http://{admin_address}/metrics") as response:
        assert response.status == 200
        assert response.content_type == "text/plain"
        return Scraped(await response.text())
