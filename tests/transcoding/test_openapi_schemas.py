"""JSON Schemas in OpenAPI documents: they say what the codec writes, and what it takes."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from google.protobuf.descriptor import FieldDescriptor
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from saxgw.transcoding import Codec, InvalidInput, Route, Transcoder
from tests.transcoding.documents import ECHOES, KINDS, LIBRARY, component, validator
from tests.transcoding.schema import POOL, message_class, methods
from tests.transcoding.strategies import messages

CODEC = Codec(pool=POOL)
LIBRARY_TRANSCODER = Transcoder(methods(), pool=POOL)
RAW = {"ReadFile", "WriteFile", "Raw"}

DIGITS_32 = "^-?(?:0|[1-9][0-9]{0,9})$"
DIGITS_64 = "^-?(?:0|[1-9][0-9]{0,18})$"
INT32 = {"type": "integer", "format": "int32", "minimum": -(2**31), "maximum": 2**31 - 1}
INT32_TAKEN = {**INT32, "type": ["integer", "string", "null"], "pattern": DIGITS_32}
UINT32 = {"type": "integer", "format": "uint32", "minimum": 0, "maximum": 2**32 - 1}
INT64 = {"type": "string", "format": "int64", "pattern": DIGITS_64}
INT64_TAKEN = {**INT64, "type": ["string", "integer", "null"], "minimum": -(2**63), "maximum": 2**63 - 1}
UINT64 = {"type": "string", "format": "uint64", "pattern": "^(?:0|[1-9][0-9]{0,19})$"}
DOUBLE = {"type": ["number", "string"], "format": "double", "pattern": "^(?:NaN|-?Infinity)$"}
STRING = {"type": "string"}
STRING_TAKEN = {"type": ["string", "null"]}
BYTES = {"type": "string", "contentEncoding": "base64"}
COLOUR = {"$ref": "#/components/schemas/Colour"}
COLOUR_TAKEN = {"anyOf": [COLOUR, {"type": "null"}]}
LEAF = {"$ref": "#/components/schemas/Leaf-Output"}
LEAF_TAKEN = {"anyOf": [{"$ref": "#/components/schemas/Leaf-Input"}, {"type": "null"}]}
EMPTY = {"$ref": "#/components/schemas/Empty-Output"}
ANY_VALUE = {"description": "Any JSON value."}
ANY_OBJECT = {"type": "object", "description": "Any JSON object."}
ANY_ARRAY = {"type": "array", "description": "Any JSON array."}
TIME = component(ECHOES, "WellKnown-Output")["properties"]["timestamp"]


def array(of: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": of}


def a_map(of: dict[str, Any], **keywords: Any) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": of, **keywords}


def taken(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema that takes null as well."""
    return {**schema, "type": [schema["type"], "null"]}


ODD: list[Any] = [
    *(None, True, False, 0, 1, -1, 1.5, 7.0, 2**31, 2**32, 2**63, 2.0**64, -(2**63), 1e39),
    *("", "a", "0", "-1", "00", "1.5", "NaN", "Infinity", "-Infinity", "nan", "true"),
    *("YQ==", "YQ", "Y", "!!", "RED", "red"),
    *("2024-01-01T00:00:00Z", "2024-01-01", "1s", "1.5s", "s", "a.b", "aB,c", "a_b"),
    *([], [None], ["a"], [1], {}, {"a": 1}, {"1": 1}, {"x": [None]}, {"unknown": 1}),
    {"@type": "type.googleapis.com/google.protobuf.Duration", "value": "1s"},
]  # fmt: skip
"""Values that most fields do not take."""


@pytest.mark.parametrize(
    ("name", "field", "written", "read"),
    [
        ("Scalars", "int32", INT32, INT32_TAKEN),
        ("Scalars", "sint64", INT64, INT64_TAKEN),
        ("Scalars", "fixed32", UINT32, None),
        ("Scalars", "fixed64", UINT64, None),
        ("Scalars", "double", DOUBLE, None),
        ("Scalars", "bool", {"type": "boolean"}, {"type": ["boolean", "null"]}),
        ("Scalars", "string", STRING, STRING_TAKEN),
        ("Scalars", "bytes", BYTES, None),
        ("Scalars", "colour", COLOUR, COLOUR_TAKEN),
        ("Repeated", "colour", array(COLOUR), taken(array(COLOUR))),
        ("Repeated", "leaf", array(LEAF), None),
        ("Repeated", "string_value", array(STRING), taken(array(STRING))),
        ("Maps", "strings", a_map(STRING), taken(a_map(STRING))),
        ("Maps", "bools", a_map(COLOUR, propertyNames={"enum": ["false", "true"]}), None),
        ("Maps", "int64s", a_map(INT64, propertyNames={"pattern": DIGITS_64}), None),
        ("Maps", "times", a_map(TIME), taken(a_map(TIME))),
        ("Leaf", "inner", LEAF, LEAF_TAKEN),
        ("OneOf", "text", STRING, STRING),
        ("OneOf", "nothing", {"type": "null"}, {"enum": [None, "NULL_VALUE", 0]}),
        ("WellKnown", "value", ANY_VALUE, ANY_VALUE),
        ("WellKnown", "struct", ANY_OBJECT, taken(ANY_OBJECT)),
        ("WellKnown", "list_value", ANY_ARRAY, taken(ANY_ARRAY)),
        ("WellKnown", "empty", EMPTY, None),
        ("Wrapped", "int32", INT32, INT32_TAKEN),
        ("Wrapped", "string", STRING, STRING_TAKEN),
        ("Names", "custom", INT32, None),
    ],
)
def test_field(name: str, field: str, written: dict[str, Any], read: dict[str, Any] | None) -> None:
    """The schemas of a field as it is written and, where the row says so, as it is read."""
    assert component(ECHOES, f"{name}-Output")["properties"][field] == written
    if read is not None:
        assert component(ECHOES, f"{name}-Input")["properties"][field] == read


