"""What an admin server knows and tells: the published models, the model servers that have joined, who serves what."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

import grpc

from saxgw.devcell.background import Background
from saxgw.devcell.errors import INVALID_ARGUMENT, NOT_FOUND, DevCellError, Refusal
from saxgw.devcell.joined import Joined
from saxgw.devcell.news import News
from saxgw.devcell.validation import ModelName, check_model_id
from saxgw.devcell.watch import WatchLog
from saxgw.sax.wire.admin_pb2 import JoinRequest, Model, ModelServerTypeStat, PublishedModel, State, StatsResponse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from saxgw.devcell.layout import CellFiles
    from saxgw.devcell.timing import Timing

_log = logging.getLogger("saxgw.devcell")

Server = TypeVar("Server", bound=Joined)


@dataclass
class Published(Generic[Server]):
    """A published model."""

    model: Model
    watch: WatchLog
    servers: list[Server] = field(default_factory=list)
    """Those that serve it, as List tells."""
    pretended: list[str] = field(default_factory=list)
    """Addresses that are listed though nobody has joined from there."""
    loads: int = 0
    """Loads less unloads, where the admin counts them."""


class Catalogue(ABC, Generic[Server]):
    """The state of one cell. What is done about a change, and when, is up to the kind of admin.

    Args:
        files: Where the state is restored from and saved.
        cell: The cell's short name.
        timing: Intervals for looking after model servers.
        awake: Not set while the admin stands still; None is never.

    Raises:
        DevCellError: The saved state cannot be read.
    """

    full_sets = True
    """Whether whoever has watched another admin gets a full set in any case; else only as Sax's rules ask for it."""

    def __init__(self, files: CellFiles, cell: str, timing: Timing, awake: asyncio.Event | None = None) -> None:
        self._files = files
        self._timing = timing
        self._awake = awake
        self._members: dict[str, Server] = {}
        self._joining: dict[str, asyncio.Lock] = {}
        self._farewells = Background()
        self._news = News()
        # Kept as it was read, so that what a newer admin wrote into it is not lost.
        self._state = files.read_state()
        self._published: dict[str, Published[Server]] = {}
        for model in self._state.models:
            try:
                check_model_id(model.model_id, cell)
            except Refusal as refusal:
                raise DevCellError(f"the saved state of the cell has an invalid model: {refusal.text}") from None
            self._add(model)

    async def close(self) -> None:
        """Lets go of all model servers. They are not told."""
        await asyncio.gather(self._farewells.finish(), *(member.stop() for member in self._members.values()))

    @abstractmethod
    def publish(self, name: ModelName, model: Model) -> None:
        """Publishes a model; refuses one that is published, or of which a server still has the former one."""

    @abstractmethod
    def update(self, name: ModelName, model: Model) -> None:
        """Replaces the definition of a published model, all but its uuid; refuses another model path."""

    @abstractmethod
    def unpublish(self, name: ModelName, model_id: str) -> None:
        """Takes a model back: watchers and waiters learn it at once, the servers unload it then."""

    def list_all(self) -> list[PublishedModel]:
        """Returns all published models with their servers."""
        return [self._describe(published) for published in self._published.values()]

    def list_one(self, name: ModelName, model_id: str) -> PublishedModel:
        """Returns one published model with its servers."""
        return self._describe(self._get(name, model_id))

    def stats_all(self) -> StatsResponse:
        """Counts all model servers."""
        return _count(list(self._members.values()))

    def stats_one(self, name: ModelName, model_id: str) -> StatsResponse:
        """Counts the servers of one model."""
        return _count(self._get(name, model_id).servers)

    def watch(self, model_id: str) -> WatchLog:
        """Returns the log of a model's addresses."""
        if model_id not in self._published:
            raise Refusal(NOT_FOUND, f"model {model_id} not found")
        return self._published[model_id].watch

    async def wait_for_ready(self, name: ModelName, model_id: str, num_replicas: int) -> None:
        """Waits until so many servers are ready; refused if the model is unpublished meanwhile."""
        published = self._get(name, model_id)
        await self._news.until(
            lambda: self._published.get(model_id) is not published or self._ready(published) >= num_replicas
        )
        if self._published.get(model_id) is not published:
            raise Refusal(grpc.StatusCode.CANCELLED, "Canceled")

    def pretend(self, model_id: str, addresses: Sequence[str]) -> bool:
        """Lists a model at further addresses; tells whether it is published."""
        if published := self._published.get(model_id):
            published.pretended += addresses
            for address in addresses:
                published.watch.add(address)
        return published is not None

    def stop_pretending(self, model_id: str, addresses: Sequence[str]) -> None:
        """Undoes `pretend`, as far as the model is still published."""
        if published := self._published.get(model_id):
            for address in addresses:
                if address in published.pretended:
                    published.pretended.remove(address)
                    published.watch.delete(address)

    async def join(self, request: JoinRequest) -> None:
        """Takes a model server in, after reaching it; one that is in already, with the same specs, stays as it is."""
        # Servers join again and again; two attempts of one must not both add it.
        async with self._joining.setdefault(request.address, asyncio.Lock()):
            known = self._members.get(request.address)
            if known and known.same_specs(request.model_server):
                return
            if known:
                self._forget(known)
            member = self._new_member(request)
            try:
                await member.connect()
            except BaseException:
                await member.stop()
                raise
            self._members[request.address] = member
            _log.info("model server %s has joined", request.address)
            self._welcome(member)

    @abstractmethod
    def _ready(self, published: Published[Server]) -> int:
        """Returns how many servers are taken for ready."""

    @abstractmethod
    def _new_member(self, request: JoinRequest) -> Server:
        """Returns a model server that wants to join."""

    @abstractmethod
    def _welcome(self, member: Server) -> None:
        """Does what is to be done about a server that has just joined."""

    @abstractmethod
    def _forget(self, member: Server) -> None:
        """Lets go of a server that has joined anew, with other specs."""

    def _let_go(self, member: Server) -> None:
        del self._members[member.address]
        self._farewells.start(member.stop(), f"farewell to {member.address}")

    def _add(self, model: Model) -> Published[Server]:
        published = self._published[model.model_id] = Published[Server](model, WatchLog(full_sets=self.full_sets))
        return published

    def _get(self, name: ModelName, model_id: str) -> Published[Server]:
        if model_id not in self._published:
            raise Refusal(NOT_FOUND, f"model {name} not found")
        return self._published[model_id]

    def _get_to_update(self, name: ModelName, model: Model) -> Published[Server]:
        published = self._get(name, model.model_id)
        if model.model_path != published.model.model_path:
            raise Refusal(INVALID_ARGUMENT, "invalid model update: model path can't be changed")
        return published

    def _models(self) -> list[Model]:
        return [published.model for published in self._published.values()]

    def _save(self, models: list[Model]) -> None:
        """Saves these models as the published ones; raises OSError."""
        state = State()
        state.CopyFrom(self._state)
        del state.models[:]
        state.models.extend(models)
        self._files.write_state(state)
        self._state = state

    @staticmethod
    def _describe(published: Published[Server]) -> PublishedModel:
        model_id = published.model.model_id
        servers = sorted(published.servers, key=lambda server: not server.loaded(model_id))
        listed = PublishedModel(model=published.model, modelet_addresses=[server.address for server in servers])
        listed.modelet_addresses.extend(published.pretended)
        listed.model.ClearField("uuid")
        listed.model.method_names[:] = sorted(
            frozenset[str]().union(*(server.method_names(model_id) for server in servers))
        )
        return listed


AnyCatalogue: TypeAlias = Catalogue[Any]
"""That of any kind of admin."""


def with_uuid(model: Model, uuid: bytes) -> Model:
    """Returns a model as it is stored."""
    stored = Model()
    stored.CopyFrom(model)
    stored.uuid = uuid
    return stored


def _count(servers: Sequence[Joined]) -> StatsResponse:
    types = Counter((server.specs.chip_type, server.specs.chip_topology) for server in servers)
    return StatsResponse(
        model_server_type_stats=[
            ModelServerTypeStat(chip_type=chip_type, chip_topology=topology, num_replicas=count)
            for (chip_type, topology), count in types.items()
        ],
        num_servers_by_servable_model_path=Counter(
            path for server in servers for path in frozenset(server.specs.servable_model_paths)
        ),
    )
