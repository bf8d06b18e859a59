"""What an admin server knows: the published models, the model servers that have joined, and who serves what."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import grpc

from saxgw.devcell.assignment import assign
from saxgw.devcell.background import Background
from saxgw.devcell.errors import INVALID_ARGUMENT, NOT_FOUND, DevCellError, Refusal
from saxgw.devcell.member import Member
from saxgw.devcell.news import News
from saxgw.devcell.validation import ModelName, check_model_id
from saxgw.devcell.watch import WatchLog
from saxgw.sax.wire.admin_pb2 import JoinRequest, Model, ModelServerTypeStat, PublishedModel, State, StatsResponse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from saxgw.devcell.layout import CellFiles
    from saxgw.devcell.timing import Timing

_log = logging.getLogger("saxgw.devcell")

_UUID_BYTES = 16


@dataclass
class _Published:
    model: Model
    watch: WatchLog = field(default_factory=WatchLog)
    servers: list[Member] = field(default_factory=list)
    pretended: list[str] = field(default_factory=list)
    """Addresses that are listed though nobody has joined from there."""


class Registry:
    """The state of one cell. Every change is on disk before it is answered and acted on before the call returns.

    Args:
        files: Where the state is restored from and saved.
        cell: The cell's short name.
        timing: Intervals for looking after model servers.
        awake: Not set while the admin stands still; None is never.

    Raises:
        DevCellError: The saved state cannot be read.
    """

    def __init__(self, files: CellFiles, cell: str, timing: Timing, awake: asyncio.Event | None = None) -> None:
        self._files = files
        self._timing = timing
        self._awake = awake
        self._members: dict[str, Member] = {}
        self._joining: dict[str, asyncio.Lock] = {}
        self._farewells = Background()
        self._news = News()
        # Kept as it was read, so that what a newer admin wrote into it is not lost.
        self._state = files.read_state()
        self._published: dict[str, _Published] = {}
        for model in self._state.models:
            try:
                check_model_id(model.model_id, cell)
            except Refusal as refusal:
                raise DevCellError(f"the saved state of the cell has an invalid model: {refusal.text}") from None
            self._published[model.model_id] = _Published(model)

    async def close(self) -> None:
        """Lets go of all model servers. They are not told."""
        await asyncio.gather(self._farewells.finish(), *(member.stop() for member in self._members.values()))

    def publish(self, name: ModelName, model: Model) -> None:
        """Publishes a model; refuses one that is published, or of which a server still has the former one."""
        if model.model_id in self._published:
            raise Refusal(grpc.StatusCode.ALREADY_EXISTS, f"model {name} already exists")
        if any(member.holds(model.model_id) for member in self._members.values() if member.able(model)):
            text = f"model {name} is being unpublished, please retry later"
            raise Refusal(grpc.StatusCode.UNAVAILABLE, text)
        self._save([*self._models(), _with_uuid(model, secrets.token_bytes(_UUID_BYTES))])
        self._published[model.model_id] = _Published(self._state.models[-1])
        self._reassign()

    def update(self, name: ModelName, model: Model) -> None:
        """Replaces the definition of a published model, all but its uuid; refuses another model path."""
        published = self._get(name, model.model_id)
        if model.model_path != published.model.model_path:
            raise Refusal(INVALID_ARGUMENT, "invalid model update: model path can't be changed")
        updated = _with_uuid(model, published.model.uuid)
        self._save([updated if old is published.model else old for old in self._models()])
        published.model = updated
        self._reassign()

    def unpublish(self, name: ModelName, model_id: str) -> None:
        """Takes a model back: watchers and waiters learn it at once, the servers unload it then."""
        published = self._get(name, model_id)
        self._save([model for model in self._models() if model is not published.model])
        del self._published[model_id]
        published.watch.close()
        self._reassign()

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
        """Waits until so many servers have loaded the model as it is published now; refused if it is unpublished."""
        published = self._get(name, model_id)
        await self._news.until(
            lambda: (
                self._published.get(model_id) is not published
                or sum(server.ready(model_id) for server in published.servers) >= num_replicas
            )
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
                self._remove(known)
            member = Member(request, self._timing, self._news.tell, self._remove, self._awake)
            try:
                await member.connect()
            except BaseException:
                await member.stop()
                raise
            self._members[request.address] = member
            member.start()
            _log.info("model server %s has joined", request.address)
            self._reassign()

    def _remove(self, member: Member) -> None:
        if self._members.get(member.address) is not member:
            return
        del self._members[member.address]
        self._farewells.start(member.stop(), f"farewell to {member.address}")
        self._reassign()

    def _get(self, name: ModelName, model_id: str) -> _Published:
        if model_id not in self._published:
            raise Refusal(NOT_FOUND, f"model {name} not found")
        return self._published[model_id]

    def _models(self) -> list[Model]:
        return [published.model for published in self._published.values()]

    def _save(self, models: list[Model]) -> None:
        state = State()
        state.CopyFrom(self._state)
        del state.models[:]
        state.models.extend(models)
        try:
            self._files.write_state(state)
        except OSError as error:
            _log.exception("the state of the cell cannot be saved")
            text = f"the state of the cell cannot be saved: {error.strerror}"
            raise Refusal(grpc.StatusCode.INTERNAL, text) from None
        self._state = state

    def _reassign(self) -> None:
        """Decides anew who serves what, tells watchers, and lets the servers be told."""
        models = {model_id: published.model for model_id, published in self._published.items()}
        current = {model_id: published.servers for model_id, published in self._published.items()}
        assignment = assign(models, self._members.values(), current)
        for model_id, servers in assignment.items():
            published = self._published[model_id]
            for gone in published.servers:
                if gone not in servers:
                    published.watch.delete(gone.data_address)
            for new in servers:
                if new not in published.servers:
                    published.watch.add(new.data_address)
            published.servers = servers
        for member in self._members.values():
            member.assign({model_id: models[model_id] for model_id in models if member in assignment[model_id]})
        self._news.tell()

    @staticmethod
    def _describe(published: _Published) -> PublishedModel:
        model_id = published.model.model_id
        servers = sorted(published.servers, key=lambda server: not server.loaded(model_id))
        listed = PublishedModel(model=published.model, modelet_addresses=[server.address for server in servers])
        listed.modelet_addresses.extend(published.pretended)
        listed.model.ClearField("uuid")
        listed.model.method_names[:] = sorted(
            frozenset[str]().union(*(server.method_names(model_id) for server in servers))
        )
        return listed


def _with_uuid(model: Model, uuid: bytes) -> Model:
    stored = Model()
    stored.CopyFrom(model)
    stored.uuid = uuid
    return stored


def _count(servers: list[Member]) -> StatsResponse:
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
