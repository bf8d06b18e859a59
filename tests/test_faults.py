"""A cell that breaks behind the gateway, under a steady load through both doors: what callers notice of it.

The numbers that are asserted do not depend on speed: while one replica is well no request is lost, however others die,
freeze, refuse or lie; nothing is published twice; and afterwards there is no task more than before.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from saxgw.devcell import DevCell
from saxgw.gateway import Gateway
from tests.callers import Caller, CallError, active_replicas
from tests.conftest import DOORS, connected, definition, settings
from tests.devcell.harness import QUICK, until

MODEL = "/sax/test/lm"
REQUEST = {"model": MODEL, "query": "Alice", "extra_inputs": {"per_example_max_decode_steps": 1}}
SERVERS = 3
WORKERS = 12

doors = pytest.mark.parametrize("door", DOORS[:2])


class Load:
    """Callers who ask again as soon as they are answered."""

    def __init__(self, call: Caller) -> None:
        self.answered = 0
        self.errors: Counter[str] = Counter()
        self._call = call
        self._tasks = [asyncio.ensure_future(self._work(method)) for method in ("Generate", "GenerateStream")]
        self._tasks += [asyncio.ensure_future(self._work("Generate")) for _ in range(WORKERS - 2)]
        self._stopping = False

    async def progress(self, answers: int = 3 * WORKERS) -> None:
        """Waits until so many more are answered."""
        wanted = self.answered + answers
        await until(lambda: self.answered >= wanted)

    async def stop(self) -> None:
        """Lets all that runs come to its end."""
        self._stopping = True
        await asyncio.wait_for(asyncio.gather(*self._tasks), 30)

    async def _work(self, method: str) -> None:
        await asyncio.sleep(0)
        while not self._stopping:
            try:
                await self._call(method, REQUEST)
                self.answered += 1
            except CallError as error:
                self.errors[f"{error.code} {error.reason}"] += 1


@asynccontextmanager
async def cell_behind(door: str, **changed: Any) -> AsyncIterator[tuple[DevCell, Caller]]:
    """A cell of three model servers that can misbehave, and a caller of a gateway before it."""
    async with (
        DevCell(model_servers=SERVERS, faults=True, timing=QUICK) as cell,
        Gateway(settings(cell.root, **changed)) as gateway,
        connected(gateway, door) as call,
    ):
        await call("Publish", definition(MODEL, model_path="saxgw.devcell.NgramLm", replicas=SERVERS))
        await active_replicas(call, MODEL, SERVERS)
        try:
            yield cell, call
        finally:
            cell.admin.faults.clear()
            for server in cell.model_servers:
                server.faults.clear()


Strike = Callable[[DevCell, Load], Awaitable[None]]


async def one_dies_and_comes_back(cell: DevCell, load: Load) -> None:
    server = cell.model_servers[0]
    await server.faults.kill()
    await load.progress()
    await server.start()
    await load.progress()


async def one_moves(cell: DevCell, load: Load) -> None:
    await cell.model_servers[0].faults.restart(port=0)
    await load.progress()


async def all_but_one_die(cell: DevCell, load: Load) -> None:
    for server in cell.model_servers[1:]:
        await server.faults.kill()
        await load.progress()


async def connections_break(cell: DevCell, load: Load) -> None:
    for server in cell.model_servers[1:]:
        server.faults.reset()
        await load.progress()


async def two_refuse(cell: DevCell, load: Load) -> None:
    for server in cell.model_servers[1:]:
        server.faults.refuse(grpc.StatusCode.UNAVAILABLE, "going away")
    await load.progress()


async def two_lie(cell: DevCell, load: Load) -> None:
    for server in cell.model_servers[1:]:
        server.faults.refuse(grpc.StatusCode.NOT_FOUND, f"{MODEL} is still loading or already unloaded.")
    await load.progress()


async def two_are_full(cell: DevCell, load: Load) -> None:
    for server in cell.model_servers[1:]:
        server.faults.refuse(grpc.StatusCode.RESOURCE_EXHAUSTED, "Too many requests: lm.generate 4")
    await load.progress()


async def one_freezes(cell: DevCell, load: Load) -> None:
    """What it has taken waits for it; nothing else does."""
    server = cell.model_servers[0]
    server.faults.freeze()
    await load.progress(WORKERS)
    server.faults.thaw()
    await load.progress()


async def the_admin_dies(cell: DevCell, load: Load) -> None:
    await cell.admin.faults.kill()
    await load.progress()
    await cell.admin.start()
    await load.progress()


async def the_admin_moves(cell: DevCell, load: Load) -> None:
    await cell.admin.faults.restart(port=0)
    await load.progress()


async def the_admin_freezes(cell: DevCell, load: Load) -> None:
    cell.admin.faults.freeze()
    await load.progress()
    cell.admin.faults.thaw()
    await load.progress()


STRIKES: list[Strike] = [
    one_dies_and_comes_back,
    one_moves,
    all_but_one_die,
    two_refuse,
    two_lie,
    two_are_full,
    one_freezes,
    the_admin_dies,
    the_admin_moves,
    the_admin_freezes,
]


@doors
@pytest.mark.parametrize("strike", STRIKES, ids=lambda strike: strike.__name__.replace("_", " "))
async def test_no_request_is_lost(door: str, strike: Strike) -> None:
    """While one replica is well, callers notice nothing; a stream alone may break off in its middle."""
    async with cell_behind(door) as (cell, call):
        load = Load(call)
        await load.progress()
        tasks = len(asyncio.all_tasks())
        await strike(cell, load)
        await load.stop()
        assert set(load.errors) <= {"UNAVAILABLE STREAM_BROKEN"}, load.errors
        await until(lambda: len(asyncio.all_tasks()) <= tasks)


@doors
async def test_all_replicas_die(door: str) -> None:
    """Callers are told that in time, with the numbers; when one comes back, all goes on within two seconds."""
    async with cell_behind(door, replica_wait=0.5) as (cell, call):
        for server in cell.model_servers:
            await server.faults.kill()
        with pytest.raises(CallError, match="replicas asked for: 3, ready: 0") as caught:
            await call("Generate", REQUEST)
        assert (caught.value.code, caught.value.reason) == ("UNAVAILABLE", "REPLICAS_UNAVAILABLE")
        await cell.model_servers[0].start()

        async def answered() -> bool:
            try:
                return bool(await call("Generate", REQUEST))
            except CallError:
                return False

        await until(answered)


@doors
@pytest.mark.parametrize("rpc", ["Publish", "Update", "Unpublish"])
async def test_an_answer_of_the_admin_is_lost(door: str, rpc: str) -> None:
    """The write was carried out, is told to be, and was made once."""
    other = "/sax/test/other"
    async with cell_behind(door) as (cell, call):
        if rpc != "Publish":
            await call("Publish", definition(other))
        cell.admin.faults.drop_answers(rpc, calls=1)
        await call(rpc, {"model": other} if rpc == "Unpublish" else definition(other, replicas=2))
        models = (await call("ListAll", {"sax_cell": "/sax/test"}))["models"]
        assert (other in models) == (rpc != "Unpublish")
        if rpc != "Unpublish":
            assert (await call("ListCell", {"model": other}))["max_replicas"] == 2


@doors
async def test_frozen_cell(door: str) -> None:
    """A thousand calls hang behind a frozen cell, and who asks for something else is answered."""
    async with cell_behind(door, min_in_flight=1000, max_in_flight=1000) as (cell, call):
        for server in cell.model_servers:
            server.faults.freeze()
        await cell.admin.faults.kill()
        hanging = [asyncio.ensure_future(call("Generate", REQUEST)) for _ in range(1000)]
        with pytest.raises(CallError) as caught:
            await call("ListAll", {"sax_cell": "/sax/test"})
        assert (caught.value.code, caught.value.reason) == ("UNAVAILABLE", "ADMIN_UNAVAILABLE")
        for each in hanging:
            each.cancel()
        await asyncio.gather(*hanging, return_exceptions=True)
