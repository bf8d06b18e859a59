"""The admin server of a dev cell."""

from __future__ import annotations

import logging
import secrets
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Self

from saxgw.devcell.admin_faults import AdminFaults
from saxgw.devcell.admin_service import AdminService
from saxgw.devcell.errors import DevCellError
from saxgw.devcell.faults import permitted
from saxgw.devcell.google_registry import GoogleRegistry
from saxgw.devcell.layout import CellFiles
from saxgw.devcell.listener import Listener
from saxgw.devcell.registry import Registry
from saxgw.devcell.timing import GOOGLE_TIMING, Timing
from saxgw.sax.wire.admin_pb2_grpc import add_AdminServicer_to_server

if TYPE_CHECKING:
    from pathlib import Path

    from saxgw.devcell.catalogue import AnyCatalogue

_log = logging.getLogger("saxgw.devcell")


class AdminServer:
    """An admin server on loopback that keeps its cell under SAX_ROOT, in Sax's own layout (Sax protocol §2).

    It can be stopped and started any number of times, which is how a restart of the real one is played: what was
    published is restored, and model servers join again by themselves.

    Args:
        root: SAX_ROOT, a local folder; the cell's folder is made if it is missing.
        cell: The cell's short name.
        port: Where to listen; 0 picks a free port at the first start and keeps it.
        timing: Intervals. None is Timing(), or GOOGLE_TIMING for one that behaves as Google's.
        faults: Whether it can be made to misbehave.
        google: Whether it behaves as Google's admin does, to the letter: it acts and saves at ticks, gives a server one
            model, sends errors as UNKNOWN (Sax protocol §4).
    """

    def __init__(  # noqa: PLR0913 (all have defaults, and are told apart by name)
        self,
        root: Path,
        cell: str = "test",
        *,
        port: int = 0,
        timing: Timing | None = None,
        faults: bool = False,
        google: bool = False,
    ) -> None:
        self._root = root
        self._files = CellFiles(root, cell)
        self._cell = cell
        self._faults = AdminFaults(self, self._files) if faults else None
        self._listener = Listener(port, ["sax.Admin"], self._faults)
        self._google = google
        self._timing = timing or (GOOGLE_TIMING if google else Timing())
        self._registry: AnyCatalogue | None = None
        self._stack = AsyncExitStack()

    @property
    def address(self) -> str:
        """Where it listens, or did before it was stopped: `127.0.0.1:port`. The port is 0 until the first start."""
        return self._listener.address

    @property
    def faults(self) -> AdminFaults:
        """What it can be made to do wrong; raises DevCellError unless it was made with `faults=True`."""
        return permitted(self._faults)

    async def start(self, port: int | None = None) -> None:
        """Restores the state, listens, and tells the cell where.

        Args:
            port: Where to listen; 0 picks a free port. None is the port of the last start.

        Raises:
            DevCellError: The port is in use, the folder cannot be made, or the state cannot be read.
        """
        async with AsyncExitStack() as stack:
            try:
                self._files.create()
            except OSError as error:
                raise DevCellError(f'cannot keep a cell under "{self._root}": {error.strerror}') from error
            kind = GoogleRegistry if self._google else Registry
            registry = kind(self._files, self._cell, self._timing, self._faults.awake if self._faults else None)
            stack.push_async_callback(registry.close)
            if self._faults:
                self._faults.of(registry)
            server = self._listener.new_server(port, stack)
            server_id = f"{self.address}_{secrets.token_hex(8)}"
            add_AdminServicer_to_server(AdminService(registry, self._cell, server_id, like_google=self._google), server)
            await self._listener.start(server)
            self._files.write_location(self.address)
            self._registry = registry
            self._stack = stack.pop_all()
        _log.info("admin server of /sax/%s listens on %s", self._cell, self.address)

    def tick(self) -> None:
        """Has an admin that behaves as Google's do now what it does every ten seconds (Sax protocol §4.3).

        It prunes silent servers, assigns models to the others, begins to have them unloaded and loaded, frees the names
        of models that were unpublished, and saves its state; what has changed since the last tick is lost if it dies.

        Raises:
            DevCellError: It is not such an admin, or is not running.
            OSError: The state cannot be saved.
        """
        if not isinstance(self._registry, GoogleRegistry):
            raise DevCellError("only an admin that runs and behaves as Google's has ticks; make it with google=True")
        self._registry.tick()

    async def stop(self) -> None:
        """Stops at once: calls in flight fail, and location.proto stays as it is. Does nothing if it is stopped."""
        await self.drop()
        await self._listener.close()

    async def drop(self) -> None:
        """Ends what runs behind the port, which is all there is unless the server can misbehave."""
        self._registry = None
        await self._stack.aclose()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.stop()
