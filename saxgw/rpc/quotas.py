"""What one caller may use of the gateway, so that none keeps the others out: calls at once, and calls in time."""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from saxgw.rpc.status import Code, RpcError, error_info, retry_info

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from google.protobuf.descriptor import MethodDescriptor

    from saxgw.rpc.call import Call
    from saxgw.rpc.endpoint import Interceptor, Scope

_BUSY_RETRY_S: Final = 1.0

_MANY_CALLERS: Final = 1024
"""From this many on, callers who use nothing any more are forgotten now and then: tokens may name any number."""


@dataclass(frozen=True, kw_only=True)
class Quota:
    """What each caller may use. None is as much as it likes."""

    max_calls: int | None = None
    """Calls that run at once."""

    calls_per_s: float | None = None
    """Calls begun per second in the long run. Of those that were not begun, one second's may be made up for."""


def enforce_quota(quota: Quota, *, now: Callable[[], float] = time.monotonic) -> Interceptor:
    """Refuses calls with RESOURCE_EXHAUSTED whose caller, by `call.identity`, uses more than its quota.

    Callers that are not known have none. It belongs within what finds out who calls.
    """
    callers = Callers(quota, now)
    unknown = nullcontext()

    def scope(call: Call) -> AbstractContextManager[None]:
        return unknown if call.identity is None else callers.of(call.identity.name)

    def interceptor(_: MethodDescriptor) -> Scope | None:
        return None if quota == Quota() else scope

    return interceptor


class Callers:
    """Every caller that has used something lately."""

    def __init__(self, quota: Quota, now: Callable[[], float]) -> None:
        self._quota = quota
        self._now = now
        self._callers: dict[str, _Caller] = {}
        self._many = _MANY_CALLERS

    def __len__(self) -> int:
        return len(self._callers)

    def of(self, name: str) -> _Caller:
        """The caller of that name, which is the context of each of its calls."""
        if (caller := self._callers.get(name)) is None:
            if len(self._callers) >= self._many:
                self._forget_idle()
            caller = self._callers[name] = _Caller(name, self._quota, self._now)
        return caller

    def _forget_idle(self) -> None:
        self._callers = {name: caller for name, caller in self._callers.items() if not caller.is_idle}
        self._many = max(_MANY_CALLERS, 2 * len(self._callers))


class _Caller:
    """What one caller uses; the context of each of its calls."""

    __slots__ = ("_burst", "_max_calls", "_name", "_now", "_per_s", "_running", "_spared", "_spared_at")

    def __init__(self, name: str, quota: Quota, now: Callable[[], float]) -> None:
        self._name = name
        self._now = now
        self._max_calls = quota.max_calls
        self._running = 0
        self._per_s = quota.calls_per_s
        self._burst = max(1.0, quota.calls_per_s or 0.0)
        self._spared = self._burst
        self._spared_at = now()

    @property
    def is_idle(self) -> bool:
        """Whether forgetting it makes no difference."""
        return not self._running and (self._per_s is None or self._saved() >= self._burst)

    def __enter__(self) -> None:
        if self._max_calls is not None and self._running >= self._max_calls:
            raise self._refused("TOO_MANY_CALLS_OF_CALLER", f"has {self._running} calls running", _BUSY_RETRY_S)
        if self._per_s is not None:
            spared = self._saved()
            if spared < 1:
                raise self._refused(
                    "TOO_MANY_CALLS_IN_TIME", f"may make {self._per_s:g} calls a second", (1 - spared) / self._per_s
                )
            self._spared = spared - 1
            self._spared_at = self._now()
        self._running += 1

    def __exit__(self, *_: object) -> None:
        self._running -= 1

    def _saved(self) -> float:
        assert self._per_s is not None  # noqa: S101 - for the type checker: asked only then
        return min(self._burst, self._spared + (self._now() - self._spared_at) * self._per_s)

    def _refused(self, reason: str, what: str, retry_s: float) -> RpcError:
        return RpcError(
            Code.RESOURCE_EXHAUSTED,
            f"{self._name} {what}, which is its limit; try again later",
            [error_info(reason), retry_info(retry_s)],
        )
