"""Traces, as a collector receives them after real calls."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest
import pytest_asyncio
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from saxgw.devcell import DevCell
from saxgw.gateway import SERVICE, Gateway
from saxgw.settings import InvalidSetting
from saxgw.v1 import sax_service_pb2 as pb
from tests.callers import CallError
from tests.conftest import connected, settings
from tests.sax.scripted import MODEL, Context, Hold, ScriptedCell, ScriptedModelServer, scripted_cell
from tests.telemetry.otlp import Receiver, receiver, values

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
GENERATE = "saxgw.v1.SaxService/Generate"
REQUEST = "sax.server.lm.LMService/Generate"
PROMPT = "the prompt is nobody's business"


@pytest_asyncio.fixture
async def collector() -> AsyncIterator[Receiver]:
    async with receiver() as received:
        yield received


@pytest_asyncio.fixture
async def scripted(tmp_path: Path) -> AsyncIterator[ScriptedCell]:
    async with scripted_cell(tmp_path) as cell:
        yield cell


@pytest_asyncio.fixture
async def server(scripted: ScriptedCell) -> ScriptedModelServer:
    """The one replica of MODEL."""
    server = await scripted.model_server()
    scripted.admin.serve(server.address)
    return server


async def traced(
    scripted: ScriptedCell, collector: Receiver, door: str, headers: dict[str, str], **changed: Any
) -> int:
    """Generates once through a door of a gateway that is closed afterwards; returns the code of HTTP or gRPC."""
    async with Gateway(settings(scripted.root, otlp_endpoint=collector.endpoint, **changed)) as gateway:
        return await generate(gateway, door, headers)


async def generate(gateway: Gateway, door: str, headers: dict[str, str]) -> int:
    if door == "http":
        body = {"model": MODEL, "query": PROMPT}
        async with (
            aiohttp.ClientSession(f"http://{gateway.http_address}") as http,
            http.post("/generate", json=body, headers=headers) as response,
        ):
            return response.status
    async with grpc.aio.insecure_channel(gateway.grpc_address) as channel:
        call: Any = channel.unary_unary(
            f"/{SERVICE.full_name}/Generate", pb.GenerateRequest.SerializeToString, pb.GenerateResponse.FromString
        )
        request = pb.GenerateRequest(model=MODEL, query=PROMPT)
        running = call(request, metadata=[(key.lower(), value) for key, value in headers.items()])
        code: int = (await running.code()).value[0]
        return code


@pytest.mark.parametrize("door", ["http", "grpc"])
async def test_trace_of_a_call(
    scripted: ScriptedCell, server: ScriptedModelServer, collector: Receiver, door: str
) -> None:
    """A call, its wait and its request to a model server are spans in the caller's trace, which the server is told."""
    seen: dict[str, Any] = {}

    async def look(request: Any, context: Context) -> Any:
        seen.update(dict(context.invocation_metadata() or ()))
        return await server._repeat(request, context)  # noqa: SLF001 - what it does by default

    server.always["Generate"] = look
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "vendor=1,other=2", "X-Request-Id": "my-id"}
    await traced(scripted, collector, door, headers)
    [call], [wait], [request] = collector.named(GENERATE), collector.named("queue"), collector.named(REQUEST)
    assert len(collector.spans) == 3
    assert {span.trace_id.hex() for span in collector.spans} == {TRACE}
    assert len({span.span_id for span in collector.spans}) == 3
    assert call.parent_span_id.hex() == PARENT
    assert wait.parent_span_id == request.parent_span_id == call.span_id
    assert [span.kind for span in (call, wait, request)] == [
        Span.SPAN_KIND_SERVER,
        Span.SPAN_KIND_INTERNAL,
        Span.SPAN_KIND_CLIENT,
    ]
    assert call.start_time_unix_nano <= wait.start_time_unix_nano <= wait.end_time_unix_nano
    assert wait.end_time_unix_nano <= request.start_time_unix_nano <= request.end_time_unix_nano
    assert request.end_time_unix_nano <= call.end_time_unix_nano
    assert values(call.attributes) == {
        "rpc.system.name": door,
        "rpc.method": GENERATE,
        "rpc.response.status_code": "OK",
        "client.address": "127.0.0.1",
        "saxgw.request_id": "my-id",
        "gen_ai.operation.name": "text_completion",
        "gen_ai.request.model": MODEL,
    }
    host, port = server.address.split(":")
    assert values(request.attributes) == {
        "rpc.system.name": "grpc",
        "rpc.method": REQUEST,
        "rpc.response.status_code": "OK",
        "server.address": host,
        "server.port": int(port),
        "gen_ai.request.model": MODEL,
    }
    assert seen["traceparent"] == f"00-{TRACE}-{request.span_id.hex()}-01"
    assert seen["tracestate"] == call.trace_state == "vendor=1,other=2"
    assert collector.resource["service.name"] == "saxgw"
    assert collector.resource["service.version"]
    assert PROMPT not in str(collector.spans)


