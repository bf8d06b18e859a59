"""Extra inputs: from the JSON object that callers send to the forms that Sax has."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from saxgw.rpc.status import invalid_argument

if TYPE_CHECKING:
    from collections.abc import Sequence

    from google.protobuf.struct_pb2 import ListValue, Struct, Value

    from saxgw.sax import ExtraInputs

_LARGE_BYTES: Final = 32 * 2**10
"""Some 3,000 numbers, which take a millisecond."""

_FLOAT_MAX: Final = 3.4028234663852886e38
"""The largest 32-bit float, which is what Sax sends numbers as."""


async def to_sax(struct: Struct) -> ExtraInputs:
    """What a Struct holds as Sax takes it; raises RpcError for what Sax has no form for, naming the field.

    A large one is looked through in a thread, so that other callers need not wait for it.
    """
    if struct.ByteSize() < _LARGE_BYTES:
        return _to_sax(struct)
    structs = [struct]
    try:
        return await asyncio.to_thread(lambda: _to_sax(structs.pop()))
    finally:
        structs.clear()  # whoever leaves while others have the threads leaves nothing in their line


def _to_sax(struct: Struct) -> dict[str, float | str | Sequence[float]]:
    fields = struct.fields
    return {name: _extra_input(f"extra_inputs.{name}", fields[name]) for name in fields}  # items() takes longer


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
    numbers = [value.number_value for value in values.values if value.HasField("number_value")]
    if len(numbers) != len(values.values):
        raise invalid_argument([(field, "expected an array of numbers only")])
    if not all(-_FLOAT_MAX <= number <= _FLOAT_MAX for number in numbers):  # NaN compares false
        for at, number in enumerate(numbers):
            _float32(f"{field}[{at}]", number)
    return numbers


def _float32(field: str, number: float) -> float:
    if not -_FLOAT_MAX <= number <= _FLOAT_MAX:  # NaN compares false
        raise invalid_argument([(field, f"expected a number within the range of a 32-bit float, got {number:g}")])
    return number
