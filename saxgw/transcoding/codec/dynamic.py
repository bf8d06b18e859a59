"""google.protobuf.Struct, ListValue and Value, which hold any JSON, both ways.

Messages are filled in place, which is quicker than handing trees of values to their constructors. They may come from
any descriptor pool.
"""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, Any, TypeAlias

from saxgw.transcoding.errors import Refusal, expected, shorten, too_deep

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from google.protobuf.message import Message
    from google.protobuf.struct_pb2 import ListValue, Struct, Value

    from saxgw.transcoding.codec.scalars import Converter

    Json: TypeAlias = dict[str, "Json"] | list["Json"] | str | int | float | bool | None


VALUE = "google.protobuf.Value"


def dynamic_converter(message_class: type[Message]) -> Converter:
    """The converter of JSON values to messages of `message_class`, which is a Struct, a ListValue or a Value."""
    fill: Callable[[Any, Any, int], None] = _FILLERS[message_class.DESCRIPTOR.full_name]

    def convert(value: Any, levels: int) -> Message:  # noqa: ANN401 - a Converter
        message = message_class()
        fill(message, value, levels)
        return message

    return convert


def _fill_struct(message: Struct, value: Any, levels: int) -> None:  # noqa: ANN401 - any JSON value
    if type(value) is not dict:
        raise expected("a JSON object", value)
    if not levels:
        raise too_deep()
    fields = message.fields
    key = ""
    try:
        for key in value:
            item = value[key]
            if type(item) is float or type(item) is int:
                fields[key].number_value = item
            else:
                _fill_value(fields[key], item, levels - 1)
    except Refusal as refusal:
        raise refusal.under(shorten(key)) from None


def _fill_list(message: ListValue, value: Any, levels: int) -> None:  # noqa: ANN401 - any JSON value
    if type(value) is not list:
        raise expected("a JSON array", value)
    if not levels:
        raise too_deep()
    values = message.values
    add = values.add
    try:
        for item in value:
            if type(item) is float or type(item) is int:
                add().number_value = item
            else:
                _fill_value(add(), item, levels - 1)
    except Refusal as refusal:
        raise refusal.under(f"[{len(values) - 1}]") from None


def _fill_value(message: Value, value: Json, levels: int) -> None:
    kind = type(value)
    if kind is str:
        message.string_value = value  # type: ignore[assignment]  # mypy does not follow `kind`; likewise below
    elif kind is int or kind is float:
        message.number_value = value  # type: ignore[assignment]
    elif kind is bool:
        message.bool_value = value  # type: ignore[assignment]
    elif kind is dict:
        message.struct_value.SetInParent()
        _fill_struct(message.struct_value, value, levels)
    elif kind is list:
        message.list_value.SetInParent()
        _fill_list(message.list_value, value, levels)
    else:
        message.null_value = 0  # type: ignore[assignment]  # the number of the one value of NullValue


def struct_json(message: Struct) -> Json:
    """The JSON object that a Struct stands for."""
    fields = message.fields
    made: dict[str, Json] = {}
    for key in fields:
        value = fields[key]
        number = value.number_value  # which is zero if it is something else than a number
        made[key] = number if number and isfinite(number) else value_json(value)
    return made


def list_json(message: ListValue) -> Json:
    """The JSON array that a ListValue stands for."""
    made: list[Json] = []
    for value in message.values:
        number = value.number_value
        made.append(number if number and isfinite(number) else value_json(value))
    return made


def value_json(message: Value) -> Json:
    """The JSON value that a Value stands for; null when nothing is set."""
    kind = message.WhichOneof("kind")
    if kind == "string_value":
        return message.string_value
    if kind == "number_value":
        if not isfinite(message.number_value):
            raise Refusal("a Value that is not a finite number has no JSON form")
        return message.number_value
    if kind == "struct_value":
        return struct_json(message.struct_value)
    if kind == "list_value":
        return list_json(message.list_value)
    return message.bool_value if kind == "bool_value" else None


_FILLERS: Mapping[str, Callable[[Any, Any, int], None]] = {
    "google.protobuf.Struct": _fill_struct,
    "google.protobuf.ListValue": _fill_list,
    VALUE: _fill_value,
}

DYNAMIC: Mapping[str, Callable[[Any], Json]] = {
    "google.protobuf.Struct": struct_json,
    "google.protobuf.ListValue": list_json,
    VALUE: value_json,
}
"""The types of this module and what prints them."""
