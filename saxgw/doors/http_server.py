"""An HTTP server that can drain: aiohttp's, with its listener, its connections and its end under our control."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, Self

from aiohttp import HttpVersion11, web
from aiohttp.http_exceptions import ContentEncodingError, LineTooLong

from saxgw.rpc.call import REQUEST_ID_HEADER, request_id

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from types import TracebackType

    from aiohttp.abc import AbstractStreamWriter
    from aiohttp.http_parser import RawRequestMessage
    from aiohttp.streams import StreamReader

SERVER: Final = "saxgw"
"""The `Server` of every answer."""

REQUEST_ID: Final = web.RequestKey("request_id", str)
"""Where a request has its id, as callers are told it."""

IS_CALL: Final = web.RequestKey("is_call", bool)
"""Where a request is marked that is a call, of which others will tell how it went."""

_log = logging.getLogger("saxgw.http")

_LINGER_S: Final = 1.0
"""How long a connection may stay idle once draining has begun. A client that sends on it meanwhile is answered, and
told that the connection closes; without this, what is on its way at that moment would be lost."""

_IDLE_CHECK_S: Final = 0.1
"""How often, while draining, connections are closed that have become idle."""

_ABORT_S: Final = 0.05
"""How long a cancelled request may take to give up."""

_BACKLOG: Final = 1024
"""How many connections may wait to be accepted; a burst of callers must not be refused."""


_IDLE_S: Final = 620.0
"""How long a connection may stay without a request. Load balancers keep idle ones, Google Cloud's for 600 s; they must
be the first to give up, or would send a request where nobody listens any more."""

_HANDSHAKE_S: Final = 10.0
"""How long a client may take to agree on TLS."""

_TLS_FAREWELL_S: Final = 1.0
"""How long a client may take to say that it has seen the end of a TLS connection."""


@dataclass(frozen=True, kw_only=True)
class HttpLimits:
    """What callers may ask of a server. Sizes are in bytes, times in seconds."""

    max_body_bytes: int = 4 * 2**20
    """Largest body; 413 beyond."""

    max_header_bytes: int = 16 * 2**10
    """Longest request line and header; 431 beyond."""

    max_connections: int = 10_000
    """Connections that are open at once; 503 beyond."""

    header_timeout_s: float = 10.0
    """How long the head of a request may take to arrive, from connecting or from its first byte on; 408 beyond."""

    body_timeout_s: float = 60.0
    """How long the body may take to arrive; 504 beyond."""


class HttpServer(ABC):
    """Serves HTTP on one address, with TLS if there is a context for it; subclasses say what to answer.

    `count` is told the status of each answer to what is no call. With `reuse_port` other processes may listen there as
    well, if all say so.
    """

    name = "the HTTP door"
    """What people are told that it is."""

    def __init__(  # noqa: PLR0913 - settings, by name only
        self,
        host: str,
        port: int,
        limits: HttpLimits,
        *,
        tls: ssl.SSLContext | None = None,
        reuse_port: bool = False,
        count: Callable[[int], object] | None = None,
    ) -> None:
        self._host = host
        self._tls = tls
        self._reuse_port = reuse_port
        self._count = count
        self.limits = limits
        self._draining = False
        self._protocols: _Protocols | None = None
        self._listener: asyncio.Server | None = None
        self.port = port
        """The port that is served; the real one, once entered, where 0 was asked for."""

    @abstractmethod
    async def respond(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answers one request, with a response that is sent after this or that was begun by `begin` and is ended."""

    @abstractmethod
    def respond_to_failure(self, http_status: int) -> web.Response:
        """Answers what respond() could not.

        400 is for bytes that are not HTTP, 408 for a head that takes too long, 415 for an unknown compression, 431 for
        a head that is too long, 503 for a connection too many, 500 for all else.
        """

    async def __aenter__(self) -> Self:
        self._protocols = _Protocols(self)
        try:
            self._listener = await asyncio.get_running_loop().create_server(
                self._protocols,
                self._host,
                self.port,
                backlog=_BACKLOG,
                reuse_port=self._reuse_port,
                **self._tls_options(),
            )
        except (OSError, UnicodeError) as error:  # a UnicodeError is a host name that cannot be one
            known = isinstance(error, OSError) and not isinstance(error, socket.gaierror) and error.errno
            reason = os.strerror(known) if known else "there is no such host"
            raise OSError(f"{self.name} cannot listen on {self._host}:{self.port}: {reason}") from error
        self.port = self._listener.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.drain(0)

    def _tls_options(self) -> dict[str, Any]:
        if self._tls is None:
            return {}
        return {
            "ssl": self._tls,
            "ssl_handshake_timeout": _HANDSHAKE_S,
            "ssl_shutdown_timeout": _TLS_FAREWELL_S,
        }

    async def drain(self, timeout_s: float) -> None:
        """Takes no new connections, gives running requests `timeout_s` seconds to finish, cancels what is left then."""
        if self._protocols is None or self._listener is None:
            return
        self._draining = True
        # Two rounds of the loop, so that connections which the kernel has taken for us already are served.
        for _ in range(2):
            await asyncio.sleep(0)
        self._listener.close()
        end = time.monotonic() + timeout_s
        closed = await self._protocols.wait_closed(min(_LINGER_S, timeout_s))
        while not closed and (left_s := end - time.monotonic()) > 0:
            self._protocols.close_idle()
            closed = await self._protocols.wait_closed(min(_IDLE_CHECK_S, left_s))
        if not closed:
            await self._protocols.shutdown(_ABORT_S)
            await self._protocols.wait_closed(_ABORT_S)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """What aiohttp calls for each request."""
        request[REQUEST_ID] = request_id(request.headers.get(REQUEST_ID_HEADER))
        response = await self.respond(request)
        if not response.prepared:
            self.complete(request, response)
        return response

    async def begin(self, request: web.BaseRequest, response: web.StreamResponse) -> None:
        """Sends the head of a response whose body is written bit by bit."""
        self.complete(request, response)
        await response.prepare(request)

    def complete(self, request: web.BaseRequest, response: web.StreamResponse) -> None:
        """Gives an answer the headers that all have."""
        response.headers["Server"] = SERVER
        response.headers[REQUEST_ID_HEADER] = request[REQUEST_ID]
        if self._draining:
            response.force_close()
        self.counted(request, response)

    def counted(self, request: web.BaseRequest, response: web.StreamResponse) -> None:
        """Counts an answer."""
        if self._count is not None and IS_CALL not in request:
            self._count(response.status)

    @staticmethod
    async def send_continue(request: web.BaseRequest) -> None:
        """Tells a client that waits for it (`Expect: 100-continue`) to send the body."""
        if request.version < HttpVersion11 or request.headers["Expect"].lower() != "100-continue":
            return
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # aiohttp takes what was sent for the beginning of the answer otherwise


