"""An HTTP server that can drain: aiohttp's, with its listener, its connections and its end under our control."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from abc import ABC, abstractmethod
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, Self

from aiohttp import HttpVersion11, web
from aiohttp.http_exceptions import LineTooLong

from saxgw.rpc.call import REQUEST_ID_HEADER, request_id

if TYPE_CHECKING:
    import ssl
    from types import TracebackType

    from aiohttp.abc import AbstractStreamWriter
    from aiohttp.http_parser import RawRequestMessage
    from aiohttp.streams import StreamReader

SERVER: Final = "saxgw"
"""The `Server` of every answer."""

REQUEST_ID: Final = web.RequestKey("request_id", str)
"""Where a request has its id, as callers are told it."""

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


_HANDSHAKE_S: Final = 10.0
"""How long a client may take to agree on TLS."""

_TLS_FAREWELL_S: Final = 1.0
"""How long a client may take to say that it has seen the end of a TLS connection."""


class HttpServer(ABC):
    """Serves HTTP on one address, with TLS if there is a context for it; subclasses say what to answer."""

    def __init__(self, host: str, port: int, *, max_body_bytes: int, tls: ssl.SSLContext | None = None) -> None:
        self._host = host
        self._tls = tls
        self._max_body_bytes = max_body_bytes
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
        """Answers what respond() could not: 400 for bytes that are not HTTP, 431 for too long a head, or 500."""

    async def __aenter__(self) -> Self:
        self._protocols = _Protocols(self, self._max_body_bytes)
        try:
            self._listener = await asyncio.get_running_loop().create_server(
                self._protocols, self._host, self.port, backlog=_BACKLOG, **self._tls_options()
            )
        except (OSError, UnicodeError) as error:  # a UnicodeError is a host name that cannot be one
            known = isinstance(error, OSError) and not isinstance(error, socket.gaierror) and error.errno
            reason = os.strerror(known) if known else "there is no such host"
            raise OSError(f"the HTTP door cannot listen on {self._host}:{self.port}: {reason}") from error
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

    @staticmethod
    async def send_continue(request: web.BaseRequest) -> None:
        """Tells a client that waits for it (`Expect: 100-continue`) to send the body."""
        if request.version < HttpVersion11 or request.headers["Expect"].lower() != "100-continue":
            return
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # aiohttp takes what was sent for the beginning of the answer otherwise


class _Protocols(web.Server):
    """The connections of one server, and what makes them."""

    def __init__(self, server: HttpServer, max_body_bytes: int) -> None:
        super().__init__(server.handle, request_factory=self._request, handler_cancellation=True)
        self._http_server = server
        self._max_body_bytes = max_body_bytes
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

    def opened(self) -> None:
        self._open += 1
        self._all_closed.clear()

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
        return web.BaseRequest(
            message, payload, protocol, writer, task, self._loop, client_max_size=self._max_body_bytes
        )


class _Connection(web.RequestHandler):
    """One connection. Answers malformed requests in our form instead of aiohttp's plain text."""

    __slots__ = ("_http_server", "_protocols")

    def __init__(self, protocols: _Protocols, server: HttpServer, loop: asyncio.AbstractEventLoop) -> None:
        # aiohttp's own access log costs more than all the rest of its work.
        super().__init__(protocols, loop=loop, access_log=None)  # type: ignore[arg-type]  # None is for no log
        self._protocols = protocols
        self._http_server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._protocols.opened()

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        self._protocols.closed()

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
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun already")
        response = self._http_server.respond_to_failure(status)
        response.headers["Server"] = SERVER
        response.headers[REQUEST_ID_HEADER] = request.get(REQUEST_ID) or request_id(None)
        response.force_close()
        return response
