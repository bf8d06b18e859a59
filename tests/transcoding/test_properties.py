"""What holds for any message, any JSON, any bytes and any URL."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import orjson
import pytest
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st

from saxgw.transcoding import Codec, InvalidInput, MethodNotAllowed, Route, RouteNotFound, Transcoder
from tests.transcoding.schema import POOL, message_class, methods
from tests.transcoding.strategies import TEXTS, messages

EVERYTHING = message_class("Everything")
LIBRARY = Transcoder(methods(), pool=POOL)
RAW = {"ReadFile", "WriteFile", "Raw"}
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "LOCK", "OPTIONS"]

PATHS = st.sampled_from([str(route.template) for route in LIBRARY.routes]) | st.text(max_size=20)
QUERIES = st.lists(
    st.tuples(
        st.sampled_from(
            ["query", "page.size", "years", "weights[a]", "since", "big", "author", "extra", "$alt", "pretty"]
        )
        | st.text(max_size=8),
        st.sampled_from(["1", "a", "true", "", "%20", "%zz", "2024-01-01T00:00:00Z", "1s", "NaN"])
        | st.text(max_size=8),
    ).map("=".join),
    max_size=4,
).map("&".join)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | TEXTS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            TEXTS
            | st.sampled_from(
                [
                    *("scalars", "repeated", "maps", "int32", "leaf", "a", "line", "some_text", "someText", "score"),
                    *("one_of", "text", "flag", "well_known", "any", "@type"),
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=10,
).map(orjson.dumps)


@given(messages(EVERYTHING.DESCRIPTOR), st.booleans(), st.booleans(), st.booleans(), st.booleans())
def test_messages(message: Any, keep_names: bool, defaults: bool, numbers: bool, pretty: bool) -> None:  # noqa: FBT001 - drawn
    """Our JSON is json_format's, both of us read it, and what is read is the message."""
    codec = Codec(
        pool=POOL, preserve_proto_field_name=keep_names, always_print_defaults=defaults, enums_as_numbers=numbers
    )
    ours = codec.encode(message, pretty=pretty)
    theirs = json_format.MessageToJson(
        message,
        preserving_proto_field_name=keep_names,
        always_print_fields_with_no_presence=defaults,
        use_integers_for_enums=numbers,
        descriptor_pool=POOL,
    )
    assert orjson.loads(ours) == orjson.loads(theirs)
    assert codec.decode(ours, EVERYTHING) == message
    assert json_format.Parse(ours, EVERYTHING(), descriptor_pool=POOL) == message


@given(JSON)
def test_json(data: bytes) -> None:
    """Any JSON is a message or InvalidInput, and json_format agrees on the message."""
    with suppress(InvalidInput):
        message = Codec(pool=POOL).decode(data, EVERYTHING)
        assert message == json_format.Parse(data, EVERYTHING(), descriptor_pool=POOL)


@given(
    st.recursive(
        st.sampled_from(["1", '"a"', '":"', r'"\\u003a"', r'"\u003a:"', r'"\""', "[]", "{}"]),
        lambda inner: (
            st.lists(inner, max_size=3).map(lambda items: f"[{','.join(items)}]")
            | st.lists(
                st.tuples(
                    st.sampled_from(['"a"', '"b"', r'"\u0061"', '":"', '"d:"']),
                    st.sampled_from([":", " :", ": "]),
                    inner,
                ).map("".join),
                max_size=3,
            ).map(lambda members: f"{{{','.join(members)}}}")
        ),
        max_leaves=12,
    )
)
def test_names(text: str) -> None:
    """JSON is refused for a name that is twice in one object just when Python's own reader finds one."""
    refused: list[str] = []

    def check(members: list[tuple[str, Any]]) -> None:
        names = [name for name, _ in members]
        refused.extend(name for name in names if names.count(name) > 1)

    json.loads(text, object_pairs_hook=check)
    if refused:
        with pytest.raises(InvalidInput, match="is there twice in one object"):
            Codec(pool=POOL).decode(text.encode(), message_class("google.protobuf.Value"))
    else:
        Codec(pool=POOL).decode(text.encode(), message_class("google.protobuf.Value"))


@pytest.mark.parametrize("name", ["Everything", "Scalars", "Maps", "google.protobuf.Value", "google.protobuf.Any"])
@given(data=st.binary(max_size=30) | st.text('{}[]:,"\\u0aeE+-.1 tfn', max_size=30).map(str.encode))
def test_bytes(name: str, data: bytes) -> None:
    """Any bytes are a message or InvalidInput."""
    with suppress(InvalidInput):
        Codec(pool=POOL).decode(data, message_class(name))


@given(st.sampled_from(METHODS) | st.text(max_size=5), PATHS, QUERIES, JSON | st.binary(max_size=20))
def test_requests(http_method: str, path: str, query: str, body: bytes) -> None:
    """Any request is a message, or refused with one of our errors."""
    with suppress(InvalidInput, RouteNotFound, MethodNotAllowed):
        LIBRARY.match(http_method, path, query).decode(body)


@given(st.sampled_from([route for route in LIBRARY.routes if route.method.name not in RAW]), st.data())
def test_responses(route: Route, data: st.DataObject) -> None:
    """The body of any response of any route is what json_format makes of it, or of the field that is the body."""
    response = data.draw(messages(route.method.output_type))
    path = str(route.template).replace("{page.size}", "1").replace("{shelf_id}", "1").replace("{room}", "a")
    path = path.replace("{shelf.name=shelves/*}", "shelves/1").replace("{from=shelves/*/books/*}", "shelves/1/books/1")
    match = LIBRARY.match(route.http_method, path)
    assert match.route is route
    expected: Any = json_format.MessageToDict(
        response, always_print_fields_with_no_presence=True, preserving_proto_field_name=True, descriptor_pool=POOL
    )
    body = orjson.loads(match.encode(response))
    if route.response_body:
        expected = expected[route.response_body]
    if route.response_body == "books":  # which has the form of arrays
        expected = [[book["rating"], book["title"], book.get("author")] for book in expected]
    assert body == expected
