"""The official client's threads and time limits. What it does like the other is tested with the other."""

from __future__ import annotations

import asyncio
import gc
import itertools
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any

import grpc
import pytest

from saxgw.devcell import DevCell, Piece
from saxgw.sax import AdminUnavailable, Busy, CellError, ReplicasUnavailable, SaxClient, official
from saxgw.sax.official.threads import Threads
from tests.devcell.harness import TIMEOUT_S, until
from tests.held_model import HELD, HeldModel
from tests.patience import limits
from tests.sax.clients import official_client, threads
from tests.sax.scripted import CELL, MODEL, Hold, ScriptedCell

Code = grpc.StatusCode

pytestmark = pytest.mark.usefixtures("google")

Operation = Callable[[SaxClient], Awaitable[object]]


async def stream(sax: SaxClient) -> list[Any]:
    return [step async for step in sax.generate_stream(MODEL, "x")]


MODEL_CALLS: dict[str, Operation] = {
    "Generate": lambda sax: sax.generate(MODEL, "x"),
    "GenerateStream": stream,
    "Score": lambda sax: sax.score(MODEL, "x", ["y"]),
    "Embed": lambda sax: sax.embed(MODEL, "x"),
}

WRITES: dict[str, Operation] = {
    "Publish": lambda sax: sax.publish(MODEL, "a.B", "None", 1),
    "Update": lambda sax: sax.update(MODEL, "a.B", "None", 1),
    "Unpublish": lambda sax: sax.unpublish(MODEL),
}

QUESTIONS: dict[str, Operation] = {
    "List of a cell": lambda sax: sax.list_models(CELL),
    "List of a model": lambda sax: sax.describe(MODEL),
    "Stats": lambda sax: sax.stats(MODEL),
}


@asynccontextmanager
async def holding(held: HeldModel, **settings: Any) -> AsyncIterator[tuple[official.OfficialClient, DevCell]]:
    """An official client of a cell with a published model, which goes on when the test says so."""
    async with DevCell(models=held.classes) as cell, official_client(cell.root, **settings) as sax:
        await sax.publish(MODEL, HELD, "None", 1)
        await sax.wait_for_ready(MODEL)
        # So that the model is found, and calls take their places in line at once.
        await until(lambda: answered(sax.score(MODEL, "x", ["y"])))
        try:
            yield sax, cell
        finally:
            held.open()


async def answered(call: Awaitable[object]) -> bool:
    """Tells whether a call was answered in time."""
    try:
        await call
    except (Busy, CellError, ReplicasUnavailable):
        return False
    return True


def model_threads() -> int:
    return sum(name.startswith("sax model") for name in threads())


def made() -> list[tuple[str, float]]:
    """The calls that the module has made, and their time limits."""
    calls: list[tuple[str, float]] = sys.modules["sax"].made
    return calls


# Threads.


async def test_threads_are_bounded_and_the_others_wait() -> None:
    held = HeldModel()
    async with holding(held, threads=3) as (sax, _):
        calls = [asyncio.create_task(sax.generate(MODEL, "x")) for _ in range(20)]
        await held.until(lambda: held.running == 3)
        assert model_threads() == 3
        assert await sax.list_models(CELL) == [MODEL], "questions to the admin have threads of their own"
        held.open()
        assert len(await asyncio.gather(*calls)) == 20
        assert model_threads() == 3


async def test_the_line_of_those_who_wait_has_an_end() -> None:
    held = HeldModel()
    async with holding(held, threads=1, waiting=2) as (sax, _):
        calls = [asyncio.create_task(sax.generate(MODEL, "x")) for _ in range(3)]
        await held.until(lambda: held.running == 1)
        for call in (sax.generate(MODEL, "x"), stream(sax)):
            with pytest.raises(Busy, match=r"all 1 threads .* are in use and 2 calls wait for one; try again later"):
                await call
        held.open()
        await asyncio.gather(*calls)


async def test_one_whose_turn_does_not_come_in_time() -> None:
    pool, go_on = Threads(1, 1, "sax pool"), threading.Event()
    first = pool.submit(lambda: go_on.wait(TIMEOUT_S))
    with pytest.raises(Busy, match=r"all 1 threads .* were in use all the time; try again later"):
        await pool.run(int, 0.05)
    go_on.set()
    assert await first
    assert await pool.run(int, TIMEOUT_S) == 0
    pool.close()
    await until(lambda: not threads())


