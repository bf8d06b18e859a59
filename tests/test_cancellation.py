"""Callers who leave: the call to the model server is cancelled, and nothing is left running."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from saxgw.devcell import DevCell
from saxgw.gateway import Gateway
from tests.callers import Caller, CallError, active_replicas
from tests.conftest import DOORS, connected, definition, settings
from tests.devcell.harness import GATED, Gate, gated, until
from tests.patience import limits

GENERATE = {"model": "/sax/test/lm", "query": "x"}

CALLERS = 8


@pytest_asyncio.fixture(params=DOORS)
async def call_and_gate(request: pytest.FixtureRequest) -> AsyncIterator[tuple[Caller, Gate]]:
    """A caller of a gateway whose model goes on only as the gate lets it."""
    gate = Gate()
    gate.loads.release()
    async with (
        DevCell(models=gated(gate)) as cell,
        Gateway(settings(cell.root)) as gateway,
        connected(gateway, request.param) as call,
    ):
        # As many at a time as leave, so that those who come after them find room only if they are really gone.
        one_each = {"BATCH_SIZE": str(CALLERS), "MAX_LIVE_BATCHES": "1"}
        await call("Publish", definition("/sax/test/lm", model_path=GATED, overrides=one_each))
        await active_replicas(call, "/sax/test/lm", 1)
        yield call, gate
        gate.open()


async def test_caller_leaves(call_and_gate: tuple[Caller, Gate]) -> None:
    """When callers leave, the model server is told to stop, and takes others."""
    call, gate = call_and_gate
    calls = [asyncio.ensure_future(call("Generate", GENERATE)) for _ in range(CALLERS)]
    await until(lambda: gate.begun > 0)
    for each in calls:
        each.cancel()
    await asyncio.wait(calls)
    gate.open()
    assert (await call("Generate", GENERATE))["results"]
    # One answered whole; the others ended, or never began.
    await until(lambda: gate.ended == gate.begun)


async def test_deadline_cancels(call_and_gate: tuple[Caller, Gate]) -> None:
    """When a deadline passes, the model server is told to stop."""
    call, gate = call_and_gate
    for timeout_s in limits(0.3):
        with pytest.raises(CallError, match="DEADLINE_EXCEEDED"):
            await call("Generate", GENERATE, timeout_s=timeout_s)
        if gate.begun:
            break
    assert gate.begun
    gate.open()
    await until(lambda: gate.ended == gate.begun)
