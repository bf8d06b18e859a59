"""The HTTP door: JSON over an aiohttp server, transcoded onto the table of endpoints.

Routes, bindings and forms come from the google.api.http rules in the service descriptor (saxgw.transcoding); this
module adds what is HTTP's own: content types, sizes, timeouts, statuses.
"""

from __future__ import annotations

import asyncio
import math
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import orjson
from aiohttp import web
from google.rpc import status_pb2

from saxgw.compute import Compute
from saxgw.doors.browsers import Browsers
from saxgw.doors.http_server import REQUEST_ID, HttpServer
from saxgw.doors.http_stream import HttpStream, unwritable
from saxgw.doors.pages import METHODS as PAGE_METHODS
from saxgw.rpc.call import Call, is_loopback
from saxgw.rpc.deadline import Deadline, decode_grpc_timeout, decode_seconds
from saxgw.rpc.endpoint import StreamEndpoint
from saxgw.rpc.status import Code, RpcError, invalid_argument
from saxgw.transcoding import (
    InvalidInput,
    InvalidMessage,
    MethodNotAllowed,
    RouteNotFound,
    Transcoder,
    choose_framing,
    encode_json,
    prefers_events,
)

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable, Iterable, Mapping
    from types import TracebackType

    from google.protobuf.message import Message

    from saxgw.doors.pages import Pages
    from saxgw.rpc.endpoint import Endpoint, Receive
    from saxgw.transcoding import Match

_JSON: Final = "application/json"

_JSON_TYPES: Final = frozenset({_JSON, "application/x-www-form-urlencoded"})
"""What a body may call itself. curl calls every body a form unless told otherwise; it is read as JSON."""

_DEADLINE_HEADERS: Final[Mapping[str, Callable[[str], float]]] = {
    "Grpc-Timeout": decode_grpc_timeout,
    "X-Request-Timeout": decode_seconds,
}

_BODY_TIMEOUT_S: Final = 60.0
"""How long a body may take to arrive, unless the whole call has less."""

LARGE_BYTES: Final = 32 * 2**10
"""From this size on, bodies are decoded and encoded in a thread, so that other callers wait less for it: for the steps
that keep Python's lock, which grow with the number of objects in the body. What is smaller holds up the event loop for
5 ms if it is all small objects, and for less than a thread costs if it is text (bench/large_bodies.py)."""

KEEPALIVE_S: Final = 15.0
"""After how long a silence an event stream shows that it is alive."""

_NO_OTHER_PAGES: Final = Browsers()

_LAST_EVENT_ID: Final = "Last-Event-ID"

_FAILURES: Final = {
    400: (Code.INVALID_ARGUMENT, "this is not a well-formed HTTP/1.1 request"),
    431: (Code.INVALID_ARGUMENT, "the request line or a header is too long"),
}
_UNEXPECTED: Final = (Code.INTERNAL, "the gateway failed unexpectedly; its log tells more")


