"""What the admin server of a dev cell can be made to do wrong, beside what any server can (faults.py)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from saxgw.devcell.fault import Fault
from saxgw.devcell.faults import Faults
from saxgw.sax.wire import admin_pb2

if TYPE_CHECKING:
    from saxgw.devcell.catalogue import AnyCatalogue
    from saxgw.devcell.faults import Server
    from saxgw.devcell.layout import CellFiles, Spoilt

_METHODS: Final = frozenset(admin_pb2.DESCRIPTOR.services_by_name["Admin"].methods_by_name)


class AdminFaults(Faults):
    """What an admin server can do wrong.

    Args:
        server: The server.
        files: Its cell's files.
    """

    def __init__(self, server: Server, files: CellFiles) -> None:
        super().__init__(server, _METHODS - {"Join"}, {"Join"})
        self._files = files
        self._registry: AnyCatalogue | None = None

    def of(self, registry: AnyCatalogue) -> None:
        """Says what the admin knows; another one after each start."""
        self._registry = registry

    def list_also(self, model_id: str, *addresses: str) -> Fault:
        """Says that a model is served at these addresses too, in List and to those who watch it.

        It ends with the admin's life at the latest.

        Raises:
            ValueError: The model is not published.
        """
        registry = self._registry
        if registry is None or not registry.pretend(model_id, addresses):
            raise ValueError(f"{model_id} is not published")
        fault = self._begin(Fault())
        fault.when_over(lambda: registry.stop_pretending(model_id, addresses))
        return fault

    def spoil_location(self, how: Spoilt) -> Fault:
        """Writes location.proto as no admin should leave it; a start of the admin and the end of the fault repair it.

        Args:
            how: "truncated" is the first half of it, "empty" is nothing of it, "placeholder" what Sax's own tool writes
                before an admin has run, "garbage" no message at all; "missing" removes it.
        """
        self._files.spoil_location(self._server.address, how)
        fault = self._begin(Fault())
        fault.when_over(lambda: self._files.write_location(self._server.address))
        return fault
