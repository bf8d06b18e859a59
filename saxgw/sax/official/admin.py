"""What admins are asked through the module."""

from __future__ import annotations

import asyncio
import itertools
import time
from typing import TYPE_CHECKING, Final, TypeVar

import grpc

from saxgw.sax.backoff import pause_s
from saxgw.sax.errors import AdminUnavailable, CellError
from saxgw.sax.names import cell_of
from saxgw.sax.official.calls import on_thread, statuses
from saxgw.sax.official.status import NotOk
from saxgw.sax.official.threads import Threads
from saxgw.sax.status import admin_error

if TYPE_CHECKING:
    from collections.abc import Callable

    from saxgw.sax.errors import SaxError
    from saxgw.sax.official import parts
    from saxgw.sax.official.module import SaxModule
    from saxgw.sax.root import Root
    from saxgw.sax.status import Status

T = TypeVar("T")

Code: Final = grpc.StatusCode

_THREADS: Final = 8
"""Threads for short questions. They are not those of calls to models, which would keep questions waiting."""

_WAITING_THREADS: Final = 16
"""Threads for the looks of wait()."""

_LOOK_S: Final = 60.0
"""Time limit of one look of wait(), after which others have their turn. A caller who leaves frees its thread then."""

_FIRST_PAUSE_S: Final = 0.05
_LONGEST_PAUSE_S: Final = 1.0
"""Pauses between tries to publish under a name that is not free yet."""


class Admins:
    """The admins of all cells, each question within `timeout_s`."""

    def __init__(self, module: SaxModule, root: Root, *, timeout_s: float, waiting: int) -> None:
        self._module = module
        self._root = root
        self._timeout_s = timeout_s
        self.threads = Threads(_THREADS, waiting, "sax admin")
        self._waits = Threads(_WAITING_THREADS, waiting, "sax wait")

    async def ask(
        self, cell: str, model: str | None, call: Callable[[parts.AdminOptions], T], *, wrote: bool = False
    ) -> T:
        """Returns what `call` returns, given its options. Raises as saxgw.sax.status.admin_error() tells.

        Args:
            cell: the admin's cell.
            model: the model that is asked about, if one is.
            call: the function of the module.
            wrote: whether it changes something. If the admin says that it did nothing because the name is not free
                yet, it is asked again; the module repeats everything else itself.
        """
        until = time.monotonic() + self._timeout_s
        for tries in itertools.count(1):
            try:
                return await on_thread(self.threads, lambda left_s: call(self._options(left_s)), until)
            except NotOk as error:
                pause = pause_s(tries, _FIRST_PAUSE_S, _LONGEST_PAUSE_S)
                if not error.status.being_unpublished or time.monotonic() + pause >= until:
                    raise await self._why(error.status, cell, model, wrote=wrote) from error
            await asyncio.sleep(pause)
        raise AssertionError  # pragma: no cover -- counting does not end

    async def detail(self, model: str) -> parts.ModelDetail:
        """How a model is published. Raises ModelNotFound if it is not."""
        return await self.ask(cell_of(model), model, lambda options: self._module.ListDetail(model, options))

    async def refuse_access_lists(self, model: str) -> None:
        """Raises CellError for a model with access lists, or if nobody can tell whether it has some.

        The module's update would erase them (Sax protocol §7.3).
        """
        if not hasattr(self._module, "GetACL"):
            raise CellError(
                Code.UNIMPLEMENTED,
                "this build of the official Sax client is too old to update a model without erasing its overrides and "
                "access lists; build one of October 2024 or later, or use saxgw's own client",
            )
        for method in ("", "all"):  # who may rule the model, and who may use each of its methods
            if await self._has_access_lists(model, method):
                raise CellError(
                    Code.UNIMPLEMENTED,
                    f"{model} has access lists, which an update by the official Sax client would erase; "
                    "use saxgw's own client, which keeps them",
                )

    async def wait(self, model: str, replicas: int) -> bool:
        """Waits until so many replicas are ready; False if the wait has ended for another reason: look at the model."""

        def look() -> None:
            self._module.WaitForReady(model, replicas, self._options(_LOOK_S))

        try:
            with statuses():
                await self._waits.submit(look)
        except NotOk as error:
            # Unpublishing ends it with CANCELLED (Sax protocol §4.2).
            if error.status.code in (Code.DEADLINE_EXCEEDED, Code.CANCELLED, Code.UNAVAILABLE):
                return False
            raise await self._why(error.status, cell_of(model), model, wrote=False) from error
        return True

    def close(self) -> None:
        """Cancels all questions."""
        self.threads.close()
        self._waits.close()

    async def _has_access_lists(self, model: str, method: str) -> bool:
        lists = await self.ask(
            cell_of(model), model, lambda options: self._module.GetACL(model, method, options=options)
        )
        return bool(lists) if isinstance(lists, str) else any(lists.values())

    def _options(self, timeout_s: float) -> parts.AdminOptions:
        options = self._module.AdminOptions()
        options.timeout = timeout_s
        return options

    async def _why(self, status: Status, cell: str, model: str | None, *, wrote: bool) -> SaxError:
        """Returns what went wrong. What is wrong with a cell under SAX_ROOT can be told better than the module does."""
        if status.code in (Code.FAILED_PRECONDITION, Code.UNKNOWN):
            await self._root.admin_address(cell)
            # It is there, so the module has looked while it was being written; or it may not look.
            if status.code is Code.FAILED_PRECONDITION or status.words.startswith("open "):
                return AdminUnavailable(
                    f"the official Sax client did not find the admin of {cell} under SAX_ROOT; try again, and if that "
                    "does not help, check that this process may read SAX_ROOT"
                )
        return admin_error(status, cell, model, wrote=wrote)
