"""The table of endpoints and the interceptors around each handler."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from google.protobuf.descriptor import MethodDescriptor

from saxgw.rpc.call import Call
from saxgw.rpc.deadline import Deadline
from saxgw.rpc.endpoint import Endpoint, Handler, make_endpoints
from saxgw.rpc.interceptors import (
    enforce_deadline,
    limit_concurrency,
    report_unexpected,
    require_fields,
    translate,
)
from saxgw.rpc.status import Code, RpcError
from saxgw.sax.wire import lm_pb2
from saxgw.v1 import sax_service_pb2 as pb

SERVICE = pb.DESCRIPTOR.services_by_name["SaxService"]

REQUEST = pb.GenerateRequest(model="m", query="q")


class Servicer:
    """Answers every method with its response message, or as `generate` is told."""

    def __init__(self, generate: Handler | None = None) -> None:
        async def default(_: Any, __: Call) -> pb.GenerateResponse:
            return pb.GenerateResponse(results=[pb.Result(text="done")])

        self.generate = generate or default

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)

        async def answer(_: Any, __: Call) -> Any:
            return None

        return answer


def generate(*interceptors: Any, handler: Handler | None = None) -> Endpoint:
    """The Generate endpoint over a handler, with these interceptors."""
    table = {e.method.name: e for e in make_endpoints(SERVICE, Servicer(handler), interceptors)}
    return table["Generate"]


async def run(endpoint: Endpoint, request: Any = REQUEST, call: Call | None = None) -> Any:
    return await endpoint.handler(request, call or Call("http", None))


def test_table_is_made_from_the_descriptor() -> None:
    """There is one endpoint for each method, in order, under the name that gRPC uses."""
    table = make_endpoints(SERVICE, Servicer(), [])
    assert [endpoint.name for endpoint in table] == [f"{SERVICE.full_name}/{m.name}" for m in SERVICE.methods]
    assert table[0].request_class is pb.PublishRequest
    assert table[0].response_class is pb.PublishResponse


def test_missing_handler() -> None:
    """A method without a handler is refused when the table is made."""
    with pytest.raises(TypeError, match=r"object has no publish\(\)"):
        make_endpoints(SERVICE, object(), [])


def test_streaming_method() -> None:
    """A streaming method is refused: endpoints are unary."""
    with pytest.raises(TypeError, match="GenerateStream streams"):
        make_endpoints(lm_pb2.DESCRIPTOR.services_by_name["LMService"], Servicer(), [])


async def test_interceptors_are_folded_outermost_first() -> None:
    """The first interceptor sees the call first, and is made once for each method."""
    seen: list[str] = []

    def named(name: str) -> Any:
        def interceptor(method: MethodDescriptor, handler: Handler) -> Handler:
            async def intercept(request: Any, call: Call) -> Any:
                seen.append(f"{name} {method.name}")
                return await handler(request, call)

            return intercept

        return interceptor

    await run(generate(named("outer"), named("inner")))
    assert seen == ["outer Generate", "inner Generate"]


async def test_unexpected_exception(caplog: pytest.LogCaptureFixture) -> None:
    """Strangers get a fixed sentence and a request id; the log has that id and the traceback."""

    async def fail(_: Any, __: Call) -> Any:
        raise KeyError("secret")

    call = Call("http", None)
    with caplog.at_level(logging.ERROR), pytest.raises(RpcError) as caught:
        await run(generate(report_unexpected, handler=fail), call=call)
    assert caught.value.code is Code.INTERNAL
    assert "secret" not in caught.value.message
    assert call.request_id in caught.value.message
    assert call.request_id in caplog.text
    assert "KeyError" in caplog.text


async def test_expected_error_passes() -> None:
    """An RpcError is passed on as it is."""
    error = RpcError(Code.NOT_FOUND, "no such thing")

    async def fail(_: Any, __: Call) -> Any:
        raise error

    with pytest.raises(RpcError) as caught:
        await run(generate(report_unexpected, handler=fail))
    assert caught.value is error


async def test_translate() -> None:
    """Exceptions of the named family are translated, others are not."""

    async def fail(_: Any, __: Call) -> Any:
        raise failure

    endpoint = generate(translate(LookupError, lambda e: RpcError(Code.NOT_FOUND, repr(e))), handler=fail)
    failure: Exception = KeyError("k")
    with pytest.raises(RpcError, match="KeyError"):
        await run(endpoint)
    failure = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        await run(endpoint)


async def test_deadline_of_the_caller_and_of_the_method() -> None:
    """Whichever is earlier ends the call; the handler sees it and is cancelled."""
    cancelled = 0

    async def hang(_: Any, call: Call) -> Any:
        nonlocal cancelled
        assert call.deadline is not None
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            cancelled += 1

    slow = dict.fromkeys(SERVICE.methods_by_name, 60.0)
    for default_s, callers_s in ((0.01, None), (0.01, 60.0), (60.0, 0.01)):
        endpoint = generate(enforce_deadline({**slow, "Generate": default_s}), handler=hang)
        deadline = None if callers_s is None else Deadline.after(callers_s)
        with pytest.raises(RpcError, match=r"within 0\.01 s") as caught:
            await run(endpoint, call=Call("grpc", deadline))
        assert caught.value.code is Code.DEADLINE_EXCEEDED
    assert cancelled == 3


async def test_timeout_inside_is_not_the_deadline() -> None:
    """A TimeoutError of the handler's own is not taken for the call's deadline."""

    async def fail(_: Any, __: Call) -> Any:
        raise TimeoutError

    endpoint = generate(enforce_deadline(dict.fromkeys(SERVICE.methods_by_name, 60.0)), handler=fail)
    with pytest.raises(TimeoutError):
        await run(endpoint)


async def test_limit_concurrency() -> None:
    """Calls over the limit are refused with a time to come back; a finished call makes room."""
    entered, release = asyncio.Event(), asyncio.Event()

    async def hold(_: Any, __: Call) -> Any:
        entered.set()
        await release.wait()
        return pb.GenerateResponse()

    endpoint = generate(limit_concurrency(1), handler=hold)
    first = asyncio.create_task(run(endpoint))
    await entered.wait()
    with pytest.raises(RpcError, match="running 1 calls") as caught:
        await run(endpoint)
    assert caught.value.code is Code.RESOURCE_EXHAUSTED
    assert caught.value.retry_delay_s == 1
    release.set()
    await first
    await run(endpoint)


async def test_limit_is_freed_by_failure_and_cancellation() -> None:
    """A call that fails or is cancelled frees its place."""

    async def fail(_: Any, __: Call) -> Any:
        raise RpcError(Code.NOT_FOUND, "nothing")

    async def hang(_: Any, __: Call) -> Any:
        await asyncio.get_running_loop().create_future()

    endpoint = generate(limit_concurrency(1), handler=fail)
    for _ in range(2):
        with pytest.raises(RpcError, match="nothing"):
            await run(endpoint)
    endpoint = generate(limit_concurrency(1), handler=hang)
    for _ in range(2):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(run(endpoint), 0.001)


async def test_required_fields() -> None:
    """All missing required fields are named; a field with presence may be empty."""
    endpoint = generate(require_fields)
    await run(endpoint, pb.GenerateRequest(model="m", query=""))
    with pytest.raises(RpcError, match="model: is required but missing or empty; query: is required") as caught:
        await run(endpoint, pb.GenerateRequest())
    assert caught.value.code is Code.INVALID_ARGUMENT
