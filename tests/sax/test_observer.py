"""What an observer is told of requests and replicas, and what it may send along."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from typing import Any

import grpc
import pytest

from saxgw.devcell import DevCell
from saxgw.sax import CellError, Sending, connect
from tests.devcell.harness import TIMEOUT_S, until
from tests.held_model import HELD, PLAIN, HeldModel
from tests.sax.scripted import MODEL, Context, Hold, ScriptedCell, full_set

Code = grpc.StatusCode


class Recorder:
    """Notes all that it is told."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str, int, grpc.StatusCode]] = []
        self.waits = 0
        self.waiting_now = 0
        self.counts: list[tuple[int, int]] = []

    def waiting(self, model: str) -> Callable[[], None]:
        assert model == MODEL
        self.waits += 1
        self.waiting_now += 1
        return self._waits_no_more

    def sending(self, model: str, method: str, address: str, attempt: int) -> Sending:
        assert model == MODEL
        return _Sent(self, method, address, attempt)

    def replicas(self, model: str, known: int, well: int) -> None:
        assert model == MODEL
        self.counts.append((known, well))

    def _waits_no_more(self) -> None:
        self.waiting_now -= 1


class _Sent:
    metadata = (("a-key", "a value"),)

    def __init__(self, recorder: Recorder, *about: Any) -> None:
        self._recorder = recorder
        self._about = about

    def over(self, code: grpc.StatusCode) -> None:
        method, address, attempt = self._about
        self._recorder.sent.append((method, address, attempt, code))


async def test_retry(cell: ScriptedCell, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each sending has its server, its number and its end, and is sent with its metadata; who fails is not well."""
    monkeypatch.setattr("saxgw.sax.replicas._FIRST_PAUSE_S", TIMEOUT_S)
    monkeypatch.setattr("saxgw.sax.replicas._LONGEST_PAUSE_S", TIMEOUT_S)
    servers = [await cell.model_server(), await cell.model_server()]
    seen: list[Any] = []

    async def fail(_: Any, context: Context) -> None:
        seen.extend(context.invocation_metadata() or ())
        await context.abort(Code.UNAVAILABLE, "going away")

    cell.admin.serve(*(server.address for server in servers))
    recorder = Recorder()
    async with connect(cell.root, observer=recorder) as sax:
        await sax.generate(MODEL, "x")
        assert recorder.waits == 1, "the first one waits for the replicas to be known"
        assert recorder.counts == [(2, 2)]
        servers[0].always["Generate"] = fail
        while not seen:
            recorder.sent.clear()
            await sax.generate(MODEL, "x")
        bad, good = (server.address for server in servers)
        assert recorder.sent == [
            ("lm.generate", bad, 1, Code.UNAVAILABLE),
            ("lm.generate", good, 2, Code.OK),
        ]
        assert recorder.counts == [(2, 2), (2, 1)]
        assert ("a-key", "a value") in seen
        cell.admin.news.put_nowait(full_set(good))
        await until(lambda: recorder.counts[-1] == (1, 1))
    assert recorder.counts[-1] == (0, 0)


async def test_line(cell: ScriptedCell) -> None:
    """A request that waits for room is told of, until it has some or its caller leaves."""
    server = await cell.model_server()
    cell.admin.serve(server.address)
    recorder = Recorder()
    async with connect(cell.root, observer=recorder, max_in_flight=1) as sax:
        await sax.generate(MODEL, "x")
        server.always["Generate"] = hold = Hold()
        first, second, third = (asyncio.create_task(sax.generate(MODEL, "x")) for _ in range(3))
        await until(lambda: recorder.waiting_now == 2)
        second.cancel()
        await until(lambda: recorder.waiting_now == 1)
        hold.release.set()
        await asyncio.gather(first, third)
    assert recorder.waiting_now == 0


async def test_caller_who_leaves(cell: ScriptedCell) -> None:
    """What nobody waits for any more was CANCELLED."""
    server = await cell.model_server()
    cell.admin.serve(server.address)
    server.always["Generate"] = hold = Hold()
    recorder = Recorder()
    async with connect(cell.root, observer=recorder) as sax:
        call = asyncio.create_task(sax.generate(MODEL, "x"))
        await hold.begun.wait()
        assert recorder.sent == []
        call.cancel()
        await asyncio.wait((call,))
    assert recorder.sent == [("lm.generate", server.address, 1, Code.CANCELLED)]


async def test_streams() -> None:
    """A stream is over when its last message is here, when it breaks, or when its caller leaves."""
    held = HeldModel([*PLAIN, RuntimeError("broken")])
    held.open()
    recorder = Recorder()
    async with DevCell(models=held.classes) as cell, connect(cell.root, observer=recorder) as sax:
        await sax.publish(MODEL, HELD, "None", 1)
        await sax.wait_for_ready(MODEL)
        with pytest.raises(CellError):
            [_ async for _ in sax.generate_stream(MODEL, "x")]
        held.steps = PLAIN
        assert len([_ async for _ in sax.generate_stream(MODEL, "x")]) == len(PLAIN)
        async with aclosing(sax.generate_stream(MODEL, "x")) as stream:
            await anext(stream)
    assert [code for *_, code in recorder.sent] == [Code.INTERNAL, Code.OK, Code.CANCELLED]
