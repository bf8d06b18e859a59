"""Scalars: from JSON values to what protobuf takes, with the checks of the proto3 JSON mapping.

A converter takes a JSON value and how many levels of arrays and objects may still follow, returns what a message
constructor accepts for the field, and raises `Refusal`. It never gets a NaN or an infinity: those are no JSON numbers,
and orjson refuses them.
"""

from __future__ import annotations

import math
import re
from binascii import Error as Base64Error
from binascii import a2b_base64
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, TypeAlias

from google.protobuf.descriptor import FieldDescriptor

from saxgw.transcoding.errors import Refusal, did_you_mean, expected, quote

if TYPE_CHECKING:
    from google.protobuf.descriptor import EnumDescriptor

Converter: TypeAlias = Callable[[Any, int], Any]

NULL_VALUE = "google.protobuf.NullValue"

FLOAT_LIMIT = float.fromhex("0x1.ffffffp+127")
"""The least number that a 32-bit float rounds to infinity."""

RANGES: Mapping[int, tuple[int, int]] = {
    FieldDescriptor.TYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_SINT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_SFIXED32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.TYPE_FIXED32: (0, 2**32 - 1),
    FieldDescriptor.TYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_SINT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_SFIXED64: (-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_UINT64: (0, 2**64 - 1),
    FieldDescriptor.TYPE_FIXED64: (0, 2**64 - 1),
}
"""Integer types of protobuf and what they can hold."""

EXACT: Mapping[int, type] = {
    FieldDescriptor.TYPE_STRING: str,
    FieldDescriptor.TYPE_DOUBLE: float,
    FieldDescriptor.TYPE_BOOL: bool,
}
"""Types whose JSON values need no conversion when they are of this Python type."""

NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
"""A number as JSON writes it."""

_DIGITS = re.compile(r"-?(?:0|[1-9][0-9]{0,19})")
_LONGEST_INTEGER = 40
"""In digits, of integers that are made of texts at all: twice what 64 bits can hold."""
_NON_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_STANDARD_ALPHABET = str.maketrans("-_", "+/")


def scalar_converter(field: FieldDescriptor, *, ignore_unknown: bool) -> Converter:
    """The converter of one value of a scalar or enum field.

    With `ignore_unknown` the converter of an enum returns None for a name that the enum does not have.
    """
    if field.type in RANGES:
        return _integer(*RANGES[field.type])
    if field.enum_type is not None:
        return _enum(field.enum_type, ignore_unknown=ignore_unknown)
    return _OTHERS[field.type]


def text_converter(field: FieldDescriptor, *, ignore_unknown: bool) -> Converter:
    """The converter of a scalar or enum field where all that there is is text: map keys, path variables, parameters.

    It takes what `scalar_converter` takes of a JSON string, and `true`, `false` and the numbers of enums.
    """
    if field.type == FieldDescriptor.TYPE_BOOL:
        return _bool_text
    convert = scalar_converter(field, ignore_unknown=ignore_unknown)
    if field.enum_type is None:
        return convert

    def enum_text(value: str, levels: int) -> Any:  # noqa: ANN401 - a Converter
        return convert(int(value) if _DIGITS.fullmatch(value) else value, levels)

    return enum_text


def _integer(minimum: int, maximum: int) -> Converter:
    def convert(value: Any, _levels: int) -> int:  # noqa: ANN401 - a Converter
        number = value if type(value) is int else _whole(value)
        if number is None:
            raise expected("an integer", value)
        if not minimum <= number <= maximum:
            raise expected(f"an integer from {minimum} to {maximum}", value)
        return number

    return convert


def _whole(value: Any) -> int | None:  # noqa: ANN401 - any JSON value
    """The integer in a string or in a number with a fraction or exponent, if it is one."""
    if type(value) is str:
        if _DIGITS.fullmatch(value):
            return int(value)
        return _whole_text(value)
    # Integers beyond 64 bits arrive as floats too, and the one below -2**63 is rounded to -2**63.
    if type(value) is float and value.is_integer() and value != -(2.0**63):
        return int(value)
    return None


def _whole_text(text: str) -> int | None:
    """The integer in a text with a fraction or exponent; not by way of a float, which would round those of 64 bits."""
    if not NUMBER.fullmatch(text):
        return None
    try:
        number = Decimal(text)
    except InvalidOperation:  # an exponent of very many digits
        return None
    if number.adjusted() > _LONGEST_INTEGER or number != number.to_integral_value():
        return None
    return int(number)


def _double(value: Any, _levels: int) -> float:  # noqa: ANN401 - a Converter
    if type(value) is float:
        return value
    if type(value) is int:
        return float(value)
    if type(value) is str:
        if value in _NON_FINITE:
            return _NON_FINITE[value]
        if NUMBER.fullmatch(value):
            number = float(value)
            if math.isinf(number):
                raise expected("a number that 64 bits can hold", value)
            return number
    raise expected("a number", value)


def _float(value: Any, levels: int) -> float:  # noqa: ANN401 - a Converter
    number = _double(value, levels)
    if abs(number) >= FLOAT_LIMIT and not math.isinf(number):
        raise expected("a number that 32 bits can hold", value)
    return number


def _bool(value: Any, _levels: int) -> bool:  # noqa: ANN401 - a Converter
    if type(value) is not bool:
        raise expected("true or false", value)
    return value


def _bool_text(value: str, _levels: int) -> bool:
    if value not in ("true", "false"):
        raise expected("true or false", value)
    return value == "true"


def _string(value: Any, _levels: int) -> str:  # noqa: ANN401 - a Converter
    if type(value) is not str:
        raise expected("a string", value)
    return value


def _bytes(value: Any, _levels: int) -> bytes:  # noqa: ANN401 - a Converter
    """The mapping takes the standard and the URL-safe alphabet, with and without padding."""
    if type(value) is not str:
        raise expected("a base64 string", value)
    text = value.rstrip("=")
    if len(value) - len(text) in (0, -len(text) % 4):
        try:
            return a2b_base64(text.translate(_STANDARD_ALPHABET) + "=" * (-len(text) % 4), strict_mode=True)
        except (Base64Error, ValueError):  # a ValueError is a character outside ASCII
            pass
    raise expected("a base64 string", value)


def _enum(enum: EnumDescriptor, *, ignore_unknown: bool) -> Converter:
    numbers = {name: value.number for name, value in enum.values_by_name.items()}
    known = frozenset(numbers.values())
    closed = enum.is_closed
    integer = _integer(*RANGES[FieldDescriptor.TYPE_INT32])
    is_null = enum.full_name == NULL_VALUE

    def convert(value: Any, levels: int) -> int | None:  # noqa: ANN401 - a Converter
        if type(value) is str:
            named = numbers.get(value)
            if named is None and not ignore_unknown:
                raise Refusal(f"{enum.name} has no value {quote(value)}{did_you_mean(value, numbers)}")
            return named
        if value is None and is_null:
            return 0
        if type(value) not in (int, float):
            raise expected(f"the name or the number of a {enum.name}", value)
        number: int = integer(value, levels)
        if closed and number not in known:
            raise Refusal(f"{enum.name} has no value {number}")
        return number

    return convert


_OTHERS: Mapping[int, Converter] = {
    FieldDescriptor.TYPE_DOUBLE: _double,
    FieldDescriptor.TYPE_FLOAT: _float,
    FieldDescriptor.TYPE_BOOL: _bool,
    FieldDescriptor.TYPE_STRING: _string,
    FieldDescriptor.TYPE_BYTES: _bytes,
}
