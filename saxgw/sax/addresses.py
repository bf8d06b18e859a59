"""The addresses of one model's replicas, as the admin's WatchLoc tells them (Sax protocol §4.6)."""

from __future__ import annotations

from saxgw.sax.wire import admin_pb2


class WatchedAddresses:
    """A set of addresses that follows the answers of WatchLoc."""

    def __init__(self, model: str) -> None:
        self.addresses: frozenset[str] = frozenset()
        """Where model servers are that the model is assigned to; not all need have loaded it."""

        self._model = model
        self._admin_server_id = ""
        self._seqno = 0
        self._void = False

    def request(self) -> admin_pb2.WatchLocRequest:
        """Returns the request that asks for what comes after the last answer."""
        return admin_pb2.WatchLocRequest(model_id=self._model, admin_server_id=self._admin_server_id, seqno=self._seqno)

    def apply(self, response: admin_pb2.WatchLocResponse) -> bool:
        """Takes in an answer; returns whether the set has changed."""
        result = response.result
        if response.admin_server_id != self._admin_server_id or result.next_seqno < self._seqno:
            # Another admin, or the model was published anew: what is known is void, but better than nothing until this
            # admin names an address (§9.1.14).
            self._void = True
        self._admin_server_id, self._seqno = response.admin_server_id, result.next_seqno
        if not (result.has_fullset or result.changelog):
            return False

        addresses = set() if self._void else set(self.addresses)
        if result.has_fullset:
            addresses = set(result.values)
        for mutation in result.changelog:
            match mutation.WhichOneof("kind"):
                case "addition":
                    addresses.add(mutation.addition)
                case "deletion":
                    addresses.discard(mutation.deletion)
        self._void = False
        changed = addresses != self.addresses
        self.addresses = frozenset(addresses)
        return changed
