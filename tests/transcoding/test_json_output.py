"""What messages look like as JSON."""

from __future__ import annotations

import math
from typing import Any

import orjson
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import error_details_pb2, status_pb2

from saxgw.transcoding import Codec, InvalidMessage, decode_json, encode_json
from tests.transcoding.schema import POOL, message_class

CODEC = Codec(pool=POOL)
TERSE = Codec(pool=POOL, always_print_defaults=False)


def made(name: str, **fields: Any) -> Any:
    return message_class(name)(**fields)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        pytest.param(made("Scalars", int32=-1, uint32=1), b'{"int32":-1,"uint32":1}', id="32 bits are numbers"),
        pytest.param(
            made("Scalars", int64=-(2**63), uint64=2**64 - 1),
            b'{"int64":"-9223372036854775808","uint64":"18446744073709551615"}',
            id="64 bits are strings",
        ),
        pytest.param(made("Scalars", double=1.0), b'{"double":1.0}', id="double"),
        pytest.param(made("Scalars", double=math.nan), b'{"double":"NaN"}', id="NaN"),
        pytest.param(
            made("Scalars", double=math.inf, float=-math.inf),
            b'{"float":"-Infinity","double":"Infinity"}',
            id="infinities",
        ),
        pytest.param(
            made("Scalars", double=-0.0, float=-0.0),
            b'{"float":-0.0,"double":-0.0}',
            id="negative zeros are no defaults",
        ),
        pytest.param(made("Scalars", float=0.1), b'{"float":0.1}', id="float, shortest form"),
        pytest.param(made("Scalars", float=16777217.0), b'{"float":16777216.0}', id="float, whole"),
        pytest.param(made("Scalars", float=3.4028234663852886e38), b'{"float":3.4028235e+38}', id="float, largest"),
        pytest.param(
            made("Scalars", float=1e-45),
            b'{"float":1.4013e-45}',
            id="float, smallest, six digits as protobuf prints it",
        ),
        pytest.param(
            made("Scalars", bool=True, string="é\n\0", bytes=b"\xfb\xff"),
            '{"bool":true,"string":"é\\n\\u0000","bytes":"+/8="}'.encode(),
            id="bool, string and bytes",
        ),
        pytest.param(made("Scalars", colour=2), b'{"colour":"GREEN"}', id="enum"),
        pytest.param(made("Scalars", colour=123), b'{"colour":123}', id="enum, unknown"),
        pytest.param(made("Scalars", aliased=1), b'{"aliased":"FIRST"}', id="enum with aliases, the first one"),
        pytest.param(
            made("Presence", int32=0, string=""), b'{"int32":0,"string":""}', id="optional with default values"
        ),
        pytest.param(
            made("Repeated", double=[1, math.nan, -math.inf], float=[0.1, math.nan]),
            b'{"float":[0.1,"NaN"],"double":[1.0,"NaN","-Infinity"]}',
            id="repeated floats",
        ),
        pytest.param(
            made("Repeated", double=[1e308, 1e308]),
            b'{"double":[1e+308,1e+308]}',
            id="repeated floats with an infinite sum",
        ),
        pytest.param(
            made("Repeated", int64=[1, 2], colour=[1, 9], leaf=[{}, {"a": 1}]),
            b'{"int64":["1","2"],"colour":["RED",9],"leaf":[{},{"a":1}]}',
            id="repeated",
        ),
        pytest.param(
            made("Maps", bools={True: 1}, int64s={-1: 2}),
            b'{"int64s":{"-1":"2"},"bools":{"true":"RED"}}',
            id="map keys are strings",
        ),
        pytest.param(
            made("Maps", sfixed64s={1: math.nan}, leaves={"a": {"a": 1}}),
            b'{"leaves":{"a":{"a":1}},"sfixed64s":{"1":"NaN"}}',
            id="map values",
        ),
        pytest.param(made("OneOf", number=0), b'{"number":0}', id="oneof with its default"),
        pytest.param(made("OneOf", nothing=0), b'{"nothing":null}', id="oneof with null"),
        pytest.param(
            made("WellKnown", timestamp={"seconds": 253402300799, "nanos": 999999999}),
            b'{"timestamp":"9999-12-31T23:59:59.999999999Z"}',
            id="Timestamp, last",
        ),
        pytest.param(
            made("WellKnown", timestamp={"seconds": -62135596800}),
            b'{"timestamp":"0001-01-01T00:00:00Z"}',
            id="Timestamp, first",
        ),
        pytest.param(
            made("WellKnown", timestamp={"nanos": 10_000_000}),
            b'{"timestamp":"1970-01-01T00:00:00.010Z"}',
            id="Timestamp, 3 decimals",
        ),
        pytest.param(
            made("WellKnown", timestamp={"nanos": 10_000}),
            b'{"timestamp":"1970-01-01T00:00:00.000010Z"}',
            id="Timestamp, 6 decimals",
        ),
        pytest.param(
            made("WellKnown", timestamp={"nanos": 10}),
            b'{"timestamp":"1970-01-01T00:00:00.000000010Z"}',
            id="Timestamp, 9 decimals",
        ),
        pytest.param(made("WellKnown", duration={"seconds": 1}), b'{"duration":"1s"}', id="Duration"),
        pytest.param(
            made("WellKnown", duration={"nanos": -500_000_000}),
            b'{"duration":"-0.500s"}',
            id="Duration, less than a second",
        ),
        pytest.param(
            made("WellKnown", duration={"seconds": -315_576_000_000, "nanos": -999_999_999}),
            b'{"duration":"-315576000000.999999999s"}',
            id="Duration, least",
        ),
        pytest.param(
            made("WellKnown", duration={"seconds": 1, "nanos": 10_000}),
            b'{"duration":"1.000010s"}',
            id="Duration, 6 decimals",
        ),
        pytest.param(
            made("WellKnown", field_mask={"paths": ["foo", "bar_baz.a_b"]}),
            b'{"field_mask":"foo,barBaz.aB"}',
            id="FieldMask",
        ),
        pytest.param(
            made("WellKnown", field_mask={"paths": ["*", "books.*.full_title", "notes.7"]}),
            b'{"field_mask":"*,books.*.fullTitle,notes.7"}',
            id="FieldMask with wildcards and a key",
        ),
        pytest.param(
            made("WellKnown", struct={"a": [1, None, {"b": "c"}, True]}),
            b'{"struct":{"a":[1.0,null,{"b":"c"},true]}}',
            id="Struct",
        ),
        pytest.param(
            made("WellKnown", value={}, list_value=[], empty={}),
            b'{"value":null,"list_value":[],"empty":{}}',
            id="Value that is not set",
        ),
        pytest.param(made("WellKnown", any={}), b'{"any":{}}', id="Any, empty"),
        pytest.param(
            made("WellKnown", any={"type_url": "x/transcoding.test.Leaf", "value": b"\x08\x05"}),
            b'{"any":{"@type":"x/transcoding.test.Leaf","a":5}}',
            id="Any",
        ),
        pytest.param(
            made("WellKnown", any={"type_url": "x/google.protobuf.Duration", "value": b"\x08\x05"}),
            b'{"any":{"@type":"x/google.protobuf.Duration","value":"5s"}}',
            id="Any with a Duration",
        ),
        pytest.param(
            made("WellKnown", any={"type_url": "x/google.protobuf.Empty"}),
            b'{"any":{"@type":"x/google.protobuf.Empty"}}',
            id="Any with Empty",
        ),
        pytest.param(
            made("WellKnown", any={"type_url": "x/google.protobuf.Value", "value": b"\x32\x00"}),
            b'{"any":{"@type":"x/google.protobuf.Value","value":[]}}',
            id="Any with a Value",
        ),
        pytest.param(made("Wrapped", int64={"value": 5}, bool={}), b'{"int64":"5","bool":false}', id="wrappers"),
        pytest.param(
            made("Names", **{"from": 1, "self": "x", "class": [1], "None": 0, "custom": 3}),
            b'{"custom":3,"from":1,"self":"x","class":[1],"None":0}',
            id="words of Python",
        ),
        pytest.param(
            made("Legacy", needed="x", closed=2, grouped={"a": 1}),
            b'{"needed":"x","closed":"TWO","grouped":{"a":1}}',
            id="proto2",
        ),
        pytest.param(made("google.protobuf.Value", string_value="x"), b'"x"', id="a Value on its own"),
        pytest.param(made("google.protobuf.Timestamp"), b'"1970-01-01T00:00:00Z"', id="a Timestamp on its own"),
        pytest.param(made("google.protobuf.Int64Value", value=5), b'"5"', id="a wrapper on its own"),
    ],
)
def test_json(message: Any, expected: bytes) -> None:
    """Messages print as the mapping says, with their fields in the order of the .proto file."""
    assert TERSE.encode(message) == expected


