"""Fixtures shared by all tests: a running dev cell, a gateway in front of it, and callers for each door."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import grpc
import hypothesis
import pytest
import pytest_asyncio

from saxgw.devcell import DevCell
from saxgw.gateway import Gateway
from saxgw.settings import Settings
from tests.callers import Caller, CallError, GrpcCaller, HttpCaller
from tests.process import run

LM2B = "saxml.server.pax.lm.params.lm_cloud.LmCloudSpmd2BTest"

FAIL_ON_SKIP = "SAXGW_FAIL_ON_SKIP"
"""Environment variable: CI has everything that tests need, so there a skipped test is a failure."""

DOORS = ("grpc", "documented routes", "v1 routes")
"""The ways in; every operation is tested through all of them."""

WAYS = ("straight", "gateway")
"""The ways of a Sax client to a cell."""

_numbers = itertools.count()

# How long an example takes, or drawing it, says something of the machine and nothing of what is tested. CI tries the
# same examples each time, so that what it finds was changed; everybody else tries others each time.
hypothesis.settings.register_profile(
    "any machine",
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
    derandomize=FAIL_ON_SKIP in os.environ,
)
hypothesis.settings.load_profile("any machine")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # So it is in the background of a shell, and in all processes that tests start and interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Any:
    report = yield
    if report.skipped and os.environ.get(FAIL_ON_SKIP) and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, and {FAIL_ON_SKIP} is set: {report.longrepr}"
    return report


@pytest_asyncio.fixture(scope="session", autouse=True)
async def _patient_loop() -> None:
    """Keeps asyncio from logging what takes long: on a busy machine anything may, and tests look at what is logged."""
    asyncio.get_running_loop().slow_callback_duration = 60


@pytest_asyncio.fixture(scope="session")
async def cell() -> AsyncIterator[DevCell]:
    """A dev cell of two model servers for the whole session; tests use models of their own names on it."""
    async with DevCell(model_servers=2) as cell:
        yield cell


@pytest_asyncio.fixture(scope="session")
async def gateway(cell: DevCell) -> AsyncIterator[Gateway]:
    async with Gateway(settings(cell.root)) as gateway:
        yield gateway


@pytest_asyncio.fixture(scope="session")
async def http(gateway: Gateway) -> AsyncIterator[aiohttp.ClientSession]:
    """An HTTP client of the gateway; URLs start with the path."""
    async with aiohttp.ClientSession(f"http://{gateway.http_address}") as session:
        yield session


@pytest_asyncio.fixture(scope="session")
async def channel(gateway: Gateway) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(gateway.grpc_address) as channel:
        yield channel


@pytest_asyncio.fixture(scope="session", params=DOORS)
async def call(request: pytest.FixtureRequest, channel: grpc.aio.Channel, http: aiohttp.ClientSession) -> Caller:
    """Calls the gateway through one of its doors; tests that use it run once for each."""
    return _caller(request.param, channel, http)


@pytest_asyncio.fixture
async def model(channel: grpc.aio.Channel) -> AsyncIterator[str]:
    """The name of a model that is not published; it is unpublished after the test if need be."""
    name = f"/sax/test/lm{next(_numbers)}"
    yield name
    try:
        await GrpcCaller(channel)("Unpublish", {"model": name})
    except CallError as error:
        if error.code != "NOT_FOUND":
            raise


@pytest_asyncio.fixture
async def published(model: str, channel: grpc.aio.Channel) -> str:
    """The name of a published model."""
    await GrpcCaller(channel)("Publish", definition(model))
    return model


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    """One of WAYS; tests that use it run once for each."""
    return str(request.param)


@pytest.fixture
def environment(way: str, cell: DevCell, gateway: Gateway) -> Mapping[str, str]:
    """Variables that lead `saxgw` to the session's cell."""
    return {"SAX_ROOT": cell.root} if way == "straight" else {"SAXGW_SERVER": gateway.grpc_address}


@pytest.fixture
def saxgw(environment: Mapping[str, str]) -> Callable[..., Awaitable[tuple[int, str, str]]]:
    """`saxgw` on the session's cell: takes arguments; returns exit code, standard output and standard error."""

    async def saxgw(*arguments: str, given: bytes = b"") -> tuple[int, str, str]:
        return await run(*arguments, environment=environment, given=given)

    return saxgw


def settings(sax_root: str, **changed: Any) -> Settings:
    """Settings for tests: free ports, little patience but for replicas, which a busy machine takes long to load."""
    defaults = {"sax_root": sax_root, "http_port": 0, "grpc_port": 0, "drain_timeout": 5, "replica_wait": 60}
    return Settings(**{**defaults, **changed})


def definition(model: str, **changed: Any) -> dict[str, Any]:
    """A request to publish or update a model."""
    return {"model": model, "model_path": LM2B, "checkpoint": "None", "replicas": 1, **changed}


@asynccontextmanager
async def connected(gateway: Gateway, door: str, credential: str | None = None) -> AsyncIterator[Caller]:
    """A caller of any gateway, through one of DOORS, with an API key or a token."""
    authorization = {} if credential is None else {"authorization": f"Bearer {credential}"}
    async with (
        grpc.aio.insecure_channel(gateway.grpc_address) as channel,
        aiohttp.ClientSession(
            f"http://{gateway.http_address}", connector=aiohttp.TCPConnector(limit=0), headers=authorization
        ) as http,
    ):
        yield _caller(door, channel, http, authorization)


def _caller(
    door: str, channel: grpc.aio.Channel, http: aiohttp.ClientSession, metadata: Mapping[str, str] | None = None
) -> Caller:
    match door:
        case "grpc":
            return GrpcCaller(channel, list((metadata or {}).items()))
        case "documented routes":
            return HttpCaller(http, "", 0)
        case _:
            return HttpCaller(http, "", -1)
