"""Messages of any type at random, for property tests."""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from hypothesis import strategies as st

from saxgw.transcoding.codec.fields import is_map, map_fields
from saxgw.transcoding.codec.scalars import RANGES
from tests.transcoding.schema import message_class

TEXTS = st.text(st.characters(codec="utf-8"), max_size=5)

_SECONDS = st.integers(-62_135_596_800, 253_402_300_799)
_NANOS = st.integers(0, 999_999_999)
_PATHS = st.from_regex(r"[a-z][a-z0-9]{0,3}(_[a-z][a-z0-9]{0,2}){0,2}(\.[a-z]{1,3}){0,2}", fullmatch=True)
_JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)


@st.composite
def _durations(draw: st.DrawFn) -> dict[str, int]:
    seconds, nanos = draw(st.integers(0, 315_576_000_000)), draw(_NANOS)
    sign = draw(st.sampled_from([1, -1]))
    return {"seconds": sign * seconds, "nanos": sign * nanos}


@st.composite
def _any_messages(draw: st.DrawFn) -> dict[str, Any]:
    name = draw(st.sampled_from(["transcoding.test.Leaf", "google.protobuf.Duration", "google.protobuf.Int64Value"]))
    content = draw(messages(message_class(name).DESCRIPTOR, levels=1))
    return {"type_url": f"type.googleapis.com/{name}", "value": content.SerializeToString()}


def _value(json: Any) -> Any:
    value = message_class("google.protobuf.Value")()
    if json is None:
        value.null_value = 0
    elif isinstance(json, bool):
        value.bool_value = json
    elif isinstance(json, str):
        value.string_value = json
    elif isinstance(json, float):
        value.number_value = json
    elif isinstance(json, dict):
        value.struct_value.SetInParent()
        value.struct_value.update(json)
    else:
        value.list_value.SetInParent()
        value.list_value.extend(json)
    return value


_SPECIAL: dict[str, st.SearchStrategy[Any]] = {
    "google.protobuf.Timestamp": st.fixed_dictionaries({"seconds": _SECONDS, "nanos": _NANOS}),
    "google.protobuf.Duration": _durations(),
    "google.protobuf.FieldMask": st.fixed_dictionaries({"paths": st.lists(_PATHS, max_size=3)}),
    "google.protobuf.Value": _JSON.map(_value),
    "google.protobuf.Struct": st.dictionaries(TEXTS, _JSON, max_size=3),
    "google.protobuf.ListValue": st.lists(_JSON, max_size=3),
    "google.protobuf.Any": st.deferred(_any_messages),
}

_SCALARS: dict[int, st.SearchStrategy[Any]] = {
    FieldDescriptor.TYPE_BOOL: st.booleans(),
    FieldDescriptor.TYPE_STRING: TEXTS,
    FieldDescriptor.TYPE_BYTES: st.binary(max_size=5),
    FieldDescriptor.TYPE_DOUBLE: st.floats(allow_nan=False),
    # json_format refuses to read back the largest float that it prints.
    FieldDescriptor.TYPE_FLOAT: st.floats(width=32, allow_nan=False).filter(
        lambda x: abs(x) < 3.4e38 or abs(x) > 3.5e38
    ),
}


def messages(descriptor: Descriptor, *, levels: int = 3) -> st.SearchStrategy[Any]:
    """Messages of a type, of a pool of the tests, with messages nested to a number of levels."""
    made = message_class(descriptor.full_name)
    return _contents(descriptor, levels).map(lambda value: made(**value) if isinstance(value, dict) else value)


def _contents(descriptor: Descriptor, levels: int) -> st.SearchStrategy[Any]:
    """What the constructor of another message takes for a field of a message type."""
    special = _SPECIAL.get(descriptor.full_name)
    if special is not None:
        return special

    @st.composite
    def build(draw: st.DrawFn) -> dict[str, Any]:
        usable = [field for field in descriptor.fields if levels or field.message_type is None]
        chosen = draw(st.lists(st.sampled_from(usable), unique_by=_oneof, max_size=4)) if usable else []
        return {field.name: draw(_field(field, levels - 1)) for field in chosen}

    return build()


def _oneof(field: FieldDescriptor) -> str:
    """The same for fields of which just one can be set."""
    return field.name if field.containing_oneof is None else field.containing_oneof.name


def _field(field: FieldDescriptor, levels: int) -> st.SearchStrategy[Any]:
    if is_map(field):
        key, value = map_fields(field)
        return st.dictionaries(_element(key, levels), _element(value, levels), max_size=3)
    return st.lists(_element(field, levels), max_size=3) if field.is_repeated else _element(field, levels)


def _element(field: FieldDescriptor, levels: int) -> st.SearchStrategy[Any]:
    if field.message_type is not None:
        return _contents(field.message_type, max(levels, 0))
    if field.enum_type is not None:
        known = st.sampled_from([value.number for value in field.enum_type.values])
        return known if field.enum_type.name == "NullValue" else known | st.integers(-(2**31), 2**31 - 1)
    if field.type in RANGES:
        return st.integers(*RANGES[field.type])
    return _SCALARS[field.type]
