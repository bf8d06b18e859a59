"""The bytes of requests that are held at a time, over all calls and both doors, so that they fit into memory.

What counts is what has come of a request, as it came, and for as long as its call runs. A door tells the Call of it; a
caller who announces a large request and sends little of it holds little.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from saxgw.rpc.status import Code, RpcError, error_info, retry_info

if TYPE_CHECKING:
    from collections.abc import Callable

    from google.protobuf.descriptor import MethodDescriptor

    from saxgw.rpc.call import Call
    from saxgw.rpc.endpoint import Scope

_BUSY_RETRY_S: Final = 1.0

STEP_BYTES: Final = 64 * 2**10
"""By how much what is held must change to be told: that costs more than all the rest of this, and small requests, which
are most, come and go without."""


class HeldBytes:
    """What the requests of all calls hold together; its method `intercept` is an interceptor.

    It belongs outside of all others, those that watch calls included: what is given back must be needed no longer.

    Args:
        most: Bytes that may be held; more are refused with RESOURCE_EXHAUSTED.
        tell: Is told how many are held, in whole steps of 64 KiB, whenever that changes.
    """

    def __init__(self, most: int, tell: Callable[[int], object] | None = None) -> None:
        self._most = most
        self._tell = tell
        self._told = 0
        self.held = 0
        """Bytes that are held now."""

    def intercept(self, _: MethodDescriptor) -> Scope:
        """Has requests of the method counted until their calls end."""
        return partial(_Counted, self)

    def check(self, size: int) -> None:
        """Raises RpcError if there is no room for so many more bytes."""
        if self.held + size > self._most:
            raise RpcError(
                Code.RESOURCE_EXHAUSTED,
                f"the gateway has no room for this request beside the others: it holds {self._most} bytes of requests "
                "at once; try again later",
                [error_info("TOO_MANY_REQUEST_BYTES"), retry_info(_BUSY_RETRY_S)],
            )

    def take(self, size: int) -> None:
        """Counts so many bytes more. Raises RpcError, and counts none of them, if there is no room."""
        self.check(size)
        self._change(size)

    def give_back(self, size: int) -> None:
        """Counts so many bytes less."""
        self._change(-size)

    def _change(self, size: int) -> None:
        self.held += size
        steps = self.held // STEP_BYTES
        if steps != self._told:
            self._told = steps
            if self._tell is not None:
                self._tell(steps * STEP_BYTES)


class _Counted:
    """The context of one call, which gives back what its request has taken."""

    __slots__ = ("_call", "_held")

    def __init__(self, held: HeldBytes, call: Call) -> None:
        self._held = held
        self._call = call

    def __enter__(self) -> None:
        self._call.held = self._held

    def __exit__(self, *_: object) -> None:
        call = self._call
        call.request = None  # a door may keep the call for as long as its answer takes to be sent
        call.held = None
        if call.request_bytes:
            self._held.give_back(call.request_bytes)
