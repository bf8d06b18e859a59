"""What JSON is read as which message: the expectations of the protobuf project's conformance suite, and stricter ones.

Most rows are those of https://github.com/protocolbuffers/protobuf/tree/main/conformance (json_*_test.cc), restated.
"""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import text_format

from saxgw.transcoding import Codec, InvalidInput
from tests.transcoding.schema import POOL, message_class

CODEC = Codec(pool=POOL)
LENIENT = Codec(pool=POOL, ignore_unknown_fields=True)

URL = "type.googleapis.com/transcoding.test"
WELL_KNOWN = "type.googleapis.com/google.protobuf"


def text(message: Any) -> str:
    """A message as protobuf text on one line."""
    return text_format.MessageToString(message, as_one_line=True, descriptor_pool=POOL)


def parsed(name: str, expected: str) -> str:
    """The normal form of protobuf text, which unlike messages is equal to itself where it says NaN."""
    return text(text_format.Parse(expected, message_class(name)(), descriptor_pool=POOL))


def decode(name: str, data: str | bytes, codec: Codec = CODEC) -> Any:
    return codec.decode(data.encode() if isinstance(data, str) else data, message_class(name))


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        pytest.param("Scalars", '{"int32": 2147483647}', "int32: 2147483647", id="int32 max"),
        pytest.param("Scalars", '{"int32": -2147483648}', "int32: -2147483648", id="int32 min"),
        pytest.param("Scalars", '{"sint32": -1, "sfixed32": -1}', "sint32: -1 sfixed32: -1", id="other 32-bit kinds"),
        pytest.param("Scalars", '{"uint32": 4294967295}', "uint32: 4294967295", id="uint32 max"),
        pytest.param("Scalars", '{"fixed32": 4294967295}', "fixed32: 4294967295", id="fixed32 max"),
        pytest.param("Scalars", '{"int64": "9223372036854775807"}', "int64: 9223372036854775807", id="int64 max"),
        pytest.param("Scalars", '{"int64": "-9223372036854775808"}', "int64: -9223372036854775808", id="int64 min"),
        pytest.param("Scalars", '{"uint64": "18446744073709551615"}', "uint64: 18446744073709551615", id="uint64 max"),
        pytest.param("Scalars", '{"int64": 9223372036854775807}', "int64: 9223372036854775807", id="int64, a number"),
        pytest.param(
            "Scalars", '{"int64": -9223372036854775808}', "int64: -9223372036854775808", id="int64 min, a number"
        ),
        pytest.param(
            "Scalars", '{"uint64": 18446744073709551615}', "uint64: 18446744073709551615", id="uint64, a number"
        ),
        pytest.param("Scalars", '{"sint64": "-5", "sfixed64": -5}', "sint64: -5 sfixed64: -5", id="other 64-bit kinds"),
        pytest.param("Scalars", '{"fixed64": 5}', "fixed64: 5", id="fixed64"),
        pytest.param("Scalars", '{"int32": "2147483647"}', "int32: 2147483647", id="int32, a string"),
        pytest.param("Scalars", '{"int32": "2\\u003147483647"}', "int32: 2147483647", id="int32, an escaped string"),
        pytest.param("Scalars", '{"int32": "0"}', "", id="zero, a string"),
        pytest.param("Scalars", '{"int32": "1e5"}', "int32: 100000", id="int32, an exponent in a string"),
        pytest.param("Scalars", '{"int32": 100000.000}', "int32: 100000", id="int32 with a fraction of zero"),
        pytest.param(
            "Scalars",
            '{"int64": "9007199254740993.0"}',
            "int64: 9007199254740993",
            id="int64 beyond a double",
        ),
        pytest.param(
            "Scalars", '{"int64": "9223372036854775807e0"}', "int64: 9223372036854775807", id="int64 max, an exponent"
        ),
        pytest.param(
            "Scalars", '{"int64": "-9.223372036854775808e18"}', "int64: -9223372036854775808", id="int64 min, the same"
        ),
        pytest.param("Scalars", '{"int32": 1e5}', "int32: 100000", id="int32 with an exponent"),
        pytest.param("Scalars", '{"int32": 2147483647.0}', "int32: 2147483647", id="int32 max, a float"),
        pytest.param("Scalars", '{"int32": -2147483648.0}', "int32: -2147483648", id="int32 min, a float"),
        pytest.param("Scalars", '{"uint32": 4294967295.0}', "uint32: 4294967295", id="uint32 max, a float"),
        pytest.param("Scalars", '{"int64": 1e18}', "int64: 1000000000000000000", id="int64 with an exponent"),
        pytest.param("Scalars", '{"int32": -0}', "", id="minus zero"),
        pytest.param("Scalars", '{"float": 1.175494e-38}', "float: 1.175494e-38", id="float, small"),
        pytest.param("Scalars", '{"float": 3.402823e+38}', "float: 3.402823e+38", id="float, large"),
        pytest.param("Scalars", '{"float": 3.4028234663852886e38}', "float: 3.4028235e+38", id="float max"),
        pytest.param("Scalars", '{"float": "1"}', "float: 1.0", id="float, a string"),
        pytest.param("Scalars", '{"float": "1.5e3"}', "float: 1500.0", id="float, an exponent in a string"),
        pytest.param("Scalars", '{"float": 1}', "float: 1.0", id="float, an integer"),
        pytest.param("Scalars", '{"float": "NaN"}', "float: nan", id="float NaN"),
        pytest.param("Scalars", '{"float": "Infinity"}', "float: inf", id="float infinity"),
        pytest.param("Scalars", '{"float": "-Infinity"}', "float: -inf", id="float minus infinity"),
        pytest.param("Scalars", '{"double": 2.22507e-308}', "double: 2.22507e-308", id="double, small"),
        pytest.param("Scalars", '{"double": 1.79769e+308}', "double: 1.79769e+308", id="double, large"),
        pytest.param("Scalars", '{"double": 5}', "double: 5.0", id="double, an integer"),
        pytest.param("Scalars", '{"double": 1e-400}', "", id="double, too small to be told from zero"),
        pytest.param("Scalars", '{"double": "NaN"}', "double: nan", id="double NaN"),
        pytest.param("Scalars", '{"double": "-Infinity"}', "double: -inf", id="double minus infinity"),
        pytest.param("Scalars", '{"double": -0.0}', "double: -0.0", id="double, minus zero"),
        pytest.param("Scalars", '{"bool": true}', "bool: true", id="true"),
        pytest.param("Scalars", '{"bool": false}', "", id="false"),
        pytest.param(
            "Scalars", '{"string": "谷歌"}', 'string: "\\350\\260\\267\\346\\255\\214"', id="string beyond ASCII"
        ),
        pytest.param(
            "Scalars", '{"string": "\\u8C37\\u6B4C"}', 'string: "\\350\\260\\267\\346\\255\\214"', id="\\u escapes"
        ),
        pytest.param("Scalars", '{"string": "\\uD83D\\uDE01"}', 'string: "\\360\\237\\230\\201"', id="surrogate pair"),
        pytest.param(
            "Scalars", '{"string": "\\"\\\\\\/\\b\\f\\n\\r\\t"}', 'string: "\\"\\\\/\\010\\014\\n\\r\\t"', id="escapes"
        ),
        pytest.param("Scalars", '{"string": "a\\u0000b"}', 'string: "a\\000b"', id="NUL"),
        pytest.param("Scalars", '{"bytes": "AQI="}', 'bytes: "\\001\\002"', id="bytes"),
        pytest.param("Scalars", '{"bytes": "AQI"}', 'bytes: "\\001\\002"', id="bytes without padding"),
        pytest.param("Scalars", '{"bytes": "-_"}', 'bytes: "\\373"', id="bytes, URL-safe"),
        pytest.param("Scalars", '{"bytes": "+/8="}', 'bytes: "\\373\\377"', id="bytes, standard alphabet"),
        pytest.param("Scalars", '{"bytes": ""}', "", id="no bytes"),
        pytest.param("Scalars", '{"colour": "GREEN"}', "colour: GREEN", id="enum by name"),
        pytest.param("Scalars", '{"colour": 2}', "colour: GREEN", id="enum by number"),
        pytest.param("Scalars", '{"colour": -1}', "colour: NEGATIVE", id="enum by a negative number"),
        pytest.param("Scalars", '{"colour": 1.0}', "colour: RED", id="enum by a number with a fraction of zero"),
        pytest.param("Scalars", '{"colour": 123}', "colour: 123", id="enum by an unknown number"),
        pytest.param("Scalars", '{"aliased": "ALSO_FIRST"}', "aliased: FIRST", id="enum by an alias"),
        pytest.param("Scalars", "{}", "", id="empty object"),
        pytest.param("Scalars", ' {\n"int32"\t:\r1 , "int64" : 2 }\n', "int32: 1 int64: 2", id="white space"),
        pytest.param(
            "Presence", '{"int32": 0, "string": ""}', 'int32: 0 string: ""', id="optional with default values"
        ),
        pytest.param("Presence", '{"int32": null, "string": null}', "", id="optional null"),
        pytest.param(
            "Repeated",
            '{"int32": [1, "2"], "double": [1, 2.5], "string": ["a"], "bool": [true, false], "bytes": ["AQ=="]}',
            'int32: 1 int32: 2 double: 1.0 double: 2.5 bool: true bool: false string: "a" bytes: "\\001"',
            id="repeated scalars",
        ),
        pytest.param(
            "Repeated", '{"colour": ["RED", 2, 9]}', "colour: RED colour: GREEN colour: 9", id="repeated enum"
        ),
        pytest.param("Repeated", '{"leaf": [{}, {"a": 1}]}', "leaf { } leaf { a: 1 }", id="repeated message"),
        pytest.param("Repeated", '{"int32": [], "leaf": null}', "", id="repeated, empty and null"),
        pytest.param(
            "Repeated",
            '{"value": [null, [[1]]]}',
            "value {null_value: NULL_VALUE} value {list_value {values {list_value {values {number_value: 1}}}}}",
            id="repeated Value, null",
        ),
        pytest.param(
            "Repeated", '{"listValue": [["a"]]}', 'list_value { values { string_value: "a" } }', id="repeated ListValue"
        ),
        pytest.param(
            "Repeated", '{"stringValue": ["", "a"]}', 'string_value { } string_value { value: "a" }', id="wrappers"
        ),
        pytest.param(
            "Repeated",
            '{"timestamp": ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999999Z"]}',
            "timestamp { seconds: -62135596800 } timestamp { seconds: 253402300799 nanos: 999999999 }",
            id="repeated Timestamp",
        ),
        pytest.param("Maps", '{"int32s": {"-1": 2}}', "int32s { key: -1 value: 2 }", id="int32 keys"),
        pytest.param("Maps", '{"int32s": {"\\u0031": 2}}', "int32s { key: 1 value: 2 }", id="escaped key"),
        pytest.param("Maps", '{"uint64s": {"3": "AQ=="}}', 'uint64s { key: 3 value: "\\001" }', id="uint64 keys"),
        pytest.param("Maps", '{"sfixed64s": {"-3": 1}}', "sfixed64s { key: -3 value: 1.0 }", id="sfixed64 keys"),
        pytest.param("Maps", '{"bools": {"true": "RED"}}', "bools { key: true value: RED }", id="bool keys"),
        pytest.param("Maps", '{"leaves": {"x": {"a": 1}}}', 'leaves { key: "x" value { a: 1 } }', id="message values"),
        pytest.param(
            "Maps",
            '{"values": {"": null}}',
            'values { key: "" value { null_value: NULL_VALUE } }',
            id="null in a Value",
        ),
        pytest.param("Maps", '{"strings": {}, "leaves": null}', "", id="maps, empty and null"),
        pytest.param("OneOf", '{"number": 0}', "number: 0", id="oneof with its default value"),
        pytest.param("OneOf", '{"leaf": {}}', "leaf { }", id="oneof with an empty message"),
        pytest.param("OneOf", '{"text": null, "number": 1}', "number: 1", id="oneof, null is not set"),
        pytest.param("OneOf", '{"nothing": null}', "nothing: NULL_VALUE", id="oneof, NullValue by null"),
        pytest.param("OneOf", '{"nothing": "NULL_VALUE"}', "nothing: NULL_VALUE", id="oneof, NullValue by name"),
        pytest.param("WellKnown", '{"timestamp": "1970-01-01T00:00:00.000Z"}', "timestamp { }", id="Timestamp, epoch"),
        pytest.param(
            "WellKnown",
            '{"timestamp": "1969-12-31T23:59:58.999999999Z"}',
            "timestamp { seconds: -2 nanos: 999999999 }",
            id="Timestamp before the epoch",
        ),
        pytest.param(
            "WellKnown",
            '{"timestamp": "1993-02-10T00:00:00.000Z"}',
            "timestamp { seconds: 729302400 }",
            id="Timestamp after leap days",
        ),
        pytest.param(
            "WellKnown",
            '{"timestamp": "1970-01-01T08:00:01+08:00"}',
            "timestamp { seconds: 1 }",
            id="Timestamp, +08:00",
        ),
        pytest.param(
            "WellKnown",
            '{"timestamp": "1969-12-31T16:00:01-08:00"}',
            "timestamp { seconds: 1 }",
            id="Timestamp, -08:00",
        ),
        pytest.param("WellKnown", '{"timestamp": null, "duration": null, "any": null, "struct": null}', "", id="null"),
        pytest.param(
            "WellKnown",
            '{"duration": "-315576000000.999999999s"}',
            "duration { seconds: -315576000000 nanos: -999999999 }",
            id="Duration min",
        ),
        pytest.param(
            "WellKnown",
            '{"duration": "315576000000.999999999s"}',
            "duration { seconds: 315576000000 nanos: 999999999 }",
            id="Duration max",
        ),
        pytest.param(
            "WellKnown", '{"duration": "-0.5s"}', "duration { nanos: -500000000 }", id="Duration, less than a second"
        ),
        pytest.param("WellKnown", '{"duration": "0s"}', "duration { }", id="Duration, zero"),
        pytest.param(
            "WellKnown", '{"fieldMask": "foo,barBaz"}', 'field_mask { paths: "foo" paths: "bar_baz" }', id="FieldMask"
        ),
        pytest.param("WellKnown", '{"fieldMask": "a.bC.d"}', 'field_mask { paths: "a.b_c.d" }', id="FieldMask, nested"),
        pytest.param("WellKnown", '{"fieldMask": "*"}', 'field_mask { paths: "*" }', id="FieldMask, everything"),
        pytest.param(
            "WellKnown",
            '{"fieldMask": "books.*.fullTitle,notes.7"}',
            'field_mask { paths: "books.*.full_title" paths: "notes.7" }',
            id="FieldMask, through all elements and a key",
        ),
        pytest.param("WellKnown", '{"fieldMask": ""}', "field_mask { }", id="FieldMask, empty"),
        pytest.param("WellKnown", '{"struct": {}}', "struct { }", id="Struct, empty"),
        pytest.param(
            "WellKnown",
            '{"struct": {"a": 1}}',
            'struct { fields { key: "a" value { number_value: 1.0 } } }',
            id="Struct",
        ),
        pytest.param("WellKnown", '{"value": 1}', "value { number_value: 1.0 }", id="Value, integer"),
        pytest.param("WellKnown", '{"value": 1.5}', "value { number_value: 1.5 }", id="Value, float"),
        pytest.param("WellKnown", '{"value": false}', "value { bool_value: false }", id="Value, bool"),
        pytest.param("WellKnown", '{"value": null}', "value { null_value: NULL_VALUE }", id="Value, null"),
        pytest.param("WellKnown", '{"value": "hello"}', 'value { string_value: "hello" }', id="Value, string"),
        pytest.param(
            "WellKnown",
            '{"value": [0, "a"]}',
            'value { list_value { values { number_value: 0.0 } values { string_value: "a" } } }',
            id="Value, array",
        ),
        pytest.param(
            "WellKnown",
            '{"value": {"value": 1}}',
            'value { struct_value { fields { key: "value" value { number_value: 1.0 } } } }',
            id="Value, object",
        ),
        pytest.param(
            "WellKnown", '{"value": [], "listValue": []}', "value { list_value { } } list_value { }", id="empty arrays"
        ),
        pytest.param("WellKnown", '{"value": {}}', "value { struct_value { } }", id="Value, empty object"),
        pytest.param("WellKnown", '{"nullValue": null, "empty": {}}', "empty { }", id="NullValue and Empty"),
        pytest.param("WellKnown", '{"any": {}}', "any { }", id="Any, empty"),
        pytest.param(
            "Wrapped",
            '{"int32": 0, "string": "", "bool": false, "bytes": ""}',
            "int32 { } bool { } string { } bytes { }",
            id="wrappers with default values",
        ),
        pytest.param(
            "Wrapped",
            '{"int64": "1", "uint64": 2, "double": "NaN", "float": 1}',
            "double { value: nan } float { value: 1.0 } int64 { value: 1 } uint64 { value: 2 }",
            id="wrappers",
        ),
        pytest.param("Wrapped", '{"int32": null, "string": null}', "", id="wrappers, null"),
        pytest.param(
            "Names",
            '{"fieldname1": 1, "fieldName2": 2, "FieldName3": 3, "fieldName4": 4, "field0Name6": 5}',
            "fieldname1: 1 field_name2: 2 _field_name3: 3 field__name4_: 4 field_0_name6: 5",
            id="lowerCamelCase",
        ),
        pytest.param(
            "Names",
            '{"field_name2": 2, "_field_name3": 3, "field__name4_": 4, "field_0_name6": 5}',
            "field_name2: 2 _field_name3: 3 field__name4_: 4 field_0_name6: 5",
            id="names of the .proto",
        ),
        pytest.param(
            "Names",
            '{"fieldName7": 7, "FieldName8": 8, "FIELDNAME11": 11}',
            "fieldName7: 7 FieldName8: 8 FIELD_NAME11: 11",
            id="mixed cases",
        ),
        pytest.param("Names", '{"fieldn\\u0061me1": 1}', "fieldname1: 1", id="escaped name"),
        pytest.param("Names", '{"very-custom": 1}', "custom: 1", id="json_name"),
        pytest.param(
            "Names",
            '{"from": 1, "self": "x", "class": [1], "None": 0}',
            'from: 1 self: "x" class: 1 None: 0',
            id="words of Python",
        ),
        pytest.param(
            "Legacy",
            '{"needed": "x", "closed": "ONE", "closedList": [1, 2]}',
            'needed: "x" closed: ONE closed_list: ONE closed_list: TWO',
            id="closed enum",
        ),
        pytest.param("Legacy", '{"needed": "x", "grouped": {"a": 1}}', 'needed: "x" Grouped { a: 1 }', id="group"),
    ],
)
def test_valid_json(name: str, data: str, expected: str) -> None:
    """Valid JSON is the message that the mapping says, and the JSON of that message is that message again."""
    message = decode(name, data)
    assert text(message) == parsed(name, expected)
    assert text(decode(name, CODEC.encode(message))) == parsed(name, expected)


