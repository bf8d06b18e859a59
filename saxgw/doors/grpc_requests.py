"""Requests of the gRPC door, read by ourselves: grpcio waits for a message for as long as its caller likes."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from contextvars import Context as ContextVars
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message

from saxgw.rpc.status import Code, RpcError, invalid_argument

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable

Request = TypeVar("Request", bound=Message)

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

_NO_CONTEXT: Final = ContextVars()
"""For timers: asyncio keeps one that was cancelled, with the context that it was set in, until it would have been due.
A call's own has all of the call."""

STATUS_CODES: Final = {status.value[0]: status for status in grpc.StatusCode}
"""The library's codes by number."""


async def read(context: Context, timeout_s: float) -> bytes | None:
    """The next message as it came; None after the last. Raises RpcError if it takes longer than `timeout_s` seconds."""
    try:
        async with asyncio.timeout(None) as timeout:
            _NO_CONTEXT.run(timeout.reschedule, asyncio.get_running_loop().time() + timeout_s)
            data = await context.read()
    except TimeoutError:
        raise RpcError(Code.DEADLINE_EXCEEDED, "the request did not arrive in time") from None
    return data if isinstance(data, bytes) else None


def parsed(message_class: type[Request], data: bytes) -> Request:
    """The message that has this form on the wire; raises RpcError if none has."""
    try:
        return message_class.FromString(data)
    except DecodeError:
        raise invalid_argument([("", f"the request is not a valid {message_class.DESCRIPTOR.name}")]) from None


def in_time(
    answer: Callable[[AsyncIterator[Request], Context], AsyncGenerator[Message]],
    request_class: type[Request],
    response_class: type[Message],
    timeout_s: float,
) -> grpc.RpcMethodHandler[Any, Any]:
    """A method that is no endpoint's, each of whose requests has so many seconds to arrive.

    On the wire it is the same whether one message is sent or a stream.
    """

    async def requests(context: Context) -> AsyncGenerator[Request]:
        while (data := await read(context, timeout_s)) is not None:
            yield parsed(request_class, data)

    async def behave(_: object, context: Context) -> AsyncGenerator[Message]:
        try:
            async with aclosing(requests(context)) as asked, aclosing(answer(asked, context)) as answers:
                async for response in answers:
                    yield response
        except RpcError as error:
            await context.abort(STATUS_CODES[error.code], error.message)

    return grpc.stream_stream_rpc_method_handler(behave, response_serializer=response_class.SerializeToString)