def test_defaults() -> None:
    """Defaults are printed for fields without presence, and only for those."""
    assert orjson.loads(CODEC.encode(made("Scalars"))) == {
        **dict.fromkeys(("int32", "uint32", "sint32", "fixed32", "sfixed32"), 0),
        **dict.fromkeys(("int64", "uint64", "sint64", "fixed64", "sfixed64"), "0"),
        **dict.fromkeys(("float", "double"), 0.0),
        "bool": False,
        "string": "",
        "bytes": "",
        "colour": "COLOUR_UNSPECIFIED",
        "aliased": "ALIASED_UNSPECIFIED",
    }
    assert CODEC.encode(made("Presence")) == b"{}"
    assert CODEC.encode(made("OneOf")) == b'{"other":""}'
    assert CODEC.encode(made("WellKnown")) == b'{"null_value":null}'
    assert all(value == {} for value in orjson.loads(CODEC.encode(made("Maps"))).values())
    assert all(value == [] for value in orjson.loads(CODEC.encode(made("Repeated"))).values())
    assert CODEC.encode(made("Legacy", needed="")) == b'{"needed":"","closed_list":[]}'


def test_options() -> None:
    """Names, enums and indentation are a matter of options."""
    message = made("Names", field_name2=1, custom=2)
    camel = Codec(pool=POOL, preserve_proto_field_name=False, always_print_defaults=False)
    assert camel.encode(message) == b'{"fieldName2":1,"very-custom":2}'
    numbers = Codec(pool=POOL, enums_as_numbers=True, always_print_defaults=False)
    assert numbers.encode(made("Scalars", colour=2)) == b'{"colour":2}'
    assert numbers.encode(made("OneOf", nothing=0)) == b'{"nothing":0}'
    assert TERSE.encode(message, pretty=True) == b'{\n  "field_name2": 1,\n  "custom": 2\n}'


