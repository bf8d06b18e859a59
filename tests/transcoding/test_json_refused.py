"""What JSON is refused, and in which words: the expectations of the conformance suite, and stricter ones.

Rows are those of https://github.com/protocolbuffers/protobuf/tree/main/conformance (json_*_test.cc), restated, and
those where Python's json_format is laxer than the mapping.
"""

from __future__ import annotations

from typing import Any

import pytest

from saxgw.transcoding import Codec, InvalidInput
from tests.transcoding.schema import POOL, message_class

CODEC = Codec(pool=POOL)

URL = "type.googleapis.com/transcoding.test"
WELL_KNOWN = "type.googleapis.com/google.protobuf"


def decode(name: str, data: str | bytes) -> Any:
    return CODEC.decode(data.encode() if isinstance(data, str) else data, message_class(name))


def refuse(name: str, data: str | bytes) -> str:
    with pytest.raises(InvalidInput) as raised:
        decode(name, data)
    return str(raised.value)


@pytest.mark.parametrize(
    ("name", "data", "sentence"),
    [
        pytest.param(
            "Scalars",
            '{"int32": 2147483648}',
            "int32: expected an integer from -2147483648 to 2147483647, got 2147483648",
            id="int32 too large",
        ),
        pytest.param("Scalars", '{"int32": -2147483649}', "int32: expected an integer from", id="int32 too small"),
        pytest.param(
            "Scalars",
            '{"uint32": 4294967296}',
            "uint32: expected an integer from 0 to 4294967295",
            id="uint32 too large",
        ),
        pytest.param("Scalars", '{"uint32": -1}', "uint32: expected an integer from 0", id="uint32 negative"),
        pytest.param(
            "Scalars", '{"int64": "9223372036854775808"}', "int64: expected an integer from", id="int64 too large"
        ),
        pytest.param(
            "Scalars", '{"int64": "-9223372036854775809"}', "int64: expected an integer from", id="int64 too small"
        ),
        pytest.param(
            "Scalars",
            '{"int64": 9223372036854775808}',
            "int64: expected an integer from",
            id="int64 too large, a number",
        ),
        pytest.param(
            "Scalars", '{"int64": -9223372036854775809}', "int64: expected an integer", id="int64 too small, a number"
        ),
        pytest.param(
            "Scalars", '{"uint64": "18446744073709551616"}', "uint64: expected an integer from", id="uint64 too large"
        ),
        pytest.param(
            "Scalars",
            '{"uint64": 18446744073709551616}',
            "uint64: expected an integer from",
            id="uint64 too large, a number",
        ),
        pytest.param(
            "Scalars", '{"uint64": "1e536870000"}', "uint64: expected an integer", id="uint64, a huge exponent"
        ),
        pytest.param(
            "Scalars", '{"uint64": "18446744073709551615.5"}', "uint64: expected an integer", id="uint64, half too much"
        ),
        pytest.param(
            "Scalars", f'{{"int64": "1e{"9" * 50}"}}', "int64: expected an integer", id="int64, an endless exponent"
        ),
        pytest.param("Scalars", '{"int64": "1e-999999999"}', "int64: expected an integer", id="int64, next to nothing"),
        pytest.param("Scalars", f'{{"int64": "{"9" * 5000}"}}', "int64: expected an integer", id="int64, 5000 digits"),
        pytest.param("Scalars", '{"int32": 0.5}', "int32: expected an integer, got 0.5", id="int32 with a fraction"),
        pytest.param(
            "Scalars", '{"uint64": "0.5"}', 'uint64: expected an integer, got "0.5"', id="uint64 with a fraction"
        ),
        pytest.param("Scalars", '{"int32": true}', "int32: expected an integer, got true", id="int32, true"),
        pytest.param("Scalars", '{"int32": false}', "int32: expected an integer, got false", id="int32, false"),
        pytest.param("Scalars", '{"int32": "12abc"}', 'int32: expected an integer, got "12abc"', id="int32, letters"),
        pytest.param("Scalars", '{"int32": "12 34"}', "int32: expected an integer", id="int32, space inside"),
        pytest.param("Scalars", '{"int32": " 12"}', "int32: expected an integer", id="int32, space before"),
        pytest.param("Scalars", '{"int32": "12\\n"}', "int32: expected an integer", id="int32, line feed after"),
        pytest.param("Scalars", '{"int32": "12,34"}', "int32: expected an integer", id="int32, comma"),
        pytest.param("Scalars", '{"int32": "1_0"}', "int32: expected an integer", id="int32, underscore"),
        pytest.param("Scalars", '{"int32": "+1"}', "int32: expected an integer", id="int32, plus"),
        pytest.param("Scalars", '{"int32": "0x1"}', "int32: expected an integer", id="int32, hexadecimal"),
        pytest.param("Scalars", '{"int32": "12谷歌34"}', "int32: expected an integer", id="int32, other letters"),
        pytest.param("Scalars", '{"int32": "١٢٣"}', "int32: expected an integer", id="int32, Arabic digits"),
        pytest.param("Scalars", '{"int64": "１２３"}', "int64: expected an integer", id="int64, full-width digits"),  # noqa: RUF001 - meant
        pytest.param("Scalars", '{"int32": ""}', 'int32: expected an integer, got ""', id="int32, empty string"),
        pytest.param("Scalars", '{"int32": []}', "int32: expected an integer, got an array", id="int32, array"),
        pytest.param("Scalars", '{"int32": {}}', "int32: expected an integer, got an object", id="int32, object"),
        pytest.param(
            "Scalars",
            '{"float": -3.502823e+38}',
            "float: expected a number that 32 bits can hold",
            id="float too small",
        ),
        pytest.param(
            "Scalars",
            '{"float": 3.502823e+38}',
            "float: expected a number that 32 bits can hold, got 3.502823e+38",
            id="float too large",
        ),
        pytest.param(
            "Scalars",
            '{"float": "1e39"}',
            'float: expected a number that 32 bits can hold, got "1e39"',
            id="float too large, a string",
        ),
        pytest.param("Scalars", '{"float": ""}', 'float: expected a number, got ""', id="float, empty string"),
        pytest.param("Scalars", '{"float": "12abc"}', "float: expected a number", id="float, letters"),
        pytest.param("Scalars", '{"float": "nan"}', 'float: expected a number, got "nan"', id="float, nan"),
        pytest.param("Scalars", '{"float": "inf"}', "float: expected a number", id="float, inf"),
        pytest.param("Scalars", '{"float": "1_0"}', "float: expected a number", id="float, underscore"),
        pytest.param("Scalars", '{"float": true}', "float: expected a number, got true", id="float, true"),
        pytest.param(
            "Scalars",
            '{"double": "1e400"}',
            'double: expected a number that 64 bits can hold, got "1e400"',
            id="double too large, a string",
        ),
        pytest.param(
            "Scalars",
            '{"double": 1e400}',
            "expected JSON with numbers that 64 bits can hold, got 1e400",
            id="double too large",
        ),
        pytest.param(
            "Scalars",
            '{"double": NaN}',
            'expected JSON, which writes "NaN", "Infinity" and "-Infinity" as strings',
            id="bare NaN",
        ),
        pytest.param("Scalars", '{"double": Infinity}', 'expected JSON, which writes "NaN"', id="bare infinity"),
        pytest.param("Scalars", '{"double": -Infinity}', 'expected JSON, which writes "NaN"', id="bare minus infinity"),
        pytest.param("Scalars", '{"double": false}', "double: expected a number, got false", id="double, false"),
        pytest.param("Scalars", '{"bool": "true"}', 'bool: expected true or false, got "true"', id="bool, a string"),
        pytest.param("Scalars", '{"bool": 1}', "bool: expected true or false, got 1", id="bool, a number"),
        pytest.param("Scalars", '{"string": 12345}', "string: expected a string, got 12345", id="string, a number"),
        pytest.param("Scalars", '{"string": [1]}', "string: expected a string, got an array", id="string, an array"),
        pytest.param("Scalars", '{"string": "\\U8C37"}', "expected JSON", id="upper-case escape"),
        pytest.param("Scalars", '{"string": "\\uXXXX"}', "expected JSON", id="bad escape"),
        pytest.param("Scalars", '{"string": "\\u8C3"}', "expected JSON", id="short escape"),
        pytest.param("Scalars", '{"string": "\\uD800"}', "expected JSON", id="lone high surrogate"),
        pytest.param("Scalars", '{"string": "\\uDC00"}', "expected JSON", id="lone low surrogate"),
        pytest.param("Scalars", '{"string": "\\uDE01\\uD83D"}', "expected JSON", id="surrogates in the wrong order"),
        pytest.param("Scalars", '{"\\uD800": 1}', "expected JSON", id="lone surrogate in a name"),
        pytest.param("Scalars", "{'string': \"a\"}", "expected JSON", id="single quotes"),
        pytest.param("Scalars", '{"bytes": "!!"}', 'bytes: expected a base64 string, got "!!"', id="bytes, no base64"),
        pytest.param("Scalars", '{"bytes": "A"}', "bytes: expected a base64 string", id="bytes, one letter"),
        pytest.param("Scalars", '{"bytes": "AQ="}', "bytes: expected a base64 string", id="bytes, half a padding"),
        pytest.param("Scalars", '{"bytes": "AQ==="}', "bytes: expected a base64 string", id="bytes, too much padding"),
        pytest.param("Scalars", '{"bytes": "AQ==AQ=="}', "bytes: expected a base64 string", id="bytes, padding inside"),
        pytest.param("Scalars", '{"bytes": "AQ\\nI="}', "bytes: expected a base64 string", id="bytes, line feed"),
        pytest.param("Scalars", '{"bytes": "é"}', "bytes: expected a base64 string", id="bytes, beyond ASCII"),
        pytest.param("Scalars", '{"bytes": [1]}', "bytes: expected a base64 string, got an array", id="bytes, array"),
        pytest.param("Scalars", '{"colour": RED}', "expected JSON", id="enum, no quotes"),
        pytest.param("Scalars", '{"colour": "red"}', 'colour: Colour has no value "red"', id="enum in lower case"),
        pytest.param(
            "Scalars",
            '{"colour": "GREN"}',
            'colour: Colour has no value "GREN"; did you mean "GREEN"?',
            id="enum, misspelt",
        ),
        pytest.param("Scalars", '{"colour": "1"}', 'colour: Colour has no value "1"', id="enum, a number as a string"),
        pytest.param(
            "Scalars",
            '{"colour": ["RED"]}',
            "colour: expected the name or the number of a Colour, got an array",
            id="enum, array",
        ),
        pytest.param(
            "Scalars",
            '{"colour": true}',
            "colour: expected the name or the number of a Colour, got true",
            id="enum, true",
        ),
        pytest.param("Scalars", '{"colour": 1.5}', "colour: expected an integer, got 1.5", id="enum with a fraction"),
        pytest.param("Scalars", '{"colour": 2147483648}', "colour: expected an integer from", id="enum beyond 32 bits"),
        pytest.param("Scalars", "[]", "expected a JSON object, got an array", id="message, array"),
        pytest.param("Scalars", "null", "expected a JSON object, got null", id="message, null"),
        pytest.param("Scalars", '"x"', 'expected a JSON object, got "x"', id="message, string"),
        pytest.param("Scalars", '{"int23": 1}', 'int23: unknown field; did you mean "int32"?', id="unknown field"),
        pytest.param("Scalars", '{"": 1}', '"": unknown field', id="field without a name"),
        pytest.param(
            "Scalars", '{"int32": 1, "int32": 1}', 'the name "int32" is there twice in one object', id="field twice"
        ),
        pytest.param(
            "Scalars",
            '{"int32": 1, "int\\u00332": 1}',
            'the name "int32" is there twice',
            id="field twice, once escaped",
        ),
        pytest.param(
            "Names",
            '{"fieldName2": 1, "field_name2": 2}',
            'field_name2: given twice, once as "fieldName2"',
            id="both casings",
        ),
        pytest.param(
            "Names",
            '{"field_name2": 1, "fieldName2": 1}',
            'field_name2: given twice, once as "fieldName2"',
            id="both casings, other order",
        ),
        pytest.param(
            "Names", '{"field_name2": null, "fieldName2": 1}', "field_name2: given twice", id="both casings, one null"
        ),
        pytest.param("Repeated", '{"int32": 1}', "int32: expected a JSON array, got 1", id="repeated, a number"),
        pytest.param(
            "Repeated", '{"int32": {}}', "int32: expected a JSON array, got an object", id="repeated, an object"
        ),
        pytest.param(
            "Repeated", '{"int32": [1, null, 2]}', "int32[1]: expected an integer, got null", id="null in an array"
        ),
        pytest.param(
            "Repeated",
            '{"leaf": [{"a":1}, null]}',
            "leaf[1]: expected a JSON object, got null",
            id="null in an array of messages",
        ),
        pytest.param(
            "Repeated",
            '{"string": ["a", null]}',
            "string[1]: expected a string, got null",
            id="null in an array of strings",
        ),
        pytest.param(
            "Repeated",
            '{"leaf": [{"inner": {"inner": {"a": "x"}}}]}',
            'leaf[0].inner.inner.a: expected an integer, got "x"',
            id="path to a leaf",
        ),
        pytest.param(
            "Repeated",
            '{"line": [{"some_text": "a"}, {"some_text": "b", "score": "c"}]}',
            'line[1].score: expected a number, got "c"',
            id="repeated, the second object is bad",
        ),
        pytest.param(
            "Repeated",
            '{"line": [{"last": true}, {"score": 1.5, "scores": 1}]}',
            'line[1].scores: unknown field; did you mean "score"?',
            id="repeated, unknown field",
        ),
        pytest.param(
            "Repeated",
            '{"line": [{"some_text": "a"}, {"someText": "b", "some_text": "b"}]}',
            'line[1].some_text: given twice, once as "someText"',
            id="repeated, both casings",
        ),
        pytest.param(
            "Repeated", '{"line": [{}, "a"]}', 'line[1]: expected a JSON object, got "a"', id="repeated, string"
        ),
        pytest.param(
            "Repeated", '{"line": "text"}', 'line: expected a JSON array, got "text"', id="repeated, no array"
        ),
        pytest.param(
            "Repeated",
            '{"one_of": [{"text": "a"}, {"text": "a", "flag": true}]}',
            "one_of[1]: only one of text and flag can be set",
            id="repeated, oneof twice",
        ),
        pytest.param("Maps", '{"strings": []}', "strings: expected a JSON object, got an array", id="map, array"),
        pytest.param("Maps", '{"int32s": {1: 2}}', "expected JSON", id="map, number as a key"),
        pytest.param("Maps", '{"int32s": {null: 2}}', "expected JSON", id="map, null as a key"),
        pytest.param("Maps", '{"int32s": {"x": 2}}', 'int32s[x]: expected an integer, got "x"', id="map, bad key"),
        pytest.param("Maps", '{"int32s": {"0": null}}', "int32s[0]: expected an integer, got null", id="map, null"),
        pytest.param(
            "Maps", '{"leaves": {"0": null}}', "leaves[0]: expected a JSON object, got null", id="map of messages, null"
        ),
        pytest.param(
            "Maps", '{"strings": {"a": null}}', "strings[a]: expected a string, got null", id="map of strings, null"
        ),
        pytest.param(
            "Maps",
            '{"int32s": {"1": 2, "1.0": 3}}',
            "int32s: two keys of the object are the same number",
            id="map, one key twice",
        ),
        pytest.param(
            "Maps", '{"bools": {"1": "RED"}}', 'bools[1]: expected true or false, got "1"', id="map, bool key"
        ),
        pytest.param("Maps", '{"strings": {"a": 1}}', "strings[a]: expected a string, got 1", id="map, bad value"),
        pytest.param(
            "OneOf",
            '{"text": "", "number": 0}',
            "only one of text and number can be set; leave the others out",
            id="oneof twice",
        ),
        pytest.param(
            "OneOf",
            '{"text": "", "nothing": null, "flag": true}',
            "only one of text, nothing and flag can be set",
            id="oneof three times",
        ),
        pytest.param(
            "WellKnown",
            '{"timestamp": "0000-01-01T00:00:00Z"}',
            "timestamp: expected a time that exists",
            id="Timestamp too early",
        ),
        pytest.param(
            "WellKnown",
            '{"timestamp": "10000-01-01T00:00:00Z"}',
            "timestamp: expected a time such as",
            id="Timestamp too late",
        ),
        pytest.param(
            "WellKnown",
            '{"timestamp": "0001-01-01T00:00:00+00:01"}',
            "timestamp: expected a time in the years 1 to 9999",
            id="Timestamp too early by its offset",
        ),
        pytest.param(
            "WellKnown",
            '{"timestamp": "9999-12-31T23:59:59-00:01"}',
            "timestamp: expected a time in the years 1 to 9999",
            id="Timestamp too late by its offset",
        ),
        pytest.param(
            "WellKnown",
            '{"timestamp": "0001-01-01T00:00:00"}',
            "timestamp: expected a time such as",
            id="Timestamp without a Z",
        ),
        pytest.param(
            "WellKnown",
            '{"timestamp": "0001-01-01 00:00:00Z"}',
            "timestamp: expected a time such as",
            id="Timestamp without a T",
        ),
        pytest.param(
            "WellKnown",
            '{"timestamp": "0001-01-01T00:00:00z"}',
            "timestamp: expected a time such as",
            id="Timestamp, lower-case z",
        ),
        pytest.param(
            "WellKnown",
            '{"timestamp": "0001-01-01t00:00:00Z"}',
            "timestamp: expected a time such as",
            id="Timestamp, lower-case t",
        ),
        pytest.param(
            "WellKnown",
            '{"timestamp": "1970-01-01T08:00:01+0800"}',
            "timestamp: expected a time such as",
            id="Timestamp, offset without a colon",
        ),
        pytest.param(
            "WellKnown",
            '{"timestamp": "1970-01-01T08:00:01+24:00"}',
            "timestamp: expected a time with an offset that exists",
            id="Timestamp, offset of a day",
        ),
        pytest.param(
            "WellKnown",
            '{"timestamp": "1970-02-30T00:00:00Z"}',
            "timestamp: expected a time that exists",
            id="Timestamp, no such day",
        ),
        pytest.param(
            "WellKnown",
            '{"timestamp": "1970-01-01T00:00:60Z"}',
            "timestamp: expected a time that exists",
            id="Timestamp, leap second",
        ),
        pytest.param(
            "WellKnown",
            '{"timestamp": "1970-01-01T00:00:00.0000000001Z"}',
            "timestamp: expected a time such as",
            id="Timestamp, ten decimals",
        ),
        pytest.param(
            "WellKnown",
            '{"timestamp": "1970-01-01T00:00:00.Z"}',
            "timestamp: expected a time such as",
            id="Timestamp, no decimals after a point",
        ),
        pytest.param("WellKnown", '{"timestamp": 0}', "timestamp: expected a time such as", id="Timestamp, number"),
        pytest.param(
            "WellKnown",
            '{"timestamp": "\\u0661970-01-01T00:00:00Z"}',
            "timestamp: expected a time such as",
            id="Timestamp, Arabic digits",
        ),
        pytest.param(
            "WellKnown",
            '{"duration": "1"}',
            'duration: expected a duration in seconds such as "1.5s", got "1"',
            id="Duration without an s",
        ),
        pytest.param(
            "WellKnown",
            '{"duration": "-315576000001.000000000s"}',
            "duration: expected a duration of at most 10,000 years",
            id="Duration too small",
        ),
        pytest.param(
            "WellKnown",
            '{"duration": "315576000001.000000000s"}',
            "duration: expected a duration of at most 10,000 years",
            id="Duration too large",
        ),
        pytest.param(
            "WellKnown",
            '{"duration": "1.0000000001s"}',
            "duration: expected a duration in seconds",
            id="Duration, ten decimals",
        ),
        pytest.param(
            "WellKnown",
            '{"duration": "1.s"}',
            "duration: expected a duration in seconds",
            id="Duration, no decimals after a point",
        ),
        pytest.param(
            "WellKnown", '{"duration": "+1s"}', "duration: expected a duration in seconds", id="Duration, plus"
        ),
        pytest.param("WellKnown", '{"duration": 1}', "duration: expected a duration in seconds", id="Duration, number"),
        pytest.param(
            "WellKnown",
            '{"fieldMask": "foo,bar_bar"}',
            "field_mask: expected field paths in lowerCamelCase",
            id="FieldMask in snake_case",
        ),
        pytest.param(
            "WellKnown", '{"fieldMask": "foo,,bar"}', "field_mask: expected field paths", id="FieldMask, empty path"
        ),
        pytest.param("WellKnown", '{"fieldMask": "a*"}', "field_mask: expected field paths", id="FieldMask, part of *"),
        pytest.param("WellKnown", '{"fieldMask": []}', "field_mask: expected field paths", id="FieldMask, array"),
        pytest.param("WellKnown", '{"struct": []}', "struct: expected a JSON object, got an array", id="Struct, array"),
        pytest.param(
            "WellKnown", '{"listValue": {}}', "list_value: expected a JSON array, got an object", id="ListValue, object"
        ),
        pytest.param(
            "WellKnown", '{"struct": {"a": 1, "a": 2}}', 'the name "a" is there twice', id="Struct, name twice"
        ),
        pytest.param("WellKnown", '{"empty": 1}', "empty: expected a JSON object, got 1", id="Empty, number"),
        pytest.param("WellKnown", '{"empty": {"a": 1}}', "empty.a: unknown field", id="Empty with a field"),
        pytest.param(
            "WellKnown", '{"nullValue": "x"}', 'null_value: NullValue has no value "x"', id="NullValue, string"
        ),
        pytest.param("WellKnown", '{"any": 1}', "any: expected a JSON object, got 1", id="Any, number"),
        pytest.param(
            "WellKnown",
            '{"any": {"a": 1}}',
            'any: expected a string "@type" that names the message',
            id="Any without a type",
        ),
        pytest.param(
            "WellKnown", '{"any": {"@type": 1}}', 'any: expected a string "@type"', id="Any, type is a number"
        ),
        pytest.param(
            "WellKnown",
            '{"any": {"@type": "", "value": ""}}',
            'any: "@type" names no known message: ""',
            id="Any, empty type",
        ),
        pytest.param(
            "WellKnown",
            '{"any": {"@type": "not_a_url", "value": ""}}',
            'any: "@type" names no known message',
            id="Any, no URL",
        ),
        pytest.param(
            "WellKnown",
            '{"any": {"@type": "/transcoding.test.Leaf"}}',
            'any: "@type" names no known message',
            id="Any, URL without a host",
        ),
        pytest.param(
            "WellKnown",
            '{"any": {"@type": "a/b.C"}}',
            'any: "@type" names no known message: "a/b.C"',
            id="Any of an unknown type",
        ),
        pytest.param(
            "WellKnown",
            f'{{"any": {{"@type": "{URL}.Leaf", "a": "x"}}}}',
            'any.a: expected an integer, got "x"',
            id="Any with a bad field",
        ),
        pytest.param(
            "WellKnown",
            f'{{"any": {{"@type": "{WELL_KNOWN}.Duration"}}}}',
            'any: expected just "@type" and "value"',
            id="Any without a value",
        ),
        pytest.param(
            "WellKnown",
            f'{{"any": {{"@type": "{WELL_KNOWN}.Duration", "value": 1}}}}',
            "any.value: expected a duration",
            id="Any with a bad value",
        ),
        pytest.param(
            "WellKnown",
            f'{{"any": {{"@type": "{WELL_KNOWN}.Empty", "value": {{}}}}}}',
            "any.value: unknown field",
            id="Any with Empty and a value",
        ),
        pytest.param(
            "Wrapped", '{"int32": {"value": 1}}', "int32: expected an integer, got an object", id="wrapper, object"
        ),
        pytest.param("Wrapped", '{"bool": "true"}', "bool: expected true or false", id="wrapper, string for bool"),
        pytest.param(
            "Legacy", '{"needed": "x", "closed": 3}', "closed: Closed has no value 3", id="closed enum, unknown number"
        ),
    ],
)
def test_invalid_json(name: str, data: str, sentence: str) -> None:
    """What the mapping does not allow is refused, with the path to it and what was expected."""
    assert refuse(name, data).startswith(sentence)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        pytest.param(b"", "expected JSON, got nothing", id="nothing"),
        pytest.param(b" \n", "expected JSON, got nothing", id="white space"),
        pytest.param(b"{", "expected JSON, but it ends too early, at line 1, column 2", id="cut off"),
        pytest.param(b'{"a": "', "expected JSON, but it ends too early, at line 1, column", id="cut off in a string"),
        pytest.param(
            b'{\n"a" 1}', "expected JSON, which ends at line 2, column 5 where it goes on with 1}", id="no colon"
        ),
        pytest.param(b'{"a":1,}', "expected JSON, which ends at", id="comma at the end"),
        pytest.param(b'{"a":1} x', "expected JSON, which ends at line 1, column 9 where it goes on with x", id="rest"),
        pytest.param(b'{"a":1 /* */}', "expected JSON", id="comment"),
        pytest.param(b"{a:1}", "expected JSON", id="no quotes"),
        pytest.param(b'{"a":01}', "expected JSON", id="leading zero"),
        pytest.param(b'{"a":"\t"}', "expected JSON", id="tab in a string"),
        pytest.param(b"\xef\xbb\xbf{}", "expected JSON, got a byte order mark before it", id="byte order mark"),
        pytest.param(b'{"a":"\xff"}', "expected JSON, got bytes that are not UTF-8, from byte 6", id="not UTF-8"),
        pytest.param(b'{"a":"\xed\xa0\x80"}', "expected JSON, got bytes that are not UTF-8", id="encoded surrogate"),
        pytest.param(b"\x1f\x8b\x08\x00", "expected JSON, got bytes that are not UTF-8", id="compressed"),
        pytest.param('{"a":1}'.encode("utf-16"), "expected JSON, got bytes that are not UTF-8", id="UTF-16"),
        pytest.param(b"[" * 2000 + b"]" * 2000, "nested too deeply", id="2000 levels"),
        pytest.param(b"[" * 300 + b"]" * 300, "nested too deeply", id="300 levels"),
    ],
)
def test_what_is_not_json(data: bytes, sentence: str) -> None:
    """A body that is no JSON is refused with the place where it stops to be."""
    assert refuse("Scalars", data).startswith(sentence)


