"""Calls that can be ended from outside with an error of their own, as a deadline or a shutdown does it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

    from saxgw.rpc.status import RpcError


class Endable:
    """The context of one call while it runs; `end` makes it fail with an error."""

    __slots__ = ("_cancelled_before", "_error", "_task")

    def __init__(self) -> None:
        self._error: RpcError | None = None

    def __enter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - for the type checker: a coroutine that runs is run by a task
        self._task = task
        self._cancelled_before = task.cancelling()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # As asyncio.timeout() does it: a cancellation is ours unless somebody else asked for one as well.
        if (
            self._error is not None
            and self._task.uncancel() <= self._cancelled_before
            and isinstance(error, asyncio.CancelledError)
        ):
            try:
                raise self._error from None
            finally:
                self._error = None  # its traceback has this frame: as long as they hold each other, they hold the call

    def end(self, error: RpcError) -> None:
        """Cancels the call, which then fails with `error`; does nothing if it is being ended already."""
        if self._error is None:
            self._error = error
            self._task.cancel()