@pytest.mark.parametrize(
    ("message", "sentence"),
    [
        pytest.param(
            made("WellKnown", timestamp={"seconds": -62135596801}), "a Timestamp outside", id="Timestamp too early"
        ),
        pytest.param(
            made("WellKnown", timestamp={"seconds": 253402300800}), "a Timestamp outside", id="Timestamp too late"
        ),
        pytest.param(made("WellKnown", timestamp={"nanos": -1}), "a Timestamp", id="Timestamp, negative nanos"),
        pytest.param(made("WellKnown", timestamp={"nanos": 10**9}), "a Timestamp", id="Timestamp, too many nanos"),
        pytest.param(
            made("WellKnown", duration={"seconds": -315576000001}), "a Duration beyond", id="Duration too small"
        ),
        pytest.param(
            made("WellKnown", duration={"seconds": 315576000001}), "a Duration beyond", id="Duration too large"
        ),
        pytest.param(
            made("WellKnown", duration={"seconds": 1, "nanos": -1}), "a Duration", id="Duration, unlike signs"
        ),
        pytest.param(
            made("WellKnown", duration={"seconds": -1, "nanos": 1}), "a Duration", id="Duration, unlike signs, other"
        ),
        pytest.param(made("WellKnown", duration={"nanos": 10**9}), "a Duration", id="Duration, too many nanos"),
        pytest.param(made("WellKnown", field_mask={"paths": ["fooBar"]}), "a FieldMask", id="FieldMask in camelCase"),
        pytest.param(made("WellKnown", field_mask={"paths": ["foo_3_bar"]}), "a FieldMask", id="FieldMask, digit"),
        pytest.param(made("WellKnown", field_mask={"paths": ["foo__bar"]}), "a FieldMask", id="FieldMask, underscores"),
        pytest.param(made("WellKnown", value={"number_value": math.nan}), "a Value that is not", id="Value, NaN"),
        pytest.param(made("WellKnown", value={"number_value": math.inf}), "a Value that is not", id="Value, infinity"),
        pytest.param(
            made("WellKnown", any={"type_url": "a/b.C"}), 'an Any of the unknown type "a/b.C"', id="Any, unknown"
        ),
        pytest.param(made("WellKnown", any={"value": b"x"}), 'an Any of the unknown type ""', id="Any without a type"),
        pytest.param(
            made("WellKnown", any={"type_url": "a/transcoding.test.Leaf", "value": b"\xff"}),
            "an Any that does not",
            id="Any, broken",
        ),
        pytest.param(
            made("Legacy").FromString(b"\x32\x01\xff"), "a Legacy has no JSON form: it", id="string that is not UTF-8"
        ),
    ],
)
def test_messages_without_a_json_form(message: Any, sentence: str) -> None:
    """What the mapping cannot express is refused, with the reason."""
    with pytest.raises(InvalidMessage) as raised:
        CODEC.encode(message)
    assert str(raised.value).startswith(sentence)
    assert "has no JSON form" in str(raised.value)


