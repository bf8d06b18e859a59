"""The operations: check the request, call Sax, return the answer. Knows no transport.

Every method takes a request message and the call, and raises RpcError for a request that it refuses and SaxError for
what goes wrong with the cell; status_of() says what callers see of the latter.
"""

from __future__ import annotations

import math
from contextlib import aclosing
from typing import TYPE_CHECKING, Final

from saxgw.rpc.status import Code, RpcError, error_info, invalid_argument, retry_info
from saxgw.sax import errors, names
from saxgw.v1 import sax_service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    import grpc
    from google.protobuf.struct_pb2 import ListValue, Struct, Value

    from saxgw.rpc.call import Call
    from saxgw.sax import SaxClient

_RETRY_S: Final = 1.0
"""What callers are told to wait when the cell is busy or not ready."""

_FLOAT_MAX: Final = 3.4028234663852886e38
"""The largest 32-bit float, which is what Sax sends numbers as."""


class SaxService:
    """The handlers of saxgw.v1.SaxService over a Sax client."""

    def __init__(self, sax: SaxClient) -> None:
        self._sax = sax

    async def publish(self, request: pb.PublishRequest, _: Call) -> pb.PublishResponse:
        model = _checked("model", names.parse_model, request.model)
        _check_definition(request)
        await self._sax.publish(
            model, request.model_path, request.checkpoint, request.replicas, dict(request.overrides)
        )
        return pb.PublishResponse(
            model=model, path=request.model_path, checkpoint=request.checkpoint, replicas=request.replicas
        )

    async def update(self, request: pb.UpdateRequest, _: Call) -> pb.UpdateResponse:
        model = _checked("model", names.parse_model, request.model)
        _check_definition(request)
        await self._sax.update(
            model, request.model_path, request.checkpoint, request.replicas, dict(request.overrides) or None
        )
        return pb.UpdateResponse(
            model=model, model_path=request.model_path, checkpoint=request.checkpoint, replicas=request.replicas
        )

    async def unpublish(self, request: pb.UnpublishRequest, _: Call) -> pb.UnpublishResponse:
        model = _checked("model", names.parse_model, request.model)
        await self._sax.unpublish(model)
        return pb.UnpublishResponse(model=model)

    async def list_all(self, request: pb.ListAllRequest, _: Call) -> pb.ListAllResponse:
        cell = _checked("sax_cell", names.parse_cell, request.sax_cell)
        return pb.ListAllResponse(models=await self._sax.list_models(cell))

    async def list_cell(self, request: pb.ListCellRequest, _: Call) -> pb.ListCellResponse:
        model = _checked("model", names.parse_model, request.model)
        detail = await self._sax.describe(model)
        return pb.ListCellResponse(
            model=detail.model,
            model_path=detail.model_path,
            checkpoint=detail.checkpoint,
            max_replicas=detail.max_replicas,
            active_replicas=detail.active_replicas,
        )

    async def generate(self, request: pb.GenerateRequest, _: Call) -> pb.GenerateResponse:
        model = _checked("model", names.parse_model, request.model)
        extra_inputs = _extra_inputs(request.extra_inputs) if request.HasField("extra_inputs") else None
        samples = await self._sax.generate(model, request.query, extra_inputs)
        return pb.GenerateResponse(results=[pb.Result(text=text, score=score) for text, score in samples])

    async def generate_stream(
        self, request: pb.GenerateStreamRequest, _: Call
    ) -> AsyncGenerator[pb.GenerateStreamResponse]:
        model = _checked("model", names.parse_model, request.model)
        extra_inputs = _extra_inputs(request.extra_inputs) if request.HasField("extra_inputs") else None
        stream = self._sax.generate_stream(model, request.query, extra_inputs, increments=request.increments)
        async with aclosing(stream) as steps:
            async for items in steps:
                yield pb.GenerateStreamResponse(
                    results=[
                        pb.StreamedResult(text=text, prefix_len=prefix_len, scores=scores)
                        for text, prefix_len, scores in items
                    ]
                )


def status_of(error: Exception) -> RpcError:
    """What a caller sees of a SaxError. Its message is made for callers and is passed on."""
    code, reason = _STATUS[type(error)]
    if isinstance(error, errors.CellError):
        code = _canonical(error.code)
    details = [error_info(reason)]
    if isinstance(error, _PASSING):
        return RpcError(code, str(error), [*details, retry_info(_RETRY_S)])
    return RpcError(code, str(error), details)


_STATUS: Final[dict[type[Exception], tuple[Code, str]]] = {
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


_PASSING: Final = (errors.RootUnavailable, errors.AdminUnavailable, errors.ReplicasUnavailable, errors.Busy)
"""What may be over soon, so that the same call may succeed later."""


def _canonical(code: grpc.StatusCode) -> Code:
    number: int = code.value[0]
    return Code(number)


def _checked(field: str, check: Callable[[str], str], value: str) -> str:
    try:
        return check(value)
    except errors.InvalidName as error:
        raise invalid_argument([(field, str(error))]) from error


def _check_definition(request: pb.PublishRequest | pb.UpdateRequest) -> None:
    _checked("model_path", names.check_model_path, request.model_path)
    _checked("checkpoint", names.check_checkpoint, request.checkpoint)
    if request.replicas < 0:
        raise invalid_argument([("replicas", f"must be 0 or more, got {request.replicas}")])


def _extra_inputs(struct: Struct) -> dict[str, float | str | Sequence[float]]:
    """What a Struct holds as Sax takes it; refuses what Sax has no form for."""
    return {name: _extra_input(f"extra_inputs.{name}", value) for name, value in struct.fields.items()}


def _extra_input(field: str, value: Value) -> float | str | Sequence[float]:
    match value.WhichOneof("kind"):
        case "number_value":
            return _float32(field, value.number_value)
        case "string_value":
            return value.string_value
        case "list_value":
            return _tensor(field, value.list_value)
    raise invalid_argument([(field, "expected a number, a string or an array of numbers")])


def _tensor(field: str, values: ListValue) -> list[float]:
    for value in values.values:
        if value.WhichOneof("kind") != "number_value":
            raise invalid_argument([(field, "expected an array of numbers only")])
    return [_float32(f"{field}[{i}]", value.number_value) for i, value in enumerate(values.values)]


def _float32(field: str, number: float) -> float:
    if not math.isfinite(number) or abs(number) > _FLOAT_MAX:
        raise invalid_argument([(field, f"expected a number within the range of a 32-bit float, got {number:g}")])
    return number
