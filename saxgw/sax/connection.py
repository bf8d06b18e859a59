"""The connection to the admin of a cell: found through SAX_ROOT, kept, and found anew when it breaks."""

from __future__ import annotations

import asyncio
import itertools
import logging
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar

import grpc
import grpc.aio

from saxgw.sax.backoff import pause_s
from saxgw.sax.errors import AdminUnavailable
from saxgw.sax.status import Status, admin_error

if TYPE_CHECKING:
    from collections.abc import Callable

    from saxgw.sax.channels import Channels, Server
    from saxgw.sax.root import Root
    from saxgw.sax.wire.admin_pb2_grpc import AdminAsyncStub

_log: Final = logging.getLogger("saxgw.sax")

Request = TypeVar("Request")
Response = TypeVar("Response")

Rpc: TypeAlias = "Callable[[AdminAsyncStub], grpc.aio.UnaryUnaryMultiCallable[Request, Response]]"
"""Chooses a method of the admin."""

_FIND_S: Final = 1.5
"""How long an admin is looked for before it counts as unavailable; enough for one that is just restarting."""

_FIRST_PAUSE_S: Final = 0.05
_LONGEST_PAUSE_S: Final = 0.5
"""Pauses while it is looked for."""


class AdminConnection:
    """A connection to the admin of one cell, made when it is first needed.

    Where the admin is, is read again for each new connection, since an admin that restarts may move.
    """

    def __init__(self, cell: str, root: Root, channels: Channels) -> None:
        self._cell = cell
        self._root = root
        self._channels = channels
        self._loop = asyncio.get_running_loop()
        self._server: Server | None = None
        self._finding: asyncio.Task[None] | None = None
        self._lost = False

    async def call(self, rpc: Rpc[Request, Response], request: Request, until: float) -> Response:
        """Sends one request, to be answered by `until` (loop time).

        Raises:
            AioRpcError: the answer. Only after one of these may the request have reached the admin.
            AdminUnavailable: there was nobody to send it to.
            CellNotFound: there is no such cell.
        """
        server = await self._connected()
        try:
            return await rpc(server.admin)(request, timeout=max(until - self._loop.time(), 0))
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.UNAVAILABLE and self._server is server:
                self.drop()
            raise
        finally:
            self._channels.release(server)

    def drop(self) -> None:
        """Leaves the connection to the calls that still use it; the next call makes a new one."""
        if self._server is not None:
            self._channels.release(self._server)
            self._server = None

    async def aclose(self) -> None:
        """Ends a search for the admin; those who wait for it are cancelled. Channels closes the connection itself."""
        if self._finding is not None:
            self._finding.cancel()
            await asyncio.wait((self._finding,))

    async def _connected(self) -> Server:
        """Returns the admin with a standing connection, to be released after use."""
        if self._server is not None and not self._server.is_connected:
            self.drop()
        while self._server is None:
            # One at a time looks for the admin, and all who need it share what comes of it.
            finding = self._finding
            if finding is None:
                finding = self._finding = asyncio.create_task(self._find(), name=f"sax: find admin of {self._cell}")
                finding.add_done_callback(self._found)
            await asyncio.wait((finding,))
            try:
                finding.result()
            finally:
                del finding  # what it raises has this frame in its traceback, and with it the request of who asks
        return self._channels.share(self._server)

    async def _find(self) -> None:
        give_up = self._loop.time() + _FIND_S
        for tries in itertools.count(1):
            try:
                self._server = await self._connect()
            except AdminUnavailable as error:
                pause = pause_s(tries, _FIRST_PAUSE_S, _LONGEST_PAUSE_S)
                if self._loop.time() + pause >= give_up:
                    self._log_lost(error)
                    raise
            else:
                self._log_found()
                return
            await asyncio.sleep(pause)

    async def _connect(self) -> Server:
        """Reads where the admin is and connects, once."""
        server = self._channels.open(await self._root.admin_address(self._cell), fresh=True)
        connected = False
        try:
            connected = await server.connect()
        finally:
            if not connected:
                self._channels.release(server)
        if not connected:
            raise admin_error(Status(grpc.StatusCode.UNAVAILABLE, ""), self._cell, None)
        return server

    def _found(self, finding: asyncio.Task[None]) -> None:
        self._finding = None
        if not finding.cancelled():
            finding.exception()  # marks it as seen; all who waited may have left

    def _log_lost(self, error: AdminUnavailable) -> None:
        if not self._lost:  # and not again for each of the many searches that may follow
            self._lost = True
            cause = f" ({error.__cause__})" if error.__cause__ else ""
            _log.warning("%s%s", error, cause)

    def _log_found(self) -> None:
        if self._lost:
            self._lost = False
            _log.info("the admin of %s is back", self._cell)
