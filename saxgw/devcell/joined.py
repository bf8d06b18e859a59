"""A model server that has joined, as far as the admin only looks at it."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

import grpc

from saxgw.devcell.background import Background
from saxgw.devcell.errors import Refusal, go_name
from saxgw.devcell.listener import new_channel
from saxgw.devcell.validation import parse_model_id
from saxgw.sax.wire.common_pb2 import LOADED, ModelStatus
from saxgw.sax.wire.modelet_pb2 import GetStatusRequest
from saxgw.sax.wire.modelet_pb2_grpc import ModeletStub

if TYPE_CHECKING:
    from collections.abc import Callable

    from saxgw.devcell.timing import Timing
    from saxgw.sax.wire.admin_pb2 import JoinRequest, Model, ModelServer

_log = logging.getLogger("saxgw.devcell")


class Joined:
    """What a model server says of itself, and what it reports when it is asked.

    Args:
        join: What the server said of itself.
        timing: Intervals.
        changed: Called after each report.
        awake: Not set while the admin stands still; None is never.
    """

    def __init__(
        self, join: JoinRequest, timing: Timing, changed: Callable[[], None], awake: asyncio.Event | None = None
    ) -> None:
        self.address = join.address
        self.data_address = join.data_address or join.address
        self.specs = join.model_server
        self._timing = timing
        self._changed = changed
        self._awake = awake
        self._channel = new_channel(join.address)
        self._stub = ModeletStub(self._channel)
        self._background = Background()
        self._statuses: dict[str, ModelStatus.ValueType] = {}
        self._method_names: dict[str, frozenset[str]] = {}
        self._polling = asyncio.Lock()
        self._seen_at = 0.0

    @property
    def silent_s(self) -> float:
        """For how long it has not reported, in seconds."""
        return time.monotonic() - self._seen_at

    async def connect(self) -> None:
        """Reaches the server and learns its status; refuses it, as Sax does, if that fails."""
        place = f"failed to start a connection with {self.address}: Start failed to"
        try:
            async with asyncio.timeout(self._timing.connect_back_s):
                await self._channel.channel_ready()
                await self._poll(self._timing.connect_back_s)
        except TimeoutError:
            text = f"{place} create a client for model server {self.address}: context deadline exceeded"
            raise Refusal(grpc.StatusCode.DEADLINE_EXCEEDED, text, google_text=text) from None
        except grpc.aio.AioRpcError as error:
            failure = f"{place} initialize state: getStatus RPC error"
            said = f"rpc error: code = {go_name(error.code())} desc = {error.details()}"
            raise Refusal(error.code(), f"{failure}: {error.details()}", google_text=f"{failure}: {said}") from None
        except Refusal as refusal:
            raise Refusal(refusal.code, f"{place} initialize state: {refusal.text}") from None

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

    def loaded(self, model_id: str) -> bool:
        """Tells whether the server reports the model as loaded."""
        return self._statuses.get(model_id) == LOADED

    def method_names(self, model_id: str) -> frozenset[str]:
        """Returns the data methods that the server reports for the model."""
        return self._method_names.get(model_id, frozenset())

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
        self._changed()
