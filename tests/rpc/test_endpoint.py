"""The table of endpoints and the interceptors around each handler."""

from __future__ import annotations

import asyncio
import itertools
import logging
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any

import pytest
from google.protobuf.descriptor import MethodDescriptor
from grpc_reflection.v1alpha import reflection_pb2

from saxgw.rpc.call import Call
from saxgw.rpc.deadline import Deadline
from saxgw.rpc.endpoint import Scope, StreamEndpoint, UnaryEndpoint, make_endpoints
from saxgw.rpc.expiry import Timeouts, enforce_deadline
from saxgw.rpc.interceptors import (
    limit_concurrency,
    report_unexpected,
    require_fields,
    translate,
)
from saxgw.rpc.running import Running
from saxgw.rpc.status import Code, RpcError
from saxgw.v1 import sax_service_pb2 as pb
from tests.footprint import uncollected

SERVICE = pb.DESCRIPTOR.services_by_name["SaxService"]

REQUEST = pb.GenerateRequest(model="m", query="q")


class Servicer:
    """Answers every method with its response message, or as `generate` is told."""

    def __init__(self, generate: Callable[[Any, Call], Awaitable[Any]] | None = None) -> None:
        async def default(_: Any, __: Call) -> pb.GenerateResponse:
            return pb.GenerateResponse(results=[pb.Result(text="done")])

        self.generate = generate or default
        self.generate_stream: Any = default

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)

        async def answer(_: Any, __: Call) -> Any:
            return None

        return answer


Handler = Callable[[Any, Call], Awaitable[Any]]


def generate(*interceptors: Any, handler: Handler | None = None, inspectors: Any = ()) -> UnaryEndpoint:
    """The Generate endpoint over a handler, with these interceptors and inspectors."""
    table = {e.method.name: e for e in make_endpoints(SERVICE, Servicer(handler), interceptors, inspectors)}
    endpoint = table["Generate"]
    assert isinstance(endpoint, UnaryEndpoint)
    return endpoint


async def run(endpoint: UnaryEndpoint, request: Any = REQUEST, call: Call | None = None) -> Any:
    async def receive() -> Any:
        return request

    return await endpoint.handler(call or Call("http", None), receive)


async def nothing() -> Any:
    return None


def test_table_is_made_from_the_descriptor() -> None:
    """There is one endpoint for each method, in order, and of the method's kind."""
    table = make_endpoints(SERVICE, Servicer(), [])
    assert [endpoint.method for endpoint in table] == list(SERVICE.methods)
    assert all(isinstance(e, StreamEndpoint) == e.method.server_streaming for e in table)
    assert table[0].request_class is pb.PublishRequest
    assert table[0].response_class is pb.PublishResponse


def test_missing_handler() -> None:
    """A method without a handler is refused when the table is made."""
    with pytest.raises(TypeError, match=r"object has no publish\(\)"):
        make_endpoints(SERVICE, object(), [])


def test_streaming_requests() -> None:
    """A method that takes a stream of requests is refused."""
    service: Any = reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"]
    with pytest.raises(TypeError, match="ServerReflectionInfo takes a stream of requests"):
        make_endpoints(service, Servicer(), [])


async def test_interceptors_are_folded_outermost_first() -> None:
    """The first interceptor is entered first and left last, and is made once for each method."""
    seen: list[str] = []

    def named(name: str) -> Any:
        def interceptor(method: MethodDescriptor) -> Scope:
            @contextmanager
            def scope(_: Call) -> Iterator[None]:
                seen.append(f"{name} {method.name}")
                yield
                seen.append(f"{name} left")

            return scope

        return interceptor

    await run(generate(named("outer"), lambda _: None, named("inner")))
    assert seen == ["outer Generate", "inner Generate", "inner left", "outer left"]


class Playing:
    """A scope that plays a part, and notes what happens to it under its name."""

    PARTS = ("plain", "refuses", "waits", "fails waiting", "fails on leaving", "replaces", "suppresses")

    def __init__(self, name: str, part: str, seen: list[str]) -> None:
        self.name = name
        self.part = part
        self.seen = seen

    def __enter__(self) -> Awaitable[None] | None:
        self.seen.append(f"{self.name} entered")
        if self.part == "refuses":
            raise LookupError(f"{self.name} refused")
        return self.wait() if self.part in ("waits", "fails waiting") else None

    async def wait(self) -> None:
        await asyncio.sleep(0)
        self.seen.append(f"{self.name} waited")
        if self.part == "fails waiting":
            raise LookupError(f"{self.name} waited in vain")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        assert (kind, trace) == ((None, None) if error is None else (type(error), error.__traceback__))
        self.seen.append(f"{self.name} left, {error!r}")
        if self.part == "fails on leaving":
            raise LookupError(f"{self.name} failed")
        if self.part == "replaces" and error is not None:
            raise LookupError(f"{self.name} replaced") from error
        return self.part == "suppresses"


def around(scope: Playing) -> Any:
    """The interceptor that puts a scope around every call."""
    return lambda _: lambda _: scope


