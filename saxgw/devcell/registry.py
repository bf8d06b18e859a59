"""What a dev cell's admin server does with what it knows: everything at once."""

from __future__ import annotations

import logging
import secrets
from typing import TYPE_CHECKING, Final

import grpc

from saxgw.devcell.assignment import assign
from saxgw.devcell.catalogue import Catalogue, Published, with_uuid
from saxgw.devcell.errors import Refusal
from saxgw.devcell.member import Member

if TYPE_CHECKING:
    from saxgw.devcell.validation import ModelName
    from saxgw.sax.wire.admin_pb2 import JoinRequest, Model

_log = logging.getLogger("saxgw.devcell")

UUID_BYTES: Final = 16
"""The length of a model's uuid."""


class Registry(Catalogue[Member]):
    """A catalogue of which every change is on disk before it is answered, and acted on before the call returns."""

    def publish(self, name: ModelName, model: Model) -> None:
        """Publishes a model; refuses one that is published, or of which a server still has the former one."""
        if model.model_id in self._published:
            raise Refusal(grpc.StatusCode.ALREADY_EXISTS, f"model {name} already exists")
        if any(member.holds(model.model_id) for member in self._members.values() if member.able(model)):
            text = f"model {name} is being unpublished, please retry later"
            raise Refusal(grpc.StatusCode.UNAVAILABLE, text)
        self._save_or_refuse([*self._models(), with_uuid(model, secrets.token_bytes(UUID_BYTES))])
        self._add(self._state.models[-1])
        self._reassign()

    def update(self, name: ModelName, model: Model) -> None:
        """Replaces the definition of a published model, all but its uuid; refuses another model path."""
        published = self._get_to_update(name, model)
        updated = with_uuid(model, published.model.uuid)
        self._save_or_refuse([updated if old is published.model else old for old in self._models()])
        published.model = updated
        self._reassign()

    def unpublish(self, name: ModelName, model_id: str) -> None:
        """Takes a model back: watchers and waiters learn it at once, the servers unload it then."""
        published = self._get(name, model_id)
        self._save_or_refuse([model for model in self._models() if model is not published.model])
        del self._published[model_id]
        published.watch.close()
        self._reassign()

    def _ready(self, published: Published[Member]) -> int:
        """Counts the servers that have loaded the model as it is published now."""
        return sum(server.ready(published.model.model_id) for server in published.servers)

    def _new_member(self, request: JoinRequest) -> Member:
        return Member(request, self._timing, self._news.tell, self._lose, self._awake)

    def _welcome(self, member: Member) -> None:
        member.start()
        self._reassign()

    def _forget(self, member: Member) -> None:
        self._lose(member)

    def _lose(self, member: Member) -> None:
        if self._members.get(member.address) is member:
            self._let_go(member)
            self._reassign()

    def _save_or_refuse(self, models: list[Model]) -> None:
        try:
            self._save(models)
        except OSError as error:
            _log.exception("the state of the cell cannot be saved")
            text = f"the state of the cell cannot be saved: {error.strerror}"
            raise Refusal(grpc.StatusCode.INTERNAL, text) from None

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
