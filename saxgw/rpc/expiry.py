"""Deadlines enforced: an interceptor that ends calls whose time is up.

Nearly every call is over long before its deadline, so a timer for each would cost more than all else that is done for
it here. Calls whose deadline is their method's default expire in the order in which they came: they stand in a queue
with one timer, for the first of them. Only a call whose caller says how long it waits has a timer of its own.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from saxgw.rpc.deadline import Deadline
from saxgw.rpc.ending import Endable
from saxgw.rpc.status import Code, RpcError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from google.protobuf.descriptor import MethodDescriptor

    from saxgw.rpc.call import Call
    from saxgw.rpc.endpoint import Interceptor, Scope


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long calls of one method may take. Times are in seconds."""

    default_s: float
    """What a call gets whose caller does not say how long it waits."""

    max_s: float
    """What a call gets at the most, whatever its caller says."""


def enforce_deadline(timeouts: Mapping[str, Timeouts]) -> Interceptor:
    """Ends calls with DEADLINE_EXCEEDED when their time is up, by cancelling their task.

    `timeouts` are by the methods' names; it must have all of them, so that nothing waits for ever. What the call then
    has of time is in `call.deadline`.
    """

    def interceptor(method: MethodDescriptor) -> Scope:
        own = timeouts[method.name]
        queue = _Queue()

        def scope(call: Call) -> _Expiring:
            if call.deadline is None:
                call.deadline = Deadline.after(min(own.default_s, own.max_s))
                return _Expiring(call.deadline, queue)
            call.deadline = Deadline.after(own.max_s).earliest(call.deadline)
            return _Expiring(call.deadline, None)

        return scope

    return interceptor


class _Expiring(Endable):
    """One call while it runs."""

    __slots__ = ("_queue", "_timer", "deadline")

    def __init__(self, deadline: Deadline, queue: _Queue | None) -> None:
        super().__init__()
        self.deadline = deadline
        self._queue = queue
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> None:
        super().__enter__()
        if self._queue is not None:
            self._queue.add(self)
        elif self.deadline.remaining_s() <= 0:
            raise self._expired()
        else:
            self._timer = asyncio.get_running_loop().call_at(self.deadline.at, self.expire)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        elif self._queue is not None:
            self._queue.remove(self)
        super().__exit__(kind, error, trace)

    def expire(self) -> None:
        """Ends the call."""
        self.end(self._expired())

    def _expired(self) -> RpcError:
        return RpcError(
            Code.DEADLINE_EXCEEDED,
            f"no answer within {self.deadline.timeout_s:g} s; give the call more time or try again later",
        )


class _Queue:
    """Calls that expire in the order in which they came."""

    def __init__(self) -> None:
        self._calls: dict[_Expiring, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def add(self, call: _Expiring) -> None:
        self._calls[call] = None
        if self._timer is None:
            self._set_timer(call)

    def remove(self, call: _Expiring) -> None:
        self._calls.pop(call, None)

    def _set_timer(self, first: _Expiring) -> None:
        self._timer = asyncio.get_running_loop().call_at(first.deadline.at, self._expire)

    def _expire(self) -> None:
        self._timer = None
        while (first := next(iter(self._calls), None)) is not None:
            if first.deadline.remaining_s() > 0:
                self._set_timer(first)
                return
            self.remove(first)
            first.expire()
