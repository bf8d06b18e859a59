"""What the Sax client needs to recover, and what its care costs: `python -m bench.recovery`.

Recovery is measured on a dev cell whose servers die, come back and move: how long until the first request is answered
again, at its worst, with everything set aside for as long as it ever is. The cost is that of finding a replica, of its
limit and of the notes about retries, around a call that takes no time.
"""

from __future__ import annotations

import asyncio
import time
from statistics import median
from typing import TYPE_CHECKING, Any, Final, cast

import click

from bench import serving
from bench.markdown import row
from saxgw.devcell import DevCell
from saxgw.sax import SaxError, connect
from saxgw.sax.channels import Channels
from saxgw.sax.dispatch import Dispatcher
from saxgw.sax.replicas import ReplicaSet
from saxgw.sax.wire import admin_pb2, lm_pb2

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from saxgw.sax.admin import Admin

_MODEL: Final = "/sax/test/lm"
_INPUTS: Final = {"per_example_max_decode_steps": 1.0}
_AWAY_S: Final = 4.0
"""How long a server is away: long enough for pauses to have grown to their longest."""

_ROUNDS: Final = 3
_CALLS: Final = 20_000


async def _until_answered(ask: Callable[[], Awaitable[object]]) -> float:
    began = time.perf_counter()
    while True:
        try:
            await ask()
        except SaxError:
            continue
        return time.perf_counter() - began


async def _recovery() -> None:
    async with DevCell(model_servers=1, faults=True) as cell, connect(cell.root, replica_wait_s=30) as sax:
        server = cell.model_servers[0]
        await sax.publish(_MODEL, "saxgw.devcell.NgramLm", "None", 1)
        await sax.wait_for_ready(_MODEL)

        async def generate() -> object:
            return await sax.generate(_MODEL, "Alice", _INPUTS)

        async def come_back() -> float:
            await server.faults.kill()
            waiting = asyncio.ensure_future(generate())
            await asyncio.sleep(_AWAY_S)
            await server.start()
            await sax.wait_for_ready(_MODEL)
            back = time.perf_counter()
            await waiting
            return time.perf_counter() - back

        async def admin_moves() -> float:
            await cell.admin.faults.restart(port=0)
            return await _until_answered(lambda: sax.list_models("/sax/test"))

        await generate()
        for name, measure in (
            ("the only replica comes back, loaded, until it is used", come_back),
            ("the admin moves, until it answers", admin_moves),
        ):
            click.echo(row(name, f"{median([await measure() for _ in range(_ROUNDS)]):.2f} s"))
    async with DevCell(model_servers=2, faults=True) as cell, connect(cell.root) as sax:
        await sax.publish(_MODEL, "saxgw.devcell.NgramLm", "None", 2)
        await sax.wait_for_ready(_MODEL, 2)
        longest = []
        for _ in range(_ROUNDS):
            killing = asyncio.ensure_future(cell.model_servers[0].faults.kill())
            took = []
            for _ in range(200):
                began = time.perf_counter()
                await sax.generate(_MODEL, "Alice", _INPUTS)
                took.append(time.perf_counter() - began)
            await killing
            longest.append(max(took))
            await cell.model_servers[0].start()
            await sax.wait_for_ready(_MODEL, 2)
        click.echo(row("one of two replicas dies: the slowest request meanwhile", f"{median(longest):.2f} s"))


class _Replicas:
    """As much of a cell as a dispatcher needs: one replica that is always well."""

    def __init__(self) -> None:
        self._channels = Channels(2**20)

    async def watch(self, request: admin_pb2.WatchLocRequest) -> admin_pb2.WatchLocResponse:
        if request.admin_server_id:
            await asyncio.Event().wait()
        result = admin_pb2.WatchResult(has_fullset=True, values=["127.0.0.1:1"], next_seqno=1)
        return admin_pb2.WatchLocResponse(admin_server_id="bench", result=result)

    def follow(self, model: str, forget: Callable[[str], object]) -> ReplicaSet:
        return ReplicaSet(model, cast("Admin", self), self._channels, idle_s=60, forget=forget)

    async def describe(self, model: str) -> Any:  # noqa: ANN401 - never called
        raise NotImplementedError(model)

    async def aclose(self) -> None:
        await self._channels.aclose()


async def _cost() -> None:
    cells = _Replicas()
    dispatcher = Dispatcher(cells, 10)
    request = lm_pb2.GenerateRequest(model_key=_MODEL, text="x")

    async def rpc(*_: object) -> None:
        pass

    await dispatcher.ask("lm.generate", request, rpc)
    costs = []
    for _ in range(2 * _ROUNDS + 1):
        began = time.process_time()
        for _ in range(_CALLS):
            await rpc(None)
        bare = time.process_time()
        for _ in range(_CALLS):
            await dispatcher.ask("lm.generate", request, rpc)
        costs.append((time.process_time() - bare - (bare - began)) / _CALLS * 1e6)
    click.echo(
        row(
            "choosing a replica, its limit, the retry budget: CPU per call (aim: at most 15)", f"{median(costs):.1f} µs"
        )
    )
    await dispatcher.aclose()
    await cells.aclose()


async def _main() -> None:
    serving.tune()
    click.echo(row("what", "median"))
    click.echo(row("---", "---:"))
    await _cost()
    await _recovery()


if __name__ == "__main__":
    serving.run(_main())
