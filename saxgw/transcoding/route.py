"""Routes: the google.api.http rules of methods, read and checked against the messages that they bind."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from google.api import annotations_pb2

from saxgw.transcoding.codec.fields import is_map, is_special
from saxgw.transcoding.errors import InvalidRule, did_you_mean, quote
from saxgw.transcoding.template import Template, parse_template
from saxgw.transcoding.v1 import options_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.api.http_pb2 import HttpRule
    from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor

WHOLE = "*"
"""The `body` of rules whose body is the request message itself."""

_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+\-.^_`|~]+")
"""An HTTP method, RFC 9110 section 5.6.2."""


@dataclass(frozen=True, slots=True)
class Route:
    """One HTTP method and path template of an RPC, and where the parts of its messages go."""

    method: MethodDescriptor
    """The RPC."""

    http_method: str
    """`GET`, …, any method of a custom pattern, or `*` for all of them."""

    template: Template
    """The path; `str()` prints it."""

    body: str
    """The request field that is the HTTP body, `*` for the whole request, empty if the rule does not say.

    A route that does not say takes a JSON body all the same, as if it were `*`, next to its query parameters.
    """

    response_body: str
    """The response field that is the HTTP body; empty for the whole response. Of a method that streams, of each."""

    def __str__(self) -> str:
        return f"{self.http_method} {self.template} ({self.method.full_name})"


def read_routes(method: MethodDescriptor) -> Iterator[Route]:
    """The routes of a method, in the order of its rules; none if it has no google.api.http option.

    Raises InvalidRule for rules that cannot be served.
    """
    options = method.GetOptions()
    if not options.HasExtension(annotations_pb2.http):
        return
    first = options.Extensions[annotations_pb2.http]
    try:
        yield _read(method, first)
        for rule in first.additional_bindings:
            yield _read_additional(method, rule)
    except InvalidRule as error:
        raise InvalidRule(f"{method.full_name}: {error}") from None


def read_event_streams(method: MethodDescriptor) -> Iterator[Route]:
    """The routes of another method that `method` answers if events are asked for (`event_stream_of`, options.proto).

    Raises InvalidRule if that does not fit.
    """
    other_name = method.GetOptions().Extensions[options_pb2.event_stream_of]
    if not other_name:
        return
    other = method.containing_service.methods_by_name.get(other_name)
    if other is None or other.server_streaming or not method.server_streaming:
        raise InvalidRule(
            f"{method.full_name}: event_stream_of must stand on a method that streams, and name one that does not; "
            f"it names {quote(other_name)}"
        )
    for route in read_routes(other):
        yield _checked(Route(method, route.http_method, route.template, route.body, ""))


def variable_fields(request: Descriptor, field_path: str) -> tuple[FieldDescriptor, ...]:
    """The fields along a path variable's dotted name; raises InvalidRule unless it leads to a scalar."""
    fields: list[FieldDescriptor] = []
    message: Descriptor | None = request
    for name in field_path.split("."):
        if message is None or is_special(message):
            raise InvalidRule(f"the path variable {quote(field_path)} goes on after a field that is not a message")
        fields.append(_field(message, name, "path variable"))
        if fields[-1].is_repeated:
            raise InvalidRule(f"the path variable {quote(field_path)} names a repeated field")
        message = fields[-1].message_type
    if message is not None:
        raise InvalidRule(f"the path variable {quote(field_path)} names a message; only scalars can be in a path")
    return tuple(fields)


def prints_arrays(field: FieldDescriptor) -> bool:
    """Whether the messages of a field are arrays where the field is the `response_body` (options.proto)."""
    form = field.GetOptions().Extensions[options_pb2.response_body_form]
    return form == options_pb2.RESPONSE_BODY_FORM_ARRAYS


def _read_additional(method: MethodDescriptor, rule: HttpRule) -> Route:
    if rule.additional_bindings:
        raise InvalidRule("additional_bindings stand inside of additional_bindings")
    return _read(method, rule)


def _read(method: MethodDescriptor, rule: HttpRule) -> Route:
    pattern = rule.WhichOneof("pattern")
    if pattern is None:
        raise InvalidRule("the google.api.http rule has neither get, put, post, delete, patch nor custom")
    if pattern == "custom":
        http_method, path = rule.custom.kind, rule.custom.path
        if not _TOKEN.fullmatch(http_method):
            raise InvalidRule(f"{quote(http_method)} is no HTTP method")
    else:
        http_method, path = pattern.upper(), getattr(rule, pattern)
    return _checked(Route(method, http_method, parse_template(path), rule.body, rule.response_body))


def _checked(route: Route) -> Route:
    method = route.method
    for variable in route.template.variables:
        variable_fields(method.input_type, variable.field_path)
    if route.body not in ("", WHOLE):
        _field(method.input_type, route.body, "body")
    if route.response_body:
        _field(method.output_type, route.response_body, "response_body")
    for field in method.output_type.fields:
        if prints_arrays(field) and (not field.is_repeated or field.message_type is None or is_map(field)):
            raise InvalidRule(
                f"response_body_form is RESPONSE_BODY_FORM_ARRAYS on {field.full_name}, which is no repeated message"
            )
    return route


def _field(message: Descriptor, name: str, role: str) -> FieldDescriptor:
    field = message.fields_by_name.get(name)
    if field is None:
        hint = did_you_mean(name, message.fields_by_name)
        raise InvalidRule(f"the {role} {quote(name)} is no field of {message.full_name}{hint}")
    return field
