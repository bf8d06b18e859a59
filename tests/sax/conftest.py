"""Fixtures of the Sax client's tests: a scripted cell, and a client for it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from saxgw.sax import CellClient, connect
from tests.sax.scripted import ScriptedCell, scripted_cell


@pytest_asyncio.fixture
async def cell(tmp_path: Path) -> AsyncIterator[ScriptedCell]:
    async with scripted_cell(tmp_path) as cell:
        yield cell


@pytest_asyncio.fixture
async def sax(cell: ScriptedCell) -> AsyncIterator[CellClient]:
    async with connect(cell.root, admin_timeout_s=2, replica_wait_s=1) as sax:
        yield sax