@pytest.mark.parametrize(
    ("name", "step"),
    [
        pytest.param("Leaf", lambda m: m.inner, id="message"),
        pytest.param("google.protobuf.Value", lambda m: m.list_value.values.add(), id="Value"),
    ],
)
@pytest.mark.parametrize("levels", [pytest.param(300, id="300"), pytest.param(2000, id="2000")])
def test_deep_messages(name: str, step: Any, levels: int) -> None:
    """A message that is nested too deeply has no JSON form."""
    message = inner = message_class(name)()
    for _ in range(levels):
        inner = step(inner)
    if name == "Leaf":
        inner.a = 1
    with pytest.raises(InvalidMessage, match="it is nested too deeply"):
        CODEC.encode(message)


def test_status_with_details() -> None:
    """A google.rpc.Status, the body of errors, prints with its details."""
    detail = AnyMessage()
    detail.Pack(error_details_pb2.BadRequest(field_violations=[{"field": "a.b", "description": "is wrong"}]))
    delay = AnyMessage()
    delay.Pack(error_details_pb2.RetryInfo(retry_delay={"seconds": 3}))
    status = status_pb2.Status(code=3, message="no", details=[detail, delay])
    printed = orjson.loads(encode_json(status, always_print_defaults=False))
    assert printed == {
        "code": 3,
        "message": "no",
        "details": [
            {
                "@type": "type.googleapis.com/google.rpc.BadRequest",
                "field_violations": [{"field": "a.b", "description": "is wrong"}],
            },
            {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retry_delay": "3s"},
        ],
    }
    assert decode_json(encode_json(status), status_pb2.Status) == status


def test_functions_take_the_options_of_a_codec() -> None:
    """`encode_json` and `decode_json` are a codec's methods with its options beside them."""
    status = status_pb2.Status(code=3, details=[AnyMessage()])
    assert encode_json(status, pretty=True) == b'{\n  "code": 3,\n  "message": "",\n  "details": [\n    {}\n  ]\n}'
    assert decode_json(b'{"code": 3, "x": 1}', status_pb2.Status, ignore_unknown_fields=True).code == 3
