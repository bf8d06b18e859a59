"""Leaving: SIGTERM under load loses no accepted request, and nothing is left behind."""

from __future__ import annotations

import asyncio
import signal
from typing import Any

import aiohttp
import grpc
import orjson
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from saxgw.devcell import DevCell
from saxgw.doors import grpc as grpc_door
from saxgw.doors import http_server
from saxgw.gateway import Gateway
from saxgw.v1 import sax_service_pb2 as pb
from saxgw.v1 import sax_service_pb2_grpc
from tests.callers import CallError
from tests.conftest import DOORS, connected, definition, settings
from tests.devcell.harness import until
from tests.held_model import HELD, HeldModel
from tests.load import Load
from tests.ports import kept_port
from tests.process import running
from tests.telemetry.scrape import scrape


async def test_sigterm_under_load() -> None:
    """Every request that the gateway took is answered, over HTTP and over gRPC, and it exits with 0."""
    async with running("dev", "--drain-timeout", "20", "--log-format", "json") as gateway:
        async with aiohttp.ClientSession(f"http://{gateway.http_address}") as session:
            await session.post("/publish", json=definition("/sax/test/lm"))
            async with session.post("/generate", json={"model": "/sax/test/lm", "query": "x"}) as response:
                assert response.status == 200
        async with Load("/sax/test/lm", may_cross=True) as load:
            for _ in range(6):
                load.http([gateway.http_address])
                load.grpc([gateway.grpc_address])
            await load.answers(3)
            load.last()
            code, errors = await gateway.stop(signal.SIGTERM)
    assert code == 0
    assert "Traceback" not in errors
    assert '"method":"Generate","door":"grpc"' in errors
    assert '"method":"Generate","door":"http"' in errors
    assert not [crossed for crossed in load.crossed if crossed in errors]


