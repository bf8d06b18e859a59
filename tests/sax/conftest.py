"""Fixtures of the Sax clients' tests: a scripted cell, and a client for it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
import pytest_asyncio

from saxgw.sax import SaxClient, connect
from tests.devcell.harness import TIMEOUT_S
from tests.sax.clients import official_client, standing_in
from tests.sax.scripted import ScriptedCell, scripted_cell


@pytest_asyncio.fixture
async def cell(tmp_path: Path) -> AsyncIterator[ScriptedCell]:
    async with scripted_cell(tmp_path) as cell:
        yield cell


@pytest.fixture
def google(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """There is a module `sax`, the stand-in, not imported yet."""
    with standing_in(monkeypatch):
        yield


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is there is found, and answers in time, on a slow machine too."""
    monkeypatch.setattr("saxgw.sax.connection._FIND_S", TIMEOUT_S)
    monkeypatch.setattr("saxgw.sax.client._STATUS_TIMEOUT_S", TIMEOUT_S)


@pytest_asyncio.fixture
async def sax(request: pytest.FixtureRequest, cell: ScriptedCell) -> AsyncIterator[SaxClient]:
    """The client of this package; tests that are marked with @both_clients run with the official one, too."""
    if getattr(request, "param", "native") == "official":
        request.getfixturevalue("google")
        async with official_client(cell.root, admin_timeout_s=TIMEOUT_S, replica_wait_s=TIMEOUT_S) as official:
            yield official
    else:
        async with connect(cell.root, admin_timeout_s=TIMEOUT_S, replica_wait_s=TIMEOUT_S) as native:
            yield native


Hasty = Callable[[float], AbstractAsyncContextManager[SaxClient]]


@pytest.fixture
def hasty(request: pytest.FixtureRequest, cell: ScriptedCell) -> Hasty:
    """Makes clients that wait so many seconds for a replica; marked with @both_hasty_clients, of either kind."""
    if getattr(request, "param", "native") == "official":
        request.getfixturevalue("google")
        return lambda limit_s: official_client(cell.root, admin_timeout_s=TIMEOUT_S, replica_wait_s=limit_s)
    return lambda limit_s: connect(cell.root, admin_timeout_s=TIMEOUT_S, replica_wait_s=limit_s)
