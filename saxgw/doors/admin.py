"""The admin server: pages for who watches the gateway, on a port of their own that callers need not reach."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, TypeAlias

from aiohttp import web

from saxgw.doors.http import HttpError, error_response, failure_response, other_method
from saxgw.doors.http_server import HttpServer
from saxgw.doors.pages import METHODS
from saxgw.rpc.status import Code, RpcError

if TYPE_CHECKING:
    from collections.abc import Mapping

Page: TypeAlias = Callable[[web.BaseRequest], Awaitable[web.Response]]
"""Answers GET and HEAD for one path; raises RpcError."""

_LARGEST_BODY_BYTES: Final = 0
"""Nothing here takes a body."""


class AdminServer(HttpServer):
    """Serves pages by their paths until closed: `async with AdminServer(pages, "127.0.0.1", 9090) as admin`.

    Raises OSError on entering if the address cannot be bound.
    """

    name = "the admin server"

    def __init__(self, pages: Mapping[str, Page], host: str, port: int) -> None:
        super().__init__(host, port, max_body_bytes=_LARGEST_BODY_BYTES)
        self._pages = pages

    async def respond(self, request: web.BaseRequest) -> web.StreamResponse:
        path = request.path
        try:
            page = self._pages.get(path)
            if page is None:
                raise HttpError(404, Code.NOT_FOUND, f'there is nothing at "{path}"; there is {", ".join(self._pages)}')
            if request.method not in METHODS:
                return other_method(request, path, METHODS)
            return await page(request)
        except RpcError as error:
            return error_response(error)

    def respond_to_failure(self, http_status: int) -> web.Response:
        return failure_response(http_status)