@pytest.mark.parametrize("rpc", ["Generate", "GenerateStream"])
async def test_one_whose_turn_comes_when_the_time_is_up(rpc: str) -> None:
    """Whichever comes first, it is told and no thread is lost."""
    held = HeldModel()
    async with holding(held, threads=1, call_timeout_s=0.5) as (sax, _):
        async with asyncio.timeout(TIMEOUT_S):
            while not held.asked:  # on a busy machine the time may be up before the model has begun
                first = asyncio.create_task(sax.generate(MODEL, "x"))
                await asyncio.sleep(0)  # so that it has the thread
                with pytest.raises((Busy, CellError, ReplicasUnavailable)):
                    await MODEL_CALLS[rpc](sax)
                with pytest.raises((CellError, ReplicasUnavailable)):
                    await first
        held.open()
        await until(lambda: answered(MODEL_CALLS[rpc](sax)))


@pytest.mark.parametrize("rpc", ["Generate", "GenerateStream"])
async def test_who_leaves_is_free_and_the_thread_goes_on(rpc: str) -> None:
    """There is no way to stop the module, so the model does its work to the end."""
    held = HeldModel()
    async with holding(held, threads=1) as (sax, _):
        call = asyncio.ensure_future(MODEL_CALLS[rpc](sax))
        await held.until(lambda: held.running == 1)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(call, TIMEOUT_S)
        assert held.running == 1
        following = asyncio.ensure_future(MODEL_CALLS[rpc](sax))
        held.open()
        await following
        assert (held.ended, held.left) == (2, 0)


@pytest.mark.parametrize("rpc", ["Generate", "GenerateStream"])
async def test_who_leaves_while_waiting_withdraws_the_call(rpc: str) -> None:
    held = HeldModel()
    async with holding(held, threads=1, waiting=1) as (sax, _):
        first = asyncio.create_task(sax.generate(MODEL, "x"))
        await held.until(lambda: held.running == 1)
        second = asyncio.ensure_future(MODEL_CALLS[rpc](sax))
        await asyncio.sleep(0)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        third = asyncio.create_task(sax.generate(MODEL, "x"))  # there is room in the line again
        held.open()
        await asyncio.gather(first, third)
        assert held.ended == 2


async def test_closing_frees_all_callers_and_ends_the_threads() -> None:
    held = HeldModel()
    async with holding(held, threads=1) as (sax, _):
        running = asyncio.create_task(sax.generate(MODEL, "x"))
        await held.until(lambda: held.running == 1)
        others = [asyncio.create_task(call) for call in (sax.generate(MODEL, "x"), stream(sax))]
        wait = asyncio.create_task(sax.wait_for_ready(MODEL, 2))
        await until(lambda: ("WaitForReady", 60.0) in made())
        await sax.aclose()
        for task in (running, *others, wait):
            with pytest.raises((asyncio.CancelledError, RuntimeError)):
                await task
        assert model_threads() == 1, "it waits for the model"
        for operation in (*MODEL_CALLS.values(), *QUESTIONS.values()):
            with pytest.raises(RuntimeError, match="this Sax client is closed"):
                await operation(sax)
        with pytest.raises(RuntimeError, match="this Sax client is closed"):
            await sax.list_cells()
        await sax.aclose()
        held.open()
        await until(lambda: model_threads() == 0)


async def test_a_client_that_is_dropped_open_warns(cell: ScriptedCell) -> None:
    clients = [official.connect(cell.root)]
    await clients[0].list_models(CELL)
    with pytest.warns(ResourceWarning, match="a Sax client was not closed; call aclose"):
        clients.clear()
    gc.collect()


# Time limits.

TOO_LONG_OR_NOT_FOUND = r"was not done within 0\.5 s|no model server took the request"


async def test_every_call_has_a_time_limit() -> None:
    held = HeldModel()
    held.open()
    async with (
        DevCell(models=held.classes) as cell,
        official_client(cell.root, admin_timeout_s=200, call_timeout_s=500) as sax,
    ):
        await sax.publish(MODEL, HELD, "None", 1)
        await sax.wait_for_ready(MODEL)
        await sax.update(MODEL, HELD, "None", 1)
        await sax.wait_for_ready(MODEL)
        for operation in QUESTIONS.values():
            await operation(sax)
        for rpc in ("Generate", "GenerateStream", "Score"):
            await MODEL_CALLS[rpc](sax)
        await sax.unpublish(MODEL)
    expected = {"Generate": 500, "GenerateStream": 500, "Score": 500, "WaitForReady": 60}
    assert {rpc for rpc, _ in made()} == {"Publish", "Update", "Unpublish", "List", "Stats", *expected}
    for rpc, timeout_s in made():
        assert expected.get(rpc, 200) - 30 < timeout_s <= expected.get(rpc, 200), rpc


