"""The life of a client: opening, closing, forgetting to close."""

from __future__ import annotations

import asyncio
import gc
import logging
from pathlib import Path

import pytest

from saxgw.sax import CellClient, CellNotFound, SaxClient, connect
from saxgw.sax.admin import Admin
from tests.devcell.harness import until
from tests.sax.scripted import CELL, MODEL, Hold, ScriptedCell, full_set


def tasks() -> set[asyncio.Task[object]]:
    """The background tasks of clients; there may be others than the test's."""
    return {task for task in asyncio.all_tasks() if task.get_name().startswith("sax: ")}


async def test_nothing_is_contacted_before_the_first_call(cell: ScriptedCell) -> None:
    async with connect(cell.root):
        pass
    assert not cell.admin.requests


async def test_a_client_is_a_sax_client(sax: CellClient) -> None:
    client: SaxClient = sax
    assert await client.list_models(CELL) == []


async def test_closing_leaves_no_task_behind(cell: ScriptedCell) -> None:
    server = await cell.model_server()
    cell.admin.serve(server.address)
    others = tasks()
    async with connect(cell.root) as sax:
        await sax.generate(MODEL, "x")
        await sax.describe(MODEL)
        await until(lambda: [task.get_name() for task in tasks() - others] == ["sax: watch /sax/test/lm"])
    await until(lambda: not tasks() - others)


async def test_closing_while_the_admin_is_looked_for(cell: ScriptedCell) -> None:
    cell.location_file.unlink()
    async with connect(cell.root) as sax:
        call = asyncio.create_task(sax.list_models(CELL))
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await call


async def test_closing_cancels_running_calls(cell: ScriptedCell) -> None:
    server = await cell.model_server()
    cell.admin.serve(server.address)
    server.script["Generate"].append(hold := Hold())
    async with connect(cell.root) as sax:
        call = asyncio.create_task(sax.generate(MODEL, "x"))
        await hold.begun.wait()
    with pytest.raises(asyncio.CancelledError):
        await call
    await hold.cancelled.wait()


async def test_a_closed_client_says_so(cell: ScriptedCell) -> None:
    cell.admin.publish()
    async with connect(cell.root) as sax:
        wait = asyncio.create_task(sax.generate(MODEL, "x"))
        await cell.admin.called("WatchLoc", 1)
    for call in (wait, sax.generate(MODEL, "x"), sax.list_models(CELL), sax.list_cells()):
        with pytest.raises(RuntimeError, match="this Sax client is closed"):
            await call


async def test_closing_twice(sax: CellClient) -> None:
    await sax.list_models(CELL)
    await sax.aclose()
    await sax.aclose()


async def test_a_client_that_is_dropped_open_warns(cell: ScriptedCell) -> None:
    clients = [connect(cell.root)]
    await clients[0].list_models(CELL)
    with pytest.warns(ResourceWarning, match="a Sax client was not closed; call aclose"):
        clients.clear()
    gc.collect()


def test_an_unused_client_may_be_dropped(tmp_path: Path) -> None:
    connect(str(tmp_path))
    gc.collect()


async def test_names_of_cells_that_are_not_there_are_not_kept(sax: CellClient) -> None:
    """They come from callers, who may make up as many as they like."""
    others = admins()
    for number in range(20):
        with pytest.raises(CellNotFound):
            await sax.list_models(f"/sax/cell{number}")
    assert await sax.list_models(CELL) == []
    assert sum(not any(admin is other for other in others) for admin in admins()) == 1


def admins() -> list[Admin]:
    """The connections to admins that there are."""
    gc.collect()
    return [thing for thing in gc.get_objects() if type(thing) is Admin]


async def test_an_unused_model_is_watched_no_more(cell: ScriptedCell) -> None:
    server = await cell.model_server()
    hold = Hold()
    cell.admin.serve(server.address)
    cell.admin.news.put_nowait(hold)
    server.script["Generate"].append(use := Hold())
    async with connect(cell.root, idle_s=0.05) as sax:
        call = asyncio.create_task(sax.generate(MODEL, "x"))
        await hold.begun.wait()
        use.release.set()
        await call
        await hold.cancelled.wait()
        cell.admin.news.put_nowait(full_set(server.address))
        assert await sax.generate(MODEL, "again") == [("again", -0.5)]


async def test_logs_hold_neither_prompts_nor_completions(
    cell: ScriptedCell, sax: CellClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "saxgw.sax")
    server = await cell.model_server()
    cell.admin.serve(server.address)
    await sax.generate(MODEL, "my secret")
    messages = [record.getMessage() for record in caplog.records]
    assert "/sax/test/lm: 1 replica" in messages
    assert not any("secret" in message for message in messages)
