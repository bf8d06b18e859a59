"""What callers are told of what goes wrong with a cell: the one place where a SaxError becomes a status, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from saxgw.rpc.status import Code, RpcError, error_info, retry_info
from saxgw.sax import errors

if TYPE_CHECKING:
    import grpc

_RETRY_S: Final = 1.0
"""What callers are told to wait when the cell is busy or not ready."""


def status_of(error: Exception) -> RpcError:
    """What a caller sees of a SaxError. Its message is made for callers and is passed on."""
    code, reason = _STATUS[type(error)]  # type: ignore[index]  # SaxErrors are all that it is given
    if isinstance(error, errors.CellError):
        code = _canonical(error.code)
    details = [error_info(reason)]
    if isinstance(error, _PASSING):
        return RpcError(code, str(error), [*details, retry_info(_RETRY_S)])
    return RpcError(code, str(error), details)


def error_class(reason: str) -> type[errors.SaxError] | None:
    """The class of errors that callers are told of by this reason; None if it is the gateway's own."""
    return next((kind for kind, (_, own) in _STATUS.items() if own == reason), None)


_STATUS: Final[dict[type[errors.SaxError], tuple[Code, str]]] = {
    errors.InvalidName: (Code.INVALID_ARGUMENT, "INVALID_NAME"),
    errors.InvalidArgument: (Code.INVALID_ARGUMENT, "REFUSED_BY_CELL"),
    errors.RootUnavailable: (Code.UNAVAILABLE, "SAX_ROOT_UNAVAILABLE"),
    errors.CellNotFound: (Code.NOT_FOUND, "CELL_NOT_FOUND"),
    errors.ModelNotFound: (Code.NOT_FOUND, "MODEL_NOT_FOUND"),
    errors.ModelExists: (Code.ALREADY_EXISTS, "MODEL_EXISTS"),
    errors.AdminUnavailable: (Code.UNAVAILABLE, "ADMIN_UNAVAILABLE"),
    errors.ReplicasUnavailable: (Code.UNAVAILABLE, "REPLICAS_UNAVAILABLE"),
    errors.Busy: (Code.RESOURCE_EXHAUSTED, "MODEL_SERVERS_BUSY"),
    errors.StreamBroken: (Code.UNAVAILABLE, "STREAM_BROKEN"),
    errors.Revised: (Code.ABORTED, "TEXT_REVISED"),
    errors.CellError: (Code.UNKNOWN, "CELL_ERROR"),
}


_PASSING: Final = (
    errors.RootUnavailable,
    errors.AdminUnavailable,
    errors.ReplicasUnavailable,
    errors.Busy,
    errors.StreamBroken,
)
"""What may be over soon, so that the same call may succeed later."""


def _canonical(code: grpc.StatusCode) -> Code:
    number: int = code.value[0]
    return Code(number)
