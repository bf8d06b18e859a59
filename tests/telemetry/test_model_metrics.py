"""Metrics of models: who waits, what model servers are asked, which replicas there are; and which models have any."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from saxgw.devcell import DevCell
from saxgw.gateway import Gateway
from saxgw.telemetry.metrics import MOST_MODELS, Metrics
from tests.callers import CallError, active_replicas
from tests.conftest import connected, definition, settings
from tests.devcell.harness import NGRAM, QUICK, until
from tests.held_model import HELD, HeldModel
from tests.telemetry.scrape import scrape

MODEL = "/sax/test/lm"
REQUEST = {"model": MODEL, "query": "Alice", "extra_inputs": {"per_example_max_decode_steps": 1}}


async def test_line() -> None:
    """Who waits for room on a model server is in the line's length, and the wait is timed once it is over."""
    held = HeldModel()
    async with (
        DevCell(models=held.classes) as cell,
        Gateway(settings(cell.root, admin_port=0, max_in_flight=1)) as gateway,
        connected(gateway, "grpc") as call,
    ):
        await call("Publish", definition(MODEL, model_path=HELD, wait_for_replicas=1))
        calls = [asyncio.create_task(call("Generate", {"model": MODEL, "query": "x"})) for _ in range(3)]
        await held.until(lambda: held.running == 1)

        async def two_wait() -> bool:
            scraped = await scrape(gateway.admin_address)
            return sum(value for _, value in scraped.samples("saxgw_queue_length")) == 2

        await until(two_wait)
        held.open()
        await asyncio.gather(*calls)
        scraped = await scrape(gateway.admin_address)
    assert scraped.value("saxgw_queue_length", model=MODEL) == 0
    assert scraped.value("saxgw_queue_wait_seconds_count", model=MODEL) >= 2
    assert scraped.value("saxgw_queue_wait_seconds_sum", model=MODEL) > 0


async def test_replicas_and_retries() -> None:
    """A replica that refuses is set aside, and what it had refused is counted as sent again to the other."""
    async with (
        DevCell(model_servers=2, faults=True, timing=QUICK) as cell,
        Gateway(settings(cell.root, admin_port=0)) as gateway,
        connected(gateway, "grpc") as call,
    ):
        await call("Publish", definition(MODEL, model_path=NGRAM, replicas=2))
        await active_replicas(call, MODEL, 2)
        await call("Generate", REQUEST)

        async def both_are_known() -> bool:
            scraped = await scrape(gateway.admin_address)
            return scraped.value("saxgw_replicas_ready", model=MODEL) == 2

        await until(both_are_known)
        cell.model_servers[0].faults.refuse(grpc.StatusCode.UNAVAILABLE, "going away")
        while not (scraped := await scrape(gateway.admin_address)).value("saxgw_model_retries_total", model=MODEL):
            await call("Generate", REQUEST)
        cell.model_servers[0].faults.clear()
    assert scraped.value("saxgw_replicas", model=MODEL) == 2
    assert scraped.value("saxgw_replicas_ready", model=MODEL) == 1
    assert scraped.value("saxgw_model_requests_total", model=MODEL, code="UNAVAILABLE") >= 1
    answered = scraped.value("saxgw_calls_total", method="Generate", code="OK")
    assert scraped.value("saxgw_model_requests_total", model=MODEL, code="OK") == answered


async def test_broken_stream() -> None:
    """A stream whose caller leaves is a request to a model server that was CANCELLED."""
    held = HeldModel()
    async with (
        DevCell(models=held.classes) as cell,
        Gateway(settings(cell.root, admin_port=0)) as gateway,
        connected(gateway, "grpc") as call,
    ):
        await call("Publish", definition(MODEL, model_path=HELD, wait_for_replicas=1))
        held.release()
        stream = call.stream("GenerateStream", {"model": MODEL, "query": "x"})
        await anext(stream)
        await stream.aclose()

        async def it_is_counted() -> bool:
            scraped = await scrape(gateway.admin_address)
            return scraped.value("saxgw_model_requests_total", model=MODEL, code="CANCELLED") == 1

        await until(it_is_counted)


async def test_callers_make_no_labels(published: str, cell: DevCell) -> None:
    """Only models that the cell knows have series of their own, whatever names callers say."""
    async with Gateway(settings(cell.root, admin_port=0)) as gateway, connected(gateway, "grpc") as call:
        await call("Generate", {**REQUEST, "model": published})
        for name in ("/sax/test/a_name", "/sax/no_cell/lm", "no name", 'with "quotes"'):
            with pytest.raises(CallError):
                await call("Generate", {**REQUEST, "model": name})
        scraped = await scrape(gateway.admin_address)
    models = {
        sample.labels["model"]
        for family in scraped.families.values()
        for sample in family.samples
        if "model" in sample.labels
    }
    assert models == {published, "other"}


def test_so_many_models_and_no_more() -> None:
    """Beyond a number, models share the series of all others."""
    metrics = Metrics("0")
    for number in range(MOST_MODELS + 50):
        metrics.set_replicas(f"/sax/test/lm{number}", 1, 1)
        metrics.of_model(f"/sax/test/lm{number}").request_over(grpc.StatusCode.OK)
    [family] = [family for family in metrics.registry.collect() if family.name == "saxgw_model_requests"]
    counted = {sample.labels["model"]: sample.value for sample in family.samples}
    assert len(counted) == MOST_MODELS + 1
    assert counted["other"] == 50