async def test_trace_that_begins_here(scripted: ScriptedCell, server: ScriptedModelServer, collector: Receiver) -> None:
    """A caller without a trace, or with a malformed one, gets a new one."""
    assert server.address
    async with Gateway(settings(scripted.root, otlp_endpoint=collector.endpoint)) as gateway:
        await generate(gateway, "http", {})
        await generate(gateway, "http", {"traceparent": f"00-{'0' * 32}-{PARENT}-01"})
    first, second = collector.named(GENERATE)
    assert first.trace_id != second.trace_id
    assert not first.parent_span_id
    assert not second.parent_span_id


async def test_longest_name(scripted: ScriptedCell, collector: Receiver) -> None:
    """Of what a caller writes for a model's name no more than 200 characters are told."""
    async with (
        Gateway(settings(scripted.root, otlp_endpoint=collector.endpoint)) as gateway,
        connected(gateway, "grpc") as call,
    ):
        with pytest.raises(CallError):
            await call("Generate", {"model": "x" * 1000, "query": PROMPT})
    [span] = collector.named(GENERATE)
    assert values(span.attributes)["gen_ai.request.model"] == "x" * 200


async def test_unsampled(scripted: ScriptedCell, server: ScriptedModelServer, collector: Receiver) -> None:
    """What its caller does not sample is not sent, but goes on to the model server, unsampled."""
    server.always["Generate"] = hold = _Look()
    await traced(scripted, collector, "http", {"traceparent": f"00-{TRACE}-{PARENT}-00"})
    assert collector.spans == []
    assert hold.seen["traceparent"] == f"00-{TRACE}-{PARENT}-00"


class _Look(Hold):
    """Answers at once, and keeps the metadata that came."""

    def __init__(self) -> None:
        super().__init__()
        self.release.set()
        self.seen: dict[str, Any] = {}

    async def __call__(self, request: Any, context: Context) -> Any:
        self.seen.update(dict(context.invocation_metadata() or ()))
        return await super().__call__(request, context)


async def test_sampler(
    scripted: ScriptedCell, server: ScriptedModelServer, collector: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OTEL_TRACES_SAMPLER and OTEL_SERVICE_NAME are heeded."""
    server.always["Generate"] = look = _Look()
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_always_off")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "my-gateway")
    await traced(scripted, collector, "http", {})
    assert collector.spans == []
    assert look.seen["traceparent"].endswith("-00"), "the model server is told that it is not sampled"
    scripted.admin.serve(server.address)
    await traced(scripted, collector, "http", {"traceparent": f"00-{TRACE}-{PARENT}-01"})
    assert len(collector.named(GENERATE)) == 1
    assert collector.resource["service.name"] == "my-gateway"
    collector.spans.clear()
    scripted.admin.serve(server.address)
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    await traced(scripted, collector, "http", {"traceparent": f"00-{TRACE}-{PARENT}-01"})
    assert collector.spans == []
    assert look.seen["traceparent"] == f"00-{TRACE}-{PARENT}-00"


@pytest.mark.parametrize("door", ["http", "grpc"])
async def test_failures(scripted: ScriptedCell, server: ScriptedModelServer, collector: Receiver, door: str) -> None:
    """A request that fails and is sent again, and a call that fails, say so; a caller's mistake is no error of ours."""
    calls = 0

    async def fail_twice(request: Any, context: Context) -> Any:
        nonlocal calls
        calls += 1
        if calls == 1:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "going away")
        await context.abort(grpc.StatusCode.INTERNAL, f"failed with {request.text}")

    server.always["Generate"] = fail_twice
    await traced(scripted, collector, door, {})
    first, second = collector.named(REQUEST)
    assert first.status.code == second.status.code == Status.STATUS_CODE_ERROR
    assert values(first.attributes)["error.type"] == "UNAVAILABLE"
    assert values(second.attributes)["saxgw.request.resend_count"] == 1
    [call] = collector.named(GENERATE)
    assert call.status.code == Status.STATUS_CODE_ERROR
    assert values(call.attributes)["rpc.response.status_code"] == "INTERNAL"
    assert PROMPT not in str(collector.spans)
    collector.spans.clear()
    scripted.admin.published.clear()
    await traced(scripted, collector, door, {})
    [call] = collector.named(GENERATE)
    assert values(call.attributes)["error.type"] == "MODEL_NOT_FOUND"
    assert call.status.code == Status.STATUS_CODE_UNSET


