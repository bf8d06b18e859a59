"""The calls that are running, so that a shutdown can tell those that take too long why they end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from saxgw.rpc.ending import Endable
from saxgw.rpc.status import Code, RpcError, error_info, retry_info

if TYPE_CHECKING:
    from types import TracebackType

    from google.protobuf.descriptor import MethodDescriptor

    from saxgw.rpc.call import Call
    from saxgw.rpc.endpoint import Scope

_RETRY_S: Final = 1.0


class Running:
    """Knows every call that runs; its method `intercept` is an interceptor."""

    def __init__(self) -> None:
        self._calls: set[_Registered] = set()
        self._ended = False

    def intercept(self, _: MethodDescriptor) -> Scope:
        """Has calls of the method known while they run."""
        return self._register

    def end(self) -> None:
        """Ends every call with UNAVAILABLE, and from now on each that comes."""
        self._ended = True
        for call in tuple(self._calls):
            call.end(_stopped())

    def _register(self, _: Call) -> _Registered:
        if self._ended:
            raise _stopped()
        return _Registered(self._calls)


class _Registered(Endable):
    __slots__ = ("_calls",)

    def __init__(self, calls: set[_Registered]) -> None:
        super().__init__()
        self._calls = calls

    def __enter__(self) -> None:
        super().__enter__()
        self._calls.add(self)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._calls.discard(self)
        super().__exit__(kind, error, trace)


def _stopped() -> RpcError:
    return RpcError(
        Code.UNAVAILABLE,
        "the gateway is shutting down and waits no longer for this call; call again",
        [error_info("SHUTTING_DOWN"), retry_info(_RETRY_S)],
    )
