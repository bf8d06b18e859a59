"""The document: routes become paths and operations, what they refer to becomes components."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from google.protobuf.descriptor_pb2 import FileDescriptorSet

from saxgw.transcoding.codec import Codec
from saxgw.transcoding.framing import EVENT_STREAM_TYPE
from saxgw.transcoding.openapi.bodies import Bodies
from saxgw.transcoding.openapi.comments import Comments, first_sentence
from saxgw.transcoding.openapi.examples import Examples
from saxgw.transcoding.openapi.failures import SCHEMA_NAME
from saxgw.transcoding.openapi.parameters import Parameters
from saxgw.transcoding.openapi.paths import parts_of, path_of, shape
from saxgw.transcoding.openapi.schemas import Schemas
from saxgw.transcoding.route import read_event_streams
from saxgw.transcoding.router import ANY_METHOD

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from google.protobuf.descriptor import MethodDescriptor

    from saxgw.transcoding.openapi.failures import Failures
    from saxgw.transcoding.route import Route

VERSION = "3.1.0"

_METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
"""All that OpenAPI has, in the order of its specification."""

_ANY = ("get", "put", "post", "delete", "patch")
"""What a rule for all methods is shown as."""

_PRETTY = "pretty"
_PRETTY_PARAMETER = {
    "name": _PRETTY,
    "in": "query",
    "description": "Indents the answer, for people.",
    "schema": {"type": "boolean"},
}

_GENERAL = (
    "JSON is proto3 JSON. Fields have the names of the .proto file in answers; requests may also have them in "
    "lowerCamelCase. What GET takes in its query, it takes in a JSON body too. HEAD is answered wherever GET is."
)
_NO_BODY = "Instead of the query, or beside it, a JSON body with the same fields is taken."

_EVENTS = (
    "With `Accept: text/event-stream` it answers as {0} does, whose request it takes then, with all of its fields."
)

_NOT_SHOWN = "Not among the parameters, as a query has no form for them, or as they are inside of themselves:"


@dataclass(frozen=True)
class Security:
    """What callers must show."""

    schemes: Mapping[str, Mapping[str, Any]]
    """Security Scheme objects by name."""

    of_method: Callable[[MethodDescriptor], Sequence[Mapping[str, Sequence[str]]]]
    """Tells the Security Requirement objects of a method, of which one will do; an empty one is for nothing at all."""


def document(  # noqa: PLR0913 - by name only
    routes: Iterable[Route],
    *,
    title: str,
    version: str,
    description: str = "",
    files: FileDescriptorSet | None = None,
    failures: Failures | None = None,
    parameters: Mapping[str, Mapping[str, Any]] | None = None,
    security: Security | None = None,
) -> dict[str, Any]:
    """The OpenAPI 3.1 document of routes, as plain dicts; the same for the same arguments, down to the order.

    Paths are in the order of the methods, those of their first rules first. Components are sorted by name.

    Args:
        routes: What to describe, such as `Transcoder.routes`.
        title: The API's name.
        version: The API's version, not that of OpenAPI.
        description: What is told of the API as a whole, as Markdown.
        files: The .proto files of the routes, made with source info: where comments come from.
        failures: How operations fail. None leaves failures out.
        parameters: Parameter objects that every operation has beside its own, by names for components.
        security: What callers must show. None leaves it out.

    Raises InvalidRule for an example in a .proto file that does not fit its field.
    """
    routes = list(routes)
    making = _Making(files or FileDescriptorSet(), failures, dict(parameters or {}), routes, security)
    paths = making.paths(routes)
    services = {route.method.containing_service.name: route.method.containing_service for route in routes}
    tags = [{"name": name, "description": making.comments.of(of.full_name)} for name, of in services.items()]
    components = {
        "schemas": making.schemas.components(),
        "responses": dict(sorted(making.responses.items())),
        "parameters": making.parameters,
        "securitySchemes": dict(security.schemes) if security else {},
    }
    made = {
        "openapi": VERSION,
        "info": {
            "title": title,
            "version": version,
            "description": "\n\n".join(filter(None, [description, _GENERAL, _left_out(making.left_out)])),
        },
        "tags": [{key: value for key, value in tag.items() if value} for tag in tags],
        "paths": paths,
        "components": {name: of for name, of in components.items() if of},
    }
    making.schemas.name_references(made)
    return made


class _Making:
    """One document while it is made."""

    def __init__(
        self,
        files: FileDescriptorSet,
        failures: Failures | None,
        parameters: dict[str, Mapping[str, Any]],
        routes: Sequence[Route],
        security: Security | None,
    ) -> None:
        codec = Codec(pool=routes[0].method.input_type.file.pool) if routes else Codec()
        examples = Examples(codec)
        self.comments = Comments(files)
        self.schemas = Schemas(self.comments, examples, {SCHEMA_NAME: failures.schema} if failures else {})
        self.parameters = {**parameters, _PRETTY: _PRETTY_PARAMETER}
        self.responses: dict[str, dict[str, Any]] = {}
        self.left_out: list[Route] = []
        self._failures = failures
        self._security = security
        self._bodies = Bodies(self.schemas, self.comments, examples, codec)
        self._fields = Parameters(self.schemas, self.comments, examples)
        self._event_streams = {
            (route.http_method, route.template): route
            for method in dict.fromkeys(route.method for route in routes)
            for route in read_event_streams(method)
        }
        """Routes that answer the requests of others for those who ask for events."""
        self._ids: set[str] = set()
        self._names: dict[str, Sequence[str]] = {}
        """The names of the parameters of a path, by its shape."""

    def paths(self, routes: Sequence[Route]) -> dict[str, dict[str, Any]]:
        """The path items by path."""
        made: dict[str, dict[str, Any]] = {}
        for route in _first_rules_first(routes):
            wanted = _ANY if route.http_method == ANY_METHOD else (route.http_method.lower(),)
            shown = [http_method for http_method in wanted if http_method in _METHODS]
            if not shown or route.method.client_streaming:
                self.left_out.append(route)
                continue
            names = self._names.setdefault(
                shape(route.template), [part.name for part in parts_of(route.template, route.method.input_type)]
            )
            item = made.setdefault(path_of(route.template, names), {})
            new = [http_method for http_method in shown if http_method not in item]
            if not new:  # the path is that of another rule, with * where this one has **
                self.left_out.append(route)
            for http_method in new:
                item[http_method] = self._operation(route, names)
        return {path: dict(sorted(item.items(), key=lambda of: _METHODS.index(of[0]))) for path, item in made.items()}

    def _operation(self, route: Route, names: Sequence[str]) -> dict[str, Any]:
        method = route.method
        comment = self.comments.of(method.full_name)
        in_query, left_out = self._fields.of_query(route)
        notes = [comment]
        if not route.body and (in_query or left_out):
            notes.append(_NO_BODY)
        if left_out:
            notes.append(f"{_NOT_SHOWN} {', '.join(left_out)}.")
        content = self._bodies.of_response(route)
        events = self._event_streams.get((route.http_method, route.template))
        if events is not None:
            notes.append(_EVENTS.format(events.method.name))
            content = {**content, EVENT_STREAM_TYPE: self._bodies.of_response(events)[EVENT_STREAM_TYPE]}
        taken = {parameter["name"] for parameter in in_query}
        shared = [name for name in self.parameters if name != _PRETTY or _PRETTY not in taken]
        operation = {
            "operationId": self._id(method),
            "tags": [method.containing_service.name],
            "summary": first_sentence(comment) or method.name,
            "description": "\n\n".join(filter(None, notes)),
            "deprecated": bool(method.GetOptions().deprecated),
            "parameters": [
                *self._fields.of_path(route, names),
                *in_query,
                *({"$ref": f"#/components/parameters/{name}"} for name in shared),
            ],
            "requestBody": self._bodies.of_request(route),
            "responses": {
                "200": {
                    "description": self.comments.of(method.output_type.full_name) or "Success.",
                    "content": content,
                },
                **self._failures_of(method),
            },
            "security": self._security.of_method(method) if self._security else None,
        }
        return {key: value for key, value in operation.items() if value}

    def _failures_of(self, method: MethodDescriptor) -> dict[str, dict[str, Any]]:
        """The responses of failures: references to components, unless the status means something else here."""
        made = {}
        for status, response in self._failures.of_method(method).items() if self._failures else ():
            name = "OtherError" if status == "default" else f"Error{status}"
            same = self.responses.setdefault(name, response) == response
            made[status] = {"$ref": f"#/components/responses/{name}"} if same else response
        return made

    def _id(self, method: MethodDescriptor) -> str:
        """`Service_Method`, with a number from the second rule on."""
        name = made = f"{method.containing_service.name}_{method.name}"
        number = 1
        while made in self._ids:
            number += 1
            made = f"{name}_{number}"
        self._ids.add(made)
        return made


def _first_rules_first(routes: Sequence[Route]) -> list[Route]:
    """The first routes of all methods, then their second ones, and so on; at last those for all HTTP methods."""
    count: dict[str, int] = {}
    numbered = []
    for route in routes:
        number = count[route.method.full_name] = count.get(route.method.full_name, 0) + 1
        numbered.append((route.http_method == ANY_METHOD, number, route))
    return [route for *_, route in sorted(numbered, key=lambda of: of[:2])]


def _left_out(routes: Sequence[Route]) -> str:
    lines = [f"- `{route.http_method} {route.template}` ({route.method.full_name})" for route in routes]
    return "\n".join(["What OpenAPI has no words for, and is served all the same:", *lines]) if lines else ""
