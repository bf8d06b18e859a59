"""One call from beginning to end, and what is known of it when it is over."""

from __future__ import annotations

import asyncio
import time
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from google.rpc.error_details_pb2 import ErrorInfo

from saxgw.rpc.status import Code, RpcError
from saxgw.telemetry.attributes import call_attributes
from saxgw.telemetry.call_log import log_call

if TYPE_CHECKING:
    from collections.abc import Iterable
    from contextvars import Token
    from types import TracebackType

    from google.protobuf.descriptor import MethodDescriptor

    from saxgw.rpc.call import Call
    from saxgw.rpc.endpoint import Interceptor, Scope
    from saxgw.telemetry.metrics import MethodMetrics, Metrics
    from saxgw.telemetry.trace_context import TraceContext
    from saxgw.telemetry.traces import Span, Traces

_OURS: Final = frozenset(
    {Code.UNKNOWN, Code.DEADLINE_EXCEEDED, Code.UNIMPLEMENTED, Code.INTERNAL, Code.UNAVAILABLE, Code.DATA_LOSS}
)
"""Codes that are no mistake of the caller's (OpenTelemetry's conventions for gRPC servers)."""

_LONGEST_MODEL: Final = 200
"""How many characters of a model's name are told; a caller may write anything there."""

current: Final[ContextVar[ObservedCall | None]] = ContextVar("saxgw_observed_call", default=None)
"""The call that a piece of work is done for; so whoever sees requests to model servers knows what they are for."""


def observe(metrics: Metrics | None, traces: Traces | None, *, log: bool) -> Interceptor:
    """Has calls measured, traced and logged as is wanted; it belongs outside of all that can refuse them."""

    def interceptor(method: MethodDescriptor) -> Scope:
        return partial(ObservedCall, _Observation(method, metrics, traces, log=log))

    return interceptor


class _Observation:
    """How the calls of one method are observed."""

    def __init__(self, method: MethodDescriptor, metrics: Metrics | None, traces: Traces | None, *, log: bool) -> None:
        self.method: Final = method
        self.rpc: Final = f"{method.containing_service.full_name}/{method.name}"
        self.has_model: Final = "model" in method.input_type.fields_by_name
        self.traces: Final = traces
        self.log: Final = log
        self._metrics = metrics
        self._by_door: dict[str, MethodMetrics] = {}

    def metrics(self, door: str) -> MethodMetrics | None:
        """The series of the method at a door."""
        if self._metrics is None:
            return None
        metrics = self._by_door.get(door)
        if metrics is None:
            metrics = self._by_door[door] = self._metrics.of_method(self.method, door)
        return metrics


class ObservedCall:
    """One call: entered when it begins, left when it is over. Times are in seconds, sizes in bytes."""

    __slots__ = (
        "_began",
        "_metrics",
        "_observation",
        "_sent_at",
        "_token",
        "call",
        "code",
        "context",
        "duration_s",
        "first_message_s",
        "messages",
        "method",
        "queued_s",
        "reason",
        "response_bytes",
        "span",
    )

    def __init__(self, observation: _Observation, call: Call) -> None:
        self._observation = observation
        self._metrics = observation.metrics(call.door)
        self.method: Final = observation.method
        self.call: Final = call
        self.context: TraceContext | None = None
        """Its place in a trace, once it has begun; None if there are no traces."""
        self.span: Span | None = None
        """Its span, if it is sampled."""
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

    @property
    def rpc(self) -> str:
        """Service and method."""
        return self._observation.rpc

    @property
    def model(self) -> str:
        """The model that the caller named, cut after 200 characters; empty if it did not, or that is not known yet."""
        request: Any = self.call.request
        return request.model[:_LONGEST_MODEL] if request is not None and self._observation.has_model else ""

    def __enter__(self) -> None:
        observation, call = self._observation, self.call
        self._token: Token[ObservedCall | None] = current.set(self)
        if self.method.server_streaming:
            call.when_sent = self._sent
        if self._metrics is not None:
            self._metrics.in_flight.inc()
        if observation.traces is not None:
            self.context, self.span = observation.traces.begin(observation.rpc, call)
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
        if self._metrics is not None:
            self._metrics.over(self)
        if self.span is not None:
            self.span.end(call_attributes(self), failed=self.code in _OURS)
        if self._observation.log:
            log_call(self)

    def _sent(self) -> None:
        now = time.perf_counter()
        self.messages += 1
        assert self.call.response is not None  # noqa: S101 - for the type checker: it was sent
        self.response_bytes += self.call.response.ByteSize()
        if self.messages == 1:
            self.first_message_s = now - self._began
            if self._metrics is not None:
                self._metrics.first_message.observe(self.first_message_s)
        elif self._metrics is not None:
            self._metrics.message_interval.observe(now - self._sent_at)
        self._sent_at = now

    def _failed(self, error: BaseException) -> None:
        if isinstance(error, RpcError):
            self.code = error.code
            self.reason = _reason(error.details)
        else:
            self.code = Code.CANCELLED if isinstance(error, asyncio.CancelledError) else Code.UNKNOWN


def _reason(details: Iterable[object]) -> str:
    return next((detail.reason for detail in details if isinstance(detail, ErrorInfo)), "")
