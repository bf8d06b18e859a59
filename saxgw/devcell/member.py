"""A model server that has joined: what it should serve, and the actions that bring it there."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, TypeAlias

import grpc

from saxgw.devcell.joined import Joined
from saxgw.devcell.news import News
from saxgw.sax.wire.common_pb2 import FAILED, LOADED, LOADING
from saxgw.sax.wire.modelet_pb2 import (
    LoadRequest,
    UnloadRequest,
    UpdateLoadedRequest,
)

if TYPE_CHECKING:
    from saxgw.devcell.timing import Timing
    from saxgw.sax.wire.admin_pb2 import JoinRequest, Model

_log = logging.getLogger("saxgw.devcell")

_Action: TypeAlias = Callable[[str], Awaitable[None]]


class Member(Joined):
    """A model server that has joined.

    A task polls its status; another sends Load, UpdateLoaded and Unload, one at a time, until what it reports is what
    `assign` asked for. Both are level-triggered: whatever made the difference, a lost message or a restart, the next
    look at the status finds it.

    Args:
        join: What the server said of itself.
        timing: Intervals.
        changed: Called after each change of what the server is known to have.
        lost: Called once, when it has been silent for too long.
        awake: Not set while the admin stands still; None is never.
    """

    def __init__(
        self,
        join: JoinRequest,
        timing: Timing,
        changed: Callable[[], None],
        lost: Callable[[Member], None],
        awake: asyncio.Event | None = None,
    ) -> None:
        super().__init__(join, timing, self._tell, awake)
        self._known = changed
        self._lost = lost
        self._wanted: Mapping[str, Model] = {}
        self._given: dict[str, Model] = {}
        self._loading = ""
        self._news = News()

    def start(self) -> None:
        """Starts the tasks."""
        self._background.start(self._keep_polling(), f"polling of {self.address}")
        self._background.start(self._keep_acting(), f"loading on {self.address}")

    def assign(self, models: Mapping[str, Model]) -> None:
        """Says what the server should have, by model ID; what it has beside is unloaded."""
        self._wanted = models
        self._news.tell()

    def holds(self, model_id: str) -> bool:
        """Tells whether the server has the model, in whatever status, or is being told to load it."""
        return model_id in self._statuses or model_id == self._loading

    def ready(self, model_id: str) -> bool:
        """Tells whether the server has loaded the model as it is wanted now."""
        return self.loaded(model_id) and self._up_to_date(model_id)

    def _tell(self) -> None:
        self._news.tell()
        self._known()

    async def _keep_polling(self) -> None:
        while True:
            await asyncio.sleep(self._timing.poll_s)
            await self._stand_still()
            # Asked once more before it is given up: perhaps it is this process that stood still.
            await self._try_poll(self._timing.prune_after_s)
            if self.silent_s > self._timing.prune_after_s:
                _log.warning("model server %s is silent and leaves the cell", self.address)
                self._lost(self)
                return

    async def _keep_acting(self) -> None:
        while True:
            await self._news.until(lambda: self._next_action() is not None)
            await self._stand_still()
            if action := self._next_action():
                acted = await self._act(*action)
                polled = await self._try_poll(self._timing.prune_after_s)
                if not (acted and polled):
                    await asyncio.sleep(self._timing.poll_s)

    def _next_action(self) -> tuple[_Action, str] | None:
        """Returns what to do next, and for which model.

        A model that failed is left alone until its definition changes. Only one that failed under another admin is
        tried once more, since nobody here knows with which definition it did.
        """
        for model_id, status in self._statuses.items():
            if model_id not in self._wanted:
                # Servers that offer no model paths have models of their own; they are left alone (Sax protocol §5.1).
                if status in {LOADED, FAILED} and self.specs.servable_model_paths:
                    return self._unload, model_id
            elif status == LOADED and not self._up_to_date(model_id):
                return self._update_loaded, model_id
            elif status == FAILED and not self._up_to_date(model_id):
                return self._unload, model_id
        for model_id in self._wanted:
            if model_id not in self._statuses:
                return self._load, model_id
        return None

    def _up_to_date(self, model_id: str) -> bool:
        """Tells whether the server was told the checkpoint and access lists that are wanted now.

        Only these two can change while a model is published. Of a model that it had when it joined, nobody knows.
        """
        given, wanted = self._given.get(model_id), self._wanted.get(model_id)
        if given is None or wanted is None:
            return False
        return given.checkpoint_path == wanted.checkpoint_path and given.acls == wanted.acls

    async def _act(self, action: _Action, model_id: str) -> bool:
        try:
            await action(model_id)
        except grpc.aio.AioRpcError as error:
            _log.warning("model server %s refuses to act on %s: %s", self.address, model_id, error.details())
            return False
        return True

    async def _load(self, model_id: str) -> None:
        model = self._given[model_id] = self._wanted[model_id]
        self._loading = model_id
        try:
            await self._stub.Load(
                LoadRequest(
                    model_key=model_id,
                    model_path=model.model_path,
                    checkpoint_path=model.checkpoint_path,
                    acls=model.acls,
                    overrides=model.overrides,
                )
            )
        finally:
            self._loading = ""

    async def _update_loaded(self, model_id: str) -> None:
        model = self._wanted[model_id]
        await self._stub.UpdateLoaded(
            UpdateLoadedRequest(model_key=model_id, acls=model.acls, checkpoint_path=model.checkpoint_path)
        )
        self._given[model_id] = model
        # The answer is OK even if the new checkpoint could not be loaded; the next poll tells.
        self._statuses[model_id] = LOADING

    async def _unload(self, model_id: str) -> None:
        self._given.pop(model_id, None)
        await self._stub.Unload(UnloadRequest(model_key=model_id))
