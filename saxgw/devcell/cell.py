"""A whole cell: an admin server and model servers."""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from saxgw.devcell.admin import AdminServer
from saxgw.devcell.errors import DevCellError
from saxgw.devcell.modelet import ModelServer
from saxgw.sax.names import parse_cell

if TYPE_CHECKING:
    from collections.abc import Mapping

    from saxgw.devcell.language_model import LanguageModel
    from saxgw.devcell.timing import Timing

_START_S: Final = 60.0
"""How long model servers may take to join; on a busy machine that can be long."""


class DevCell:
    """A small real Sax cell on loopback: an admin server and model servers that speak the protocol over gRPC.

        async with DevCell() as cell, grpc.aio.insecure_channel(cell.admin.address) as channel:
            admin = AdminStub(channel)
            model = Model(model_id="/sax/test/alice", model_path="saxgw.devcell.NgramLm",
                          checkpoint_path="None", requested_num_replicas=1)
            await admin.Publish(PublishRequest(model=model))
            await admin.WaitForReady(WaitForReadyRequest(model_id=model.model_id, num_replicas=1))

    Clients find it by `SAX_ROOT=cell.root`. Its servers can be stopped and started one by one.

    Args:
        root: SAX_ROOT, a folder that keeps the cell between runs. None is a temporary one, removed at the end.
        cell: The cell's short name.
        model_servers: How many model servers there are.
        admin_port: Where the admin listens; 0 picks a free port.
        models: Model classes by model path, beside the built-in ones.
        timing: Intervals at which the servers look after each other. None is Timing(), or GOOGLE_TIMING with `google`.
        faults: Whether its servers can be made to misbehave, by `server.faults` (faults.py).
        google: Whether its servers behave as Google's, to the letter, instead of as well as the protocol lets them; see
            AdminServer and ModelServer.

    Raises:
        InvalidName: `cell` is not the short name of a cell.
        ValueError: `model_servers` is negative.
    """

    root: str
    """SAX_ROOT for clients of the cell; known from the start on."""

    admin: AdminServer
    """The admin server; known from the start on."""

    model_servers: list[ModelServer]
    """The model servers; known from the start on."""

    def __init__(  # noqa: PLR0913 (all have defaults, and are told apart by name)
        self,
        root: str | Path | None = None,
        cell: str = "test",
        model_servers: int = 1,
        *,
        admin_port: int = 0,
        models: Mapping[str, type[LanguageModel]] | None = None,
        timing: Timing | None = None,
        faults: bool = False,
        google: bool = False,
    ) -> None:
        parse_cell(f"/sax/{cell}")
        if model_servers < 0:
            raise ValueError(f"model_servers must be at least 0, got {model_servers}")
        self._given_root = None if root is None else str(Path(root).resolve())
        self._cell = cell
        self._number = model_servers
        self._admin_port = admin_port
        self._models = models
        self._timing = timing
        self._faults = faults
        self._google = google
        self._stack = AsyncExitStack()

    async def start(self) -> None:
        """Starts all servers and returns when the model servers have joined.

        Raises:
            DevCellError: A server cannot start, or a model server cannot join. Nothing is left running then.
        """
        async with AsyncExitStack() as stack:
            if self._given_root is None:
                self.root = stack.enter_context(tempfile.TemporaryDirectory(prefix="saxgw-"))
            else:
                self.root = self._given_root
            root = Path(self.root)
            self.admin = AdminServer(
                root,
                self._cell,
                port=self._admin_port,
                timing=self._timing,
                faults=self._faults,
                google=self._google,
            )
            self.model_servers = [
                ModelServer(
                    root, self._cell, models=self._models, timing=self._timing, faults=self._faults, google=self._google
                )
                for _ in range(self._number)
            ]
            await stack.enter_async_context(self.admin)
            for server in self.model_servers:
                await stack.enter_async_context(server)
            await self._all_joined()
            # Ended first, so that it does not miss its model servers on the way out.
            stack.push_async_callback(self.admin.stop)
            self._stack = stack.pop_all()

    async def stop(self) -> None:
        """Stops all servers and removes the temporary folder. Does nothing if the cell is stopped."""
        await self._stack.aclose()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.stop()

    async def _all_joined(self) -> None:
        try:
            async with asyncio.timeout(_START_S):
                for server in self.model_servers:
                    await server.wait_joined()
        except TimeoutError:
            failures = [server.join_failure for server in self.model_servers if server.join_failure]
            raise DevCellError(f"model servers cannot join the cell: {'; '.join(failures)}") from None
