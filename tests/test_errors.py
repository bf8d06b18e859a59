"""What callers are told when the cell, or the gateway itself, cannot serve them: the same through every door."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest

from saxgw.devcell import DevCell
from saxgw.gateway import Gateway
from saxgw.rpc.status import Code
from saxgw.sax import errors
from saxgw.sax.wire import admin_pb2
from saxgw.service import status_of
from tests.callers import CallError, active_replicas
from tests.conftest import DOORS, connected, definition, settings
from tests.devcell.harness import GATED, Gate, gated, until

GENERATE = {"model": "/sax/test/lm", "query": "x"}

every_door = pytest.mark.parametrize("door", DOORS)


def write_location(root: Path, location: str) -> None:
    """Registers an admin server of the cell /sax/test."""
    folder = root / "sax" / "test"
    folder.mkdir(parents=True)
    (folder / "location.proto").write_bytes(admin_pb2.Location(location=location).SerializeToString())


async def failure(sax_root: str | Path, door: str, method: str, request: dict[str, Any], **changed: Any) -> CallError:
    """The error of one call through a gateway of its own."""
    async with Gateway(settings(str(sax_root), **changed)) as gateway, connected(gateway, door) as call:
        with pytest.raises(CallError) as caught:
            await call(method, request)
    return caught.value


@every_door
async def test_admin_has_never_run(tmp_path: Path, door: str) -> None:
    """A cell whose admin has never run is UNAVAILABLE, saying so."""
    (tmp_path / "sax" / "test").mkdir(parents=True)
    error = await failure(tmp_path, door, "ListAll", {"sax_cell": "/sax/test"})
    assert (error.code, error.reason) == ("UNAVAILABLE", "ADMIN_UNAVAILABLE")
    assert "has ever run" in error.message or "never run" in error.message


@every_door
@pytest.mark.parametrize("method", ["ListAll", "Generate"])
async def test_admin_cannot_be_reached(tmp_path: Path, door: str, method: str) -> None:
    """An admin that does not answer is UNAVAILABLE, saying so."""
    write_location(tmp_path, "127.0.0.1:1")
    request = {"sax_cell": "/sax/test"} if method == "ListAll" else GENERATE
    error = await failure(tmp_path, door, method, request)
    assert (error.code, error.reason) == ("UNAVAILABLE", "ADMIN_UNAVAILABLE")
    assert "/sax/test" in error.message
    assert any("retry_delay" in detail for detail in error.details)


@every_door
async def test_no_replica_ready(cell: DevCell, model: str, door: str) -> None:
    """A published model without a ready replica is UNAVAILABLE, and the counts are told."""
    async with Gateway(settings(cell.root, replica_wait=0.2)) as gateway, connected(gateway, door) as call:
        await call("Publish", definition(model, replicas=0))
        with pytest.raises(CallError) as caught:
            await call("Generate", {"model": model, "query": "x"})
    assert (caught.value.code, caught.value.reason) == ("UNAVAILABLE", "REPLICAS_UNAVAILABLE")
    assert model in caught.value.message
    assert "0" in caught.value.message


@every_door
async def test_model_servers_out_of_reach(door: str) -> None:
    """A model whose servers are all gone is UNAVAILABLE, whether or not it was reached before."""
    async with (
        DevCell() as cell,
        Gateway(settings(cell.root, replica_wait=0.5)) as gateway,
        connected(gateway, door) as call,
    ):
        await call("Publish", definition("/sax/test/lm"))
        await active_replicas(call, "/sax/test/lm", 1)
        await call("Generate", GENERATE)
        for server in cell.model_servers:
            await server.stop()
        with pytest.raises(CallError) as caught:
            await call("Generate", GENERATE)
    assert (caught.value.code, caught.value.reason) == ("UNAVAILABLE", "REPLICAS_UNAVAILABLE")


@every_door
async def test_model_servers_busy(door: str) -> None:
    """Who comes when as many wait for busy model servers as may is RESOURCE_EXHAUSTED, with a time to come back."""
    gate = Gate()
    gate.loads.release()
    async with (
        DevCell(models=gated(gate)) as cell,
        Gateway(settings(cell.root, replica_wait=0.3, max_queue=1, max_in_flight=1)) as gateway,
        connected(gateway, door) as call,
    ):
        one_at_a_time = {"BATCH_SIZE": "1", "MAX_LIVE_BATCHES": "1"}
        await call("Publish", definition("/sax/test/lm", model_path=GATED, overrides=one_at_a_time))
        await active_replicas(call, "/sax/test/lm", 1)
        running = asyncio.ensure_future(call("Generate", GENERATE))
        await until(lambda: gate.begun == 1)
        waiting = [asyncio.ensure_future(call("Generate", GENERATE)) for _ in range(2)]
        done, left = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        with pytest.raises(CallError) as caught:
            await done.pop()
        gate.open()
        assert (await running)["results"]
        assert (await left.pop())["results"], "the other has waited, for longer than --replica-wait"
    assert (caught.value.code, caught.value.reason) == ("RESOURCE_EXHAUSTED", "MODEL_SERVERS_BUSY")
    assert "/sax/test/lm" in caught.value.message
    assert any("retry_delay" in detail for detail in caught.value.details)


@every_door
async def test_gateway_limit(cell: DevCell, model: str, door: str) -> None:
    """A call beyond the gateway's own limit is RESOURCE_EXHAUSTED, with a time to come back."""
    async with Gateway(settings(cell.root, max_calls=1)) as gateway, connected(gateway, door) as call:
        await call("Publish", definition(model, replicas=0))
        # Nothing is ready, so the one that came first waits and the other has no place.
        calls = {asyncio.ensure_future(call("Generate", {"model": model, "query": "x"})) for _ in range(2)}
        (refused,), (waiting,) = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
        with pytest.raises(CallError) as caught:
            await refused
        waiting.cancel()
        await asyncio.wait((waiting,))
    assert (caught.value.code, caught.value.reason) == ("RESOURCE_EXHAUSTED", "TOO_MANY_CALLS")
    assert any("retry_delay" in detail for detail in caught.value.details)


async def test_retry_after(tmp_path: Path) -> None:
    """Over HTTP the time to come back is in Retry-After, in whole seconds."""
    write_location(tmp_path, "127.0.0.1:1")
    async with (
        Gateway(settings(str(tmp_path))) as gateway,
        aiohttp.ClientSession() as session,
        session.get(f"http://{gateway.http_address}/listall?sax_cell=/sax/test") as response,
    ):
        assert response.status == 503
        assert response.headers["Retry-After"] == "1"


def all_sax_errors() -> list[type[errors.SaxError]]:
    return [kind for kind in errors.SaxError.__subclasses__() if kind.__module__ == errors.__name__]


@pytest.mark.parametrize("kind", all_sax_errors(), ids=lambda kind: kind.__name__)
def test_every_sax_error_has_a_status(kind: type[errors.SaxError]) -> None:
    """A new error of the Sax client fails here until callers are told something of it."""
    error = kind(grpc.StatusCode.ABORTED, "words") if kind is errors.CellError else kind("words")
    status = status_of(error)
    assert status.message == "words"
    assert status.code is not Code.OK
    assert (status.retry_delay_s is not None) == (status.code in (Code.UNAVAILABLE, Code.RESOURCE_EXHAUSTED))


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
def test_cell_error_keeps_its_code(code: grpc.StatusCode) -> None:
    """What the cell says goes on with the cell's code."""
    assert status_of(errors.CellError(code, "words")).code.name == code.name
