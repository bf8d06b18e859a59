"""A cell that breaks behind a gateway, under a steady load through both doors; and the ways in which it breaks."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import grpc

from saxgw.devcell import AdminServer, DevCell, Fault, LanguageModel, ModelServer, Timing
from saxgw.devcell.modelet_faults import ModelServerFaults
from saxgw.gateway import Gateway
from tests.callers import Caller, CallError, active_replicas
from tests.conftest import DOORS, connected, definition, settings
from tests.devcell.harness import NGRAM, until
from tests.footprint import back_to, footprint, only_new_objects

MODEL = "/sax/test/lm"
REQUEST = {"model": MODEL, "query": "Alice", "extra_inputs": {"per_example_max_decode_steps": 1}}
CELL = {"sax_cell": "/sax/test"}
SERVERS = 3
WORKERS = 12

STREAM_BROKEN = "UNAVAILABLE STREAM_BROKEN"
"""What may become of a request though a server is well: its stream had begun, so it is not sent again."""

QUICK = Timing(poll_s=0.05, prune_after_s=5.0, connect_back_s=60.0, join_s=0.2, location_s=0.02)
QUICK_GOOGLE = Timing(poll_s=0.05, prune_after_s=5.0, connect_back_s=60.0, join_s=1.0, location_s=0.02, tick_s=0.1)
"""A hundredth of Google's own, or as little as a busy machine allows."""


@dataclass
class FaultyCell:
    """A cell of three model servers, and a gateway before it."""

    root: str
    admin: AdminServer
    servers: list[ModelServer]
    gateway: Gateway
    callers: Mapping[str, Caller]
    """By door: one for each."""

    @property
    def others(self) -> list[ModelServer]:
        """All model servers but the first."""
        return self.servers[1:]


@asynccontextmanager
async def bare_cell(
    *,
    google: bool = False,
    timing: Timing | None = None,
    models: Mapping[str, type[LanguageModel]] | None = None,
    **changed: Any,
) -> AsyncIterator[FaultyCell]:
    """A cell without models, and a gateway with changed settings."""
    timing = timing or (QUICK_GOOGLE if google else QUICK)
    with only_new_objects():
        async with (
            DevCell(model_servers=SERVERS, models=models, faults=True, google=google, timing=timing) as cell,
            Gateway(settings(cell.root, **changed)) as gateway,
            connected(gateway, DOORS[0]) as first,
            connected(gateway, DOORS[1]) as second,
        ):
            try:
                callers = {DOORS[0]: first, DOORS[1]: second}
                yield FaultyCell(cell.root, cell.admin, cell.model_servers, gateway, callers)
            finally:
                for faults in (cell.admin.faults, *(server.faults for server in cell.model_servers)):
                    faults.clear()


@asynccontextmanager
async def cell_behind(
    *,
    google: bool = False,
    models: Mapping[str, type[LanguageModel]] | None = None,
    published: Mapping[str, Any] | None = None,
    **changed: Any,
) -> AsyncIterator[FaultyCell]:
    """A cell that has MODEL on all model servers, unless `published` changes that, and a gateway before it."""
    async with bare_cell(google=google, models=models, **changed) as cell:
        call = cell.callers[DOORS[0]]
        model = definition(MODEL, **{"model_path": NGRAM, "replicas": SERVERS, **(published or {})})
        await call("Publish", model)
        await active_replicas(call, MODEL, model["replicas"])
        yield cell