def test_enums() -> None:
    """Enums are names or, as new ones may come, numbers; of two names for a number only the first is written."""
    names = {"type": "string", "enum": ["COLOUR_UNSPECIFIED", "RED", "GREEN", "NEGATIVE"]}
    assert component(ECHOES, "Colour")["anyOf"] == [
        names,
        {"type": "integer", "minimum": -(2**31), "maximum": 2**31 - 1},
    ]
    assert component(ECHOES, "Aliased-Output")["anyOf"][0]["enum"] == ["ALIASED_UNSPECIFIED", "FIRST"]
    assert component(ECHOES, "Aliased-Input")["anyOf"][0]["enum"] == ["ALIASED_UNSPECIFIED", "FIRST", "ALSO_FIRST"]


def test_presence() -> None:
    """Answers always have the fields without presence; requests need none of them, and have no unknown ones."""
    scalars = component(ECHOES, "Scalars-Output")
    assert scalars["required"] == list(scalars["properties"])
    assert "required" not in component(ECHOES, "Presence-Output")
    assert component(ECHOES, "Leaf-Output")["required"] == ["a"]
    assert "required" not in component(ECHOES, "Scalars-Input")
    assert component(ECHOES, "Scalars-Input")["additionalProperties"] is False
    assert "additionalProperties" not in scalars
    assert component(ECHOES, "Empty-Input") == {"type": "object", "properties": {}, "additionalProperties": False}


@given(messages(message_class("Everything").DESCRIPTOR))
def test_what_is_written(message: Any) -> None:
    """The JSON of any message fits the schema of what is written, and that of what is read."""
    value = orjson.loads(CODEC.encode(message))
    for form in ("Output", "Input"):
        validator(ECHOES, {"$ref": f"#/components/schemas/Everything-{form}"}).validate(value)


@given(st.sampled_from([route for route in LIBRARY_TRANSCODER.routes if route.method.name not in RAW]), st.data())
def test_answers(route: Route, data: st.DataObject) -> None:
    """The body of any answer of any route fits what the document says of its operation."""
    response = data.draw(messages(route.method.output_type))
    path = str(route.template).replace("{page.size}", "1").replace("{shelf_id}", "1").replace("{room}", "a")
    path = path.replace("{shelf.name=shelves/*}", "shelves/1").replace("{from=shelves/*/books/*}", "shelves/1/books/1")
    match = LIBRARY_TRANSCODER.match(route.http_method, path)
    operations = [
        found
        for item in LIBRARY["paths"].values()
        for found in item.values()
        if found["operationId"].startswith(f"Library_{route.method.name}")
    ]
    routes = [other for other in LIBRARY_TRANSCODER.routes if other.method is route.method]
    number = 0 if route.method.name == "Lock" else routes.index(route)
    schema = operations[number]["responses"]["200"]["content"]["application/json"]["schema"]
    validator(LIBRARY, schema).validate(orjson.loads(match.encode(response)))


@st.composite
def odd_messages(draw: st.DrawFn, kind: str) -> Any:
    """The JSON of a message in which one value is another."""
    descriptor = message_class(kind).DESCRIPTOR
    made = orjson.loads(CODEC.encode(draw(messages(descriptor, levels=1))))
    spots: list[tuple[Any, Any]] = [(made, field.name) for field in descriptor.fields]

    def walk(node: Any) -> None:
        for key in node if isinstance(node, dict) else range(len(node)):
            spots.append((node, key))
            if isinstance(node[key], (dict, list)):
                walk(node[key])

    walk(made)
    parent, key = draw(st.sampled_from(spots))
    parent[key] = draw(st.sampled_from(ODD))
    return made


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "Everything"])
@settings(suppress_health_check=[HealthCheck.filter_too_much])
@given(st.data())
def test_what_is_taken(kind: str, data: st.DataObject) -> None:
    """The codec takes what the schema takes and nothing else, but for what the package says in its docstring."""
    value = data.draw(odd_messages(kind))
    assume(not value.get("any"))  # no schema knows the types of messages in there
    descriptor = message_class(kind).DESCRIPTOR
    for name, field in descriptor.fields_by_name.items():
        null_in_oneof = _is_in_oneof(field) and name in value and value[name] is None
        assume(not null_in_oneof or name == "nothing")
        assume(
            name not in ("nothing", "null_value") or type(value.get(name)) not in (int, float)
        )  # any number is taken
    try:
        CODEC.decode(orjson.dumps(value), message_class(kind))
        is_taken = True
    except InvalidInput:
        is_taken = False
    assert validator(ECHOES, {"$ref": f"#/components/schemas/{kind}-Input"}).is_valid(value) == is_taken


def _is_in_oneof(field: FieldDescriptor) -> bool:
    return field.containing_oneof is not None and len(field.containing_oneof.fields) > 1
