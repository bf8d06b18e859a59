"""Framings of streams, and which one a caller gets."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from hypothesis import given
from hypothesis import strategies as st

from saxgw.transcoding import InvalidRule, Transcoder, choose_framing, prefers_events
from saxgw.transcoding.framing import EventStream, Framing, JsonArray, Lines
from saxgw.transcoding.v1 import options_pb2
from tests.transcoding.schema import POOL, add_file, copy_file, methods

ERROR = b'{"error":{"code":503}}'
VALUES = st.lists(st.dictionaries(st.text(max_size=4), st.text(max_size=6), max_size=2), max_size=4)


def body(framing: Framing, values: list[Any], *, fails: bool) -> bytes:
    """All that a stream of these values sends."""
    parts = [framing.message(orjson.dumps(value)) for value in values]
    return b"".join([*parts, framing.error(ERROR) if fails else framing.end()])


@given(VALUES, st.booleans())
def test_array(values: list[Any], fails: bool) -> None:  # noqa: FBT001 - drawn
    """An array of the messages; an error is its last element."""
    expected = [*values, orjson.loads(ERROR)] if fails else values
    assert orjson.loads(body(JsonArray(), values, fails=fails)) == expected


@given(VALUES, st.booleans())
def test_lines(values: list[Any], fails: bool) -> None:  # noqa: FBT001 - drawn
    """A line for each message; an error is the last one."""
    text = body(Lines(), values, fails=fails)
    assert text.endswith(b"\n") or not text
    expected = [*values, orjson.loads(ERROR)] if fails else values
    assert [orjson.loads(line) for line in text.split(b"\n")[:-1]] == expected


@given(VALUES, st.booleans())
def test_event_stream(values: list[Any], fails: bool) -> None:  # noqa: FBT001 - drawn
    """An event with a number for each message, and one of another type at the end."""
    text = body(EventStream(), values, fails=fails)
    assert text.endswith(b"\n\n")
    *events, last = text.removesuffix(b"\n\n").split(b"\n\n")
    for number, (event, value) in enumerate(zip(events, values, strict=True), 1):
        id_line, data = event.split(b"\n")
        assert id_line == b"id: %d" % number
        assert orjson.loads(data.removeprefix(b"data: ")) == value
    assert last == (b"event: error\ndata: " + ERROR if fails else b"event: end\ndata: {}")


@pytest.mark.parametrize(
    ("accept", "framing"),
    [
        ("", Lines),
        ("*/*", Lines),
        ("text/html", Lines),
        ("text/event-stream", EventStream),
        ("Text/Event-Stream", EventStream),
        ("text/event-stream; charset=utf-8", EventStream),
        ("application/json", JsonArray),
        ("application/x-ndjson", Lines),
        ("application/jsonl", Lines),
        ("application/json, text/event-stream", JsonArray),
        ("text/event-stream, application/json", EventStream),
        ("application/json;q=0.5, text/event-stream;q=0.9", EventStream),
        ("text/event-stream;q=0, */*", Lines),
        ("text/event-stream; q=x, application/json;q=0.1", JsonArray),
        ("application/json, */*;q=0.5", JsonArray),
        (",;,;q=1", Lines),
    ],
)
def test_accept(accept: str, framing: type[Framing]) -> None:
    """The named framing with the highest weight, the first of equals, lines if none is named."""
    assert type(choose_framing(accept)) is framing
    assert prefers_events(accept) == (framing is EventStream)


@given(st.text(max_size=60))
def test_any_accept(accept: str) -> None:
    """Whatever the header says there is a framing."""
    choose_framing(accept)


def test_routes_of_another_method() -> None:
    """Who prefers events gets the streaming method's answer, whose request has fields of its own."""
    transcoder = Transcoder(methods("Shelves"), pool=POOL)
    usual = transcoder.match("POST", "/v1/rooms/3:search", "pretty=true")
    events = transcoder.match("POST", "/v1/rooms/3:search", "pretty=true", events=True)
    assert (usual.route.method.name, events.route.method.name) == ("Search", "Watch")
    assert (usual.route.response_body, events.route.response_body) == ("shelves", "")
    message: Any = events.decode(b'{"query": "x", "follow": true}')
    assert (message.room, message.query, message.follow) == (3, "x", True)
    own = transcoder.match("POST", "/v1/rooms/3:watch", events=False)
    assert own.route.method.name == "Watch"


@pytest.mark.parametrize("other", ["Missing", "Watch", "Other"])
def test_event_stream_of_nothing_fit(other: str) -> None:
    """What a streaming method stands in for must be a unary method of the same service."""
    with pytest.raises(InvalidRule, match="event_stream_of must stand on a method that streams"):
        Transcoder(changed("Watch", other), pool=POOL)


def test_event_stream_of_other_fields() -> None:
    """The streaming method's request must have the fields that the routes bind."""
    with pytest.raises(InvalidRule, match='the path variable "shelf_id" is no field'):
        Transcoder(changed("Watch", "Get"), pool=POOL)


def test_event_stream_of_on_a_unary_method() -> None:
    """Only a method that streams can have the option."""
    with pytest.raises(InvalidRule, match="it names"):
        Transcoder(changed("Get", "Search"), pool=POOL)


def changed(method: str, other: str) -> Any:
    """The methods of Shelves, one of which streams another one's events."""
    file = FileDescriptorProto()
    POOL.FindFileByName("streams.proto").CopyToProto(file)
    pool = DescriptorPool()
    for dependency in file.dependency:
        copy_file(dependency, pool)
    for each in file.service[0].method:
        if each.name == method:
            each.options.Extensions[options_pb2.event_stream_of] = other
    request = file.service[0].method[0].input_type
    file.service[0].method.add(name="Other", input_type=request, output_type=request, server_streaming=True)
    add_file(pool, file)
    return pool.FindServiceByName("transcoding.test.Shelves").methods