async def nested(scopes: Sequence[Playing], handler: Callable[[], Awaitable[Any]]) -> Any:
    """What a handler does within scopes that are `with` statements within each other."""
    if not scopes:
        return await handler()
    with scopes[0] as pending:
        if pending is not None:
            await pending
        return await nested(scopes[1:], handler)


async def outcome(answering: Awaitable[Any]) -> Any:
    """What comes of it: the answer, or the exception with all that it came from."""

    def told(error: BaseException | None) -> Any:
        if error is None:
            return None
        return repr(error), error.__suppress_context__, told(error.__cause__), told(error.__context__)

    try:
        return await answering
    except BaseException as error:  # noqa: BLE001 - cancellation as well
        return told(error)


@pytest.mark.parametrize("failure", [None, KeyError("handler"), asyncio.CancelledError("caller left")], ids=repr)
async def test_scopes_are_with_statements(failure: BaseException | None) -> None:
    """Whatever scopes and handler do, it ends as `with` statements do: order, answer, exception, causes, contexts."""

    async def answer(*_: Any) -> Any:
        if failure is not None:
            raise type(failure)(*failure.args)  # a new one each time, since it keeps its context
        return "the answer"

    for parts in itertools.product(Playing.PARTS, repeat=3):
        seen: list[str] = []
        within = [Playing(f"scope {number}", part, seen) for number, part in enumerate(parts)]
        expected = await outcome(nested(within, answer)), seen.copy()
        seen.clear()
        got = await outcome(run(generate(*map(around, within), handler=answer))), seen
        assert (parts, got) == (parts, expected)


class Request:
    """Stands for a request; unlike messages it tells when it is gone."""


@pytest.mark.parametrize("failure", ["translated", "ended", "expired", "cancelled"])
async def test_failed_calls_let_go_of_their_requests(failure: str) -> None:
    """However a call fails, its request is gone as soon as its exception is, without the garbage collector."""
    running = Running()

    async def answer(*_: Any) -> Any:
        match failure:
            case "translated":
                raise LookupError("not there")
            case "ended":
                running.end()
            case "cancelled":
                raise asyncio.CancelledError
        await asyncio.get_running_loop().create_future()

    endpoint = generate(
        report_unexpected,
        running.intercept,
        enforce_deadline(dict.fromkeys(SERVICE.methods_by_name, Timeouts(0.01, 1))),
        translate(LookupError, lambda error: RpcError(Code.NOT_FOUND, str(error))),
        handler=answer,
    )
    request = Request()
    alive = weakref.ref(request)
    with uncollected():
        with suppress(RpcError, asyncio.CancelledError):
            await run(endpoint, request)
        del request
        await asyncio.sleep(0)  # in debug mode the loop has what it runs, and with it what that was woken by
        assert alive() is None


async def test_cancelled_while_a_scope_waits() -> None:
    """Cancelling a call that a scope holds up cancels what is awaited, and leaves that scope and those around it."""
    seen: list[str] = []
    held = asyncio.Event()

    class Holding(Playing):
        async def wait(self) -> None:
            held.set()
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                seen.append("holds no longer")

    scopes = Playing("outer", "plain", seen), Holding("holding", "waits", seen), Playing("inner", "plain", seen)
    task = asyncio.ensure_future(run(generate(*map(around, scopes))))
    await held.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    left = [f"{name} left, CancelledError()" for name in ("holding", "outer")]
    assert seen == ["outer entered", "holding entered", "holds no longer", *left]


async def test_request_is_read_within_scopes_and_looked_at_last() -> None:
    """What refuses a call without knowing the request does so before it is read; what looks at it comes after."""
    seen: list[str] = []

    @contextmanager
    def scope(call: Call) -> Iterator[None]:
        seen.append("entered")
        yield
        seen.append(f"left, {call.request}")

    async def receive() -> Any:
        seen.append("read")
        return "the request"

    def inspector(name: str) -> Any:
        return lambda method: lambda request, _: seen.append(f"{name} {method.name}: {request}")

    endpoint = generate(lambda _: scope, inspectors=[inspector("first"), lambda _: None, inspector("second")])
    await endpoint.handler(Call("http", None), receive)
    assert seen == [
        "entered",
        "read",
        "first Generate: the request",
        "second Generate: the request",
        "left, the request",
    ]


def stream(handler: Any, *interceptors: Any) -> StreamEndpoint:
    """The GenerateStream endpoint over a generator, with these interceptors."""
    servicer = Servicer()
    servicer.generate_stream = handler
    table = {e.method.name: e for e in make_endpoints(SERVICE, servicer, interceptors)}
    endpoint = table["GenerateStream"]
    assert isinstance(endpoint, StreamEndpoint)
    return endpoint