@pytest.mark.parametrize(
    ("data", "name"),
    [
        pytest.param(b'{"a:b": ":", "c": [":::", {"d:": 1}]}', None, id="colons in strings"),
        pytest.param(b'{"a": "\\u003a", "b": 1}', None, id="escaped colon"),
        pytest.param(b'{"a": "\\\\u003a", "b": 1}', None, id="escaped backslash before u003a"),
        pytest.param(
            b'{"a": "\\u003a", "b": ' + b"9" * 300 + b"}", None, id="escaped colon and an integer of 300 digits"
        ),
        pytest.param(b'{"a": {"b": 1}, "b": {"b": 1}}', None, id="one name in many objects"),
        pytest.param(b'{"a": 1, "a": 1}', "a", id="twice"),
        pytest.param(b'{"a": "\\u003a", "b": "\\u003A", "b": 1}', "b", id="twice, an escaped colon makes up for it"),
        pytest.param(b'{"a": "\\u003a:", "a": 1}', "a", id="twice, the escaped colon is dropped too"),
        pytest.param(b'[[{"x": [{"y": 1, "z": 2, "y": 1}]}]]', "y", id="twice, deep inside"),
        pytest.param(b'[{"x": 1, "x": {"y": 1}}]', "x", id="twice, the second with more inside"),
        pytest.param(b'[{"x":1,"x":1.0}]', "x", id="twice, without spaces"),
        pytest.param(b'[{"x":1,"y":2,"y" : 3}]', "y", id="twice, with spaces before one colon"),
    ],
)
def test_names_that_are_there_twice(data: bytes, name: str | None) -> None:
    """No object may have one name twice, however the colons are counted."""
    message = message_class("google.protobuf.Value")
    if name is None:
        assert CODEC.decode(data, message)
    else:
        with pytest.raises(InvalidInput, match=f'the name "{name}" is there twice in one object'):
            CODEC.decode(data, message)


