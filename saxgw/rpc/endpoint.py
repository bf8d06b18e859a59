"""Endpoints: one for each method of the service, with its handler and interceptors folded in.

The table is made once, from the service descriptor, and both doors are built from it. Whatever an interceptor does is
therefore true of a call whichever door it came through, and whether its answer is one message or a stream.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractContextManager, aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from saxgw.rpc.call import Call

if TYPE_CHECKING:
    from types import TracebackType

    from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor

Receive: TypeAlias = Callable[[], Awaitable[Any]]
"""Gives the request of a call, a message of the method's input type: reads it, if it is still on its way, and decodes
it. Raises RpcError for what cannot be read."""

Send: TypeAlias = Callable[[Message], Awaitable[object]]
"""Takes one message of a stream to the caller; returns when there is room for the next."""

UnaryHandler: TypeAlias = Callable[[Call, Receive], Awaitable[Message]]
"""Answers one call with a message; raises RpcError."""

StreamHandler: TypeAlias = Callable[[Call, Receive, Send], Awaitable[None]]
"""Answers one call with a stream: sends each message; raises RpcError, which may be after some were sent."""

Scope: TypeAlias = Callable[[Call], AbstractContextManager[Awaitable[None] | None]]
"""What an interceptor puts around each call: a context that is entered before the request is read, and left when the
last message of the answer was sent or the call failed. It refuses a call by raising RpcError on entering, and replaces
an exception by raising another on leaving. What seldom takes time it returns on entering, to be awaited within it."""

Interceptor: TypeAlias = Callable[["MethodDescriptor"], Scope | None]
"""Makes the scope of a method, once, when the table is made; None if it has nothing to do for the method."""

Check: TypeAlias = Callable[[Any, Call], None]
"""Looks at a request, within all scopes, before the handler gets it; refuses it by raising RpcError. The request is of
the method's input type, which the type checker cannot know here."""

Inspector: TypeAlias = Callable[["MethodDescriptor"], Check | None]
"""Makes the check of a method, as an Interceptor makes its scope."""


@dataclass(frozen=True, slots=True)
class UnaryEndpoint:
    """A method that answers with one message, ready to be called."""

    method: MethodDescriptor
    request_class: type[Message]
    response_class: type[Message]

    handler: UnaryHandler
    """The method's handler with all checks before it and all interceptors around it."""


@dataclass(frozen=True, slots=True)
class StreamEndpoint:
    """A method that answers with a stream of messages, ready to be called."""

    method: MethodDescriptor
    request_class: type[Message]
    response_class: type[Message]

    handler: StreamHandler
    """The same; the interceptors' scopes are left when the last message is sent."""


Endpoint: TypeAlias = UnaryEndpoint | StreamEndpoint


def make_endpoints(
    service: ServiceDescriptor,
    servicer: object,
    interceptors: Iterable[Interceptor] = (),
    inspectors: Iterable[Inspector] = (),
) -> tuple[Endpoint, ...]:
    """Makes the table: `servicer` has a handler for each method of `service`, ListAll as `list_all`.

    The handler of a method is a coroutine method that takes the request and a Call and returns the response; that of a
    method with a streaming answer is an asynchronous generator of responses. `interceptors` are given outermost first,
    `inspectors` in the order in which they look.

    Raises TypeError for a method without a handler, or one whose requests stream.
    """
    outermost_first, looking = tuple(interceptors), tuple(inspectors)
    endpoints: list[Endpoint] = []
    for method in service.methods:
        if method.client_streaming:
            raise TypeError(f"{method.full_name} takes a stream of requests; endpoints take one")
        own: Any = getattr(servicer, _snake_case(method.name), None)
        if own is None:
            raise TypeError(f"{type(servicer).__name__} has no {_snake_case(method.name)}() for {method.full_name}")
        checks = tuple(filter(None, [inspector(method) for inspector in looking]))
        handler: Any = (_streaming if method.server_streaming else _unary)(own, checks)
        scopes = [scope for interceptor in outermost_first if (scope := interceptor(method)) is not None]
        handler = _within(scopes, handler)
        make = StreamEndpoint if method.server_streaming else UnaryEndpoint
        endpoints.append(make(method, GetMessageClass(method.input_type), GetMessageClass(method.output_type), handler))
    return tuple(endpoints)


def _unary(handler: Callable[[Any, Call], Awaitable[Message]], checks: tuple[Check, ...]) -> UnaryHandler:
    async def answer(call: Call, receive: Receive) -> Message:
        request = call.request = await receive()
        for check in checks:
            check(request, call)
        response = call.response = await handler(request, call)
        return response

    return answer


def _streaming(
    handler: Callable[[Any, Call], AsyncGenerator[Message]], checks: tuple[Check, ...]
) -> Callable[..., Any]:
    """Makes a generator push its messages.

    It is not the door that runs it: what happens while a message is sent, such as the deadline, would be outside of the
    interceptors' scopes.
    """

    async def push(call: Call, receive: Receive, send: Send) -> None:
        request = call.request = await receive()
        for check in checks:
            check(request, call)
        async with aclosing(handler(request, call)) as messages:
            async for message in messages:
                await send(message)
                call.response = message
                if call.when_sent is not None:
                    call.when_sent()

    return push


def _within(scopes: Sequence[Scope], handler: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """Puts scopes around a handler, outermost first, as `with` statements within each other would.

    All are entered by one coroutine: each within another costs a call a third of a microsecond, and that again whenever
    it goes on after waiting. ExitStack alone would cost three; and what it raises refers to itself, so that a call that
    fails would hold its request until the garbage collector comes.
    """
    if not scopes:
        return handler

    async def call_within(call: Call, *rest: Any) -> Any:  # noqa: ANN401 - as the handler
        entered: list[AbstractContextManager[Awaitable[None] | None]] = []
        try:
            for scope in scopes:
                context = scope(call)
                pending = context.__enter__()
                entered.append(context)
                if pending is not None:
                    await pending
            answer = await handler(call, *rest)
            while entered:
                entered.pop().__exit__(None, None, None)
        except BaseException as error:  # noqa: BLE001 - it is raised again
            failure = [error]
        else:
            return answer
        return _raise_within(entered, failure)

    return call_within


def _raise_within(entered: Sequence[AbstractContextManager[Any]], failure: list[BaseException]) -> None:
    """Raises an exception within contexts that were entered before; it is taken from its list, so no frame holds it."""
    if not entered:
        raise failure.pop()
    outermost, *others = entered
    with _Entered(outermost):
        _raise_within(others, failure)


class _Entered:
    __slots__ = ("_context",)

    def __init__(self, context: AbstractContextManager[Any]) -> None:
        self._context = context

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return self._context.__exit__(kind, error, trace)


def _snake_case(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
