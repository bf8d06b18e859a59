"""The headers of W3C Trace Context, read and written."""

from __future__ import annotations

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.trace import SpanContext, TraceState, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from saxgw.telemetry.trace_context import TraceContext, read_trace_context

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"

contexts = st.builds(
    TraceContext,
    st.integers(1, 2**128 - 1).map("{:032x}".format),
    st.integers(1, 2**64 - 1).map("{:016x}".format),
    st.booleans(),
    st.sampled_from(["", "a=1,b=2"]),
)


@given(contexts)
def test_what_is_written_is_read(context: TraceContext) -> None:
    """The headers of a context give it back, and OpenTelemetry reads the same in them."""
    headers = dict(context.headers)
    assert read_trace_context(headers) == context
    theirs = get_current_span(TraceContextTextMapPropagator().extract(headers)).get_span_context()
    assert _as_ours(theirs) == context[:3]


@given(st.text(alphabet="0123456789abcdefF-", max_size=60) | st.from_regex(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-.*"))
def test_as_opentelemetry_does(header: str) -> None:
    """Whatever a caller sends, it is taken or not as OpenTelemetry does."""
    headers = {"traceparent": header}
    theirs = get_current_span(TraceContextTextMapPropagator().extract(headers)).get_span_context()
    ours = read_trace_context(headers)
    assert (ours is not None) == theirs.is_valid
    assert ours is None or ours[:3] == _as_ours(theirs)


def _as_ours(context: SpanContext) -> tuple[str, str, bool]:
    return f"{context.trace_id:032x}", f"{context.span_id:016x}", context.trace_flags.sampled


@pytest.mark.parametrize(
    "header",
    [
        f"00-{TRACE}-{SPAN}-01-more",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}",
        "",
    ],
)
def test_malformed(header: str) -> None:
    """A header that is malformed is as none."""
    assert read_trace_context({"traceparent": header}) is None


def test_later_version() -> None:
    """A version that is not known yet is read as far as it is known."""
    context = read_trace_context({"traceparent": f"cc-{TRACE}-{SPAN}-03-more"})
    assert context == TraceContext(TRACE, SPAN, sampled=True)


@given(st.lists(st.from_regex(r"[a-z0-9@*/_-]{1,5}=[!-~ ]{0,5}", fullmatch=True) | st.text(max_size=5)).map(",".join))
def test_state_as_opentelemetry_reads_it(state: str) -> None:
    """A state that is passed on is one that OpenTelemetry has nothing to complain of."""
    context = read_trace_context({"traceparent": f"00-{TRACE}-{SPAN}-01", "tracestate": state})
    assert context is not None
    logger = logging.getLogger("opentelemetry.trace.span")
    complaints: list[logging.LogRecord] = []
    logger.addFilter(complaints.append)  # type: ignore[arg-type]  # None keeps the line from being logged
    try:
        TraceState.from_header([context.state])
    finally:
        logger.removeFilter(complaints.append)  # type: ignore[arg-type]  # as above
    assert complaints == []


@pytest.mark.parametrize("state", ["x" * 513, "a=" + "x" * 257, "a=\n", "a=é", "a", "=1", "A=1", "a=1,b"])
def test_state_that_is_not_passed_on(state: str) -> None:
    """A state that is too long or malformed is left out."""
    context = read_trace_context({"traceparent": f"00-{TRACE}-{SPAN}-01", "tracestate": state})
    assert context is not None
    assert context.state == ""
