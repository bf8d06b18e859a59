"""A cell that breaks in ways drawn at random, under load, and what must hold all the same.

`make soak` goes on for longer, with another seed each time. A failure names its seed, which draws the same faults in
the same order: `make soak SEED=123 SECONDS=60`.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Awaitable, Callable

import grpc
import pytest

from saxgw.devcell import DevCell, ModelServer
from tests.callers import Caller, CallError
from tests.conftest import DOORS, definition
from tests.devcell.harness import until
from tests.test_faults import SERVERS, Load, cell_behind

SECONDS = float(os.environ.get("SAXGW_SOAK_SECONDS", "20"))
SEED = int(os.environ.get("SAXGW_SOAK_SEED", "1"))

LOST = {"UNAVAILABLE ADMIN_UNAVAILABLE", "DEADLINE_EXCEEDED None"}
"""What callers may be told of the admin while it is away."""


class Breaker:
    """Breaks a cell at random and mends it again, but for its first model server."""

    def __init__(self, cell: DevCell, drawn: random.Random) -> None:
        self.done: list[str] = []
        self._cell = cell
        self._drawn = drawn
        self._kinds: list[Callable[[ModelServer], Awaitable[None]]] = [
            self._kill,
            self._move,
            self._freeze,
            self._reset,
            self._refuse,
            self._lie,
            self._fill,
            self._slow,
        ]

    async def step(self) -> None:
        """Breaks something, for as long as it takes callers to notice, and mends it."""
        if self._drawn.random() < 0.3:
            await self._drawn.choice([self._kill_admin, self._move_admin, self._spoil_location])()
        else:
            server = self._drawn.choice(self._cell.model_servers[1:])
            await self._drawn.choice(self._kinds)(server)

    async def _pause(self, what: str) -> None:
        self.done.append(what)
        await asyncio.sleep(self._drawn.uniform(0.02, 0.4))  # how long it lasts is drawn too; nothing is waited for

    async def _kill(self, server: ModelServer) -> None:
        await server.faults.kill()
        await self._pause("kill")
        await server.start()

    async def _move(self, server: ModelServer) -> None:
        await server.faults.restart(port=0)
        await self._pause("move")

    async def _freeze(self, server: ModelServer) -> None:
        server.faults.freeze()
        await self._pause("freeze")
        server.faults.thaw()

    async def _reset(self, server: ModelServer) -> None:
        server.faults.reset()
        await self._pause("reset")

    async def _refuse(self, server: ModelServer) -> None:
        fault = server.faults.refuse(grpc.StatusCode.UNAVAILABLE, "going away")
        await self._pause("refuse")
        fault.end()

    async def _lie(self, server: ModelServer) -> None:
        fault = server.faults.refuse(grpc.StatusCode.NOT_FOUND, "still loading or already unloaded")
        await self._pause("lie")
        fault.end()

    async def _fill(self, server: ModelServer) -> None:
        fault = server.faults.overload()
        await self._pause("fill")
        fault.end()

    async def _slow(self, server: ModelServer) -> None:
        fault = server.faults.slow(0.05)
        await self._pause("slow")
        fault.end()

    async def _kill_admin(self) -> None:
        await self._cell.admin.faults.kill()
        await self._pause("kill admin")
        await self._cell.admin.start()

    async def _move_admin(self) -> None:
        await self._cell.admin.faults.restart(port=0)
        await self._pause("move admin")

    async def _spoil_location(self) -> None:
        fault = self._cell.admin.faults.spoil_location(self._drawn.choice(["truncated", "empty", "garbage", "missing"]))
        await self._pause("spoil location")
        fault.end()


class Writer:
    """Publishes and unpublishes a model of its own, and believes what it is told."""

    def __init__(self, call: Caller, cell: DevCell) -> None:
        self.surprises: list[str] = []
        self._call = call
        self._cell = cell
        self._stopping = False
        self._task = asyncio.ensure_future(self._work())

    async def stop(self) -> None:
        self._stopping = True
        await asyncio.wait_for(self._task, 30)

    async def _work(self) -> None:
        model, published = "/sax/test/writer", False
        while not self._stopping:
            rpc = "Unpublish" if published else "Publish"
            if asyncio.get_running_loop().time() % 2 < 1:
                self._cell.admin.faults.drop_answers(rpc, calls=1)
            try:
                await self._call(rpc, {"model": model} if published else definition(model, replicas=0))
            except CallError as error:
                if f"{error.code} {error.reason}" not in LOST:
                    self.surprises.append(f"{rpc}: {error}")
                    return
                await until(self._told)
                published = model in self._models
            else:
                published = not published

    async def _told(self) -> bool:
        """Whether the cell says what is published, which it does not while its admin is away."""
        try:
            self._models = (await self._call("ListAll", {"sax_cell": "/sax/test"}))["models"]
        except CallError:
            return False
        return True


@pytest.mark.parametrize("door", DOORS[:2])
async def test_soak(door: str) -> None:
    """No request is lost while a replica is well, writes are what they are told to be, and nothing is left behind."""
    drawn = random.Random(f"{SEED} {door}")  # noqa: S311 - no secret
    async with cell_behind(door) as (cell, call):
        load, writer = Load(call), Writer(call, cell)
        breaker = Breaker(cell, drawn)
        await load.progress()
        tasks = len(asyncio.all_tasks())
        end = asyncio.get_running_loop().time() + SECONDS / 2
        while asyncio.get_running_loop().time() < end:
            await breaker.step()
        await writer.stop()
        await load.progress()
        await load.stop()
        told = f"seed {SEED}, after {', '.join(breaker.done)}"
        assert set(load.errors) <= {"UNAVAILABLE STREAM_BROKEN"}, f"{load.errors}; {told}"
        assert writer.surprises == [], told
        assert len(cell.model_servers) == SERVERS
        await until(lambda: len(asyncio.all_tasks()) <= tasks)
