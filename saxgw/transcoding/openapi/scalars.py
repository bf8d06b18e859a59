"""JSON Schemas of scalars and of the well-known types that have a JSON form of their own."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any, TypeAlias

from google.protobuf.descriptor import FieldDescriptor

from saxgw.transcoding.codec.fields import ANY, is_wrapper
from saxgw.transcoding.codec.scalars import FLOAT_LIMIT, RANGES
from saxgw.transcoding.codec.texts import MASK_PATH

if TYPE_CHECKING:
    from collections.abc import Mapping

    from google.protobuf.descriptor import Descriptor

Schema: TypeAlias = dict[str, Any]
"""A JSON Schema of the 2020-12 dialect, which is what OpenAPI 3.1 has."""


class Form(Enum):
    """Where a value stands; the proto3 JSON mapping writes one form of a value and reads several."""

    REQUEST = "in a JSON body, as it is read"
    RESPONSE = "in a JSON body, as it is written"
    TEXT = "in a path or a query"


_INTEGER_FORMATS: Mapping[tuple[int, int], str] = {
    (-(2**31), 2**31 - 1): "int32",
    (0, 2**32 - 1): "uint32",
    (-(2**63), 2**63 - 1): "int64",
    (0, 2**64 - 1): "uint64",
}

_NON_FINITE = "NaN|-?Infinity"
_NUMBER = r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?"
_BASE64 = "^(?:[A-Za-z0-9+/_-]{4})*(?:[A-Za-z0-9+/_-]{2}(?:==)?|[A-Za-z0-9+/_-]{3}=?)?$"
_TIMESTAMP = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?(?:Z|[+-][0-9]{2}:[0-9]{2})$"
_DURATION = r"^-?[0-9]{1,12}(?:\.[0-9]{1,9})?s$"

_SPECIAL: Mapping[str, Schema] = {
    "google.protobuf.Timestamp": {
        "type": "string",
        "format": "date-time",
        "pattern": _TIMESTAMP,
        "description": "A time, with up to nine decimals of a second.",
    },
    "google.protobuf.Duration": {
        "type": "string",
        "pattern": _DURATION,
        "description": "A duration in seconds, with up to nine decimals and an `s`: `1.5s`.",
    },
    "google.protobuf.FieldMask": {
        "type": "string",
        "description": "Paths of fields in lowerCamelCase with commas between them: `title,author.firstName`.",
    },
    "google.protobuf.Struct": {"type": "object", "description": "Any JSON object."},
    "google.protobuf.ListValue": {"type": "array", "description": "Any JSON array."},
    "google.protobuf.Value": {"description": "Any JSON value."},
    ANY: {
        "type": "object",
        "description": "A message of any type, which `@type` names.",
        "properties": {"@type": {"type": "string", "pattern": "^.+/[^/]+$"}},
        "if": {"minProperties": 1},
        "then": {"required": ["@type"]},
    },
}


def scalar_schema(field: FieldDescriptor, form: Form) -> Schema:
    """The schema of one value of a scalar field."""
    if field.type in RANGES:
        return _integer(*RANGES[field.type], form)
    if field.type == FieldDescriptor.TYPE_DOUBLE:
        return _float("double", form)
    if field.type == FieldDescriptor.TYPE_FLOAT:
        schema = _float("float", form)
        if form is not Form.RESPONSE:
            schema |= {"exclusiveMinimum": -FLOAT_LIMIT, "exclusiveMaximum": FLOAT_LIMIT}
        return schema
    if field.type == FieldDescriptor.TYPE_BYTES:
        schema = {"type": "string", "contentEncoding": "base64"}
        return schema if form is Form.RESPONSE else {**schema, "pattern": _BASE64}
    return {"type": "boolean" if field.type == FieldDescriptor.TYPE_BOOL else "string"}


def special_schema(message: Descriptor, form: Form) -> Schema:
    """The schema of a message type that is no object of its fields (`codec.fields.is_special`)."""
    if is_wrapper(message):
        return scalar_schema(message.fields_by_name["value"], form)
    schema = dict(_SPECIAL[message.full_name])
    if message.full_name == "google.protobuf.FieldMask" and form is Form.REQUEST:
        schema["pattern"] = f"^(?:{MASK_PATH}(?:,{MASK_PATH})*)?$"
    return schema


def map_key_schema(field: FieldDescriptor) -> Schema | None:
    """The schema of the keys of a map, which are strings in JSON; None if it may be any string."""
    if field.type == FieldDescriptor.TYPE_BOOL:
        return {"enum": ["false", "true"]}
    return {"pattern": _digits(*RANGES[field.type])} if field.type in RANGES else None


def _integer(minimum: int, maximum: int, form: Form) -> Schema:
    number: Schema = {"type": "integer", "format": _INTEGER_FORMATS[minimum, maximum]}
    limits: Schema = {"minimum": minimum, "maximum": maximum}
    text: Schema = {"pattern": _digits(minimum, maximum)}
    has_64_bits = maximum >= 2**32
    if form is Form.TEXT:
        return number | limits
    if form is Form.RESPONSE:
        return number | {"type": "string"} | text if has_64_bits else number | limits
    return number | {"type": ["string", "integer"] if has_64_bits else ["integer", "string"]} | limits | text


def _digits(minimum: int, maximum: int) -> str:
    return f"^{'-?' if minimum < 0 else ''}(?:0|[1-9][0-9]{{0,{len(str(maximum)) - 1}}})$"


def _float(name: str, form: Form) -> Schema:
    texts = _NON_FINITE if form is Form.RESPONSE else f"{_NON_FINITE}|{_NUMBER}"
    return {"type": ["number", "string"], "format": name, "pattern": f"^(?:{texts})$"}
