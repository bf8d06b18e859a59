"""What is true of every call: interceptors for make_endpoints()."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from google.api import field_behavior_pb2
from google.rpc.error_details_pb2 import RequestInfo

from saxgw.rpc.deadline import Deadline
from saxgw.rpc.status import Code, RpcError, error_info, invalid_argument, retry_info

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
    from google.protobuf.message import Message

    from saxgw.rpc.call import Call
    from saxgw.rpc.endpoint import Handler, Interceptor

_log = logging.getLogger("saxgw.rpc")

_BUSY_RETRY_S: Final = 1.0


def report_unexpected(method: MethodDescriptor, handler: Handler) -> Handler:
    """Answers INTERNAL with one fixed sentence for whatever nobody foresaw; the log has the rest."""

    async def intercept(request: Message, call: Call) -> Message:
        try:
            return await handler(request, call)
        except RpcError:
            raise
        except Exception as error:
            _log.exception("%s failed unexpectedly, request id %s", method.full_name, call.request_id)
            raise RpcError(
                Code.INTERNAL,
                f"the gateway failed unexpectedly; its log tells more under request id {call.request_id}",
                [RequestInfo(request_id=call.request_id)],
            ) from error

    return intercept


def translate(family: type[Exception], status_of: Callable[[Exception], RpcError]) -> Interceptor:
    """Turns exceptions of one family, such as a library's, into RpcErrors."""

    def interceptor(_: MethodDescriptor, handler: Handler) -> Handler:
        async def intercept(request: Message, call: Call) -> Message:
            try:
                return await handler(request, call)
            except family as error:
                raise status_of(error) from error

        return intercept

    return interceptor


def limit_concurrency(max_calls: int) -> Interceptor:
    """Refuses calls with RESOURCE_EXHAUSTED while `max_calls` of them, of all methods together, are running."""
    running = 0

    def interceptor(_: MethodDescriptor, handler: Handler) -> Handler:
        async def intercept(request: Message, call: Call) -> Message:
            nonlocal running
            if running >= max_calls:
                raise RpcError(
                    Code.RESOURCE_EXHAUSTED,
                    f"the gateway is running {running} calls, as many as it takes at once; try again later",
                    [error_info("TOO_MANY_CALLS"), retry_info(_BUSY_RETRY_S)],
                )
            running += 1
            try:
                return await handler(request, call)
            finally:
                running -= 1

        return intercept

    return interceptor


def enforce_deadline(default_timeouts_s: Mapping[str, float]) -> Interceptor:
    """Ends calls with DEADLINE_EXCEEDED at the caller's deadline or the method's default, whichever is earlier.

    `default_timeouts_s` maps each method's name to seconds; it must have all of them, so that nothing waits for ever.
    """

    def interceptor(method: MethodDescriptor, handler: Handler) -> Handler:
        timeout_s = default_timeouts_s[method.name]

        async def intercept(request: Message, call: Call) -> Message:
            deadline = call.deadline = Deadline.after(timeout_s).earliest(call.deadline)
            try:
                async with asyncio.timeout_at(deadline.at) as scope:
                    return await handler(request, call)
            except TimeoutError:
                if not scope.expired():
                    raise
                raise RpcError(
                    Code.DEADLINE_EXCEEDED,
                    f"no answer within {deadline.timeout_s:g} s; give the call more time or try again later",
                ) from None

        return intercept

    return interceptor


def require_fields(method: MethodDescriptor, handler: Handler) -> Handler:
    """Refuses requests that lack a field marked REQUIRED by google.api.field_behavior, naming all that are missing.

    A field without presence is missing while it has its default value.
    """
    required = _required_fields(method.input_type)
    if not required:
        return handler

    async def intercept(request: Message, call: Call) -> Message:
        missing = [
            name
            for name, has_presence in required
            if not (request.HasField(name) if has_presence else getattr(request, name))
        ]
        if missing:
            raise invalid_argument((name, "is required but missing or empty") for name in missing)
        return await handler(request, call)

    return intercept


def _required_fields(message: Descriptor) -> list[tuple[str, bool]]:
    """(name, has presence) of the message's required fields."""
    return [(field.name, field.has_presence) for field in message.fields if _is_required(field)]


def _is_required(field: FieldDescriptor) -> bool:
    behaviors = field.GetOptions().Extensions[field_behavior_pb2.field_behavior]
    return field_behavior_pb2.REQUIRED in behaviors
