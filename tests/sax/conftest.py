"""Fixtures of the Sax clients' tests: a scripted cell, and a client for it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from saxgw.sax import SaxClient, connect
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


@pytest_asyncio.fixture
async def sax(request: pytest.FixtureRequest, cell: ScriptedCell) -> AsyncIterator[SaxClient]:
    """The client of this package; tests that are marked with @both_clients run with the official one, too."""
    if getattr(request, "param", "native") == "official":
        request.getfixturevalue("google")
        async with official_client(cell.root, admin_timeout_s=2, replica_wait_s=1) as official:
            yield official
    else:
        async with connect(cell.root, admin_timeout_s=2, replica_wait_s=1) as native:
            yield native
