"""The bodies of operations: what is read of a request, and what is written of a response."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
from google.api.field_behavior_pb2 import REQUIRED

from saxgw.transcoding.binding import HTTP_BODY, ResponseBinding
from saxgw.transcoding.framing import EVENT_STREAM_TYPE, JSON_TYPE, LINES_TYPE
from saxgw.transcoding.openapi.examples import behaves
from saxgw.transcoding.openapi.scalars import Form, Schema
from saxgw.transcoding.openapi.schemas import nullable
from saxgw.transcoding.route import WHOLE, Route, prints_arrays

if TYPE_CHECKING:
    from google.protobuf.descriptor import Descriptor, FieldDescriptor

    from saxgw.transcoding.codec import Codec
    from saxgw.transcoding.openapi.comments import Comments
    from saxgw.transcoding.openapi.examples import Examples
    from saxgw.transcoding.openapi.schemas import Schemas

ANY_TYPE = "*/*"
"""The media type of a google.api.HttpBody, whose content type is told by the message itself."""


class Bodies:
    """Makes the bodies of routes."""

    def __init__(self, schemas: Schemas, comments: Comments, examples: Examples, codec: Codec) -> None:
        self._schemas = schemas
        self._comments = comments
        self._examples = examples
        self._codec = codec

    def of_request(self, route: Route) -> dict[str, Any] | None:
        """The request body, None if the rule has none."""
        if not route.body:
            return None
        request: Descriptor = route.method.input_type
        in_path = [tuple(variable.field_path.split(".")) for variable in route.template.variables]
        if route.body == WHOLE:
            field = None
            message: Descriptor | None = request
            schema = self._schemas.message_without(request, in_path)
            example = self._examples.of_request(request, without=in_path)
            required = any(behaves(of, REQUIRED) and (of.name,) not in in_path for of in request.fields)
        else:
            field = request.fields_by_name[route.body]
            message = field.message_type
            inner = [path[1:] for path in in_path if path[0] == field.name]
            if inner and message is not None:
                schema = self._schemas.message_without(message, inner)
                example = self._examples.of_request(message, without=inner)
            else:
                schema = self._schemas.member(field, Form.REQUEST)
                example = self._examples.of_field(field)
            required = behaves(field, REQUIRED)
        body = {
            "description": self._comments.of(field.full_name if field else request.full_name),
            "content": {ANY_TYPE: {}} if _is_raw(field, message) else {JSON_TYPE: _media(schema, example)},
            "required": required,
        }
        return {key: value for key, value in body.items() if value}

    def of_response(self, route: Route) -> dict[str, dict[str, Any]]:
        """The content of a successful response by its media types."""
        response: Descriptor = route.method.output_type
        field = response.fields_by_name[route.response_body] if route.response_body else None
        if _is_raw(field, response if field is None else field.message_type):
            return {ANY_TYPE: {}}
        schema, example = self._response_schema(response, field), self._response_example(route)
        return _stream(schema, example) if route.method.server_streaming else {JSON_TYPE: _media(schema, example)}

    def _response_schema(self, response: Descriptor, field: FieldDescriptor | None) -> Schema:
        if field is None:
            return self._schemas.message(response, Form.RESPONSE)
        if prints_arrays(field):
            return self._schemas.row(field)
        schema = self._schemas.member(field, Form.RESPONSE)
        return nullable(schema) if field.has_presence else schema

    def _response_example(self, route: Route) -> Any:  # noqa: ANN401 - any JSON value
        """What would be written of the example of the response message."""
        message = self._examples.of_response(route.method.output_type)
        if message is None:
            return None
        return orjson.loads(ResponseBinding(route, self._codec).encode(message, pretty=False))


def _is_raw(field: FieldDescriptor | None, message: Descriptor | None) -> bool:
    return message is not None and message.full_name == HTTP_BODY and not (field is not None and field.is_repeated)


def _media(schema: Schema, example: Any) -> dict[str, Any]:  # noqa: ANN401 - any JSON value
    return {"schema": schema} if example is None else {"schema": schema, "example": example}


def _stream(schema: Schema, example: Any) -> dict[str, dict[str, Any]]:  # noqa: ANN401 - any JSON value
    """The three framings of a stream of messages, of which `Accept` chooses one.

    OpenAPI 3.1 has no schema for the items of a stream that is no array; `contentSchema` is for each of them here.
    """
    text = {"type": "string", "contentMediaType": JSON_TYPE, "contentSchema": schema}
    line = None if example is None else orjson.dumps(example).decode()
    return {
        EVENT_STREAM_TYPE: _media(
            text | {"description": "Server-sent events, each with one message as JSON in its `data`."},
            line and f"data: {line}\n\n",
        ),
        LINES_TYPE: _media(text | {"description": "Lines, each with one message as JSON."}, line and f"{line}\n"),
        JSON_TYPE: _media({"type": "array", "items": schema}, None if example is None else [example]),
    }
