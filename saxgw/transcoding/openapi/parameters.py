"""The parameters of operations: what the path binds, and for the query every field that neither path nor body binds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from google.api.field_behavior_pb2 import REQUIRED

from saxgw.transcoding.codec.fields import is_map, is_plain_message, is_wrapper, map_fields, message_of
from saxgw.transcoding.codec.texts import TEXTS
from saxgw.transcoding.openapi.examples import behaves
from saxgw.transcoding.openapi.paths import Part, example_parts, parts_of
from saxgw.transcoding.openapi.scalars import Form
from saxgw.transcoding.route import WHOLE, Route, variable_fields
from saxgw.transcoding.template import Variable, Wildcard

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from google.protobuf.descriptor import Descriptor, FieldDescriptor

    from saxgw.transcoding.openapi.comments import Comments
    from saxgw.transcoding.openapi.examples import Examples
    from saxgw.transcoding.openapi.schemas import Schemas

_MANY_SEGMENTS = (
    "There may be any number of segments here, with slashes between them that stay as they are. OpenAPI cannot say so."
)


class Parameters:
    """Makes the parameters of routes."""

    def __init__(self, schemas: Schemas, comments: Comments, examples: Examples) -> None:
        self._schemas = schemas
        self._comments = comments
        self._examples = examples

    def of_path(self, route: Route, names: Sequence[str]) -> list[dict[str, Any]]:
        """The parameters of a path whose wildcards have these names."""
        parts = parts_of(route.template, route.method.input_type)
        named = {part.index: name for part, name in zip(parts, names, strict=True)}
        return [self._of_part(route, part, named) for part in parts]

    def of_query(self, route: Route) -> tuple[list[dict[str, Any]], list[str]]:
        """The parameters of a query, and the names of fields that are in neither path nor body and are left out.

        A message is its fields, with dots in their names; one inside of itself is left out.
        """
        if route.body == WHOLE:
            return [], []
        elsewhere = {variable.field_path for variable in route.template.variables} | {route.body}
        parameters, left_out = [], []
        for path in _leaves(route.method.input_type, ()):
            name = ".".join(field.name for field in path)
            if name in elsewhere or path[0].name == route.body:
                continue
            if _fits(path[-1]):
                parameters.append(self._of_query_field(name, path))
            else:
                left_out.append(name)
        return parameters, left_out

    def _of_part(self, route: Route, part: Part, names: dict[int, str]) -> dict[str, Any]:
        schema: dict[str, Any] = {"type": "string", "minLength": 1}
        description, example = "", None
        if part.variable is not None:
            field = variable_fields(route.method.input_type, part.variable.field_path)[-1]
            description = self._comments.of(field.full_name)
            text = self._examples.own(field)
            if text is not None:
                example = example_parts(route.template, part.variable, str(text)).get(part.index)
            if part.variable.is_multi_segment:
                pattern = _pattern(route, part.variable, names)
                description = f"Here `{part.variable.field_path}` is {pattern}. {description}"
            else:
                schema = self._schemas.field(field, Form.TEXT)
                if schema == {"type": "string"}:
                    schema["minLength"] = 1
                example = text
        if route.template.segments[part.index] is Wildcard.REST:
            description = f"{description} {_MANY_SEGMENTS}"
        told = {"description": description.strip(), "example": example}
        parameter = {"name": names[part.index], "in": "path", "required": True, "schema": schema}
        return parameter | {key: value for key, value in told.items() if value not in ("", None)}

    def _of_query_field(self, name: str, path: tuple[FieldDescriptor, ...]) -> dict[str, Any]:
        *outer, field = path
        schema = self._schemas.member(field, Form.TEXT)
        parameter: dict[str, Any] = {"name": name, "in": "query", "schema": schema}
        for key in ("description", "deprecated"):
            if key in schema:
                parameter[key] = schema.pop(key)
        if behaves(field, REQUIRED) and not outer:
            parameter["required"] = True
        if is_map(field):
            parameter |= {"style": "deepObject", "explode": True}
        example = self._examples.own(field)
        if example is not None:
            parameter["example"] = example
        return parameter


def _leaves(message: Descriptor, outer: tuple[FieldDescriptor, ...]) -> Iterator[tuple[FieldDescriptor, ...]]:
    """The paths to all fields of a message that are no messages, or that are messages inside of themselves."""
    within = {message, *(field.containing_type for field in outer)}
    for field in message.fields:
        if is_plain_message(field) and message_of(field) not in within:
            yield from _leaves(message_of(field), (*outer, field))
        else:
            yield (*outer, field)


def _fits(field: FieldDescriptor) -> bool:
    """Whether a field can be a query parameter (transcoding.query)."""
    value = map_fields(field)[1] if is_map(field) else field
    message = value.message_type
    return message is None or is_wrapper(message) or message.full_name in TEXTS


def _pattern(route: Route, variable: Variable, names: dict[int, str]) -> str:
    segments = route.template.segments[variable.start : variable.end]
    named = (f"{{{names[at]}}}" if isinstance(s, Wildcard) else s for at, s in enumerate(segments, variable.start))
    return f"`{'/'.join(named)}`"
