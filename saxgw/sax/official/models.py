"""What models are asked through the module."""

from __future__ import annotations

import asyncio
import itertools
import time
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

import grpc

from saxgw.sax.backoff import pause_s
from saxgw.sax.errors import Busy, CellError, ReplicasUnavailable
from saxgw.sax.official.calls import caller_patience_s, on_thread, seconds_left, statuses
from saxgw.sax.official.status import NotOk
from saxgw.sax.official.stream import Feed
from saxgw.sax.official.threads import Threads
from saxgw.sax.status import data_error, stream_error

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from saxgw.sax.api import ExtraInputs, StreamItem
    from saxgw.sax.errors import SaxError
    from saxgw.sax.official import parts
    from saxgw.sax.official.admin import Admins
    from saxgw.sax.official.module import SaxModule
    from saxgw.sax.status import Status

T = TypeVar("T")

Code: Final = grpc.StatusCode

_FIRST_PAUSE_S: Final = 0.01
_LONGEST_PAUSE_S: Final = 0.5
"""Pauses between tries to find a model server."""

_OWN_LIMIT: Final = "use saxgw's own client, whose limit is a setting"
"""What helps against an answer that is too large for the module."""


class _Opened(NamedTuple):
    model: parts.Model
    """It must live as long as `lm`."""
    lm: parts.LanguageModel


class _Stream(NamedTuple):
    call: asyncio.Future[None]
    feed: Feed
    until: float

    async def take(self, threads: Threads) -> list[StreamItem] | None:
        """The next step, or None at the end."""
        with statuses():
            try:
                async with asyncio.timeout(caller_patience_s(self.until)):
                    return await self.feed.take(self.call)
            except TimeoutError:
                if self.call.done():
                    raise
                raise threads.too_late(self.call) from None

    def leave(self) -> None:
        self.call.cancel()
        self.feed.leave()


class Models:
    """The models of all cells.

    The module is told to fail fast, so that it gives its thread back while nobody can take a request, and tries end
    after `replica_wait_s`.
    """

    def __init__(  # noqa: PLR0913 -- all settings
        self,
        module: SaxModule,
        admins: Admins,
        *,
        timeout_s: float,
        replica_wait_s: float,
        threads: int,
        waiting: int,
    ) -> None:
        self._module = module
        self._admins = admins
        self._timeout_s = timeout_s
        self._replica_wait_s = replica_wait_s
        self._threads = Threads(threads, waiting, "sax model")
        self._opened: dict[str, _Opened] = {}

    async def ask(
        self,
        model: str,
        call: Callable[[parts.LanguageModel, parts.ModelOptions], T],
        extra_inputs: ExtraInputs | None,
        request_bytes: int,
    ) -> T:
        """Returns what `call` returns, given a model and options."""

        async def attempt(lm: parts.LanguageModel, until: float) -> T:
            return await on_thread(self._threads, lambda left_s: call(lm, self._options(extra_inputs, left_s)), until)

        return await self._found(model, attempt, request_bytes)

    async def stream(
        self, model: str, text: str, extra_inputs: ExtraInputs | None, request_bytes: int
    ) -> AsyncGenerator[list[StreamItem]]:
        """Yields the steps of a stream."""

        async def attempt(lm: parts.LanguageModel, until: float) -> tuple[_Stream, list[StreamItem] | None]:
            feed = Feed(until)
            call = self._threads.submit(
                lambda: lm.GenerateStream(text, feed.put, self._options(extra_inputs, seconds_left(until)))
            )
            call.add_done_callback(feed.finish)
            stream = _Stream(call, feed, until)
            try:
                return stream, await stream.take(self._threads)
            except BaseException:
                stream.leave()
                raise

        stream, step = await self._found(model, attempt, request_bytes)
        try:
            while step is not None:
                yield step
                try:
                    step = await stream.take(self._threads)
                except NotOk as error:
                    if error.status.code is Code.DEADLINE_EXCEEDED:
                        raise self._too_long(model) from error
                    raise stream_error(error.status, model) from error
        finally:
            stream.leave()

    def close(self) -> None:
        """Cancels all calls."""
        self._threads.close()

    async def _found(
        self, model: str, attempt: Callable[[parts.LanguageModel, float], Awaitable[T]], request_bytes: int
    ) -> T:
        """Returns what an attempt returns that finds a model server to take it."""
        opened = await self._open(model)
        until = time.monotonic() + self._timeout_s
        give_up: float | None = None
        for tries in itertools.count(1):
            try:
                return await attempt(opened.lm, until)
            except NotOk as error:
                status = error.status
                if status.code is Code.DEADLINE_EXCEEDED:
                    raise self._too_long(model) from error
                if not status.retry_elsewhere:
                    raise data_error(status, model, request_bytes, remedy=_OWN_LIMIT) from error
                now, pause = time.monotonic(), pause_s(tries, _FIRST_PAUSE_S, _LONGEST_PAUSE_S)
                give_up = give_up or min(now + self._replica_wait_s, until)
                if status.code is Code.NOT_FOUND or now + pause >= give_up:
                    self._opened.pop(model, None)
                    raise await self._why_none(model, status) from error
            await asyncio.sleep(pause)
        raise AssertionError  # pragma: no cover -- counting does not end

    async def _open(self, model: str) -> _Opened:
        """Opens a model that is published. Of one that is not, the module would think so for 30 seconds (§6.4)."""
        opened = self._opened.get(model)
        if opened is None:
            await self._admins.detail(model)
            options = self._module.Options()
            options.fail_fast = True
            model_object = self._module.Model(model, options)
            opened = self._opened[model] = _Opened(model_object, model_object.LM())
        return opened

    def _options(self, extra_inputs: ExtraInputs | None, timeout_s: float) -> parts.ModelOptions:
        options = self._module.ModelOptions()
        options.SetTimeout(timeout_s)
        for name, value in (extra_inputs or {}).items():
            if isinstance(value, str):
                options.SetExtraInputString(name, value)
            elif isinstance(value, int | float):
                options.SetExtraInput(name, float(value))
            else:
                options.SetExtraInputTensor(name, [float(number) for number in value])
        return options

    def _too_long(self, model: str) -> CellError:
        return CellError(
            Code.DEADLINE_EXCEEDED,
            f"{model} was not done within {self._timeout_s:g} s; ask for less, or give calls to models more time",
        )

    async def _why_none(self, model: str, status: Status) -> SaxError:
        """Returns what to tell when no model server took a request in time."""
        if status.busy:
            return Busy(f"the model servers of {model} have as many requests as they take; try again later")
        detail = await self._admins.detail(model)
        if detail.max_replicas == 0:
            return ReplicasUnavailable(f"{model} is published with 0 replicas; update it to have 1 or more")
        if status.code is Code.NOT_FOUND and "still loading" not in status.words:
            return ReplicasUnavailable(
                f"{model} is published, but not known yet to the official Sax client, which looks again after 30 "
                "seconds; try again then"
            )
        return ReplicasUnavailable(
            f"no model server took the request for {model} in time "
            f"(replicas asked for: {detail.max_replicas}, assigned: {detail.active_replicas}); try again later"
        )
