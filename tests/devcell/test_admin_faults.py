"""What an admin can do wrong: list addresses that are not there, and spoil location.proto."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import get_args

import pytest
import pytest_asyncio
from google.protobuf.message import DecodeError

from saxgw.devcell import DevCell, ModelServer
from saxgw.devcell.layout import Spoilt
from saxgw.sax.wire.admin_pb2 import Location
from tests.devcell.harness import QUICK, Admin, admin_at, model, until

ALICE = "/sax/test/alice"
NOWHERE = "127.0.0.1:1"
ELSEWHERE = "127.0.0.1:2"


@pytest_asyncio.fixture
async def cell() -> AsyncIterator[DevCell]:
    """A cell that may misbehave; Alice is loaded."""
    async with DevCell(timing=QUICK, faults=True) as cell:
        async with admin_at(cell.admin.address) as admin:
            await admin.publish(model("alice"))
            await admin.ready(ALICE)
        yield cell


@pytest_asyncio.fixture
async def admin(cell: DevCell) -> AsyncIterator[Admin]:
    """The admin of the cell."""
    async with admin_at(cell.admin.address) as admin:
        yield admin


async def test_addresses_are_listed_that_are_not_there(cell: DevCell, admin: Admin) -> None:
    (server,) = cell.model_servers
    with cell.admin.faults.list_also(ALICE, NOWHERE, ELSEWHERE):
        everything = {server.address, NOWHERE, ELSEWHERE}
        assert set((await admin.list_one(ALICE)).modelet_addresses) == everything
        await admin.watch_until(ALICE, lambda known: known == everything)
    assert list((await admin.list_one(ALICE)).modelet_addresses) == [server.address]
    await admin.watch_until(ALICE, lambda known: known == {server.address})


async def test_only_what_is_published_can_be_listed(cell: DevCell, admin: Admin) -> None:
    with pytest.raises(ValueError, match="/sax/test/bob is not published"):
        cell.admin.faults.list_also("/sax/test/bob", NOWHERE)
    with cell.admin.faults.list_also(ALICE, NOWHERE):
        await admin.unpublish(ALICE)
    assert not cell.admin.faults.active


async def test_a_restarted_admin_knows_nothing_of_them(cell: DevCell) -> None:
    with cell.admin.faults.list_also(ALICE, NOWHERE):
        await cell.admin.faults.restart()
        async with admin_at(cell.admin.address) as admin:
            await admin.ready(ALICE)
            assert NOWHERE not in (await admin.list_one(ALICE)).modelet_addresses


def location(cell: DevCell) -> str | None:
    """Reads location.proto as a client does; None stands for what it cannot read."""
    path = Path(cell.root, "sax/test/location.proto")
    try:
        return Location.FromString(path.read_bytes()).location
    except (DecodeError, FileNotFoundError):
        return None


READ: dict[Spoilt, str | None] = {
    "truncated": None,
    "empty": "",
    "placeholder": "No admin server has been started for this Sax cell.",
    "garbage": None,
    "missing": None,
}


@pytest.mark.parametrize("how", get_args(Spoilt))
async def test_the_address_of_the_admin_is_spoilt_and_repaired(cell: DevCell, how: Spoilt) -> None:
    """The admin itself goes on; model servers that come meanwhile do not find it."""
    with cell.admin.faults.spoil_location(how):
        assert location(cell) == READ[how]
        async with (
            ModelServer(Path(cell.root), timing=QUICK) as late,
            admin_at(cell.admin.address) as admin,
        ):
            await admin.list_one(ALICE)
            assert late.join_failure == "no admin server has been started"
            cell.admin.faults.clear()
            assert location(cell) == cell.admin.address
            await late.wait_joined()


async def test_a_start_repairs_it(cell: DevCell) -> None:
    cell.admin.faults.spoil_location("garbage")
    await cell.admin.faults.restart(0)
    assert location(cell) == cell.admin.address


async def test_a_dead_admin_leaves_its_address(cell: DevCell) -> None:
    before = cell.admin.address
    await cell.admin.faults.kill()
    assert location(cell) == before
    cell.admin.faults.spoil_location("empty").end()
    assert location(cell) == before
    await cell.admin.start()
    async with admin_at(before) as admin:
        await until(lambda: bool(cell.model_servers[0].join_failure) is False)
        await admin.ready(ALICE)