async def test_batch(scripted: ScriptedCell, server: ScriptedModelServer, collector: Receiver) -> None:
    """The requests of a batch are parts of its span."""
    async with (
        Gateway(settings(scripted.root, otlp_endpoint=collector.endpoint)) as gateway,
        connected(gateway, "grpc") as call,
    ):
        await call("BatchGenerate", {"model": MODEL, "queries": ["a", "b", "c"]})
    [batch] = collector.named("saxgw.v1.SaxService/BatchGenerate")
    assert [span.parent_span_id for span in collector.named(REQUEST)] == [batch.span_id] * 3
    assert len(server.requests["Generate"]) == 3


async def test_stream(cell: DevCell, collector: Receiver, published: str) -> None:
    """The span of a stream tells when its first message was sent, and that of its request lasts as long."""
    async with (
        Gateway(settings(cell.root, otlp_endpoint=collector.endpoint)) as gateway,
        connected(gateway, "grpc") as call,
    ):
        await call("GenerateStream", {"model": published, "query": PROMPT})
    [stream] = collector.named("saxgw.v1.SaxService/GenerateStream")
    request = collector.named("sax.server.lm.LMService/GenerateStream")[-1]  # after those that came too early
    first_ns = values(stream.attributes)["gen_ai.response.time_to_first_chunk"] * 1e9
    assert first_ns > 0
    assert stream.start_time_unix_nano + first_ns < request.end_time_unix_nano <= stream.end_time_unix_nano
    assert values(request.attributes)["rpc.response.status_code"] == "OK"


async def test_collector_that_is_away(scripted: ScriptedCell, server: ScriptedModelServer) -> None:
    """Calls do not notice a collector that cannot be reached, and neither does the end of the gateway."""
    assert server.address
    async with Gateway(settings(scripted.root, otlp_endpoint="http://127.0.0.1:1")) as gateway:
        assert await asyncio.wait_for(generate(gateway, "http", {}), 60) == 200


WITHOUT_THE_EXTRA = """
import asyncio, sys
sys.modules["opentelemetry.sdk"] = None
from saxgw.devcell import DevCell
from saxgw.gateway import Gateway
from saxgw.settings import Settings

async def main():
    async with Gateway(Settings(sax_root=sys.argv[1], http_port=0, grpc_port=0, otlp_endpoint="http://x:1")):
        print("ready")

asyncio.run(main())
"""


async def test_without_the_extra(scripted: ScriptedCell) -> None:
    """Where the extra is not installed the gateway says so, and runs without traces."""
    command = [sys.executable, "-W", "error", "-c", WITHOUT_THE_EXTRA, scripted.root]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=True)
    assert done.stdout == "ready\n"
    assert "there are no traces for http://x:1: install saxgw[otel] to have them" in done.stderr


async def test_variables_that_make_no_sense(scripted: ScriptedCell, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the SDK does not take of its own variables is an error that says so."""
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "1")
    with pytest.raises(InvalidSetting, match=r"OTEL_\* make no sense .*: max_export_batch_size must be"):
        await Gateway(settings(scripted.root, otlp_endpoint="http://127.0.0.1:1")).__aenter__()