async def test_stream_within_scopes() -> None:
    """An interceptor is around a whole stream, the sending of each message included; so it can replace its errors."""
    seen: list[str] = []

    @contextmanager
    def scope(_: Call) -> Iterator[None]:
        seen.append("entered")
        try:
            yield
        except LookupError as error:
            raise RpcError(Code.NOT_FOUND, "replaced") from error
        finally:
            seen.append("left")

    async def numbers(_: Any, __: Call) -> AsyncGenerator[pb.GenerateStreamResponse]:
        try:
            for _ in range(2):
                yield pb.GenerateStreamResponse()
        finally:
            seen.append("closed")

    async def send(_: Any) -> None:
        seen.append("sent")

    await stream(numbers, lambda _: scope).handler(Call("http", None), nothing, send)
    assert seen == ["entered", "sent", "sent", "closed", "left"]

    async def fail(_: Any) -> None:
        seen.append("failed")
        raise KeyError

    seen.clear()
    with pytest.raises(RpcError, match="replaced"):
        await stream(numbers, lambda _: scope).handler(Call("http", None), nothing, fail)
    assert seen == ["entered", "failed", "closed", "left"]


async def test_deadline_while_sending() -> None:
    """A deadline passes for a stream whose reader is slow as it does for one whose model is."""

    async def numbers(_: Any, __: Call) -> AsyncGenerator[pb.GenerateStreamResponse]:
        yield pb.GenerateStreamResponse()

    async def never(_: Any) -> None:
        await asyncio.get_running_loop().create_future()

    endpoint = stream(numbers, enforce_deadline(timeouts(0.01)))
    with pytest.raises(RpcError, match=r"within 0\.01 s"):
        await endpoint.handler(Call("http", None), nothing, never)


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


def timeouts(default_s: float = 60.0, max_s: float = 60.0) -> dict[str, Timeouts]:
    """The same for every method."""
    return dict.fromkeys(SERVICE.methods_by_name, Timeouts(default_s, max_s))


@pytest.mark.parametrize(
    ("default_s", "max_s", "callers_s"),
    [(0.05, 60, None), (60, 60, 0.05), (60, 0.05, 60), (60, 0.05, None)],
    ids=["default", "caller's", "maximum for the caller", "maximum for the default"],
)
async def test_deadlines(default_s: float, max_s: float, callers_s: float | None) -> None:
    """Whichever is earliest ends the call; the handler sees it and is cancelled."""
    cancelled = False

    async def hang(_: Any, call: Call) -> Any:
        nonlocal cancelled
        assert call.deadline is not None
        assert call.deadline.timeout_s == 0.05
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            cancelled = True

    endpoint = generate(enforce_deadline(timeouts(default_s, max_s)), handler=hang)
    async with asyncio.timeout(60):
        while not cancelled:  # on a busy machine a caller's deadline may have passed before the call has begun
            deadline = None if callers_s is None else Deadline.after(callers_s)
            with pytest.raises(RpcError, match=r"within 0\.05 s") as caught:
                await run(endpoint, call=Call("grpc", deadline))
            assert caught.value.code is Code.DEADLINE_EXCEEDED


async def test_caller_may_give_more_than_the_default() -> None:
    """The default is for callers who do not say."""

    async def answer(_: Any, call: Call) -> Any:
        assert call.deadline is not None
        assert call.deadline.timeout_s == 30
        return pb.GenerateResponse()

    await run(generate(enforce_deadline(timeouts(1, 60)), handler=answer), call=Call("grpc", Deadline.after(30)))


async def test_deadline_that_has_passed() -> None:
    """A call that comes too late is not begun."""
    endpoint = generate(enforce_deadline(timeouts()), handler=None)
    with pytest.raises(RpcError, match="within 0 s"):
        await run(endpoint, call=Call("grpc", Deadline.after(0)))


async def test_many_deadlines() -> None:
    """Calls expire in turn, whichever of those before them are over already."""
    hanging = asyncio.get_running_loop().create_future()

    async def hang(request: Any, _: Call) -> Any:
        if request.query != "quick":
            await asyncio.shield(hanging)
        return pb.GenerateResponse()

    endpoint = generate(enforce_deadline(timeouts(0.02)), handler=hang)
    for _ in range(3):
        requests = [pb.GenerateRequest(query=query) for query in ("quick", "slow", "quick", "slow")]
        answers = await asyncio.gather(*(run(endpoint, request) for request in requests), return_exceptions=True)
        assert [isinstance(answer, RpcError) for answer in answers] == [False, True, False, True]
    hanging.cancel()


async def test_cancellation_is_not_the_deadline() -> None:
    """Who cancels a call gets its cancellation back, whatever the time."""

    async def hang(_: Any, __: Call) -> Any:
        await asyncio.get_running_loop().create_future()

    task = asyncio.ensure_future(run(generate(enforce_deadline(timeouts()), handler=hang)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_timeout_inside_is_not_the_deadline() -> None:
    """A TimeoutError of the handler's own is not taken for the call's deadline."""

    async def fail(_: Any, __: Call) -> Any:
        raise TimeoutError

    endpoint = generate(enforce_deadline(timeouts()), handler=fail)
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
    endpoint = generate(inspectors=[require_fields])
    await run(endpoint, pb.GenerateRequest(model="m", query=""))
    with pytest.raises(RpcError, match="model: is required but missing or empty; query: is required") as caught:
        await run(endpoint, pb.GenerateRequest())
    assert caught.value.code is Code.INVALID_ARGUMENT
