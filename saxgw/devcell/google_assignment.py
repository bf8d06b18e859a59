"""Which model server serves which model, as Google's admin decides by default (Sax protocol §4.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from saxgw.devcell.google_member import GoogleMember
    from saxgw.sax.wire.admin_pb2 import Model


def assign(models: Mapping[str, Model], members: Sequence[GoogleMember]) -> dict[str, list[GoogleMember]]:
    """Returns an assignment that gives each server at most one model, but takes none away that is wanted where it is.

    Servers that have a published model are busy until the next tick, even if they lose it in this one. Where Google's
    admin chooses at random, the order in which servers joined and models were published decides.
    """
    idle = [member for member in members if member.assigned.isdisjoint(models)]
    losing: set[str] = set()
    assignment: dict[str, list[GoogleMember]] = {}
    for model_id, model in models.items():
        kept = [member for member in members if model_id in member.assigned]
        kept.sort(key=lambda member: not member.loaded(model_id))
        for member in reversed(kept[:]):
            # Of several models on one server, one is taken away at a time.
            if len(kept) > model.requested_num_replicas and member.address not in losing:
                kept.remove(member)
                losing.add(member.address)
        able = [member for member in idle if member.able(model)]
        added = able[: max(0, model.requested_num_replicas - len(kept))]
        idle = [member for member in idle if member not in added]
        assignment[model_id] = kept + added
    return assignment
