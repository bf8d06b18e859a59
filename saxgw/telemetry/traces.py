"""Traces for OpenTelemetry, sent by OTLP over gRPC; only this module needs the extra saxgw[otel].

A span is made when it is over, of what is known then. The SDK's own spans, which are filled bit by bit under a lock,
cost five times as much, 13 µs each, and none of what they can do besides is needed: there is no code of others in here
that would add to them.
"""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING, Final

from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import Decision, ParentBased
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
)

from saxgw.telemetry.trace_context import TraceContext, read_trace_context

if TYPE_CHECKING:
    from collections.abc import Mapping

    from saxgw.rpc.call import Call

_LAST_SPANS_S: Final = 2.0
"""How long the last spans may take to be sent when the gateway ends; a collector may be away."""

_SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)
_NOT_SAMPLED: Final = TraceFlags(TraceFlags.DEFAULT)
_UNSET: Final = Status(StatusCode.UNSET)
_ERROR: Final = Status(StatusCode.ERROR)


class Traces:
    """Makes spans, and sends those that are sampled in the background.

    The SDK's variables are heeded: OTEL_TRACES_SAMPLER says which traces are sampled (those of sampled callers, and all
    that begin here), OTEL_BSP_* how spans are queued, OTEL_EXPORTER_OTLP_* how they are sent, OTEL_SERVICE_NAME and
    OTEL_RESOURCE_ATTRIBUTES what they say of the process.

    Args:
        endpoint: Where a collector is, such as http://localhost:4317; https is for TLS.
        version: Of the gateway.
    """

    def __init__(self, endpoint: str, version: str) -> None:
        told = {"service.name": "saxgw", "service.version": version}
        self._resource = Resource.create(told).merge(OTELResourceDetector().detect())
        self._sampler = TracerProvider(shutdown_on_exit=False).sampler
        # Those that can be chosen by the variable heed their callers in one way: what is sampled there is sampled here.
        self._heeds_callers = isinstance(self._sampler, ParentBased)
        self._scope = InstrumentationScope("saxgw", version)
        self._exporter = OTLPSpanExporter(endpoint)
        self._processor = BatchSpanProcessor(self._exporter)

    def begin(self, name: str, call: Call) -> tuple[TraceContext, Span | None]:
        """Begins a call, in its caller's trace if it has one: tells its place in the trace, and its span if sampled.

        One that is not sampled is no span, so its caller's place is told to those who do a part of it.
        """
        parent = read_trace_context(call.headers)
        trace_id, state = (_random_hex(128), "") if parent is None else (parent.trace_id, parent.state)
        if parent is not None and self._heeds_callers:
            sampled = parent.sampled
        else:
            decision = self._sampler.should_sample(None, int(trace_id, 16), name).decision
            sampled = decision is Decision.RECORD_AND_SAMPLE
        if not sampled:
            return TraceContext(trace_id, _random_hex(64) if parent is None else parent.span_id, False, state), None  # noqa: FBT003 - `sampled`
        context = TraceContext(trace_id, _random_hex(64), True, state)  # noqa: FBT003 - `sampled`
        return context, Span(self, name, SpanKind.SERVER, context, parent)

    def end(self, span: Span, attributes: Mapping[str, str | int | float], *, failed: bool) -> None:
        """Ends a span."""
        is_remote = span.kind is SpanKind.SERVER
        self._processor.on_end(
            ReadableSpan(
                span.name,
                _span_context(span.context, is_remote=False),
                None if span.parent is None else _span_context(span.parent, is_remote=is_remote),
                self._resource,
                attributes,
                kind=span.kind,
                status=_ERROR if failed else _UNSET,
                start_time=span.began_ns,
                end_time=time.time_ns(),
                instrumentation_scope=self._scope,
            )
        )

    async def aclose(self) -> None:
        """Sends what is left, for two seconds at the most."""
        closing = asyncio.ensure_future(asyncio.to_thread(self._processor.shutdown))
        await asyncio.wait((closing,), timeout=_LAST_SPANS_S)
        if not closing.done():
            self._exporter.shutdown()  # which makes it give up
        await closing


class Span:
    """Something that is done within a trace that is sampled: begun when it is made, over when it is ended."""

    __slots__ = ("_traces", "began_ns", "context", "kind", "name", "parent")

    def __init__(
        self, traces: Traces, name: str, kind: SpanKind, context: TraceContext, parent: TraceContext | None
    ) -> None:
        self._traces = traces
        self.name: Final = name
        self.kind: Final = kind
        self.context: Final = context
        """Where in its trace it is, which is what is told to others who do a part of it."""
        self.parent: Final = parent
        self.began_ns: Final = time.time_ns()

    def wait(self, name: str) -> Span:
        """Begins a part of it that is done in here."""
        return self._part(name, SpanKind.INTERNAL)

    def request(self, name: str) -> Span:
        """Begins a part of it that others are asked to do."""
        return self._part(name, SpanKind.CLIENT)

    def end(self, attributes: Mapping[str, str | int | float], *, failed: bool = False) -> None:
        """Ends it, with all that there is to tell of it; nothing of what was asked or answered."""
        self._traces.end(self, attributes, failed=failed)

    def _part(self, name: str, kind: SpanKind) -> Span:
        own = self.context
        context = TraceContext(own.trace_id, _random_hex(64), own.sampled, own.state)
        return Span(self._traces, name, kind, context, own)


def _random_hex(bits: int) -> str:
    return f"{random.getrandbits(bits):0{bits // 4}x}"


def _span_context(context: TraceContext, *, is_remote: bool) -> SpanContext:
    state = TraceState.from_header([context.state]) if context.state else None
    flags = _SAMPLED if context.sampled else _NOT_SAMPLED
    return SpanContext(int(context.trace_id, 16), int(context.span_id, 16), is_remote, flags, state)
