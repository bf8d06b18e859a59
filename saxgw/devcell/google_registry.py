"""What Google's admin server does with what it knows: next to nothing until the next tick (Sax protocol §4)."""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING

import grpc

from saxgw.devcell.background import Background
from saxgw.devcell.catalogue import Catalogue, Published, with_uuid
from saxgw.devcell.errors import Refusal
from saxgw.devcell.google_assignment import assign
from saxgw.devcell.google_member import GoogleMember
from saxgw.devcell.registry import UUID_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

    from saxgw.devcell.layout import CellFiles
    from saxgw.devcell.timing import Timing
    from saxgw.devcell.validation import ModelName
    from saxgw.sax.wire.admin_pb2 import JoinRequest, Model


class GoogleRegistry(Catalogue[GoogleMember]):
    """A catalogue that is saved and acted on at each `tick` only: what is answered in between may be lost.

    A tick that cannot save is logged and the last one; Google's admin dies of it.
    """

    full_sets = False

    def __init__(self, files: CellFiles, cell: str, timing: Timing, awake: asyncio.Event | None = None) -> None:
        super().__init__(files, cell, timing, awake)
        self._unpublished: set[str] = set()
        self._ticking = Background()
        self._ticking.start(self._keep_ticking(), f"ticks of /sax/{cell}")

    async def close(self) -> None:
        """Ends the ticks and lets go of all model servers; what has come since the last tick is lost."""
        await self._ticking.cancel()
        await super().close()

    def publish(self, name: ModelName, model: Model) -> None:
        """Publishes a model; refuses one that is published, or was unpublished since the last tick."""
        if model.model_id in self._published:
            raise Refusal(grpc.StatusCode.ALREADY_EXISTS, f"model {name} already exists")
        if model.model_id in self._unpublished:
            text = f"model {name} is being unpublished, please retry later"
            raise Refusal(grpc.StatusCode.UNAVAILABLE, text)
        self._add(with_uuid(model, secrets.token_bytes(UUID_BYTES)))

    def update(self, name: ModelName, model: Model) -> None:
        """Replaces the definition of a published model; its servers load it again, whatever has changed."""
        published = self._get_to_update(name, model)
        published.model = with_uuid(model, published.model.uuid)
        for server in published.servers:
            server.update(published.model)

    def unpublish(self, name: ModelName, model_id: str) -> None:
        """Takes a model back: watchers and waiters learn it at once; its servers have it until the next tick."""
        published = self._get(name, model_id)
        del self._published[model_id]
        self._unpublished.add(model_id)
        published.watch.close()
        self._news.tell()

    def tick(self) -> None:
        """Prunes, assigns, has models unloaded and loaded, frees names, and saves the state; raises OSError."""
        for member in [*self._members.values()]:
            if member.silent_s >= self._timing.prune_after_s:
                self._prune(member)
        models = {model_id: published.model for model_id, published in self._published.items()}
        assignment = assign(models, list(self._members.values()))
        for member in self._members.values():
            for model_id in sorted(member.assigned):
                if model_id in self._unpublished:
                    member.unload(model_id, lambda: None)
                elif model_id in models and member not in assignment[model_id]:
                    published = self._published[model_id]
                    member.unload(model_id, self._counter(published, -1))
                    published.watch.delete(member.data_address)
        for model_id, servers in assignment.items():
            published = self._published[model_id]
            for member in servers:
                if model_id not in member.assigned:
                    member.load(published.model, self._counter(published, +1))
                    published.watch.add(member.data_address)
            published.servers = servers
        self._unpublished.clear()
        self._save(self._models())

    async def _keep_ticking(self) -> None:
        while True:
            await asyncio.sleep(self._timing.tick_s)
            if self._awake:
                await self._awake.wait()
            self.tick()

    def _ready(self, published: Published[GoogleMember]) -> int:
        """Returns what the admin has counted; what has become of the servers since is not in it."""
        return published.loads

    def _new_member(self, request: JoinRequest) -> GoogleMember:
        return GoogleMember(request, self._timing, lambda: None, self._awake)

    def _welcome(self, member: GoogleMember) -> None:
        """Adopts the models that it has, and has them loaded again."""
        for model_id in member.reported():
            if published := self._published.get(model_id):
                member.assigned.add(model_id)
                member.update(published.model)
                published.watch.add(member.data_address)
                if member.loaded(model_id):
                    published.loads += 1
        member.start()
        self._news.tell()

    def _forget(self, member: GoogleMember) -> None:
        """Lets go of it; its addresses stay with those who watch."""
        self._let_go(member)

    def _prune(self, member: GoogleMember) -> None:
        self._let_go(member)
        for model_id in member.assigned:
            if published := self._published.get(model_id):
                published.watch.delete(member.data_address)
                if member.loaded(model_id):
                    published.loads -= 1

    def _counter(self, published: Published[GoogleMember], step: int) -> Callable[[], None]:
        def count() -> None:
            published.loads += step
            self._news.tell()

        return count
