"""A cell that breaks behind the gateway, under a steady load through both doors: what callers notice of it.

The numbers that are asserted do not depend on speed: while one replica is well no request is lost, however others die,
freeze, refuse or lie; nothing is published twice; and afterwards nothing is left of it, be it a task, a thread, a
channel or an object.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import AsyncExitStack
from itertools import cycle
from typing import get_args

import aiohttp
import pytest

from saxgw.devcell.layout import Spoilt
from tests.callers import Caller, CallError, active_replicas
from tests.conftest import DOORS, definition
from tests.devcell.harness import undebugged, until
from tests.faulty_cell import (
    ADMIN_FAULTS,
    CELL,
    MODEL,
    REQUEST,
    SERVER_FAULTS,
    SERVERS,
    FaultyCell,
    Load,
    cell_behind,
    footprint_at_rest,
    frozen,
    steady_load,
)
from tests.footprint import back_to, system_threads
from tests.held_model import HELD, HeldModel

OTHER = "/sax/test/other"

doors = pytest.mark.parametrize("door", DOORS[:2])
NEVER_LOADED_AGAIN = ("dies", "claims the model")
"""After these Google's admin believes that a model server has the model still (Sax protocol §4.8)."""

KINDS = ["dev cell", "as Google's"]
both_kinds = pytest.mark.parametrize("google", [False, True], ids=KINDS)


def faults(all_faults: Iterable[str], *different: str) -> pytest.MarkDecorator:
    """All faults of a dev cell, and those of Google's that it makes something else of."""
    cases = [(False, fault) for fault in all_faults] + [(True, fault) for fault in different]
    return pytest.mark.parametrize(("google", "fault"), cases, ids=[f"{fault}-{KINDS[kind]}" for kind, fault in cases])


@faults(SERVER_FAULTS, "dies", "moves", "claims the model")
async def test_one_model_server_is_well(google: bool, fault: str) -> None:  # noqa: FBT001 - a parameter
    """Callers notice nothing of what is wrong with all others; a stream alone may break off in its middle."""
    async with cell_behind(google=google) as cell, steady_load(cell) as load, AsyncExitStack() as broken:
        for server in cell.others:
            await broken.enter_async_context(SERVER_FAULTS[fault](server))
            await load.progress()
        await broken.aclose()
        if not (google and fault in NEVER_LOADED_AGAIN):
            await active_replicas(cell.callers["grpc"], MODEL, SERVERS)


@faults(ADMIN_FAULTS, "dies", "moves", "is misplaced", "sees ghosts")
async def test_the_admin_is_not_well(google: bool, fault: str) -> None:  # noqa: FBT001 - a parameter
    """Who generates does not notice; afterwards the admin is asked again, wherever it is."""
    async with cell_behind(google=google) as cell:
        async with steady_load(cell) as load, ADMIN_FAULTS[fault](cell):
            await load.progress()
        for call in cell.callers.values():
            assert (await call("ListAll", CELL))["models"] == [MODEL]


@both_kinds
async def test_a_model_server_freezes(google: bool) -> None:  # noqa: FBT001 - a parameter
    """What it has taken waits for it; nothing else does."""
    async with cell_behind(google=google) as cell, steady_load(cell) as load, frozen(cell.servers[0]):
        await load.progress()


async def test_the_address_of_the_admin_is_spoilt() -> None:
    """Those who need the admin are told so, in whatever way it is; who asks when it is written anew is answered."""
    async with cell_behind() as cell:
        load = Load(cell.callers)
        await load.progress()
        await cell.admin.faults.kill()
        asking = [asyncio.ensure_future(call("ListAll", CELL)) for call in cell.callers.values()]
        for how in cycle(get_args(Spoilt)):
            with cell.admin.faults.spoil_location(how):
                await load.progress(1)
            if all(each.done() for each in asking):
                break
        for each in asking:
            with pytest.raises(CallError) as caught:
                await each
            assert (caught.value.code, caught.value.reason) == ("UNAVAILABLE", "ADMIN_UNAVAILABLE")
        cell.admin.faults.spoil_location("truncated")
        asking = [asyncio.ensure_future(call("ListAll", CELL)) for call in cell.callers.values()]
        await load.progress(1)
        await cell.admin.start(port=0)
        assert [(await each)["models"] for each in asking] == [[MODEL]] * 2
        await load.stop()
        assert not load.errors


