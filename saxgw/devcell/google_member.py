"""A model server as Google's admin rules it, by a queue of actions of which it learns little (Sax protocol §4.5)."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import grpc

from saxgw.devcell.joined import Joined
from saxgw.sax.wire.common_pb2 import FAILED, LOADED, LOADING
from saxgw.sax.wire.modelet_pb2 import LoadRequest, UnloadRequest, UpdateLoadedRequest

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from saxgw.devcell.timing import Timing
    from saxgw.sax.wire.admin_pb2 import JoinRequest, Model

_log = logging.getLogger("saxgw.devcell")


class GoogleMember(Joined):
    """A model server that has joined. What the admin believes it to have is changed by the admin's own doing alone.

    Args:
        join: What the server said of itself.
        timing: Intervals.
        changed: Called after each report.
        awake: Not set while the admin stands still; None is never.
    """

    def __init__(
        self, join: JoinRequest, timing: Timing, changed: Callable[[], None], awake: asyncio.Event | None = None
    ) -> None:
        super().__init__(join, timing, changed, awake)
        self.assigned: set[str] = set()
        """IDs of the models that it is believed to have, or to be about to have."""
        self._actions: asyncio.Queue[Callable[[], Awaitable[None]]] = asyncio.Queue()

    def start(self) -> None:
        """Starts the tasks."""
        self._background.start(self._keep_polling(), f"polling of {self.address}")
        self._background.start(self._keep_acting(), f"loading on {self.address}")

    def reported(self) -> list[str]:
        """Returns the models that it has reported, in whatever state that means that it has them."""
        return [model_id for model_id, status in self._statuses.items() if status in {LOADING, LOADED, FAILED}]

    def load(self, model: Model, done: Callable[[], None]) -> None:
        """Has it load a model, after all that it was told before; `done` is called if it says that it did."""
        self.assigned.add(model.model_id)
        request = LoadRequest(
            model_key=model.model_id,
            model_path=model.model_path,
            checkpoint_path=model.checkpoint_path,
            acls=model.acls,
            overrides=model.overrides,
        )

        async def act() -> None:
            await self._stub.Load(request)
            done()

        self._actions.put_nowait(act)

    def update(self, model: Model) -> None:
        """Has it load a model's checkpoint again, be it another one or not."""
        request = UpdateLoadedRequest(model_key=model.model_id, acls=model.acls, checkpoint_path=model.checkpoint_path)

        async def act() -> None:
            await self._stub.UpdateLoaded(request)

        self._actions.put_nowait(act)

    def unload(self, model_id: str, done: Callable[[], None]) -> None:
        """Has it unload a model. If it does not say that it did, it is believed to have the model again."""
        self.assigned.discard(model_id)

        async def act() -> None:
            try:
                await self._stub.Unload(UnloadRequest(model_key=model_id))
            except grpc.aio.AioRpcError:
                self.assigned.add(model_id)
                raise
            done()

        self._actions.put_nowait(act)

    async def _keep_polling(self) -> None:
        while True:
            await asyncio.sleep(self._timing.poll_s)
            await self._stand_still()
            await self._try_poll(self._timing.connect_back_s)

    async def _keep_acting(self) -> None:
        while True:
            action = await self._actions.get()
            try:
                await self._stand_still()
                await action()
            except grpc.aio.AioRpcError as error:
                _log.warning("model server %s refuses to act: %s", self.address, error.details())
