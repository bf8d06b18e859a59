"""The model server of a dev cell."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final, Self

import grpc

from saxgw.compute import Compute
from saxgw.devcell.background import Background
from saxgw.devcell.faults import permitted
from saxgw.devcell.layout import CellFiles
from saxgw.devcell.listener import Listener, new_channel
from saxgw.devcell.lm_service import LMService
from saxgw.devcell.loaded import LoadedModels
from saxgw.devcell.modelet_faults import ModelServerFaults
from saxgw.devcell.modelet_service import ModeletService
from saxgw.devcell.models import BUILT_IN
from saxgw.devcell.pace import Pace
from saxgw.devcell.timing import GOOGLE_TIMING, Timing
from saxgw.sax.wire.admin_pb2 import JoinRequest
from saxgw.sax.wire.admin_pb2 import ModelServer as Specs
from saxgw.sax.wire.admin_pb2_grpc import AdminStub
from saxgw.sax.wire.lm_pb2_grpc import add_LMServiceServicer_to_server
from saxgw.sax.wire.modelet_pb2_grpc import add_ModeletServicer_to_server

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from saxgw.devcell.language_model import LanguageModel

_log = logging.getLogger("saxgw.devcell")

_COMPUTE_THREADS: Final = 4
"""Requests that compute at a time. Models in pure Python take turns anyway; more threads serve those that wait."""


class ModelServer:
    """A model server on loopback that joins the admin of its cell whenever there is one.

    It can be stopped and started any number of times, and comes back without any model, as the real one does.

    Args:
        root: SAX_ROOT, a local folder, where location.proto tells the admin's address.
        cell: The cell's short name.
        port: Where to listen; 0 picks a free port at the first start and keeps it.
        models: Model classes by model path, beside the built-in ones.
        timing: Intervals. None is Timing(), or GOOGLE_TIMING for one that behaves as Google's.
        faults: Whether it can be made to misbehave.
        google: Whether it behaves as Google's does where that differs: each update loads a model again, a model that is
            not there cannot be unloaded, and it joins again only an admin at another address (Sax protocol §5).
    """

    def __init__(  # noqa: PLR0913 (all have defaults, and are told apart by name)
        self,
        root: Path,
        cell: str = "test",
        *,
        port: int = 0,
        models: Mapping[str, type[LanguageModel]] | None = None,
        timing: Timing | None = None,
        faults: bool = False,
        google: bool = False,
    ) -> None:
        self._files = CellFiles(root, cell)
        self._faults = ModelServerFaults(self) if faults else None
        self._listener = Listener(port, ["sax.Modelet", "sax.server.lm.LMService"], self._faults)
        self._models = {**BUILT_IN, **(models or {})}
        self._google = google
        self._timing = timing or (GOOGLE_TIMING if google else Timing())
        self._stack = AsyncExitStack()
        self._threads = AsyncExitStack()
        self._remains = Background()
        self._joined = asyncio.Event()
        self._join_failure = "no admin server has been started"

    @property
    def address(self) -> str:
        """Where it listens, or did before it was stopped: `127.0.0.1:port`. The port is 0 until the first start."""
        return self._listener.address

    @property
    def faults(self) -> ModelServerFaults:
        """What it can be made to do wrong; raises DevCellError unless it was made with `faults=True`."""
        return permitted(self._faults)

    @property
    def join_failure(self) -> str:
        """Why the last attempt to join failed; "" if it did not."""
        return self._join_failure

    async def start(self, port: int | None = None) -> None:
        """Listens, and begins to join.

        Args:
            port: Where to listen; 0 picks a free port. None is the port of the last start.

        Raises:
            DevCellError: The port is in use.
        """
        async with AsyncExitStack() as threads, AsyncExitStack() as stack:
            loaded = LoadedModels(self._models, self._faults.pace if self._faults else Pace(), google=self._google)
            threads.push_async_callback(loaded.close)
            compute = Compute(_COMPUTE_THREADS, "saxgw-devcell-compute")
            threads.push_async_callback(compute.close)
            server = self._listener.new_server(port, stack)
            add_ModeletServicer_to_server(ModeletService(loaded), server)
            add_LMServiceServicer_to_server(LMService(loaded, compute), server)
            await self._listener.start(server)
            self._joined.clear()
            background = Background()
            stack.push_async_callback(background.cancel)
            background.start(self._keep_joining(), f"joining of {self.address}")
            self._stack = stack.pop_all()
            self._threads = threads.pop_all()
        _log.info("model server listens on %s", self.address)

    async def stop(self) -> None:
        """Stops at once: calls in flight fail, and the admin is not told. Does nothing if it is stopped.

        Work that a model does at this moment is waited for; of a request that is a step.
        """
        await self._stack.aclose()
        await self._listener.close()
        await self._threads.aclose()
        await self._remains.finish()

    async def drop(self) -> None:
        """Ends what runs behind the port, all but threads in which a model computes; `stop` waits for those."""
        await self._stack.aclose()
        self._remains.start(self._threads.pop_all().aclose(), f"end of {self.address}")

    async def wait_joined(self) -> None:
        """Waits until an admin has taken the server in, for the first time since it was started."""
        await self._joined.wait()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.stop()

    async def _keep_joining(self) -> None:
        """Joins when location.proto is written, and every few seconds."""
        seen = ""
        join_again_at = 0.0
        while True:
            if self._faults:
                await self._faults.awake.wait()
            version = self._files.read_location() if self._google else self._files.location_version()
            if version != seen or time.monotonic() >= join_again_at:
                if address := self._files.read_location():
                    await self._join(address)
                seen = version
                join_again_at = time.monotonic() + self._timing.join_s
            await asyncio.sleep(self._timing.location_s)

    async def _join(self, admin: str) -> None:
        request = JoinRequest(
            address=self.address,
            model_server=Specs(
                chip_type=Specs.CHIP_TYPE_CPU,
                chip_topology=Specs.CHIP_TOPOLOGY_1,
                servable_model_paths=list(self._models),
            ),
        )
        async with new_channel(admin) as channel:
            try:
                await AdminStub(channel).Join(request, timeout=self._timing.connect_back_s)
            except grpc.aio.AioRpcError as error:
                self._join_failure = f"the admin server at {admin} says {error.code().name}: {error.details()}"
                _log.info("model server %s cannot join: %s", self.address, self._join_failure)
            else:
                self._join_failure = ""
                self._joined.set()
