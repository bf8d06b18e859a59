"""Who is measured: servers on one core, loaded from the other, and a client that is measured while it loads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import orjson

from bench import process
from bench.load import Job, Sample

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Cell:
    """Where the cell that all contenders have behind them is."""

    sax_root: str
    admin: str
    model_server: str


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """How every contender is measured."""

    core: int
    """Where the measured process runs."""

    other_core: int
    """Where everything else runs."""

    in_flight: int
    warm_up_s: float
    seconds: float


@dataclass(frozen=True)
class Contender:
    """One row of the table."""

    name: str

    load: str
    """One of bench.load.KINDS."""

    command: Callable[[Cell], tuple[str, ...]] | None
    """The server's module and its arguments; None if the load generator itself is what is measured."""

    door: int = 0
    """Which of the server's addresses is called."""

    def measure(self, cell: Cell, conditions: Conditions) -> Sample:
        """Starts what is to be measured, loads it once, and stops it."""
        if self.command is None:
            return self._load(conditions.core, cell.model_server, None, conditions)
        with process.serving(conditions.core, *self.command(cell)) as server:
            return self._load(conditions.other_core, server.addresses[self.door], server.pid, conditions)

    def _load(self, core: int, address: str, pid: int | None, conditions: Conditions) -> Sample:
        job = Job(
            kind=self.load,
            address=address,
            in_flight=conditions.in_flight,
            warm_up_s=conditions.warm_up_s,
            seconds=conditions.seconds,
            core=conditions.core,
            pid=pid,
        )
        return Sample(**orjson.loads(process.run(core, "bench.load", orjson.dumps(job).decode())))


def _saxgw(cell: Cell) -> tuple[str, ...]:
    return ("saxgw", "serve", f"--sax-root={cell.sax_root}", "--http-port=0", "--grpc-port=0", "--log-level=warning")


AIOHTTP: Final = Contender("aiohttp floor: JSON in, JSON out", "http", lambda _: ("bench.aiohttp_floor",))
CLIENT: Final = Contender("client floor: grpc.aio calls to the model server", "model-server", None)
GRPC: Final = Contender("server floor: grpc.aio answers Generate", "grpc", lambda _: ("bench.grpc_floor",))
JSON_BY_HAND: Final = Contender(
    "JSON by hand: aiohttp and grpc.aio in one process",
    "http",
    lambda cell: ("bench.combined_floor", cell.model_server),
)
GRPC_BY_HAND: Final = Contender(
    "gRPC by hand: server and client in one process",
    "grpc",
    lambda cell: ("bench.combined_floor", cell.model_server),
    door=1,
)
SAXGW_JSON: Final = Contender("**saxgw, JSON POST /generate**", "http", _saxgw, door=0)
SAXGW_GRPC: Final = Contender("**saxgw, gRPC Generate**", "grpc", _saxgw, door=1)
THREADED: Final = Contender(
    "FastAPI, threads, synchronous stub", "http", lambda cell: ("bench.threaded", cell.admin, cell.model_server)
)
THREADED_LISTING: Final = Contender(
    "the same with a listing before each call, as the replaced server",
    "http",
    lambda cell: ("bench.threaded", cell.admin, cell.model_server, "--listing"),
)

CONTENDERS: Final = (
    AIOHTTP,
    CLIENT,
    GRPC,
    JSON_BY_HAND,
    SAXGW_JSON,
    GRPC_BY_HAND,
    SAXGW_GRPC,
    THREADED,
    THREADED_LISTING,
)
