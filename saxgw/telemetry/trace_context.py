"""The headers by which a trace goes from one process to the next (W3C Trace Context, levels 1 and 2)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

TRACEPARENT: Final = "traceparent"
TRACESTATE: Final = "tracestate"

_TRACEPARENT: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL)

_NO_TRACE: Final = "0" * 32
_NO_SPAN: Final = "0" * 16

_SAMPLED: Final = 1

_MEMBER: Final = re.compile(
    r"([a-z][a-z0-9_*/-]{0,255}|[a-z0-9][a-z0-9_*/-]{0,240}@[a-z][a-z0-9_*/-]{0,13})"
    r"=[ -+\--<>-~]{0,255}[!-+\--<>-~]"
)
"""One of the members of tracestate."""

_LONGEST_STATE: Final = 512
"""How many characters of tracestate everybody has to pass on (§3.3.1.5); a longer one is not."""


class TraceContext(NamedTuple):
    """A place in a trace: what is done next is done for the span that is named here."""

    trace_id: str
    """32 hexadecimal digits."""
    span_id: str
    """16 hexadecimal digits."""
    sampled: bool
    state: str = ""
    """What others want passed on, as it is in their header."""

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        """What tells it to the next process, as HTTP headers or gRPC metadata."""
        parent = (TRACEPARENT, f"00-{self.trace_id}-{self.span_id}-{'01' if self.sampled else '00'}")
        return (parent, (TRACESTATE, self.state)) if self.state else (parent,)


def read_trace_context(headers: Mapping[str, str]) -> TraceContext | None:
    """Where a caller's trace has come to, or None if it has none or its header is malformed, as the standard has it."""
    parent = headers.get(TRACEPARENT)
    if parent is None or not (match := _TRACEPARENT.fullmatch(parent)):
        return None
    version, trace_id, span_id, flags, rest = match.groups()
    if version == "ff" or (version == "00" and rest) or trace_id == _NO_TRACE or span_id == _NO_SPAN:
        return None
    state = headers.get(TRACESTATE, "")
    if state and not _is_state(state):
        state = ""
    return TraceContext(trace_id, span_id, bool(int(flags, 16) & _SAMPLED), state)


def _is_state(state: str) -> bool:
    members = [member.strip(" \t") for member in state.split(",")]
    return len(state) <= _LONGEST_STATE and all(_MEMBER.fullmatch(member) for member in members if member)
