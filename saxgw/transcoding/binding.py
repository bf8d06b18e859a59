"""From the parts of an HTTP request to a request message, and from a response message to an HTTP body.

Body, path and query are merged as what the message's constructor takes (`codec.decoder`), not as messages: there a
field that was given is told apart from one that was not, even if it has its default value.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from google.protobuf.message_factory import GetMessageClass

from saxgw.transcoding.codec import dump
from saxgw.transcoding.codec.decoder import as_message
from saxgw.transcoding.codec.fields import is_plain_message, message_of
from saxgw.transcoding.codec.objects import one_of_many
from saxgw.transcoding.codec.text import load
from saxgw.transcoding.errors import InvalidInput, Refusal, quote, shorten
from saxgw.transcoding.query import Target, same
from saxgw.transcoding.route import WHOLE, Route, prints_arrays, variable_fields

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from google.protobuf.descriptor import Descriptor, FieldDescriptor
    from google.protobuf.message import Message

    from saxgw.transcoding.codec import Codec
    from saxgw.transcoding.query import TextFields

HTTP_BODY = "google.api.HttpBody"
"""The type of raw bodies; see google/api/httpbody.proto."""

_DEFAULT_CONTENT_TYPE = "application/octet-stream"
_UPDATE_MASK = "update_mask"


class RequestBinding:
    """Makes the request messages of one route."""

    def __init__(self, route: Route, codec: Codec, texts: TextFields) -> None:
        self._route = route
        self._request: Descriptor = route.method.input_type
        self._message_class = GetMessageClass(self._request)
        self._codec = codec
        self._texts = texts
        self._variables = {
            variable.field_path: Target(variable_fields(self._request, variable.field_path))
            for variable in route.template.variables
        }
        self._body_field = None if route.body in ("", WHOLE) else self._request.fields_by_name[route.body]
        body_type = self._request if self._body_field is None else self._body_field.message_type
        self.takes_raw_body = (
            bool(route.body)
            and body_type is not None
            and body_type.full_name == HTTP_BODY
            and not (self._body_field and self._body_field.is_repeated)
        )
        self._decode_body = (
            codec.decoders[self._request] if self._body_field is None else codec.decoders.field(self._body_field)
        )
        self._fills_mask = route.http_method == "PATCH" and _has_mask(self._request) and self._body_is_message()

    def bind(
        self, variables: Mapping[str, str], parameters: Sequence[tuple[str, str]], body: bytes, content_type: str
    ) -> Message:
        """The request message; raises InvalidInput."""
        try:
            made = self._body(body, content_type)
            mask = self._mask(made) if self._fills_mask and body else []
            for name, text in variables.items():
                self._put(made, self._variables[name], [text], "path", "body")
            if parameters:
                self._bind_query(made, parameters, variables)
        except Refusal as refusal:
            raise InvalidInput(refusal.violation()) from None
        if mask and not (made.get(_UPDATE_MASK) or {}).get("paths"):
            made[_UPDATE_MASK] = {"paths": mask}
        return as_message(self._message_class, made)

    def _body(self, body: bytes, content_type: str) -> Any:  # noqa: ANN401 - what a constructor takes, or a message
        field = self._body_field
        if self.takes_raw_body:
            _check_content_type(content_type)
            raw = {"content_type": content_type, "data": body}
            return raw if field is None else {field.name: raw}
        if not body:
            return {field.name: {}} if field is not None and is_plain_message(field) else {}
        value = load(body)
        if field is None:
            return self._decode_body(value, self._codec.max_depth)
        if value is None:
            return {}
        try:
            return {field.name: self._decode_body(value, self._codec.max_depth)}
        except Refusal as refusal:
            raise refusal.under(field.name) from None

    def _bind_query(
        self, made: dict[str, Any], parameters: Sequence[tuple[str, str]], variables: Mapping[str, str]
    ) -> None:
        given: dict[tuple[str, Any], tuple[Target, list[str]]] = {}
        for name, value in parameters:
            try:
                target = self._texts.find(self._request, name)
                if target is not None:
                    self._check_not_in_body(target)
                    given.setdefault((target.name, target.key), (target, []))[1].append(value)
            except Refusal as refusal:
                raise refusal.under(shorten(name) or '""') from None
        for target, values in given.values():
            self._put(made, target, values, "query", "path" if target.name in variables else "body")

    def _check_not_in_body(self, target: Target) -> None:
        if self._route.body == WHOLE:
            raise Refusal("is taken from the JSON body on this route, not from the query; put it there")
        if self._body_field is not None and target.fields[0] == self._body_field:
            raise Refusal("belongs to the JSON body on this route, not to the query; put it there")

    def _put(self, made: dict[str, Any], target: Target, values: list[str], place: str, other: str) -> None:
        """Adds the value of a target to what is made; `other` is the place where it may have been given already."""
        try:
            value = self._texts.convert(target, values)
            *outer, field = target.fields
            for step in outer:
                made = _member(made, step, {})
            key = field.name
            if target.key is not None:
                made, key = _member(made, field, {}), target.key
            else:
                _check_oneof(made, field)
            there = made.get(key)
            if there is None:
                made[key] = value
            elif value is not None and not same(there, value):
                raise _given_twice(place, other)
        except Refusal as refusal:
            raise refusal.under(target.name) from None

    def _body_is_message(self) -> bool:
        return self._body_field is not None and is_plain_message(self._body_field) and not self.takes_raw_body

    def _mask(self, made: Mapping[str, Any]) -> list[str]:
        """The paths of a FieldMask that covers what a JSON body has set, except what the path says."""
        field = self._body_field
        if field is None or made.get(field.name) is None:
            return []
        paths = _paths(made[field.name], message_of(field))
        return [path for path in paths if f"{field.name}.{path}" not in self._variables]


class ResponseBinding:
    """Makes the HTTP bodies of one route."""

    def __init__(self, route: Route, codec: Codec) -> None:
        response: Descriptor = route.method.output_type
        field = response.fields_by_name[route.response_body] if route.response_body else None
        body_type = response if field is None else field.message_type
        self._field = field
        self.is_raw = (
            body_type is not None and body_type.full_name == HTTP_BODY and not (field is not None and field.is_repeated)
        )
        if field is None:
            self._print = codec.encoders[response]
        elif prints_arrays(field):
            self._print = codec.encoders.field_as_arrays(field)
        else:
            self._print = codec.encoders.field(field)

    def encode(self, response: Message, *, pretty: bool) -> bytes:
        """The HTTP body; raises InvalidMessage."""
        if self.is_raw:
            data: bytes = self._raw(response).data
            return data
        return dump(self._print, response, pretty=pretty)

    def content_type(self, response: Message) -> str:
        """The content type of the HTTP body."""
        return (self._raw(response).content_type or _DEFAULT_CONTENT_TYPE) if self.is_raw else "application/json"

    def _raw(self, response: Message) -> Any:  # noqa: ANN401 - an HttpBody of any pool
        return response if self._field is None else getattr(response, self._field.name)


def _member(made: dict[str, Any], field: FieldDescriptor, new: dict[Any, Any]) -> dict[Any, Any]:
    """The dict that holds a member message or map, `new` if it was not there."""
    if made.get(field.name) is None:
        _check_oneof(made, field)
        made[field.name] = new
    member: dict[Any, Any] = made[field.name]
    return member


def _check_content_type(text: str) -> None:
    """Raises Refusal if the raw bytes of the header, which `text` was made of, are not UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Refusal(f"expected a media type, got {quote(text)}, which is not UTF-8").under("Content-Type") from None


def _given_twice(place: str, other: str) -> Refusal:
    return Refusal(f"given in the {place} and, with another value, in the {other}; give it once")


def _check_oneof(made: Mapping[str, Any], field: FieldDescriptor) -> None:
    """Raises Refusal if another member of the field's oneof is set."""
    if field.containing_oneof is not None:
        for other in field.containing_oneof.fields:
            if other is not field and made.get(other.name) is not None:
                raise one_of_many([other.name, field.name])


def _has_mask(request: Descriptor) -> bool:
    field = request.fields_by_name.get(_UPDATE_MASK)
    return (
        field is not None
        and not field.is_repeated
        and field.message_type is not None
        and field.message_type.full_name == "google.protobuf.FieldMask"
    )


def _paths(made: Mapping[str, Any], message: Descriptor) -> list[str]:
    paths = []
    for name, value in made.items():
        field = message.fields_by_name[name]
        inner = _paths(value, message_of(field)) if value and is_plain_message(field) else []
        paths += [f"{name}.{path}" for path in inner] or [name]
    return paths
