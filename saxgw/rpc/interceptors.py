"""What is true of every call: interceptors and inspectors for make_endpoints()."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from google.api import field_behavior_pb2
from google.rpc.error_details_pb2 import RequestInfo

from saxgw.rpc.status import Code, RpcError, error_info, invalid_argument, retry_info

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
    from google.protobuf.message import Message

    from saxgw.rpc.call import Call
    from saxgw.rpc.endpoint import Check, Interceptor, Scope

_log = logging.getLogger("saxgw.rpc")

_BUSY_RETRY_S: Final = 1.0


def report_unexpected(method: MethodDescriptor) -> Scope:
    """Answers INTERNAL with one fixed sentence for whatever nobody foresaw; the log has the rest."""
    name = method.full_name
    return lambda call: _Reported(name, call)


class _Reported:
    __slots__ = ("_call", "_method")

    def __init__(self, method: str, call: Call) -> None:
        self._method = method
        self._call = call

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, Exception) and not isinstance(error, RpcError):
            request_id = self._call.request_id
            _log.error("%s failed unexpectedly, request id %s", self._method, request_id, exc_info=error)
            raise RpcError(
                Code.INTERNAL,
                f"the gateway failed unexpectedly; its log tells more under request id {request_id}",
                [RequestInfo(request_id=request_id)],
            ) from error


def translate(family: type[Exception], status_of: Callable[[Exception], RpcError]) -> Interceptor:
    """Turns exceptions of one family, such as a library's, into RpcErrors."""
    translated = _Translated(family, status_of)
    return lambda _: lambda _call: translated


class _Translated:
    def __init__(self, family: type[Exception], status_of: Callable[[Exception], RpcError]) -> None:
        self._family = family
        self._status_of = status_of

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, self._family):
            raise self._status_of(error) from error


def limit_concurrency(max_calls: int) -> Interceptor:
    """Refuses calls with RESOURCE_EXHAUSTED while `max_calls` of them, of all methods together, are running."""
    limit = _ConcurrencyLimit(max_calls)
    return lambda _: lambda _call: limit


class _ConcurrencyLimit:
    def __init__(self, max_calls: int) -> None:
        self._max_calls = max_calls
        self._running = 0

    def __enter__(self) -> None:
        if self._running >= self._max_calls:
            raise RpcError(
                Code.RESOURCE_EXHAUSTED,
                f"the gateway is running {self._running} calls, as many as it takes at once; try again later",
                [error_info("TOO_MANY_CALLS"), retry_info(_BUSY_RETRY_S)],
            )
        self._running += 1

    def __exit__(self, *_: object) -> None:
        self._running -= 1


def require_fields(method: MethodDescriptor) -> Check | None:
    """Refuses requests that lack a field marked REQUIRED by google.api.field_behavior, naming all that are missing.

    A field without presence is missing while it has its default value.
    """
    required = _required_fields(method.input_type)
    if not required:
        return None

    def check(request: Message, _: Call) -> None:
        missing = [
            name
            for name, has_presence in required
            if not (request.HasField(name) if has_presence else getattr(request, name))
        ]
        if missing:
            raise invalid_argument((name, "is required but missing or empty") for name in missing)

    return check


def _required_fields(message: Descriptor) -> list[tuple[str, bool]]:
    """(name, has presence) of the message's required fields."""
    return [(field.name, field.has_presence) for field in message.fields if _is_required(field)]


def _is_required(field: FieldDescriptor) -> bool:
    behaviors = field.GetOptions().Extensions[field_behavior_pb2.field_behavior]
    return field_behavior_pb2.REQUIRED in behaviors