@pytest.mark.parametrize(
    ("data", "packed"),
    [
        pytest.param(f'{{"@type": "{URL}.Leaf", "a": 1}}', message_class("Leaf")(a=1), id="message"),
        pytest.param(f'{{"a": 1, "@type": "{URL}.Leaf"}}', message_class("Leaf")(a=1), id="@type at the end"),
        pytest.param(f'{{"@type": "{URL}.Leaf"}}', message_class("Leaf")(), id="nothing but a type"),
        pytest.param(f'{{"@type": "{WELL_KNOWN}.Empty"}}', message_class("google.protobuf.Empty")(), id="Empty"),
        pytest.param(
            f'{{"@type": "{WELL_KNOWN}.Int32Value", "value": 5}}',
            message_class("google.protobuf.Int32Value")(value=5),
            id="wrapper",
        ),
        pytest.param(
            f'{{"@type": "{WELL_KNOWN}.Duration", "value": "1.5s"}}',
            message_class("google.protobuf.Duration")(seconds=1, nanos=500_000_000),
            id="Duration",
        ),
        pytest.param(
            f'{{"@type": "{WELL_KNOWN}.FieldMask", "value": "foo,barBaz"}}',
            message_class("google.protobuf.FieldMask")(paths=["foo", "bar_baz"]),
            id="FieldMask",
        ),
        pytest.param(
            f'{{"@type": "{WELL_KNOWN}.Struct", "value": {{"foo": 1}}}}',
            message_class("google.protobuf.Struct")(fields={"foo": {"number_value": 1}}),
            id="Struct",
        ),
        pytest.param(
            f'{{"@type": "{WELL_KNOWN}.Value", "value": null}}',
            message_class("google.protobuf.Value")(null_value=0),
            id="Value",
        ),
        pytest.param(
            f'{{"@type": "{WELL_KNOWN}.Any", "value": {{"@type": "{URL}.Leaf", "a": 1}}}}',
            message_class("google.protobuf.Any")(type_url=f"{URL}.Leaf", value=b"\x08\x01"),
            id="Any in an Any",
        ),
    ],
)
def test_valid_any(data: str, packed: Any) -> None:
    """An Any holds the message that its `@type` names."""
    any_message = decode("WellKnown", f'{{"any": {data}}}').any
    assert type(packed).FromString(any_message.value) == packed
    assert any_message.type_url.endswith(f"/{packed.DESCRIPTOR.full_name}")


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        pytest.param("Scalars", '{"x": {"y": [1]}, "int32": 1, "": 2}', "int32: 1", id="fields"),
        pytest.param("Scalars", '{"colour": "X"}', "", id="enum"),
        pytest.param("Repeated", '{"colour": ["X", "RED", "Y"]}', "colour: RED", id="repeated enum"),
        pytest.param(
            "Maps", '{"bools": {"true": "X", "false": "RED"}}', "bools { key: false value: RED }", id="enum in a map"
        ),
        pytest.param(
            "WellKnown", f'{{"any": {{"@type": "{URL}.Leaf", "b": 1}}}}', f"any {{ [{URL}.Leaf] {{ }} }}", id="Any"
        ),
    ],
)
def test_ignoring_the_unknown(name: str, data: str, expected: str) -> None:
    """With ignore_unknown_fields, unknown fields and unknown names of enum values are skipped."""
    assert text(decode(name, data, LENIENT)) == parsed(name, expected)
    with pytest.raises(InvalidInput):
        decode(name, data)


@pytest.mark.parametrize("ignored", [pytest.param('{"int32": "x"}', id="bad value"), pytest.param("[]", id="array")])
def test_ignoring_the_unknown_ignores_nothing_else(ignored: str) -> None:
    """What is known is checked all the same."""
    with pytest.raises(InvalidInput):
        decode("Scalars", ignored, LENIENT)
