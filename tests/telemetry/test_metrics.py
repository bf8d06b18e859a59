"""Metrics of calls, scraped over HTTP after real calls through both doors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio

from saxgw.devcell import DevCell
from saxgw.gateway import Gateway
from tests.callers import CallError
from tests.conftest import DOORS, connected, definition, settings
from tests.telemetry.scrape import scrape

REQUEST = {"extra_inputs": {"per_example_max_decode_steps": 4}}


@pytest_asyncio.fixture
async def watched(cell: DevCell) -> AsyncIterator[Gateway]:
    """A gateway with an admin server, of which nothing has been asked yet."""
    async with Gateway(settings(cell.root, admin_port=0)) as gateway:
        yield gateway


@pytest.mark.parametrize("door", DOORS)
async def test_calls(watched: Gateway, published: str, door: str) -> None:
    """Calls are counted by method, door and code, and timed, whether they succeed or not."""
    async with connected(watched, door) as call:
        for _ in range(3):
            await call("Generate", {"model": published, "query": "x", **REQUEST})
        with pytest.raises(CallError):
            await call("Generate", {"model": "/sax/test/nothing", "query": "x"})
        await call("ListAll", {"sax_cell": "/sax/test"})
    name = "grpc" if door == "grpc" else "http"
    scraped = await scrape(watched.admin_address)
    calls = {tuple(labels.values()): value for labels, value in scraped.samples("saxgw_calls_total")}
    assert calls == {("NOT_FOUND", name, "Generate"): 1, ("OK", name, "Generate"): 3, ("OK", name, "ListAll"): 1}
    generate = {"method": "Generate", "door": name}
    assert scraped.value("saxgw_call_duration_seconds_count", **generate) == 4
    assert scraped.value("saxgw_call_duration_seconds_bucket", **generate, le="+Inf") == 4
    assert 0 < scraped.value("saxgw_call_duration_seconds_sum", **generate) < 20
    assert scraped.value("saxgw_calls_in_flight", **generate) == 0


@pytest.mark.parametrize("door", DOORS)
async def test_streams(watched: Gateway, published: str, door: str) -> None:
    """Streams tell when the first message was sent, and how far apart the others were."""
    async with connected(watched, door) as call:
        messages = await call("GenerateStream", {"model": published, "query": "x", **REQUEST})
    labels = {"method": "GenerateStream", "door": "grpc" if door == "grpc" else "http"}
    scraped = await scrape(watched.admin_address)
    assert len(messages) > 1
    assert scraped.value("saxgw_time_to_first_message_seconds_count", **labels) == 1
    assert scraped.value("saxgw_message_interval_seconds_count", **labels) == len(messages) - 1
    first = scraped.value("saxgw_time_to_first_message_seconds_sum", **labels)
    between = scraped.value("saxgw_message_interval_seconds_sum", **labels)
    assert 0 < first + between <= scraped.value("saxgw_call_duration_seconds_sum", **labels)


async def test_in_flight_and_cancelled(watched: Gateway, model: str) -> None:
    """A call that runs is in flight; one whose caller leaves is CANCELLED, and in flight no more."""
    labels = {"method": "WaitForReady", "door": "grpc"}
    async with connected(watched, "grpc") as call:
        await call("Publish", definition(model, replicas=0))
        waiting = asyncio.create_task(call("WaitForReady", {"model": model, "replicas": 3}))
        while not (await scrape(watched.admin_address)).value("saxgw_calls_in_flight", **labels):
            assert not waiting.done()
        waiting.cancel()
        async with asyncio.timeout(60):
            while (scraped := await scrape(watched.admin_address)).value("saxgw_calls_in_flight", **labels):
                pass
    assert scraped.value("saxgw_calls_total", **labels, code="CANCELLED") == 1


async def test_refusals(cell: DevCell, published: str) -> None:
    """Refused calls are counted by the reason that callers are told."""
    async with Gateway(settings(cell.root, admin_port=0, max_calls=1)) as gateway, connected(gateway, "grpc") as call:
        waiting = asyncio.create_task(call("WaitForReady", {"model": published, "replicas": 3}))
        while not (await scrape(gateway.admin_address)).value("saxgw_calls_in_flight", method="WaitForReady"):
            assert not waiting.done()
        with pytest.raises(CallError):
            await call("ListAll", {"sax_cell": "/sax/test"})
        scraped = await scrape(gateway.admin_address)
        waiting.cancel()
    assert scraped.value("saxgw_calls_refused_total", reason="TOO_MANY_CALLS") == 1
    assert scraped.value("saxgw_calls_total", method="ListAll", code="RESOURCE_EXHAUSTED") == 1


async def test_http_answers_to_what_is_no_call(watched: Gateway) -> None:
    """Pages, unknown paths, wrong methods, refused requests and bytes that are not HTTP are counted by status."""
    address = f"http://{watched.http_address}"
    async with aiohttp.ClientSession(address) as http:
        for method, path in (("GET", "/"), ("GET", "/no"), ("GET", "/nothing"), ("GET", "/publish")):
            await (await http.request(method, path)).read()
        await (await http.post("/generate", data="x", headers={"Content-Type": "text/plain"})).read()
        await (await http.get("/listall?sax_cell=/sax/test")).read()
    reader, writer = await asyncio.open_connection(*watched.http_address.split(":"))
    writer.write(b"nonsense\r\n\r\n")
    await reader.read()
    writer.close()
    await writer.wait_closed()
    scraped = await scrape(watched.admin_address)
    statuses = {labels["status"]: value for labels, value in scraped.samples("saxgw_http_other_responses_total")}
    assert statuses == {"200": 1, "404": 2, "405": 1, "415": 1, "400": 1}


async def test_admin_server(watched: Gateway) -> None:
    """It answers as the HTTP door does where there is nothing to see, and in OpenMetrics if that is asked for."""
    address = f"http://{watched.admin_address}"
    async with aiohttp.ClientSession(address) as http:
        async with http.get("/no") as response:
            assert response.status == 404
            assert (await response.json())["error"]["message"] == 'there is nothing at "/no"'
            assert response.headers["X-Request-Id"]
        async with http.post("/metrics") as response:
            assert response.status == 405
            assert response.headers["Allow"] == "GET, HEAD, OPTIONS"
        async with http.head("/metrics") as response:
            assert response.status == 200
        async with http.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"}) as response:
            assert (await response.text()).endswith("# EOF\n")
        async with http.get("/metrics", headers={"Accept": "text/plain; version=nonsense"}) as response:
            assert response.status == 200


async def test_no_admin_server(gateway: Gateway) -> None:
    """Without a port there is none."""
    assert gateway.admin_address is None
