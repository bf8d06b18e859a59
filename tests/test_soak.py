"""A cell that breaks in ways drawn at random, under load, and what must hold all the same.

Everything that is done is drawn from a seed before anything begins, and lasts for so many answers, not for a time. So a
failure, which names its seed, is replayed by `make soak SEED=123 STEPS=20`. `make soak` alone goes on for longer, with
another seed each time.
"""

from __future__ import annotations

import asyncio
import os
import random
from contextlib import AsyncExitStack, nullcontext
from typing import NamedTuple, Self

from tests.callers import CallError, active_replicas
from tests.conftest import DOORS, definition
from tests.devcell.harness import until
from tests.faulty_cell import (
    ADMIN_FAULTS,
    CELL,
    MODEL,
    SERVER_FAULTS,
    SERVERS,
    WORKERS,
    FaultyCell,
    Load,
    cell_behind,
    frozen,
    steady_load,
)
from tests.footprint import open_channels

STEPS = int(os.environ.get("SAXGW_SOAK_STEPS", "20"))
SEED = os.environ.get("SAXGW_SOAK_SEED", "1")

OTHER = "/sax/test/other"

LOST = {"UNAVAILABLE ADMIN_UNAVAILABLE", "DEADLINE_EXCEEDED None"}
"""What callers may be told of the admin while it is away."""


RESTARTS = ("dies", "moves", "is misplaced")
"""What makes another admin of it, which learns one by one which model servers there are."""


class Step(NamedTuple):
    """What is wrong at the same time, for how long, and what is written meanwhile."""

    frozen: int | None
    """A model server that stands still; one at the most, because what it has taken waits for it."""

    servers: dict[int, str]
    """What is wrong with others; nothing ever is with the first."""

    admin: str | None
    answers: int
    """How many callers are answered until all is mended."""

    door: str
    """Where OTHER is published, or unpublished if it is."""

    answer_lost: bool
    """Whether the admin's answer to that is."""

    @classmethod
    def draw(cls, drawn: random.Random) -> Self:
        """Draws one."""
        stuck = drawn.choice([None, None, *range(1, SERVERS)])
        return cls(
            frozen=stuck,
            servers={
                server: drawn.choice(list(SERVER_FAULTS))
                for server in range(1, SERVERS)
                if server != stuck and drawn.random() < 0.7
            },
            admin=drawn.choice([None, None, *ADMIN_FAULTS]),
            answers=drawn.randint(1, 3 * WORKERS),
            door=drawn.choice(DOORS[:2]),
            answer_lost=drawn.random() < 0.5,
        )


class Writer:
    """Publishes and unpublishes a model, and believes what it is told."""

    def __init__(self, cell: FaultyCell) -> None:
        self._cell = cell
        self._published = False
        self._in_doubt = False

    async def write(self, step: Step) -> None:
        """Writes once; fails if it is told what cannot be."""
        rpc = "Unpublish" if self._published else "Publish"
        request = {"model": OTHER} if self._published else definition(OTHER, replicas=0)
        faults = self._cell.admin.faults
        with faults.drop_answers(rpc, calls=1) if step.answer_lost else nullcontext():
            try:
                await self._cell.callers[step.door](rpc, request)
            except CallError as error:
                if f"{error.code} {error.reason}" not in LOST:
                    raise
                self._in_doubt = True
            else:
                self._published = not self._published

    async def look(self) -> None:
        """Sees for itself what it was not told, once the cell is well; and checks that it was told the truth."""
        models: list[str] = []

        async def told() -> bool:
            try:
                models[:] = (await self._cell.callers[DOORS[0]]("ListAll", CELL))["models"]
            except CallError:
                return False
            return True

        await until(told)
        if self._in_doubt:
            self._published, self._in_doubt = OTHER in models, False
        assert (OTHER in models) == self._published
        assert MODEL in models


async def _take(step: Step, cell: FaultyCell, load: Load, writer: Writer) -> None:
    async with asyncio.TaskGroup() as together, AsyncExitStack() as broken:
        together.create_task(writer.write(step))
        if step.frozen is not None:
            await broken.enter_async_context(frozen(cell.servers[step.frozen]))
        for server, fault in step.servers.items():
            await broken.enter_async_context(SERVER_FAULTS[fault](cell.servers[server]))
        if step.admin is not None:
            await broken.enter_async_context(ADMIN_FAULTS[step.admin](cell))
        await load.progress(step.answers)
    await writer.look()
    if step.admin in RESTARTS:
        # It has named the first that joined; who hears no more of it from now on believes that there is no other.
        await active_replicas(cell.callers[DOORS[0]], MODEL, SERVERS)
        await until(lambda: open_channels() > SERVERS)


async def test_soak() -> None:
    """No request is lost while a replica is well, writes are what they are told to be, and nothing is left behind."""
    drawn = random.Random(SEED)  # noqa: S311 - no secret
    steps = [Step.draw(drawn) for _ in range(STEPS)]
    taken: list[Step] = []
    try:
        async with cell_behind() as cell:
            async with steady_load(cell) as load:
                writer = Writer(cell)
                for step in steps:
                    taken.append(step)
                    await _take(step, cell, load, writer)
            await active_replicas(cell.callers[DOORS[0]], MODEL, SERVERS)
    except BaseException as error:
        error.add_note("\n".join([f"seed {SEED}, steps {len(taken)}", *map(str, taken)]))
        raise
