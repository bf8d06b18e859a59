"""The admin server: pages for who watches the gateway, on a port of their own that callers need not reach."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from saxgw.doors.http_errors import error_response, failure_response, invalid_input
from saxgw.doors.http_server import HttpLimits, HttpServer
from saxgw.doors.pages import respond_with_page
from saxgw.rpc.status import RpcError
from saxgw.transcoding import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aiohttp import web

    from saxgw.doors.pages import Pages

_LIMITS: Final = HttpLimits(max_body_bytes=0, max_connections=1000)
"""Nothing here takes a body, and few have anything to ask."""


class AdminServer(HttpServer):
    """Serves pages until closed: `async with AdminServer(pages, "127.0.0.1", 9090) as admin`.

    Raises OSError on entering if the address cannot be bound.
    """

    name = "the admin server"

    def __init__(self, pages: Iterable[Pages], host: str, port: int, *, reuse_port: bool = False) -> None:
        super().__init__(host, port, _LIMITS, reuse_port=reuse_port)
        self._pages = tuple(pages)

    async def respond(self, request: web.BaseRequest) -> web.StreamResponse:
        path, _, query = request.raw_path.partition("?")
        try:
            return await respond_with_page(self._pages, request, path, query)
        except InvalidInput as error:
            return error_response(invalid_input(error))
        except RpcError as error:
            return error_response(error)

    def respond_to_failure(self, http_status: int) -> web.Response:
        return failure_response(http_status)