@pytest.mark.parametrize(
    ("name", "opening", "closing"),
    [
        pytest.param("google.protobuf.Value", "[", "]", id="arrays in a Value"),
        pytest.param("google.protobuf.Value", '{"a":', "}", id="objects in a Value"),
        pytest.param("google.protobuf.ListValue", "[", "]", id="arrays in a ListValue"),
        pytest.param("google.protobuf.Struct", '{"a":', "}", id="objects in a Struct"),
        pytest.param("Leaf", '{"inner":', "}", id="messages"),
        pytest.param("google.protobuf.Any", f'{{"@type":"{WELL_KNOWN}.Any","value":', "}", id="Any in Any"),
    ],
)
def test_depth(name: str, opening: str, closing: str) -> None:
    """A hundred levels are read, one more is not."""
    innermost = "[]" if opening == "[" else "{}"
    assert decode(name, opening * 99 + innermost + closing * 99) is not None
    assert "nested too deeply" in refuse(name, opening * 100 + innermost + closing * 100)


def test_depth_of_an_any() -> None:
    """What is inside of an Any is refused if it has more levels of messages than protobuf reads back."""

    def any_of(levels: int) -> str:
        return f'{{"@type":"{WELL_KNOWN}.Struct","value":' + '{"a":' * levels + "{}" + "}" * (levels + 1)

    assert CODEC.encode(decode("google.protobuf.Any", any_of(30))) == any_of(30).encode()
    assert "nested too deeply" in refuse("google.protobuf.Any", any_of(60))