async def test_call_on_its_way(cell: DevCell, published: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that arrives before its caller is told that the gateway leaves is answered like any other."""
    for door in (http_server, grpc_door):
        monkeypatch.setattr(door, "_LINGER_S", 60.0)
    monkeypatch.setattr(grpc_door, "_QUIET_S", 2.0)
    gateway = Gateway(settings(cell.root, drain_timeout=60))
    await gateway.__aenter__()
    async with (
        aiohttp.ClientSession(f"http://{gateway.http_address}") as session,
        grpc.aio.insecure_channel(gateway.grpc_address) as channel,
    ):
        async with session.get("/livez") as response:
            assert "Connection" not in response.headers
        health: Any = health_pb2_grpc.HealthStub(channel)
        watch = health.Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        leaving = asyncio.ensure_future(gateway.__aexit__(None, None, None))
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        stub = sax_service_pb2_grpc.SaxServiceStub(channel)
        by_grpc = asyncio.ensure_future(stub.Generate(pb.GenerateRequest(model=published, query="x")))
        async with session.post("/generate", json={"model": published, "query": "x"}) as response:
            assert response.status == 200
            assert response.headers["Connection"] == "close"
        assert (await by_grpc).results
        watch.cancel()
        await leaving


async def test_running_calls_finish(cell: DevCell, model: str) -> None:
    """Leaving waits for running calls: here two that a model is published for only meanwhile."""
    gateway = Gateway(settings(cell.root, drain_timeout=60, admin_port=0))
    await gateway.__aenter__()
    async with (
        aiohttp.ClientSession(f"http://{gateway.http_address}") as session,
        grpc.aio.insecure_channel(gateway.grpc_address) as channel,
        Gateway(settings(cell.root)) as other,
        aiohttp.ClientSession(f"http://{other.http_address}") as admin,
    ):
        await admin.post("/publish", json=definition(model, replicas=0))
        stub = sax_service_pb2_grpc.SaxServiceStub(channel)
        by_http = asyncio.ensure_future(session.post("/generate", json={"model": model, "query": "x"}))
        by_grpc = asyncio.ensure_future(stub.Generate(pb.GenerateRequest(model=model, query="x")))

        async def both_run() -> bool:
            scraped = await scrape(gateway.admin_address)
            return {"http", "grpc"} == {
                labels["door"] for labels, value in scraped.samples("saxgw_calls_in_flight") if value
            }

        await until(both_run)
        leaving = asyncio.ensure_future(gateway.__aexit__(None, None, None))
        await admin.put("/update", json=definition(model, replicas=1))
        response = await by_http
        assert response.status == 200
        assert response.headers["Connection"] == "close"
        assert (await by_grpc).results
        await session.close()
        await leaving


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("drain_timeout", [0, 0.1])
async def test_drain_timeout(door: str, drain_timeout: float) -> None:
    """What has not finished at the drain timeout is told so, a stream that has begun as well; leaving does not hang."""
    held = HeldModel()
    async with DevCell(models=held.classes) as cell:
        gateway = Gateway(settings(cell.root, drain_timeout=drain_timeout))
        await gateway.__aenter__()
        async with connected(gateway, door) as call:
            await call("Publish", definition("/sax/test/lm", model_path=HELD))
            request = {"model": "/sax/test/lm", "query": "x"}
            waiting = asyncio.ensure_future(call("Generate", request))
            stream = call.stream("GenerateStream", request)
            begun = asyncio.ensure_future(anext(stream))
            await held.until(lambda: held.running == 2)
            held.release(2)  # one of them is the stream's first step
            await held.until(lambda: held.asked == 4)
            await begun
            async with asyncio.timeout(60):
                await gateway.__aexit__(None, None, None)
            for ended in (waiting, anext(stream)):
                with pytest.raises(CallError, match="shutting down") as caught:
                    await ended
                assert (caught.value.code, caught.value.reason) == ("UNAVAILABLE", "SHUTTING_DOWN")
        await held.until(lambda: held.left == 2)


async def test_shutdown_delay(cell: DevCell) -> None:
    """With a shutdown delay it is not ready at once and serves on, so that load balancers can turn away first."""
    gateway = Gateway(settings(cell.root, shutdown_delay=60))
    await gateway.__aenter__()
    async with (
        aiohttp.ClientSession(f"http://{gateway.http_address}") as session,
        grpc.aio.insecure_channel(gateway.grpc_address) as channel,
    ):
        health: Any = health_pb2_grpc.HealthStub(channel)
        watch = health.Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        leaving = asyncio.ensure_future(gateway.__aexit__(None, None, None))
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        async with session.get("/readyz") as response:
            assert response.status == 503
            assert "shutting down" in (await response.json())["error"]["message"]
        for path in ("/livez", "/listall?sax_cell=/sax/test"):
            async with session.get(path) as response:
                assert response.status == 200
        stub = sax_service_pb2_grpc.SaxServiceStub(channel)
        await stub.ListAll(pb.ListAllRequest(sax_cell="/sax/test"))
    leaving.cancel()  # a second signal does not wait for the delay either
    with pytest.raises(asyncio.CancelledError):
        await leaving


@pytest.mark.parametrize("used", [True, False])
async def test_idle_connections_do_not_hold_the_drain(cell: DevCell, *, used: bool) -> None:
    """An idle connection is closed soon; a watch of the health service does not hold the drain either."""
    gateway = Gateway(settings(cell.root, drain_timeout=600))
    await gateway.__aenter__()
    reader, writer = await open_connection(gateway)
    if used:
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await reader.readuntil(b"}")
    async with grpc.aio.insecure_channel(gateway.grpc_address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        watch = stub.Watch(health_pb2.HealthCheckRequest())
        await watch.read()
        async with asyncio.timeout(60):
            await gateway.__aexit__(None, None, None)
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()


async def test_body_on_its_way_while_draining(cell: DevCell) -> None:
    """A request whose body is still arriving when draining begins is answered."""
    gateway = Gateway(settings(cell.root, drain_timeout=60))
    await gateway.__aenter__()
    idle_reader, idle_writer = await open_connection(gateway)
    reader, writer = await open_connection(gateway)
    body = orjson.dumps({"sax_cell": "/sax/test"})
    head = f"GET /listall HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode())
    await reader.readuntil(b"100 Continue\r\n\r\n")  # it has been taken
    leaving = asyncio.ensure_future(gateway.__aexit__(None, None, None))
    assert await idle_reader.read() == b""  # now idle connections have been closed
    writer.write(body)
    assert (await reader.read()).startswith(b"HTTP/1.1 200 OK\r\n")
    await leaving
    for each in (writer, idle_writer):
        each.close()
        await each.wait_closed()


async def open_connection(gateway: Gateway) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, port = gateway.http_address.split(":")
    return await asyncio.open_connection(host, int(port))


def test_nothing_is_left() -> None:
    """A gateway and a dev cell leave no task behind, and the gateway's ports are free again."""

    async def run() -> None:
        async with DevCell() as cell:
            with kept_port() as http_port, kept_port() as grpc_port:
                ports = {"http_port": http_port, "grpc_port": grpc_port}
                async with Gateway(settings(cell.root, **ports)) as gateway:
                    for door in DOORS:
                        async with connected(gateway, door) as call:
                            await call("ListAll", {"sax_cell": "/sax/test"})
                async with Gateway(settings(cell.root, **ports)):
                    pass
        await until(lambda: asyncio.all_tasks() == {asyncio.current_task()})  # what was cancelled last ends

    with asyncio.Runner(debug=True) as runner:
        runner.run(run())


async def test_half_a_start_is_undone(cell: DevCell) -> None:
    """If one door cannot open, the other is closed again."""
    async with Gateway(settings(cell.root)) as first:
        http_port = int(first.http_address.rpartition(":")[2])
        grpc_port = int(first.grpc_address.rpartition(":")[2])
        with pytest.raises(OSError, match=f"gRPC door cannot listen on 127.0.0.1:{grpc_port}"):
            await Gateway(settings(cell.root, grpc_port=grpc_port)).__aenter__()
        with pytest.raises(OSError, match=f"HTTP door cannot listen on 127.0.0.1:{http_port}"):
            await Gateway(settings(cell.root, http_port=http_port)).__aenter__()
