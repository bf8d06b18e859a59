"""The transcoder: from HTTP requests to request messages, and from response messages to HTTP bodies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from saxgw.transcoding.binding import RequestBinding, ResponseBinding
from saxgw.transcoding.codec import Codec
from saxgw.transcoding.errors import (
    InvalidInput,
    InvalidRule,
    MethodNotAllowed,
    RouteNotFound,
    Violation,
    expected,
    shorten,
)
from saxgw.transcoding.query import TextFields
from saxgw.transcoding.route import WHOLE, Route, read_event_streams, read_routes
from saxgw.transcoding.router import Router, capture
from saxgw.transcoding.url import parse_query

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from google.protobuf.descriptor import MethodDescriptor
    from google.protobuf.descriptor_pool import DescriptorPool
    from google.protobuf.message import Message

_PRETTY = frozenset({"$prettyPrint", "prettyPrint", "pretty"})
_ALT = frozenset({"$alt", "alt"})


@dataclass(frozen=True, slots=True)
class _Binding:
    route: Route
    request: RequestBinding
    response: ResponseBinding
    own_parameters: frozenset[str]
    """System parameters without a dollar sign that are fields of the request here."""

    event_stream: _Binding | None = None
    """What answers the same requests from callers who prefer server-sent events, if that is another method."""


@dataclass(frozen=True, slots=True)
class Match:
    """An HTTP request that has found its route."""

    route: Route
    variables: Mapping[str, str]
    """What the path bound: text by the dotted name of the field."""

    pretty: bool
    """Whether the caller asked for indented JSON, with `?pretty=true`, `?prettyPrint=true` or `?$prettyPrint=true`."""

    _binding: _Binding
    _parameters: Sequence[tuple[str, str]]

    @property
    def takes_raw_body(self) -> bool:
        """Whether the body goes into a google.api.HttpBody as it is, so that it may be of any content type."""
        return self._binding.request.takes_raw_body

    def decode(self, body: bytes, *, content_type: str = "") -> Message:
        """The request message, of path, query and body; raises InvalidInput.

        Args:
            body: The HTTP body; empty if there is none, which is as good as an empty JSON object.
            content_type: Its content type, which only matters if the body is raw (`takes_raw_body`).
        """
        return self._binding.request.bind(self.variables, self._parameters, body, content_type)

    def encode(self, response: Message) -> bytes:
        """The HTTP body for a response message: JSON, or raw bytes if it is a google.api.HttpBody.

        Of a method that streams it is the part of the body for one message, to be framed (`framing.py`).

        Raises InvalidMessage if the message has no JSON form.
        """
        return self._binding.response.encode(response, pretty=self.pretty)

    @property
    def gives_raw_body(self) -> bool:
        """Whether the answer is the bytes of a google.api.HttpBody, or of a stream of them, as they are."""
        return self._binding.response.is_raw

    def response_type(self, response: Message) -> str:
        """The content type of the HTTP body for a response message."""
        return self._binding.response.content_type(response)


class Transcoder:
    """Serves RPCs over HTTP by the google.api.http rules of their methods.

        transcoder = Transcoder(service.methods)
        match = transcoder.match("GET", "/v1/shelves/7", "pretty=true")
        response = await handlers[match.route.method.full_name](match.decode(b""))
        send(match.encode(response), match.response_type(response))

    Args:
        methods: The methods to serve; those without rules are skipped.
        ignore_unknown_fields: Skip unknown fields and query parameters instead of refusing them.
        max_depth: How many levels of arrays and objects a JSON body may have.
        pool: Where the messages inside of `google.protobuf.Any` are looked up. None is the default pool.

    Raises:
        InvalidRule: A rule cannot be served, or two rules are for just the same requests.
    """

    def __init__(
        self,
        methods: Iterable[MethodDescriptor],
        *,
        ignore_unknown_fields: bool = False,
        max_depth: int = 100,
        pool: DescriptorPool | None = None,
    ) -> None:
        codec = Codec(ignore_unknown_fields=ignore_unknown_fields, max_depth=max_depth, pool=pool)
        texts = TextFields(ignore_unknown=ignore_unknown_fields)
        self._router: Router[_Binding] = Router()
        methods = tuple(methods)
        self.routes: tuple[Route, ...] = tuple(route for method in methods for route in read_routes(method))
        """All routes, in the order of their declaration."""

        def bind(route: Route, event_stream: _Binding | None = None) -> _Binding:
            fields = texts.names(route.method.input_type) if route.body != WHOLE else {}
            own = (_PRETTY | _ALT) & fields.keys()
            return _Binding(
                route, RequestBinding(route, codec, texts), ResponseBinding(route, codec), own, event_stream
            )

        event_streams = {
            (route.http_method, route.template): bind(route)
            for method in methods
            for route in read_event_streams(method)
        }
        for route in self.routes:
            binding = bind(route, event_streams.get((route.http_method, route.template)))
            there = self._router.add(route.http_method, route.template, binding)
            if there is not None:
                raise InvalidRule(f"{there.route} and {route} clash: they are for just the same requests")

    def allowed(self, raw_path: str) -> tuple[str, ...]:
        """The HTTP methods that a path takes, sorted, none if there is nothing; HEAD is among them where GET is.

        Raises InvalidInput for malformed percent-encoding.
        """
        return self._router.methods(raw_path)

    def match(self, http_method: str, raw_path: str, raw_query: str = "", *, events: bool = False) -> Match:
        """The route of a request; a HEAD request without a rule of its own gets the one for GET.

        Args:
            http_method: As on the wire, where it is case-sensitive.
            raw_path: The path as on the wire, percent-encoded, without the query.
            raw_query: The query as on the wire, percent-encoded, without the question mark.
            events: Whether the caller prefers server-sent events (`framing.prefers_events`), which may be another
                method's (`event_stream_of`, options.proto).

        Raises:
            RouteNotFound: No rule has this path.
            MethodNotAllowed: Rules have this path, but not with this HTTP method.
            InvalidInput: The URL is malformed, or a system parameter has no good value.
        """
        found = self._router.find(http_method, raw_path)
        if found is None:
            allow = self._router.methods(raw_path)
            raise MethodNotAllowed(http_method, raw_path, allow) if allow else RouteNotFound(raw_path)
        binding, segments = found
        if events and binding.event_stream is not None:
            binding = binding.event_stream
        pretty, parameters = False, []
        for name, value in parse_query(raw_query) if raw_query else ():
            if name in binding.own_parameters:
                parameters.append((name, value))
            elif name in _PRETTY:
                pretty = is_pretty(name, value)
            elif name in _ALT:
                _check_alt(name, value)
            elif name.startswith("$"):
                raise InvalidInput(Violation(shorten(name), "this system parameter is not supported"))
            else:
                parameters.append((name, value))
        return Match(binding.route, capture(binding.route.template, segments), pretty, binding, parameters)


def is_pretty(name: str, value: str) -> bool:
    """What the query parameter that asks for indented JSON says; alone it means true. Raises InvalidInput."""
    if value not in ("", "true", "false"):
        raise InvalidInput(expected("true or false", value).under(name).violation())
    return value != "false"


def _check_alt(name: str, value: str) -> None:
    if value != "json":
        raise InvalidInput(expected('"json", the only form that there is', value).under(name).violation())
