"""What a model server of a dev cell can be made to do wrong, beside what any server can (faults.py)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from saxgw.devcell.call_faults import Claiming, Disowning
from saxgw.devcell.fault import Fault
from saxgw.devcell.faults import Faults
from saxgw.devcell.pace import Pace
from saxgw.sax.wire import lm_pb2, modelet_pb2

if TYPE_CHECKING:
    from saxgw.devcell.faults import Server

_MODELET_METHODS: Final = frozenset(modelet_pb2.DESCRIPTOR.services_by_name["Modelet"].methods_by_name)

_KEYS: Final = {
    method: re.sub("_", ".", re.sub("([A-Z])", r"_\1", f"lm{method}").lower(), count=1)
    for method in lm_pb2.DESCRIPTOR.services_by_name["LMService"].methods_by_name
}
"""What model servers call their data methods: GenerateStream is lm.generate_stream."""


class ModelServerFaults(Faults):
    """What a model server can do wrong."""

    def __init__(self, server: Server) -> None:
        super().__init__(server, _KEYS, _MODELET_METHODS)
        self.pace: Final = Pace()
        """How fast it works."""
        self._work = Fault()

    def work(self, *, seconds: float = 0.0, at_a_time: int | None = None, leaks: bool = False) -> Fault:
        """Changes how data calls are done that begin from now on, in place of what an earlier `work` said.

        Unlike with `slow`, a call keeps its admission slot all the time. A server that takes `seconds` for each of
        `at_a_time` calls has a capacity, and its queue is as long as there are further slots.

        Args:
            seconds: How much longer each call takes.
            at_a_time: How many calls of a method are done at a time; None is all that have a slot.
            leaks: Whether the slot is lost of a call whose deadline passes in the queue, until the model is loaded
                again (Sax protocol §5.7). Each is a strike of the fault. Nothing queues unless `at_a_time` is set.
        """
        self._work.end()
        self._work = fault = self._begin(Fault(frozenset(_KEYS.values())))
        self.pace.seconds, self.pace.at_a_time, self.pace.leaks = seconds, at_a_time, fault if leaks else None
        fault.when_over(self._work_as_usual)
        return fault

    def overload(self, *methods: str, calls: int | None = None) -> Fault:
        """Says that too many requests are there, as a method does whose slots are all taken (Sax protocol §5.6)."""
        fault = self._begin(Fault(frozenset(_KEYS[method] for method in self._checked(methods) & _KEYS.keys()), calls))
        self.pace.overloads.append(fault)
        fault.when_over(lambda: self.pace.overloads.remove(fault))
        return fault

    def disown(self, model_id: str, *methods: str, calls: int | None = None) -> Fault:
        """Says NOT_FOUND to calls of this model, as if it were not loaded here; to the admin it says that it is."""
        return self._begin(Disowning(self._checked(methods) & _KEYS.keys(), calls, model_id))

    def claim(self, model_id: str) -> Fault:
        """Says that this model is loaded, and loads it neither now nor when the admin says so.

        An admin that has heard of it takes it for published before, and refuses to publish it anew.
        """
        return self._begin(Claiming(model_id))

    def _work_as_usual(self) -> None:
        self.pace.seconds, self.pace.at_a_time, self.pace.leaks = 0.0, None, None
