"""What requests that a gateway holds cost in memory, for each of their bytes: `python -m bench.held_bytes`.

Texts are with a model server of a dev cell, which keeps them waiting; extra inputs wait for one, since servers refuse
so many. Bytes are those that came, of JSON or of protobuf, which `--max-held-request-bytes` is about.
"""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import aiohttp
import click
import grpc.aio
import orjson
from google.protobuf import json_format

from bench.markdown import row, spread
from bench.process import allow_sockets
from bench.sidecar import MODEL, PATH, Gateway, Held, running_gateway
from saxgw.devcell import DevCell
from saxgw.sax import connect
from saxgw.v1 import sax_service_pb2 as pb
from saxgw.v1 import sax_service_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

_NOT_READY: Final = "/sax/test/none"
_LOOK_S: Final = 0.5
_STEADY_MIB: Final = 0.5
_STEADY_LOOKS: Final = 6
"""How often in a row memory must be the same until it is taken that all requests are where they stay."""

_ROOM: Final = "--max-held-request-bytes=1000000000"
_PATIENCE: Final = "--replica-wait=600"


@dataclass(frozen=True)
class _Kind:
    """What is in the requests."""

    name: str
    request: pb.GenerateRequest
    count: int


def _inputs(values: Mapping[str, float | Sequence[float]]) -> pb.GenerateRequest:
    request = pb.GenerateRequest(model=_NOT_READY, query="x")
    request.extra_inputs.update(values)
    return request


_WORDS: Final = "word " * (2**20 // 5)

_KINDS: Final = (
    _Kind("text, all of it ASCII", pb.GenerateRequest(model=MODEL, query=_WORDS), 48),
    _Kind("text with an emoji", pb.GenerateRequest(model=MODEL, query=f"\N{RABBIT FACE} {_WORDS}"), 48),
    _Kind("an array of numbers of one digit", _inputs({"numbers": [1.0] * 2**16}), 24),
    _Kind("small fields", _inputs({f"{n:x}": n % 10 for n in range(25_000)}), 24),
)


async def _by_http(gateway: Gateway, kind: _Kind) -> float:
    request = json_format.MessageToDict(kind.request, preserving_proto_field_name=True)
    # Numbers as short as JSON may have them: that is the most memory for each byte.
    body = orjson.dumps(request).replace(b".0", b"")
    async with aiohttp.ClientSession(
        f"http://{gateway.http_address}", connector=aiohttp.TCPConnector(limit=0)
    ) as session:

        async def generate() -> None:
            async with session.post("/generate", data=body, headers={"Content-Type": "application/json"}):
                pass

        return await _cost(gateway, generate, kind.count, len(body))


async def _by_grpc(gateway: Gateway, kind: _Kind) -> float:
    async with grpc.aio.insecure_channel(gateway.grpc_address) as channel:
        sax = sax_service_pb2_grpc.SaxServiceStub(channel)

        async def generate() -> None:
            await sax.Generate(kind.request)

        return await _cost(gateway, generate, kind.count, kind.request.ByteSize())


async def _cost(gateway: Gateway, generate: Callable[[], Awaitable[None]], count: int, size: int) -> float:
    """Bytes of memory for each byte of so many requests of a size."""
    before = await _steady(gateway)
    async with asyncio.TaskGroup() as group:
        calls = [group.create_task(_call(generate)) for _ in range(count)]
        cost = (await _steady(gateway) - before) * 2**20 / (count * size)
        for call in calls:
            call.cancel()
    return cost


async def _call(generate: Callable[[], Awaitable[None]]) -> None:
    await generate()
    raise RuntimeError("a generate was answered that should have been held")


async def _steady(gateway: Gateway) -> float:
    """MiB, once they no longer change."""
    resident, looks = math.inf, 0
    while looks < _STEADY_LOOKS:
        await asyncio.sleep(_LOOK_S)
        looks = looks + 1 if abs(gateway.resident_mib - resident) < _STEADY_MIB else 0
        resident = gateway.resident_mib
    return resident


async def _main(rounds: int) -> None:
    async with DevCell(model_servers=1, models={PATH: Held}) as cell:
        async with connect(cell.root) as sax:
            await sax.publish(MODEL, PATH, "None", 1)
            await sax.publish(_NOT_READY, PATH, "None", 0)
            await sax.wait_for_ready(MODEL)
        click.echo(row("bytes of memory for each byte held", "JSON over HTTP", "gRPC"))
        click.echo(row("---", "---:", "---:"))
        for kind in _KINDS:
            figures: dict[str, list[float]] = {}
            for door in (_by_http, _by_grpc):
                for _ in range(rounds):
                    async with running_gateway(cell.root, _ROOM, _PATIENCE) as gateway:
                        figures.setdefault(door.__name__, []).append(await door(gateway, kind))
            click.echo(row(kind.name, *(spread(values, ".1f") for values in figures.values())))


@click.command()
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(min=1), help="How often each is measured.")
def main(rounds: int) -> None:
    """Measure the memory that held requests take, by what is in them and by the door."""
    allow_sockets(1000)
    asyncio.run(_main(rounds))


if __name__ == "__main__":
    main()