async def test_all_replicas_die() -> None:
    """Callers are told that in time, with the numbers; when one comes back, all goes on."""
    async with cell_behind(replica_wait=0.5) as cell:
        for server in cell.servers:
            await server.faults.kill()
        for call in cell.callers.values():
            await active_replicas(call, MODEL, 0)  # the admin has noticed
            with pytest.raises(CallError, match="replicas asked for: 3, ready: 0") as caught:
                await call("Generate", REQUEST)
            assert (caught.value.code, caught.value.reason) == ("UNAVAILABLE", "REPLICAS_UNAVAILABLE")
        await cell.servers[0].start()
        load = Load(cell.callers)
        await load.progress()
        await load.stop()
        assert load.errors.keys() <= {"UNAVAILABLE REPLICAS_UNAVAILABLE"}


@both_kinds
@doors
@pytest.mark.parametrize("rpc", ["Publish", "Update", "Unpublish"])
async def test_an_answer_of_the_admin_is_lost(google: bool, door: str, rpc: str) -> None:  # noqa: FBT001 - a parameter
    """The write was carried out, is told to be, and was made once."""
    async with cell_behind(google=google) as cell:
        call = cell.callers[door]
        if rpc != "Publish":
            await call("Publish", definition(OTHER))
        written = cell.admin.faults.slow(0, rpc)
        cell.admin.faults.drop_answers(rpc, calls=1)
        await call(rpc, {"model": OTHER} if rpc == "Unpublish" else definition(OTHER, replicas=2))
        models = (await call("ListAll", CELL))["models"]
        assert (OTHER in models) == (rpc != "Unpublish")
        if rpc != "Unpublish":
            assert (await call("ListCell", {"model": OTHER}))["max_replicas"] == 2
        assert written.strikes == 1


@pytest.mark.parametrize(
    ("queue", "allowed"),
    [(1000, frozenset[str]()), (2, frozenset({"RESOURCE_EXHAUSTED MODEL_SERVERS_BUSY"}))],
    ids=["all may wait", "two may wait"],
)
async def test_more_requests_than_slots(queue: int, allowed: frozenset[str]) -> None:
    """Model servers with real queues refuse some; callers are only told of it when as many wait as may."""
    published = {"overrides": {"BATCH_SIZE": "1", "MAX_LIVE_BATCHES": "1"}}
    async with cell_behind(published=published, max_queue=queue) as cell, AsyncExitStack() as slow:
        async with steady_load(cell, allowed=allowed) as load:
            for server in cell.servers:
                slow.enter_context(server.faults.work(seconds=0.01, at_a_time=1))
            await load.progress()
            await until(lambda: load.errors.keys() >= allowed)
        assert load.errors.keys() == allowed


@doors
async def test_no_slot_is_lost_by_the_deadlines_of_callers(door: str) -> None:
    """The gateway keeps them to itself: they pass there, and not in the queue of a model server."""
    held = HeldModel()
    async with cell_behind(models=held.classes, published={"model_path": HELD, "replicas": 1}) as cell:
        call = cell.callers[door]
        leaks = [server.faults.work(at_a_time=1, leaks=True) for server in cell.servers]
        request = {"model": MODEL, "query": "x"}
        running = asyncio.ensure_future(call("Generate", request))
        await held.until(lambda: held.running == 1)
        waiting = [asyncio.ensure_future(call("Generate", request, timeout_s=0.3)) for _ in range(4)]
        for each in waiting:
            with pytest.raises(CallError) as caught:
                await each
            assert caught.value.code == "DEADLINE_EXCEEDED"
        held.open()
        assert (await running)["results"]
        assert [leak.strikes for leak in leaks] == [0, 0, 0]


@doors
async def test_frozen_cell(door: str) -> None:
    """A thousand calls hang behind a frozen cell; it takes no threads, and who asks for something else is answered."""
    async with cell_behind(min_in_flight=1000, max_in_flight=1000) as cell:
        call, before = cell.callers[door], await footprint_at_rest(cell)
        for server in cell.servers:
            server.faults.freeze()
        await cell.admin.faults.kill()
        with undebugged():
            await _hang(cell, call)
        for server in cell.servers:
            server.faults.thaw()
        await cell.admin.start()
        await back_to(before)


async def _hang(cell: FaultyCell, call: Caller) -> None:
    threads = system_threads()
    hanging = [asyncio.ensure_future(call("Generate", REQUEST)) for _ in range(1000)]
    async with aiohttp.ClientSession(f"http://{cell.gateway.http_address}") as http:
        async with http.get("/") as response:
            assert response.status == 200
        with pytest.raises(CallError) as caught:
            await call("ListAll", CELL)
        assert (caught.value.code, caught.value.reason) == ("UNAVAILABLE", "ADMIN_UNAVAILABLE")
        async with http.get("/") as response:
            assert response.status == 200
    assert not any(each.done() for each in hanging)
    assert system_threads() <= threads + 64, "a thousand calls need no thousand threads"
    for each in hanging:
        each.cancel()
    await asyncio.gather(*hanging, return_exceptions=True)