class Load:
    """Callers at both doors who ask again as soon as they are answered."""

    def __init__(self, callers: Mapping[str, Caller]) -> None:
        self.answered = 0
        self.errors: Counter[str] = Counter()
        self._stopping = False
        self._tasks = [
            asyncio.ensure_future(self._work(call, method))
            for call in callers.values()
            for method in ("GenerateStream", *["Generate"] * (WORKERS // len(callers) - 1))
        ]

    async def progress(self, answers: int = WORKERS) -> None:
        """Waits until so many more are answered."""
        wanted = self.answered + answers
        await until(lambda: self.answered >= wanted)

    async def stop(self) -> None:
        """Lets all that runs come to its end."""
        self._stopping = True
        await asyncio.wait_for(asyncio.gather(*self._tasks), 60)

    def cancel(self) -> None:
        """Ends all at once."""
        for task in self._tasks:
            task.cancel()

    async def _work(self, call: Caller, method: str) -> None:
        while not self._stopping:
            try:
                await call(method, REQUEST)
                self.answered += 1
            except CallError as error:
                self.errors[f"{error.code} {error.reason}"] += 1


async def footprint_at_rest(cell: FaultyCell) -> Counter[str]:
    """What there is once the gateway is connected with all model servers that have MODEL."""
    for call in cell.callers.values():
        await call("Generate", REQUEST)
        await call("ListCell", {"model": MODEL})
    return await footprint()


@asynccontextmanager
async def steady_load(cell: FaultyCell, *, allowed: frozenset[str] = frozenset({STREAM_BROKEN})) -> AsyncIterator[Load]:
    """A load on a cell, which at the end must have had no other errors than are allowed, and have left nothing behind.

    What is broken meanwhile must be mended by then, or be gone for good.
    """
    first = Load(cell.callers)
    await first.progress()
    await asyncio.gather(*(call("ListAll", CELL) for call in cell.callers.values()))  # a connection more than workers
    await first.stop()
    before = await footprint_at_rest(cell)
    load = Load(cell.callers)
    try:
        await load.progress()
        yield load
        await load.progress()
        await load.stop()
    except BaseException as error:
        error.add_note(f"errors: {dict(load.errors)}")
        load.cancel()
        raise
    assert load.errors.keys() <= allowed, load.errors
    await back_to(before)


Break: TypeAlias = Callable[[ModelServer], AbstractAsyncContextManager[object]]
"""Breaks a model server for as long as the context lasts."""

BreakAdmin: TypeAlias = Callable[[FaultyCell], AbstractAsyncContextManager[object]]
"""Breaks the admin of a cell in the same way."""


@asynccontextmanager
async def dead(server: ModelServer | AdminServer) -> AsyncIterator[None]:
    await server.faults.kill()
    yield
    await server.start()


@asynccontextmanager
async def moved(server: ModelServer | AdminServer) -> AsyncIterator[None]:
    await server.faults.restart(port=0)
    yield


@asynccontextmanager
async def frozen(server: ModelServer | AdminServer) -> AsyncIterator[None]:
    server.faults.freeze()
    yield
    server.faults.thaw()


@asynccontextmanager
async def hung_up(server: ModelServer | AdminServer) -> AsyncIterator[None]:
    server.faults.reset()
    yield


@asynccontextmanager
async def claiming(server: ModelServer) -> AsyncIterator[None]:
    """It comes back and claims that it still has the model."""
    with server.faults.claim(MODEL):
        await server.faults.restart()
        yield


@asynccontextmanager
async def misplaced(cell: FaultyCell) -> AsyncIterator[None]:
    """It has died, its address is half-written, and it comes back elsewhere."""
    await cell.admin.faults.kill()
    cell.admin.faults.spoil_location("truncated")
    yield
    await cell.admin.start(port=0)


@asynccontextmanager
async def seeing_ghosts(cell: FaultyCell) -> AsyncIterator[None]:
    """It lists an address where nobody is, and a model server that has never had the model."""
    async with ModelServer(Path(cell.root), timing=QUICK) as idle:
        with cell.admin.faults.list_also(MODEL, "127.0.0.1:1", idle.address):
            yield


def _struck(fault: Callable[[ModelServerFaults], Fault]) -> Break:
    @asynccontextmanager
    async def broken(server: ModelServer) -> AsyncIterator[None]:
        with fault(server.faults):
            yield

    return broken


def _admin(broken: Callable[[AdminServer], AbstractAsyncContextManager[object]]) -> BreakAdmin:
    return lambda cell: broken(cell.admin)


@asynccontextmanager
async def refusing(admin: AdminServer) -> AsyncIterator[None]:
    with admin.faults.refuse(grpc.StatusCode.UNAVAILABLE, "going away"):
        yield


SERVER_FAULTS: Mapping[str, Break] = {
    "dies": dead,
    "moves": moved,
    "hangs up": hung_up,
    "refuses": _struck(lambda faults: faults.refuse(grpc.StatusCode.UNAVAILABLE, "going away")),
    "disowns the model": _struck(lambda faults: faults.disown(MODEL)),
    "claims the model": claiming,
    "is full": _struck(lambda faults: faults.overload()),
    "answers late": _struck(lambda faults: faults.slow(0.05)),
    "works slowly": _struck(lambda faults: faults.work(seconds=0.02, at_a_time=1)),
}
"""What may be wrong with all model servers but one, while no request is lost."""

ADMIN_FAULTS: Mapping[str, BreakAdmin] = {
    "dies": _admin(dead),
    "moves": _admin(moved),
    "freezes": _admin(frozen),
    "hangs up": _admin(hung_up),
    "refuses": _admin(refusing),
    "is misplaced": misplaced,
    "sees ghosts": seeing_ghosts,
}
"""The same of the admin."""
