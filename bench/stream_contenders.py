"""Who is measured with streams, and under which loads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bench.contenders import Cell, Contender, saxgw
from bench.streams import PACED, PHRASES, TOKENS, Stream

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Workload:
    """One table of the report."""

    name: str
    stream: Stream
    in_flight: int


ALONE: Final = Workload("one stream of 100 items after another, each alone", PHRASES, 1)
PHRASES_32: Final = Workload("32 streams at once of 100 items, as fast as they are taken", PHRASES, 32)
TOKENS_8: Final = Workload("8 streams at once of 1,000 small items, as fast as they are taken", TOKENS, 8)
PACED_100: Final = Workload("100 streams at once of 100 items, one each 20 ms", PACED, 100)

WORKLOADS: Final = (ALONE, PHRASES_32, TOKENS_8, PACED_100)


def _floor(stream: Stream) -> Callable[[Cell], tuple[str, ...]]:
    return lambda _: ("bench.stream_floor", stream.model)


def _by_hand(stream: Stream) -> Callable[[Cell], tuple[str, ...]]:
    return lambda cell: ("bench.stream_by_hand", cell.model_servers[stream.model])


def _saxgw(_: Stream) -> Callable[[Cell], tuple[str, ...]]:
    return lambda cell: (*saxgw(cell), "--max-calls=100000")


@dataclass(frozen=True)
class StreamContender:
    """One row of each table."""

    name: str
    load: str
    command: Callable[[Stream], Callable[[Cell], tuple[str, ...]]] | None
    door: int = 0

    def on(self, stream: Stream) -> Contender:
        """What is measured with one stream."""
        return Contender(self.name, self.load, self.command and self.command(stream), self.door)


AIOHTTP: Final = StreamContender("aiohttp floor: sends events", "events", _floor)
CLIENT: Final = StreamContender("client floor: grpc.aio reads the model server's stream", "model-server-stream", None)
GRPC: Final = StreamContender("server floor: grpc.aio sends messages", "grpc-stream", _floor, door=1)
EVENTS_BY_HAND: Final = StreamContender("SSE by hand: aiohttp and grpc.aio in one process", "events", _by_hand)
SAXGW_EVENTS: Final = StreamContender("**saxgw, SSE**", "events", _saxgw)
SAXGW_LINES: Final = StreamContender("**saxgw, NDJSON**", "lines", _saxgw)
SAXGW_ARRAY: Final = StreamContender("**saxgw, JSON array**", "array", _saxgw)
GRPC_BY_HAND: Final = StreamContender("gRPC by hand: server and client in one process", "grpc-stream", _by_hand, door=1)
SAXGW_GRPC: Final = StreamContender("**saxgw, gRPC GenerateStream**", "grpc-stream", _saxgw, door=1)

CONTENDERS: Final = (
    AIOHTTP,
    CLIENT,
    GRPC,
    EVENTS_BY_HAND,
    SAXGW_EVENTS,
    SAXGW_LINES,
    SAXGW_ARRAY,
    GRPC_BY_HAND,
    SAXGW_GRPC,
)

UNPACED: Final = frozenset({AIOHTTP, GRPC})
"""Those that know only one pace, which is theirs."""

HOLDERS: Final = (CLIENT, EVENTS_BY_HAND, SAXGW_EVENTS, GRPC_BY_HAND, SAXGW_GRPC)
"""Those whose memory is looked at. The client floor is what their calls to the model server cost."""
