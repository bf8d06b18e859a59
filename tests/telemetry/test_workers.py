"""Metrics of several processes: whichever of them is asked tells of all."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

from saxgw.devcell import DevCell
from saxgw.telemetry.shared_metrics import FILES_VARIABLE
from tests.conftest import definition
from tests.docs import shell
from tests.process import Running, running
from tests.telemetry.scrape import Scraped, scrape

REQUEST = {"extra_inputs": {"per_example_max_decode_steps": 2}, "query": "x"}


@pytest_asyncio.fixture
async def start(cell: DevCell, tmp_path: Path) -> AsyncIterator[Callable[[], Awaitable[Running]]]:
    """Starts a gateway that shares its numbers with others by files in `tmp_path`, as a worker does."""
    async with AsyncExitStack() as stack:

        async def start() -> Running:
            environment = {"SAX_ROOT": cell.root, FILES_VARIABLE: str(tmp_path)}
            return await stack.enter_async_context(running("serve", "--admin-port=0", environment=environment))

        yield start


async def metrics(worker: Running) -> Scraped:
    return await scrape(worker.serving.partition("metrics at http://")[2].removesuffix("/metrics"))


async def generate(worker: Running, model: str, times: int) -> None:
    async with aiohttp.ClientSession() as http:
        for _ in range(times):
            async with http.post(
                f"http://{worker.http_address}/generate", json={"model": model, **REQUEST}
            ) as response:
                assert response.status == 200
            async with http.get(f"http://{worker.http_address}/nothing") as response:
                assert response.status == 404


async def test_two_workers(start: Callable[[], Awaitable[Running]], published: str) -> None:
    """What is counted is added up, what both know is not; and one that has died leaves what it has counted."""
    first, second = await start(), await start()
    await generate(first, published, 2)
    await generate(second, published, 3)
    generated = {"method": "Generate", "door": "http"}
    for scraped in (await metrics(first), await metrics(second)):
        assert scraped.value("saxgw_calls_total", **generated, code="OK") == 5
        assert scraped.value("saxgw_call_duration_seconds_count", **generated) == 5
        assert scraped.value("saxgw_call_duration_seconds_bucket", **generated, le="+Inf") == 5
        assert scraped.value("saxgw_calls_in_flight", **generated) == 0
        assert scraped.value("saxgw_model_requests_total", model=published, code="OK") == 5
        assert scraped.value("saxgw_http_other_responses_total", status="404") == 5
        assert scraped.value("saxgw_replicas", model=published) == 1
        assert [value for _, value in scraped.samples("saxgw_build_info")] == [1]
        assert "pid" not in str(list(scraped.samples("saxgw_calls_in_flight")))
    assert (await second.stop(signal.SIGTERM))[0] == 0
    third = await start()
    await generate(third, published, 1)
    assert (await metrics(first)).value("saxgw_calls_total", **generated, code="OK") == 6


async def test_worker_that_dies(start: Callable[[], Awaitable[Running]], model: str, tmp_path: Path) -> None:
    """What was in flight in a worker that is killed is so until whoever looks after workers says that it is dead."""
    first, second = await start(), await start()
    async with aiohttp.ClientSession(f"http://{second.http_address}") as http:
        async with http.post("/publish", json=definition(model, replicas=0)) as response:
            assert response.status == 200
        waiting = asyncio.ensure_future(http.post("/wait_for_ready", json={"model": model}))
        while not (await metrics(first)).value("saxgw_calls_in_flight", method="WaitForReady"):
            assert not waiting.done()
        second.process.kill()
        with pytest.raises(aiohttp.ClientError):
            await waiting
    await second.process.wait()
    assert (await metrics(first)).value("saxgw_calls_in_flight", method="WaitForReady") == 1
    code = f"from saxgw.telemetry.metrics import forget_worker; forget_worker({second.process.pid})"
    await shell(f'{sys.executable} -c "{code}"', {FILES_VARIABLE: str(tmp_path)})
    after = await metrics(first)
    assert after.value("saxgw_calls_in_flight", method="WaitForReady") == 0
    assert after.value("saxgw_calls_total", method="Publish", code="OK") == 1