class _Protocols(web.Server):
    """The connections of one server, and what makes them."""

    def __init__(self, server: HttpServer) -> None:
        super().__init__(server.handle, request_factory=self._request, handler_cancellation=True)
        self._http_server = server
        self._open = 0
        self._all_closed = asyncio.Event()
        self._all_closed.set()

    def __call__(self) -> web.RequestHandler:
        return _Connection(self, self._http_server, self._loop)

    def close_idle(self) -> None:
        """Closes connections on which no request is running or waiting; the others close after their answer."""
        for connection in self.connections:
            # aiohttp's own way, close(), leaves idle connections open and drops the rest of a body on its way.
            if not connection._request_in_progress and not connection._messages:  # noqa: SLF001 - nothing public tells
                connection.force_close()

    def opened(self) -> bool:
        """Counts a connection; False if there are too many now."""
        self._open += 1
        self._all_closed.clear()
        return self._open <= self._http_server.limits.max_connections

    def closed(self) -> None:
        self._open -= 1
        if not self._open:
            self._all_closed.set()

    async def wait_closed(self, timeout_s: float) -> bool:
        """Waits until no connection is open; False if some still are after so many seconds."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._all_closed.wait()
        except TimeoutError:
            return False
        return True

    def _request(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: web.RequestHandler,
        writer: AbstractStreamWriter,
        task: asyncio.Task[None],
    ) -> web.BaseRequest:
        return web.BaseRequest(message, payload, protocol, writer, task, self._loop)


class _Connection(web.RequestHandler):
    """One connection. Answers malformed requests in our form instead of aiohttp's plain text, and slow ones at all."""

    __slots__ = ("_head_timer", "_http_server", "_loop_of_server", "_protocols", "_refused")

    def __init__(self, protocols: _Protocols, server: HttpServer, loop: asyncio.AbstractEventLoop) -> None:
        longest = server.limits.max_header_bytes
        # aiohttp's own access log costs more than all the rest of its work.
        super().__init__(
            protocols,
            loop=loop,
            access_log=None,  # type: ignore[arg-type]  # None is for no log
            keepalive_timeout=_IDLE_S,
            max_line_size=longest,
            max_field_size=longest,
        )
        self._protocols = protocols
        self._http_server = server
        self._loop_of_server = loop
        self._head_timer: asyncio.TimerHandle | None = None
        self._refused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if not self._protocols.opened():
            assert isinstance(transport, asyncio.Transport)  # noqa: S101 - for the type checker: one of a server is
            self._refuse(transport, HTTPStatus.SERVICE_UNAVAILABLE)
            return
        super().connection_made(transport)
        self._expect_head()

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        super().data_received(data)
        if self._request_in_progress or self._messages:
            self._forget_head()
        elif self._head_timer is None:
            self._expect_head()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._forget_head()
        if self.transport is not None:
            super().connection_lost(exc)
        self._protocols.closed()

    def _expect_head(self) -> None:
        timeout_s = self._http_server.limits.header_timeout_s
        self._head_timer = self._loop_of_server.call_later(timeout_s, self._give_up_on_head)

    def _forget_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _give_up_on_head(self) -> None:
        self._head_timer = None
        if isinstance(self.transport, asyncio.Transport):
            self._refuse(self.transport, HTTPStatus.REQUEST_TIMEOUT)

    def _refuse(self, transport: asyncio.Transport, status: HTTPStatus) -> None:
        """Answers without there being a request, and hangs up."""
        self._refused = True
        response = self._http_server.respond_to_failure(status)
        assert isinstance(response.body, bytes)  # noqa: S101 - for the type checker: errors are small
        response.headers.update({"Server": SERVER, REQUEST_ID_HEADER: request_id(None), "Connection": "close"})
        response.headers["Content-Length"] = str(len(response.body))
        head = [
            f"HTTP/1.1 {status.value} {status.phrase}",
            *(f"{key}: {text}" for key, text in response.headers.items()),
        ]
        transport.write("\r\n".join([*head, "", ""]).encode() + response.body)
        transport.close()

    def log_exception(self, *args: Any, **kw: Any) -> None:  # noqa: ANN401 - aiohttp's signature
        """Logs what fails here, which is not the rest of a body that does not have its encoding: callers are told."""
        if not isinstance(kw.get("exc_info"), web.RequestPayloadError):
            super().log_exception(*args, **kw)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - aiohttp's signature; its words are not for callers
    ) -> web.StreamResponse:
        """Answers what never became a request, or what failed outside of respond()."""
        if status != HTTPStatus.BAD_REQUEST:
            _log.error("answering a request failed", exc_info=exc)
        elif isinstance(exc, LineTooLong):
            status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
        elif isinstance(exc, ContentEncodingError):
            status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun already")
        response = self._http_server.respond_to_failure(status)
        response.headers["Server"] = SERVER
        response.headers[REQUEST_ID_HEADER] = request.get(REQUEST_ID) or request_id(None)
        response.force_close()
        self._http_server.counted(request, response)
        return response
