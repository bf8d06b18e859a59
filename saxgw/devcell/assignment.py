"""Which model server serves which model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, TypeAlias

from saxgw.devcell.member import Member

if TYPE_CHECKING:
    from saxgw.sax.wire.admin_pb2 import Model

Assignment: TypeAlias = Mapping[str, list[Member]]
"""The model servers of each model, by model ID."""


def assign(models: Mapping[str, Model], members: Iterable[Member], current: Assignment) -> dict[str, list[Member]]:
    """Returns an assignment that gives each model as many servers as it asks for, or as there are.

    Servers keep their models where they can, those that have loaded them first. New ones are chosen among the servers
    that know the model's class: one that holds the model already before all others, then the one with the fewest
    models. Unlike Sax's, which gives a server one model, it lets them share.
    """
    joined = list(members)
    assignment: dict[str, list[Member]] = {}
    for model_id, model in models.items():
        kept = [member for member in current.get(model_id, []) if member in joined]
        kept.sort(key=lambda member: not member.loaded(model_id))
        assignment[model_id] = kept[: model.requested_num_replicas]
    burden = Counter(member for kept in assignment.values() for member in kept)
    for model_id, model in models.items():
        chosen = assignment[model_id]
        able = [member for member in joined if member.able(model) and member not in chosen]
        able.sort(key=lambda member: (not member.holds(model_id), burden[member]))
        added = able[: model.requested_num_replicas - len(chosen)]
        chosen += added
        burden.update(added)
    return assignment