@pytest.mark.parametrize("item", ["{}", '{"some_text": "a"}', '{"some_text": "a", "score": 1}'])
def test_depth_of_arrays_of_objects(item: str) -> None:
    """The objects in an array are a level of their own, whether or not there is anything in them to convert."""
    data, message = f'{{"line": [{item}]}}'.encode(), message_class("Repeated")
    assert len(Codec(pool=POOL, max_depth=3).decode(data, message).line) == 1
    with pytest.raises(InvalidInput, match=r"^line\[0\]: nested too deeply"):
        Codec(pool=POOL, max_depth=2).decode(data, message)


def test_long_values_are_shortened() -> None:
    """A refusal does not send back what it was sent, however much that was."""
    for data in (f'{{"int32": "{"x" * 10_000}"}}', f'{{"{"x" * 10_000}": 1}}', '{"a' * 10_000):
        assert len(refuse("Scalars", data)) < 200
    nested = '{"inner":' * 90 + '{"a":"x"}' + "}" * 90
    assert refuse("Leaf", nested).startswith("…")
    assert len(refuse("Leaf", nested)) < 400


def test_control_characters_are_escaped() -> None:
    """A refusal is one line, whatever it quotes."""
    assert refuse("Scalars", '{"int32": "a\\nb\\u001b[0m"}') == 'int32: expected an integer, got "a\\nb\\u001b[0m"'
