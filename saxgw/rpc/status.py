"""How calls fail: canonical codes, and the one exception that carries code, message and details to either door."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Final

from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2

if TYPE_CHECKING:
    from collections.abc import Iterable

    from google.protobuf.message import Message

_LONGEST_TEXT_BYTES: Final = 1024
"""What quotes a caller's input may be as long as that was, and gRPC clients drop a status of more than 8 KiB, in which
a text stands up to three times, encoded."""

ERROR_DOMAIN: Final = "saxgw"
"""The `domain` of every google.rpc.ErrorInfo that we send."""


class Code(IntEnum):
    """The canonical codes of google/rpc/code.proto."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16

    @property
    def http_status(self) -> int:
        """The HTTP status that the code's comment in google/rpc/code.proto names."""
        return _HTTP_STATUS[self]


_HTTP_STATUS: Final = {
    Code.OK: 200,
    Code.CANCELLED: 499,
    Code.UNKNOWN: 500,
    Code.INVALID_ARGUMENT: 400,
    Code.DEADLINE_EXCEEDED: 504,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.PERMISSION_DENIED: 403,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.FAILED_PRECONDITION: 400,
    Code.ABORTED: 409,
    Code.OUT_OF_RANGE: 400,
    Code.UNIMPLEMENTED: 501,
    Code.INTERNAL: 500,
    Code.UNAVAILABLE: 503,
    Code.DATA_LOSS: 500,
    Code.UNAUTHENTICATED: 401,
}


class RpcError(Exception):
    """A call failed; the door that it came through tells the caller so.

    `message` is for the caller: what is wrong and what to do; it is cut after 1 KiB. `details` are google.rpc messages.
    """

    def __init__(self, code: Code, message: str, details: Iterable[Message] = ()) -> None:
        super().__init__(message)
        self.code = code
        self.message = _shortened(message)
        self.details = tuple(details)

    def __str__(self) -> str:
        return f"{self.code.name}: {self.message}"

    @property
    def retry_delay_s(self) -> float | None:
        """Seconds after which the caller may try again, if the details have a google.rpc.RetryInfo."""
        for detail in self.details:
            if isinstance(detail, error_details_pb2.RetryInfo):
                return float(detail.retry_delay.ToNanoseconds() / 1e9)
        return None

    def any_details(self) -> list[any_pb2.Any]:
        """The details as a google.rpc.Status holds them."""
        packed = []
        for detail in self.details:
            packed.append(any_pb2.Any())
            packed[-1].Pack(detail)
        return packed

    def to_proto(self) -> status_pb2.Status:
        """The same as a google.rpc.Status, which gRPC carries in `grpc-status-details-bin`."""
        return status_pb2.Status(code=self.code, message=self.message, details=self.any_details())


def invalid_argument(violations: Iterable[tuple[str, str]]) -> RpcError:
    """INVALID_ARGUMENT for (field, description) pairs, which also travel as google.rpc.BadRequest."""
    detail = error_details_pb2.BadRequest(
        field_violations=[
            error_details_pb2.BadRequest.FieldViolation(field=_shortened(field), description=_shortened(description))
            for field, description in violations
        ]
    )
    message = "; ".join(f"{v.field}: {v.description}" if v.field else v.description for v in detail.field_violations)
    return RpcError(Code.INVALID_ARGUMENT, message, [detail])


def _shortened(text: str) -> str:
    encoded = text.encode(errors="replace")  # what a header has beside UTF-8 is in surrogates, which nobody can send
    short = encoded[:_LONGEST_TEXT_BYTES].decode(errors="ignore")
    return short if len(encoded) <= _LONGEST_TEXT_BYTES else f"{short}…"


def error_info(reason: str) -> error_details_pb2.ErrorInfo:
    """Tells programs the cause of an error; `reason` is in UPPER_SNAKE_CASE."""
    return error_details_pb2.ErrorInfo(reason=reason, domain=ERROR_DOMAIN)


def retry_info(delay_s: float) -> error_details_pb2.RetryInfo:
    """Tells callers that they may try again after so many seconds."""
    delay = duration_pb2.Duration()
    delay.FromNanoseconds(round(delay_s * 1e9))
    return error_details_pb2.RetryInfo(retry_delay=delay)
