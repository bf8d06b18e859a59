"""Who is measured: servers on one core, loaded from the other, and a client that is measured while it loads."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import orjson

from bench import process
from bench.cell import MODELS
from bench.example import MODEL
from bench.sample import Job, Sample

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping


@dataclass(frozen=True)
class Cell:
    """Where the cell that all contenders have behind them is."""

    sax_root: str
    admin: str

    model_servers: Mapping[str, str]
    """Addresses by model."""

    @property
    def model_server(self) -> str:
        """The one that answers with one message."""
        return self.model_servers[MODEL]


@contextmanager
def cell(core: int | None) -> Iterator[Cell]:
    """Runs a cell on `core`, or on all."""
    with tempfile.TemporaryDirectory() as sax_root, process.serving(core, "bench.cell", sax_root) as server:
        admin, *model_servers = server.addresses
        yield Cell(sax_root, admin, dict(zip(MODELS, model_servers, strict=True)))


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
    model: str = MODEL


@dataclass(frozen=True)
class Target:
    """What a load generator loads."""

    address: str

    pid: int | None
    """The process that is measured; None if it is the load generator's own."""

    load_core: int
    """Where the load generator runs."""


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
        with self.loaded(cell, conditions.core, conditions.other_core, conditions.model) as target:
            job = Job(
                kind=self.load,
                address=target.address,
                model=conditions.model,
                in_flight=conditions.in_flight,
                warm_up_s=conditions.warm_up_s,
                seconds=conditions.seconds,
                core=conditions.core,
                pid=target.pid,
            )
            return Sample(**orjson.loads(process.run(target.load_core, "bench.load", orjson.dumps(job).decode())))

    @contextmanager
    def loaded(self, cell: Cell, core: int, other_core: int, model: str) -> Iterator[Target]:
        """Starts what is to be measured on `core`, and stops it."""
        if self.command is None:
            yield Target(cell.model_servers[model], None, core)
            return
        with process.serving(core, *self.command(cell)) as server:
            yield Target(server.addresses[self.door], server.pid, other_core)


def saxgw(cell: Cell) -> tuple[str, ...]:
    """The gateway."""
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
SAXGW_JSON: Final = Contender("**saxgw, JSON POST /generate**", "http", saxgw, door=0)
SAXGW_GRPC: Final = Contender("**saxgw, gRPC Generate**", "grpc", saxgw, door=1)
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
