"""The log line of each call. It tells nothing of what was asked and answered but its size."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any, Final

from saxgw.telemetry.trace_context import read_trace_context

if TYPE_CHECKING:
    from collections.abc import Mapping

    from saxgw.telemetry.observed import ObservedCall

_log: Final = logging.getLogger("saxgw.calls")

_COMMON: Final = logging.LogRecord(_log.name, logging.INFO, __file__, 0, "", None, None).__dict__


class CallLine(logging.LogRecord):
    """The record of a line. It has what handlers and formatters look for, at a fraction of what others cost."""

    def __init__(self, fields: Mapping[str, Any]) -> None:
        # Not by LogRecord's own, which finds out threads, processes and tasks.
        self.__dict__ = _COMMON.copy()
        self.created = time.time()
        self.msecs = self.created % 1 * 1000
        self.fields = fields
        """What is told, as JSON has it."""

    def getMessage(self) -> str:  # noqa: N802 - the name is logging's
        """The line as people like to read it."""
        had = self.fields.get
        model, milliseconds = had("model", ""), had("duration_s", 0) * 1000
        parts = [had("method", ""), model, had("code", ""), had("reason", ""), f"{milliseconds:.1f} ms"]
        if (first_s := had("first_message_s")) is not None:
            parts.append(f"(first of {had('messages')} messages after {first_s * 1000:.1f} ms)")
        if (queued_s := had("queued_s")) is not None:
            parts.append(f"({queued_s * 1000:.1f} ms in line)")
        parts.append(f"{had('request_bytes')}→{had('response_bytes')} bytes, {had('door')} {had('peer')}")
        parts.append(had("identity", ""))
        parts.append(f"[{had('request_id')}]")
        return _visible(" ".join(filter(None, parts)))


def log_call(call: ObservedCall) -> None:
    """Logs a call that is over, at level INFO."""
    if _log.isEnabledFor(logging.INFO):
        _log.handle(CallLine(_fields(call)))


def _fields(observed: ObservedCall) -> dict[str, Any]:
    """What there is to tell, in the order of interest. What says nothing is left out."""
    call = observed.call
    fields: dict[str, Any] = {
        "request_id": call.request_id,
        "method": observed.method.name,
        "door": call.door,
        "code": observed.code.name,
        "duration_s": round(observed.duration_s, 6),
        "request_bytes": call.request_bytes,
        "response_bytes": observed.response_bytes,
        "peer": call.peer,
    }
    if call.identity is not None:
        fields["identity"] = call.identity.name
    if model := observed.model:
        fields["model"] = model
    if observed.reason:
        fields["reason"] = observed.reason
    if observed.queued_s is not None:
        fields["queued_s"] = round(observed.queued_s, 6)
    if observed.first_message_s is not None:
        fields["first_message_s"] = round(observed.first_message_s, 6)
        fields["messages"] = observed.messages
    context = observed.context or read_trace_context(call.headers)
    if context is not None:
        fields["trace_id"] = context.trace_id
    return fields


def _visible(text: str) -> str:
    """The text, in which what a caller wrote can neither begin another line nor tell a terminal what to do."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
