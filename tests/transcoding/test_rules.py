"""The google.api.http rules that a transcoder takes, and those that it refuses when it is built."""

from __future__ import annotations

import pytest
from google.api.http_pb2 import CustomHttpPattern, HttpRule
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool

from saxgw.transcoding import InvalidRule, Transcoder
from saxgw.transcoding.v1 import options_pb2
from tests.transcoding.schema import add_file, methods, methods_with


def test_routes_of_a_service() -> None:
    """Routes are in the order of their declaration; a method without rules has none."""
    routes = Transcoder(methods()).routes
    assert [str(route) for route in routes[:3]] == [
        "GET /v1/shelves/{shelf_id} (transcoding.test.Library.GetShelf)",
        "GET /v1/rooms/{room}/shelves/{shelf_id} (transcoding.test.Library.GetShelf)",
        "GET /v1/shelves (transcoding.test.Library.ListShelves)",
    ]
    assert "Internal" not in {route.method.name for route in routes}
    count = next(route for route in routes if str(route.template).endswith("/count"))
    assert (count.http_method, count.body, count.response_body) == ("POST", "count", "count")


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        pytest.param(HttpRule(body="*"), "neither get, put, post, delete, patch nor custom", id="no pattern"),
        pytest.param(HttpRule(get="v1"), "does not start with a slash", id="bad template"),
        pytest.param(HttpRule(get=""), "does not start with a slash", id="empty template"),
        pytest.param(HttpRule(custom=CustomHttpPattern(path="/a")), '"" is no HTTP method', id="custom without a kind"),
        pytest.param(HttpRule(custom=CustomHttpPattern(kind="A B", path="/a")), "is no HTTP method", id="bad kind"),
        pytest.param(HttpRule(get="/{querry}"), '"querry" is no field', id="unknown variable"),
        pytest.param(HttpRule(get="/{querry}"), 'did you mean "query"?', id="unknown variable, closest"),
        pytest.param(HttpRule(get="/{page.sise}"), '"sise" is no field', id="unknown nested variable"),
        pytest.param(HttpRule(get="/{query.size}"), "after a field that is not a message", id="nested in a scalar"),
        pytest.param(HttpRule(get="/{since.seconds}"), "after a field that is not a message", id="in a Timestamp"),
        pytest.param(HttpRule(get="/{years}"), "names a repeated field", id="repeated variable"),
        pytest.param(HttpRule(get="/{weights}"), "names a repeated field", id="map variable"),
        pytest.param(HttpRule(get="/{pages.size}"), "names a repeated field", id="nested in a repeated field"),
        pytest.param(HttpRule(get="/{page}"), "names a message", id="message variable"),
        pytest.param(HttpRule(get="/{since}"), "names a message", id="Timestamp variable"),
        pytest.param(HttpRule(post="/a", body="querry"), 'the body "querry" is no field', id="unknown body"),
        pytest.param(HttpRule(post="/a", body="page.size"), 'the body "page.size" is no field', id="nested body"),
        pytest.param(HttpRule(get="/a", response_body="x"), 'the response_body "x" is no field', id="response_body"),
        pytest.param(
            HttpRule(get="/a", additional_bindings=[HttpRule(get="/b", additional_bindings=[HttpRule(get="/c")])]),
            "additional_bindings stand inside of additional_bindings",
            id="nested bindings",
        ),
    ],
)
def test_invalid_rules(rule: HttpRule, reason: str) -> None:
    """A rule that cannot be served is refused with its method and the reason."""
    with pytest.raises(InvalidRule) as raised:
        Transcoder(methods_with([rule]))
    assert reason in str(raised.value)
    assert str(raised.value).startswith("made.up.Service.M0: ")


def test_clashing_rules_are_both_named() -> None:
    """Rules for the same requests are refused with both of their methods and templates."""
    rules = [HttpRule(get="/a/{query}"), HttpRule(put="/a/{query}"), HttpRule(get="/a/{author=*}")]
    with pytest.raises(InvalidRule) as raised:
        Transcoder(methods_with(rules))
    assert str(raised.value) == (
        "GET /a/{query} (made.up.Service.M0) and GET /a/{author} (made.up.Service.M2) clash: "
        "they are for just the same requests"
    )


def test_bindings_without_limit() -> None:
    """A rule may have any number of additional bindings."""
    bindings = [HttpRule(get=f"/a{at}") for at in range(500)]
    transcoder = Transcoder(methods_with([HttpRule(get="/a", additional_bindings=bindings)]))
    assert len(transcoder.routes) == 501
    assert str(transcoder.match("GET", "/a499").route.template) == "/a499"


def test_methods_of_several_services() -> None:
    """Methods of several services are served side by side."""
    made = [*methods(), *methods_with([HttpRule(get="/made/up")])]
    assert Transcoder(made).match("GET", "/made/up").route.method.full_name == "made.up.Service.M0"


@pytest.mark.parametrize(
    "field",
    [
        pytest.param({"type": FieldDescriptorProto.TYPE_STRING}, id="scalar"),
        pytest.param(
            {"type": FieldDescriptorProto.TYPE_STRING, "label": FieldDescriptorProto.LABEL_REPEATED}, id="scalars"
        ),
        pytest.param({"type": FieldDescriptorProto.TYPE_MESSAGE, "type_name": ".odd.M"}, id="one message"),
    ],
)
def test_arrays_are_for_repeated_messages(field: dict[str, object]) -> None:
    """The option response_body_form is refused on fields that are not repeated messages."""
    file = FileDescriptorProto(name="odd.proto", package="odd", syntax="proto3")
    message = file.message_type.add(name="M")
    made = message.field.add(name="x", number=1)
    for key, value in field.items():
        setattr(made, key, value)
    made.options.Extensions[options_pb2.response_body_form] = options_pb2.RESPONSE_BODY_FORM_ARRAYS
    method = file.service.add(name="S").method.add(name="Get", input_type=".odd.M", output_type=".odd.M")
    method.options.CopyFrom(methods_with([HttpRule(get="/x")])[0].GetOptions())
    pool = DescriptorPool()
    add_file(pool, file)
    with pytest.raises(InvalidRule, match=r"odd\.S\.Get: response_body_form .* odd\.M\.x, which is no repeated"):
        Transcoder(pool.FindServiceByName("odd.S").methods)
