"""Fixtures of the dev cell's tests: a cell, its admin, and models that a gate holds."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from saxgw.devcell import DevCell
from tests.devcell.harness import QUICK, Admin, Clock, Gate, admin_at, gated
from tests.ports import kept_port


@pytest.fixture
def gate() -> Iterator[Gate]:
    """A gate, shut; it opens when the test ends."""
    gate = Gate()
    yield gate
    gate.open()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock by which admins find model servers silent."""
    clock = Clock()
    monkeypatch.setattr("saxgw.devcell.joined.time", clock)
    return clock


@pytest.fixture
def port() -> Iterator[int]:
    """A port for a server that comes back to it."""
    with kept_port() as port:
        yield port


@pytest_asyncio.fixture
async def cell(gate: Gate) -> AsyncIterator[DevCell]:
    """A cell with one model server."""
    async with DevCell(models=gated(gate), timing=QUICK) as cell:
        yield cell
        gate.open()


@pytest_asyncio.fixture
async def admin(cell: DevCell) -> AsyncIterator[Admin]:
    """The admin of the cell."""
    async with admin_at(cell.admin.address) as admin:
        yield admin
