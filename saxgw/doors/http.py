"""The HTTP door: JSON over an aiohttp server, transcoded onto the table of endpoints.

Routes, bindings and forms come from the google.api.http rules in the service descriptor (saxgw.transcoding); this
module adds what is HTTP's own: content types, sizes, timeouts, statuses.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import orjson
from aiohttp import web

from saxgw.compute import Compute
from saxgw.doors.browsers import Browsers
from saxgw.doors.http_errors import (
    COMPRESSIONS,
    JSON,
    HttpError,
    error_body,
    error_response,
    failure_response,
    invalid_input,
    other_method,
    unknown_encoding,
)
from saxgw.doors.http_server import IS_CALL, REQUEST_ID, HttpLimits, HttpServer
from saxgw.doors.http_stream import HttpStream, unwritable
from saxgw.doors.pages import respond_with_page
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

_JSON_TYPES: Final = frozenset({JSON, "application/x-www-form-urlencoded"})
"""What a body may call itself. curl calls every body a form unless told otherwise; it is read as JSON."""

_ENCODINGS: Final = frozenset({*COMPRESSIONS, "identity"})

_DEADLINE_HEADERS: Final[Mapping[str, Callable[[str], float]]] = {
    "Grpc-Timeout": decode_grpc_timeout,
    "X-Request-Timeout": decode_seconds,
}

LARGE_BYTES: Final = 32 * 2**10
"""From this size on, bodies are decoded and encoded in a thread, so that other callers wait less for it: for the steps
that keep Python's lock, which grow with the number of objects in the body. What is smaller holds up the event loop for
5 ms if it is all small objects, and for less than a thread costs if it is text (bench/large_bodies.py)."""

KEEPALIVE_S: Final = 15.0
"""After how long a silence an event stream shows that it is alive."""

_NO_OTHER_PAGES: Final = Browsers()

_LAST_EVENT_ID: Final = "Last-Event-ID"


_LIMITS: Final = HttpLimits()


class _HeadOnly(RpcError):
    """Ends a call whose caller wants to know the head of the answer alone."""


class HttpDoor(HttpServer):
    """Serves endpoints as JSON over HTTP until closed: `async with HttpDoor(endpoints, "127.0.0.1", 8888, …) as door`.

    Args:
        endpoints: What is served.
        host: Address to listen on.
        port: Port to listen on; 0 picks a free one.
        tls: The context for HTTPS; None is plaintext.
        reuse_port: Whether other processes may listen there as well, if all say so.
        pages: What is served besides RPCs.
        browsers: Which web pages may call.
        limits: What callers may ask of it.
        max_json_depth: How many levels of arrays and objects a body may have.
        ignore_unknown_fields: Skip unknown JSON fields and query parameters instead of refusing them.
        keepalive_s: Seconds of silence after which an event stream shows that it is alive.
        count: Is told the status of each answer that was to no call.

    Raises OSError on entering if the address cannot be bound, and saxgw.transcoding.InvalidRule at once if the rules
    in the descriptors do not make sense.
    """

    def __init__(  # noqa: PLR0913 - settings, by name only
        self,
        endpoints: Iterable[Endpoint],
        host: str,
        port: int,
        *,
        tls: ssl.SSLContext | None = None,
        reuse_port: bool = False,
        pages: Iterable[Pages] = (),
        browsers: Browsers = _NO_OTHER_PAGES,
        limits: HttpLimits = _LIMITS,
        max_json_depth: int = 100,
        ignore_unknown_fields: bool = False,
        keepalive_s: float = KEEPALIVE_S,
        count: Callable[[int], object] | None = None,
    ) -> None:
        super().__init__(host, port, limits, tls=tls, reuse_port=reuse_port, count=count)
        self._endpoints = {endpoint.method.full_name: endpoint for endpoint in endpoints}
        self._transcoder = Transcoder(
            (endpoint.method for endpoint in self._endpoints.values()),
            ignore_unknown_fields=ignore_unknown_fields,
            max_depth=max_json_depth,
        )
        self._pages = tuple(pages)
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
                return await respond_with_page(self._pages, request, path, query)
            except MethodNotAllowed as error:
                return other_method(request, path, error.allow)
            pretty = match.pretty
            return await self._call(request, match)
        except InvalidMessage as error:
            return error_response(unwritable(error), pretty=pretty)
        except InvalidInput as error:
            return error_response(invalid_input(error), pretty=pretty)
        except RpcError as error:
            return error_response(error, pretty=pretty)

    def respond_to_failure(self, http_status: int) -> web.Response:
        return failure_response(http_status)

    async def _call(self, request: web.BaseRequest, match: Match) -> web.StreamResponse:
        self._browsers.check(request.headers, lambda: is_loopback(_peer(request)))
        _check_content_encoding(request)
        if not match.takes_raw_body:
            _check_content_type(request)
        endpoint = self._endpoints[match.route.method.full_name]
        streams = isinstance(endpoint, StreamEndpoint)
        if streams and _LAST_EVENT_ID in request.headers:
            # A browser that saw a stream end and would have another one; 204 is how HTML says that there is none.
            return web.Response(status=204)
        call = Call("http", _deadline(request), request.headers, request[REQUEST_ID], partial(_peer, request))
        request[IS_CALL] = True

        async def receive() -> Message:
            body = await self._body(request, call)
            try:
                message = await self._decode(match, body, request.headers.get("Content-Type", ""))
            except InvalidInput as error:
                raise invalid_input(error) from None
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
            response = await stream.fail(orjson.dumps(error_body(error)))
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

    def complete(self, request: web.BaseRequest, response: web.StreamResponse) -> None:
        super().complete(request, response)
        for name, value in self._browsers.headers(request, response.headers.get("Allow")).items():
            response.headers.add(name, value)

    async def _body(self, request: web.BaseRequest, call: Call) -> bytes:
        if not request.body_exists:
            return b""
        announced = request.content_length or 0
        if announced > self.limits.max_body_bytes:
            raise self._too_large()
        call.expect(announced)
        if "Expect" in request.headers:
            await self.send_continue(request)
        try:
            if request.content.is_eof():  # all of it is here, as with small bodies it nearly always is
                return await self._read(request, call)
            async with asyncio.timeout(self.limits.body_timeout_s):
                return await self._read(request, call)
        except TimeoutError:
            raise RpcError(Code.DEADLINE_EXCEEDED, "the request's body did not arrive in time") from None
        except web.RequestPayloadError:
            raise invalid_argument([("", "the body does not have the encoding that its headers claim")]) from None

    async def _read(self, request: web.BaseRequest, call: Call) -> bytes:
        """The body, unpacked. Not by `request.read()`, which keeps it for as long as there is the request."""
        body = bytearray()  # and no list of pieces, which may be of a byte each
        while piece := await request.content.readany():
            if len(body) + len(piece) > self.limits.max_body_bytes:
                raise self._too_large()
            call.take(len(piece))
            body += piece
        return bytes(body)

    def _too_large(self) -> HttpError:
        return HttpError(
            413,
            Code.INVALID_ARGUMENT,
            f"the body is larger than {self.limits.max_body_bytes} bytes, which is the limit",
        )


def _check_content_encoding(request: web.BaseRequest) -> None:
    """Refuses bodies that are compressed in a way that nothing here undoes."""
    given = request.headers.get("Content-Encoding", "identity")
    if request.body_exists and given.strip().lower() not in _ENCODINGS:
        raise unknown_encoding(f'a body that is encoded as "{given}"')


def _check_content_type(request: web.BaseRequest) -> None:
    """Refuses bodies that say they are something else than JSON."""
    given = request.headers.get("Content-Type")
    if request.body_exists and given is not None and given.partition(";")[0].strip().lower() not in _JSON_TYPES:
        raise HttpError(
            415, Code.INVALID_ARGUMENT, f'expected a body of type {JSON}, got "{given}"', headers={"Accept": JSON}
        )


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
