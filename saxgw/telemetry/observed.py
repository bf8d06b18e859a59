"""One call from beginning to end, and what is known of it when it is over."""

from __future__ import annotations

import asyncio
import time
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final

from google.rpc.error_details_pb2 import ErrorInfo

from saxgw.rpc.status import Code, RpcError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from contextvars import Token
    from types import TracebackType

    from google.protobuf.descriptor import MethodDescriptor

    from saxgw.rpc.call import Call
    from saxgw.rpc.endpoint import Interceptor, Scope
    from saxgw.telemetry.metrics import MethodMetrics, Metrics

current: Final[ContextVar[ObservedCall | None]] = ContextVar("saxgw_observed_call", default=None)
"""The call that a piece of work is done for; so whoever sees requests to model servers knows what they are for."""


def observe(metrics: Metrics | None) -> Interceptor:
    """Has calls observed; it belongs outside of all that can refuse them."""

    def interceptor(method: MethodDescriptor) -> Scope:
        measures: dict[str, MethodMetrics] = {}

        def scope(call: Call) -> ObservedCall:
            measure = None
            if metrics is not None and (measure := measures.get(call.door)) is None:
                measure = measures[call.door] = metrics.of_method(method, call.door)
            return ObservedCall(method, call, measure)

        return scope

    return interceptor


class ObservedCall:
    """One call: entered when it begins, left when it is over. Times are in seconds, sizes in bytes."""

    __slots__ = (
        "_began",
        "_measure",
        "_sent_at",
        "_token",
        "call",
        "code",
        "duration_s",
        "first_message_s",
        "messages",
        "method",
        "queued_s",
        "reason",
        "response_bytes",
    )

    def __init__(self, method: MethodDescriptor, call: Call, measure: MethodMetrics | None) -> None:
        self.method: Final = method
        self.call: Final = call
        self._measure = measure
        self.code = Code.OK
        """How the call ended."""
        self.reason = ""
        """The reason of a failure's ErrorInfo, if it has one; such as TOO_MANY_CALLS."""
        self.duration_s = 0.0
        """From before the request was read until the answer was there, or its last message sent."""
        self.first_message_s: float | None = None
        """The same until the first message of a stream was sent."""
        self.messages = 0
        """How many messages of a stream were sent."""
        self.response_bytes = 0
        """Size of the answer as protobuf, of all messages together if it is a stream."""
        self.queued_s: float | None = None
        """How long requests for this call waited for model servers, all together; None if none had to."""

    def __enter__(self) -> None:
        self._token: Token[ObservedCall | None] = current.set(self)
        if self.method.server_streaming:
            self.call.when_sent = self._sent
        if self._measure is not None:
            self._measure.in_flight.inc()
        self._began = self._sent_at = time.perf_counter()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.duration_s = time.perf_counter() - self._began
        current.reset(self._token)
        if error is not None:
            self._failed(error)
        if not self.messages and self.call.response is not None:
            self.response_bytes = self.call.response.ByteSize()
        if self._measure is not None:
            self._measure.over(self)

    def _sent(self) -> None:
        now = time.perf_counter()
        self.messages += 1
        assert self.call.response is not None  # noqa: S101 - for the type checker: it was sent
        self.response_bytes += self.call.response.ByteSize()
        if self.messages == 1:
            self.first_message_s = now - self._began
            if self._measure is not None:
                self._measure.first_message.observe(self.first_message_s)
        elif self._measure is not None:
            self._measure.message_interval.observe(now - self._sent_at)
        self._sent_at = now

    def _failed(self, error: BaseException) -> None:
        if isinstance(error, RpcError):
            self.code = error.code
            self.reason = _reason(error.details)
        else:
            self.code = Code.CANCELLED if isinstance(error, asyncio.CancelledError) else Code.UNKNOWN


def _reason(details: Iterable[object]) -> str:
    return next((detail.reason for detail in details if isinstance(detail, ErrorInfo)), "")