class HttpError(RpcError):
    """A failure that only HTTP knows, with its own status and headers."""

    def __init__(self, http_status: int, code: Code, message: str, *, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(code, message)
        self.http_status = http_status
        self.headers = headers or {}


class _HeadOnly(RpcError):
    """Ends a call whose caller wants to know the head of the answer alone."""


class HttpDoor(HttpServer):
    """Serves endpoints as JSON over HTTP until closed: `async with HttpDoor(endpoints, "127.0.0.1", 8888, …) as door`.

    Args:
        endpoints: What is served.
        host: Address to listen on.
        port: Port to listen on; 0 picks a free one.
        pages: What is served besides RPCs; None is nothing.
        tls: The context for HTTPS; None is plaintext.
        browsers: Which web pages may call.
        max_request_bytes: Largest body.
        ignore_unknown_fields: Skip unknown JSON fields and query parameters instead of refusing them.
        keepalive_s: Seconds of silence after which an event stream shows that it is alive.

    Raises OSError on entering if the address cannot be bound, and saxgw.transcoding.InvalidRule at once if the rules
    in the descriptors do not make sense.
    """

    def __init__(  # noqa: PLR0913 - settings, by name only
        self,
        endpoints: Iterable[Endpoint],
        host: str,
        port: int,
        *,
        pages: Pages | None = None,
        tls: ssl.SSLContext | None = None,
        browsers: Browsers = _NO_OTHER_PAGES,
        max_request_bytes: int = 4 * 2**20,
        ignore_unknown_fields: bool = False,
        keepalive_s: float = KEEPALIVE_S,
    ) -> None:
        super().__init__(host, port, max_body_bytes=max_request_bytes, tls=tls)
        self._endpoints = {endpoint.method.full_name: endpoint for endpoint in endpoints}
        self._transcoder = Transcoder(
            (endpoint.method for endpoint in self._endpoints.values()), ignore_unknown_fields=ignore_unknown_fields
        )
        self._max_request_bytes = max_request_bytes
        self._pages = pages
        self._browsers = browsers
        self._keepalive_s = keepalive_s
        # One thread: more of them would only take more of the interpreter from the event loop.
        self._large_bodies = Compute(1, "saxgw-large-bodies")

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await super().__aexit__(kind, error, trace)
        finally:
            await self._large_bodies.close()

    async def respond(self, request: web.BaseRequest) -> web.StreamResponse:
        pretty = False
        try:
            path, query = _target(request)
            events = prefers_events(request.headers.get("Accept", ""))
            try:
                match = self._transcoder.match(request.method, path, query, events=events)
            except RouteNotFound:
                return self._other_path(request, path, query)
            except MethodNotAllowed as error:
                return self._other_method(request, path, error.allow)
            pretty = match.pretty
            return await self._call(request, match)
        except InvalidMessage as error:
            return error_response(unwritable(error), pretty=pretty)
        except InvalidInput as error:
            return error_response(_invalid(error), pretty=pretty)
        except RpcError as error:
            return error_response(error, pretty=pretty)

    def respond_to_failure(self, http_status: int) -> web.Response:
        code, message = _FAILURES.get(http_status, _UNEXPECTED)
        return error_response(HttpError(http_status, code, message))

    async def _call(self, request: web.BaseRequest, match: Match) -> web.StreamResponse:
        self._browsers.check(request.headers, lambda: is_loopback(_peer(request)))
        if not match.takes_raw_body:
            _check_content_type(request)
        endpoint = self._endpoints[match.route.method.full_name]
        streams = isinstance(endpoint, StreamEndpoint)
        if streams and _LAST_EVENT_ID in request.headers:
            # A browser that saw a stream end and would have another one; 204 is how HTML says that there is none.
            return web.Response(status=204)
        call = Call("http", _deadline(request), request.headers, request[REQUEST_ID], partial(_peer, request))

        async def receive() -> Message:
            body = await self._body(request)
            try:
                message = await self._decode(match, body, request.headers.get("Content-Type", ""))
            except InvalidInput as error:
                raise _invalid(error) from None
            if streams and request.method == "HEAD":
                raise _HeadOnly(Code.OK, "a stream has no length to tell of, so nobody need compute it")
            return message

        if isinstance(endpoint, StreamEndpoint):
            return await self._stream(endpoint, request, match, call, receive)
        response = await endpoint.handler(call, receive)
        data = self._encode(match, response)
        return web.Response(
            body=data if isinstance(data, bytes) else await data,
            headers={"Content-Type": match.response_type(response)},
        )

    async def _stream(
        self, endpoint: StreamEndpoint, request: web.BaseRequest, match: Match, call: Call, receive: Receive
    ) -> web.StreamResponse:
        framing = None if match.gives_raw_body else choose_framing(request.headers.get("Accept", ""))
        stream = HttpStream(
            request, self.begin, framing=framing, match=match, encode=self._encode, keepalive_s=self._keepalive_s
        )
        try:
            await endpoint.handler(call, receive, stream.send)
            return await stream.finish()
        except _HeadOnly:
            return web.Response(headers={"Content-Type": "" if framing is None else framing.content_type})
        except RpcError as error:
            response = await stream.fail(orjson.dumps(_error_body(error)))
            if response is None:
                raise
            return response
        finally:
            await stream.close()

    async def _decode(self, match: Match, body: bytes, content_type: str) -> Message:
        decode = partial(match.decode, body, content_type=content_type)
        return decode() if len(body) < LARGE_BYTES else await self._large_bodies.run(decode)

    def _encode(self, match: Match, response: Message) -> bytes | Awaitable[bytes]:
        """The JSON of a message, to be waited for if it is large. Streams have many that are small."""
        if response.ByteSize() < LARGE_BYTES:
            return match.encode(response)
        return self._large_bodies.run(partial(match.encode, response))

    def _other_path(self, request: web.BaseRequest, path: str, query: str) -> web.Response:
        """What is not an RPC."""
        if self._pages is None or path not in self._pages:
            raise HttpError(404, Code.NOT_FOUND, f'there is nothing at "{path}"')
        if request.method not in PAGE_METHODS:
            return self._other_method(request, path, PAGE_METHODS)
        return self._pages.respond(request, path, query)

    def _other_method(self, request: web.BaseRequest, path: str, allow: Iterable[str]) -> web.Response:
        """405 with Allow, or what OPTIONS asks for."""
        methods = ", ".join(dict.fromkeys([*allow, "OPTIONS"]))
        headers = {"Allow": methods}
        if request.method == "OPTIONS":
            return web.Response(status=204, headers={**headers, **self._browsers.preflight(request, methods)})
        message = f'"{path}" does not take {request.method}; it takes {methods}'
        raise HttpError(405, Code.UNIMPLEMENTED, message, headers=headers)

    def complete(self, request: web.BaseRequest, response: web.StreamResponse) -> None:
        super().complete(request, response)
        for name, value in self._browsers.headers(request).items():
            response.headers.add(name, value)

    async def _body(self, request: web.BaseRequest) -> bytes:
        if not request.body_exists:
            return b""
        if (request.content_length or 0) > self._max_request_bytes:
            raise self._too_large()
        if "Expect" in request.headers:
            await self.send_continue(request)
        try:
            if request.content.is_eof():  # all of it is here, as with small bodies it nearly always is
                return await request.read()
            async with asyncio.timeout(_BODY_TIMEOUT_S):
                return await request.read()
        except TimeoutError:
            raise RpcError(Code.DEADLINE_EXCEEDED, "the request's body did not arrive in time") from None
        except web.HTTPRequestEntityTooLarge:
            raise self._too_large() from None
        except web.RequestPayloadError:
            raise invalid_argument([("", "the body does not have the encoding that its headers claim")]) from None

    def _too_large(self) -> HttpError:
        return HttpError(
            413, Code.INVALID_ARGUMENT, f"the body is larger than {self._max_request_bytes} bytes, which is the limit"
        )


def _check_content_type(request: web.BaseRequest) -> None:
    """Refuses bodies that say they are something else than JSON."""
    given = request.headers.get("Content-Type")
    if request.body_exists and given is not None and given.partition(";")[0].strip().lower() not in _JSON_TYPES:
        raise HttpError(
            415, Code.INVALID_ARGUMENT, f'expected a body of type {_JSON}, got "{given}"', headers={"Accept": _JSON}
        )


def json_response(
    http_status: int,
    value: Any,  # noqa: ANN401 - JSON is of any type
    *,
    headers: Mapping[str, str] | None = None,
    pretty: bool = False,
) -> web.Response:
    """An answer with `value` as its JSON body."""
    body = orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE if pretty else None)
    return web.Response(status=http_status, body=body, headers={"Content-Type": _JSON, **(headers or {})})


