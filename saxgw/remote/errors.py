"""What may go wrong with a gateway, beside what may go wrong with a cell behind it.

SaxError
├── …                    all of saxgw.sax, as the gateway tells of them
├── GatewayUnavailable   nobody answers at the address, or whoever did has gone away
└── GatewayError         any other answer of the gateway; its gRPC code is in `code`
"""

from __future__ import annotations

from typing import Final

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from saxgw.rpc.status import ERROR_DOMAIN
from saxgw.sax import CellError, InvalidArgument, SaxError
from saxgw.service import error_class

Code: Final = grpc.StatusCode

_DETAILS_KEY: Final = "grpc-status-details-bin"

_TOO_LARGE: Final = "received message larger than max"
"""What gRPC says of a message over the limit of its receiver; "CLIENT: " stands before it where that is us."""


class GatewayUnavailable(SaxError):
    """There is no gateway at the address, or it went away before it had answered."""


class GatewayError(SaxError):
    """The gateway answered with an error that says nothing of the cell, such as that it has too many calls."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        """The gRPC status code; DEADLINE_EXCEEDED if there was no answer in time."""


def error_of(error: grpc.aio.AioRpcError, gateway: str, *, changes: str | None = None) -> SaxError:
    """The error that the status of a call is.

    Args:
        error: the status.
        gateway: the gateway's address.
        changes: the model that the call was to change, if it was.
    """
    code, message = error.code(), error.details() or ""
    reason = _reason(error)
    if reason is None:
        return _unexplained(code, message, gateway, changes)
    kind = error_class(reason)
    if kind is CellError:
        return CellError(code, message)
    return GatewayError(code, message) if kind is None else kind(message)


def _unexplained(code: grpc.StatusCode, message: str, gateway: str, changes: str | None) -> SaxError:
    """The error that a status without a reason is: the gateway's about the call itself, or gRPC's."""
    hint = "; try again later"
    if changes:
        hint = f", and whether it carried out the request is not known; look at {changes} before trying again"
    match code:
        case Code.INVALID_ARGUMENT:
            return InvalidArgument(message)
        case Code.UNAVAILABLE | Code.CANCELLED:
            return GatewayUnavailable(f"the gateway at {gateway} went away{hint}")
        case Code.DEADLINE_EXCEEDED:
            return GatewayError(code, f"the gateway at {gateway} did not answer in time{hint}")
        case Code.UNIMPLEMENTED:
            return GatewayError(code, f"what answers at {gateway} is no saxgw, or one that is too old for this call")
        case Code.RESOURCE_EXHAUSTED if _TOO_LARGE in message.lower():
            return _too_large(code, gateway, of_answer=message.startswith("CLIENT: "))
    return GatewayError(code, f"the gateway at {gateway} answered {code.name}: {message or 'it did not say why'}")


def _too_large(code: grpc.StatusCode, gateway: str, *, of_answer: bool) -> SaxError:
    if of_answer:
        return GatewayError(
            code, f"the answer of {gateway} is over the limit; ask for less, or raise max_message_bytes"
        )
    return InvalidArgument(f"the request is larger than the gateway at {gateway} takes; make it shorter")


def _reason(error: grpc.aio.AioRpcError) -> str | None:
    """The reason of the gateway's google.rpc.ErrorInfo, if that is among the details of a status."""
    for key, value in error.trailing_metadata() or ():
        if key == _DETAILS_KEY and isinstance(value, bytes):
            try:
                status = status_pb2.Status.FromString(value)
            except DecodeError:
                return None
            for detail in status.details:
                info = error_details_pb2.ErrorInfo()
                if detail.Unpack(info) and info.domain == ERROR_DOMAIN:
                    return str(info.reason)
    return None