@pytest.mark.parametrize("rpc", ["Generate", "Score", "Embed"])
async def test_a_model_that_takes_too_long(cell: ScriptedCell, rpc: str) -> None:
    server = await cell.model_server()
    cell.admin.serve(server.address)
    server.always[rpc] = hold = Hold()
    async with official_client(cell.root, call_timeout_s=0.3) as sax:
        async with asyncio.timeout(TIMEOUT_S):
            while not hold.begun.is_set():  # on a busy machine the time may be up before
                with pytest.raises((CellError, ReplicasUnavailable)) as raised:
                    await MODEL_CALLS[rpc](sax)
    error = raised.value
    assert isinstance(error, CellError)
    assert error.code is Code.DEADLINE_EXCEEDED
    assert str(error) == "/sax/test/lm was not done within 0.3 s; ask for less, or give calls to models more time"
    await hold.cancelled.wait()


async def read(sax: SaxClient, received: list[Any], pause: Callable[[], Awaitable[None]] | None = None) -> None:
    """Reads a stream, with a pause after each step."""
    async with aclosing(sax.generate_stream(MODEL, "x")) as steps:
        async for step in steps:
            received.append(step)
            if pause:
                await pause()


@pytest.mark.parametrize("steps", [0, 1])
async def test_a_stream_that_takes_too_long(steps: int) -> None:
    held = HeldModel()
    async with holding(held, call_timeout_s=0.5) as (sax, _):
        received: list[Any] = []
        async with asyncio.timeout(TIMEOUT_S):
            while len(received) < steps or not held.asked:  # on a busy machine the time may be up before
                held.release(steps)
                with pytest.raises((CellError, ReplicasUnavailable), match=TOO_LONG_OR_NOT_FOUND) as raised:
                    await read(sax, received)
        assert raised.type is CellError
        await held.until(lambda: held.running == 0)
        assert held.ended == 0


async def test_a_reader_who_takes_too_long() -> None:
    """The thread does not wait for it any longer, and what was dropped is not passed over in silence."""
    held = HeldModel(itertools.repeat([Piece("x" * 20_000, -1.0)], 1_000))
    held.open()
    async with holding(held, call_timeout_s=0.5) as (sax, _):
        received: list[Any] = []
        async with asyncio.timeout(TIMEOUT_S):
            while not received:  # on a busy machine the time may be up before
                with pytest.raises((CellError, ReplicasUnavailable), match=TOO_LONG_OR_NOT_FOUND) as raised:
                    await read(sax, received, lambda: held.until(lambda: held.running == 0))
        assert raised.type is CellError


@pytest.mark.parametrize("rpc", [*WRITES, *QUESTIONS])
async def test_an_admin_that_does_not_answer_in_time(cell: ScriptedCell, rpc: str) -> None:
    cell.admin.publish()
    cell.admin.always[rpc.partition(" ")[0]] = hold = Hold()
    for limit_s in limits(0.3):
        async with official_client(cell.root, admin_timeout_s=limit_s) as sax:
            with pytest.raises(AdminUnavailable, match="the admin of /sax/test did not answer in time") as raised:
                await {**WRITES, **QUESTIONS}[rpc](sax)
        if hold.begun.is_set():  # an update, for one, begins with a question
            break
    assert ("whether it carried out the request is not known" in str(raised.value)) == (rpc in WRITES)


async def test_a_module_that_does_not_come_back_in_time(cell: ScriptedCell, monkeypatch: pytest.MonkeyPatch) -> None:
    """It connects to an admin for ten seconds, whatever limit it is given (§6.2)."""
    back = threading.Event()
    async with official_client(cell.root, admin_timeout_s=0.2) as sax:
        monkeypatch.setattr(sys.modules["sax"], "ListAll", lambda _cell, _options: back.wait(TIMEOUT_S))
        with pytest.raises(AdminUnavailable, match="did not answer in time"):
            await sax.list_models(CELL)
        back.set()