def error_response(error: RpcError, *, pretty: bool = False) -> web.Response:
    """The one shape of every answer that is not a success."""
    headers: dict[str, str] = {}
    http_status = error.code.http_status
    if isinstance(error, HttpError):
        http_status = error.http_status
        headers.update(error.headers)
    if error.retry_delay_s is not None:
        headers["Retry-After"] = str(math.ceil(error.retry_delay_s))
    if error.code is Code.UNAUTHENTICATED:
        headers["WWW-Authenticate"] = "Bearer"  # RFC 9110 §11.6.1 wants it beside a 401
    return json_response(http_status, _error_body(error), headers=headers, pretty=pretty)


def _error_body(error: RpcError) -> dict[str, Any]:
    details = orjson.loads(encode_json(status_pb2.Status(details=error.any_details())))["details"]
    http_status = error.http_status if isinstance(error, HttpError) else error.code.http_status
    return {"error": {"code": http_status, "status": error.code.name, "message": error.message, "details": details}}


def _invalid(error: InvalidInput) -> RpcError:
    return invalid_argument((violation.field, violation.description) for violation in error.violations)


def _peer(request: web.BaseRequest) -> str:
    address = request.transport and request.transport.get_extra_info("peername")
    return str(address[0]) if address else ""


def _target(request: web.BaseRequest) -> tuple[str, str]:
    """Path and query as on the wire; the target may also be an absolute URI (RFC 9112 §3.2.2)."""
    target = request.raw_path
    if not target.startswith("/"):
        try:
            parts = urlsplit(target)
        except ValueError:
            raise invalid_argument([("", f'"{target}" is not a URL')]) from None
        return parts.path or "/", parts.query
    path, _, query = target.partition("?")
    return path, query


def _deadline(request: web.BaseRequest) -> Deadline | None:
    """The earliest deadline that the headers ask for."""
    deadline = None
    for header, decode in _DEADLINE_HEADERS.items():
        if (text := request.headers.get(header)) is not None:
            try:
                deadline = Deadline.after(decode(text)).earliest(deadline)
            except ValueError as error:
                raise invalid_argument([(header, str(error))]) from None
    return deadline
