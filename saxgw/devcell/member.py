"""A model server as the admin sees it: what it reports, what it should serve, and the actions that close the gap."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, TypeAlias

import grpc

from saxgw.devcell.background import Background
from saxgw.devcell.errors import Refusal
from saxgw.devcell.listener import new_channel
from saxgw.devcell.news import News
from saxgw.devcell.validation import parse_model_id
from saxgw.sax.wire.common_pb2 import FAILED, LOADED, LOADING, ModelStatus
from saxgw.sax.wire.modelet_pb2 import (
    GetStatusRequest,
    LoadRequest,
    UnloadRequest,
    UpdateLoadedRequest,
)
from saxgw.sax.wire.modelet_pb2_grpc import ModeletStub

if TYPE_CHECKING:
    from saxgw.devcell.timing import Timing
    from saxgw.sax.wire.admin_pb2 import JoinRequest, Model, ModelServer

_log = logging.getLogger("saxgw.devcell")

_Action: TypeAlias = Callable[[str], Awaitable[None]]


class Member:
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
        self.address = join.address
        self.data_address = join.data_address or join.address
        self.specs = join.model_server
        self._timing = timing
        self._changed = changed
        self._lost = lost
        self._awake = awake
        self._channel = new_channel(join.address)
        self._stub = ModeletStub(self._channel)
        self._background = Background()
        self._statuses: dict[str, ModelStatus.ValueType] = {}
        self._method_names: dict[str, frozenset[str]] = {}
        self._wanted: Mapping[str, Model] = {}
        self._given: dict[str, Model] = {}
        self._loading = ""
        self._news = News()
        self._polling = asyncio.Lock()
        self._seen_at = 0.0

    async def connect(self) -> None:
        """Reaches the server and learns its status; refuses it, as Sax does, if that fails."""
        place = f"failed to start a connection with {self.address}: Start failed to"
        try:
            async with asyncio.timeout(self._timing.connect_back_s):
                await self._channel.channel_ready()
                await self._poll(self._timing.connect_back_s)
        except TimeoutError:
            text = f"{place} create a client for model server {self.address}: context deadline exceeded"
            raise Refusal(grpc.StatusCode.DEADLINE_EXCEEDED, text) from None
        except grpc.aio.AioRpcError as error:
            text = f"{place} initialize state: getStatus RPC error: {error.details()}"
            raise Refusal(error.code(), text) from None
        except Refusal as refusal:
            raise Refusal(refusal.code, f"{place} initialize state: {refusal.text}") from None

    def start(self) -> None:
        """Starts the tasks."""
        self._background.start(self._keep_polling(), f"polling of {self.address}")
        self._background.start(self._keep_acting(), f"loading on {self.address}")

    async def stop(self) -> None:
        """Ends the tasks and closes the channel. The server is not told."""
        await self._background.cancel()
        await self._channel.close()

    def same_specs(self, other: ModelServer) -> bool:
        """Tells whether a server that joins again is the same; paths in order, tags aside, as Sax compares."""
        mine = self.specs
        return (
            mine.chip_type == other.chip_type
            and mine.chip_topology == other.chip_topology
            and list(mine.servable_model_paths) == list(other.servable_model_paths)
        )

    def able(self, model: Model) -> bool:
        """Tells whether the server has the model's class."""
        return model.model_path in self.specs.servable_model_paths

    def assign(self, models: Mapping[str, Model]) -> None:
        """Says what the server should have, by model ID; what it has beside is unloaded."""
        self._wanted = models
        self._news.tell()

    def holds(self, model_id: str) -> bool:
        """Tells whether the server has the model, in whatever status, or is being told to load it."""
        return model_id in self._statuses or model_id == self._loading

    def loaded(self, model_id: str) -> bool:
        """Tells whether the server reports the model as loaded."""
        return self._statuses.get(model_id) == LOADED

    def ready(self, model_id: str) -> bool:
        """Tells whether the server has loaded the model as it is wanted now."""
        return self.loaded(model_id) and self._up_to_date(model_id)

    def method_names(self, model_id: str) -> frozenset[str]:
        """Returns the data methods that the server reports for the model."""
        return self._method_names.get(model_id, frozenset())

    async def _keep_polling(self) -> None:
        while True:
            await asyncio.sleep(self._timing.poll_s)
            await self._stand_still()
            # Asked once more before it is given up: perhaps it is this process that stood still.
            await self._try_poll(self._timing.prune_after_s)
            if time.monotonic() - self._seen_at > self._timing.prune_after_s:
                _log.warning("model server %s is silent and leaves the cell", self.address)
                self._lost(self)
                return

    async def _stand_still(self) -> None:
        if self._awake:
            await self._awake.wait()

    async def _try_poll(self, timeout_s: float) -> bool:
        try:
            await self._poll(timeout_s)
        except grpc.aio.AioRpcError as error:
            _log.info("model server %s does not tell its status: %s", self.address, error.code().name)
            return False
        except Refusal as refusal:
            _log.warning("model server %s tells a status that makes no sense: %s", self.address, refusal.text)
            return False
        return True

    async def _poll(self, timeout_s: float) -> None:
        # One at a time, so that what is known after a poll is no older than its beginning.
        async with self._polling:
            status = await self._stub.GetStatus(GetStatusRequest(include_method_stats=True), timeout=timeout_s)
        for model in status.models:
            parse_model_id(model.model_key)
            if model.model_status not in ModelStatus.values():
                raise Refusal(grpc.StatusCode.INTERNAL, f"unknown model status {model.model_status}")
        self._seen_at = time.monotonic()
        self._statuses = {model.model_key: model.model_status for model in status.models}
        self._method_names = {
            model.model_key: frozenset(stats.method for stats in model.method_stats) for model in status.models
        }
        self._news.tell()
        self._changed()

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
