"""The replicas of one model: which there are, which to ask next, and waiting for one."""

from __future__ import annotations

import asyncio
import logging
from itertools import islice
from random import random
from typing import TYPE_CHECKING, Final

from saxgw.sax.addresses import WatchedAddresses
from saxgw.sax.backoff import pause_s
from saxgw.sax.errors import CellNotFound, ModelNotFound, SaxError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from saxgw.sax.admin import Admin
    from saxgw.sax.channels import Channels, Server

_log: Final = logging.getLogger("saxgw.sax")

_FIRST_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 2.0
"""How long a failing replica is set aside, and one that is being tried is kept from others."""

_FIRST_BUSY_PAUSE_S: Final = 0.02
_LONGEST_BUSY_PAUSE_S: Final = 0.5
"""The same for a replica that has as many requests as it takes; any answer of it ends the pause."""

_ADMIN_PAUSE_S: Final = 2.0
"""Pause before an admin that is out of reach is asked again, unless somebody needs it at once."""

_NO_NEWS_PAUSE_S: Final = 0.1
"""Pause after an answer of WatchLoc without news, which an admin should have held back."""


class Replica:
    """A model on one model server."""

    __slots__ = ("aside_until", "failures", "gone", "outstanding", "server", "trying")

    def __init__(self, server: Server) -> None:
        self.server: Final = server
        self.outstanding = 0
        """Calls that were sent and are not over."""
        self.failures = 0
        """Failures in a row."""
        self.aside_until = 0.0
        """Loop time before which a replica with failures is not picked."""
        self.trying = False
        """Whether a call was sent to find out how a replica with failures is now."""
        self.gone = False
        """Whether the admin no longer names it; it is closed after its last call."""


class ReplicaSet:
    """The replicas of a model, kept up to date by a background task for as long as the model is used.

    While the admin is out of reach the last known replicas stay in use.

        replica = replicas.pick()
        if replica is None:
            await replicas.wait(until)  # and pick again
        try:
            …                           # the call, then replicas.answered(replica) or replicas.failed(replica, …)
        finally:
            replicas.done(replica)
    """

    def __init__(
        self, model: str, admin: Admin, channels: Channels, *, idle_s: float, forget: Callable[[str], object]
    ) -> None:
        """Watches `model`, and calls `forget` when that ends: it was unpublished, or not used for `idle_s`."""
        self._model = model
        self._admin = admin
        self._channels = channels
        self._idle_s = idle_s
        self._forget = forget
        self._loop = asyncio.get_running_loop()
        self._watched = WatchedAddresses(model)
        self._replicas: list[Replica] = []
        self._waiters: dict[asyncio.Future[BaseException | None], None] = {}
        self._retry: asyncio.TimerHandle | None = None
        self._used = True
        self._idle = self._loop.call_later(idle_s, self._end_if_idle)
        self._admin_needed = asyncio.Event()
        self._watching = asyncio.create_task(self._watch(), name=f"sax: watch {model}")
        self._watching.add_done_callback(self._end)

    @property
    def known(self) -> bool:
        """Whether the admin has named any replica."""
        return bool(self._replicas)

    def pick(self) -> Replica | None:
        """Returns the replica to ask next, or None if there is none or all are set aside.

        Of two at random it is the one with fewer outstanding calls. A replica that failed gets one call when its time
        aside is over, and more once that is answered.
        """
        self._used = True
        if not self._replicas:
            return None
        replica = _less_loaded(self._replicas)
        if replica.failures:
            now = self._loop.time()
            ready = [replica for replica in self._replicas if not replica.failures or now >= replica.aside_until]
            if not ready:
                return None
            replica = _less_loaded(ready)
            if replica.failures:
                replica.trying = True
                replica.aside_until = now + _LONGEST_PAUSE_S
        replica.outstanding += 1
        return replica

    def answered(self, replica: Replica) -> None:
        """Notes that a call was answered."""
        replica.failures = 0
        replica.trying = False
        if self._waiters:
            # done() hands on the place that has become free; one more finds out whether there is room for it.
            self._wake(1)

    def abandoned(self, replica: Replica) -> None:
        """Notes that a call was given up by its caller; if it was to find out how the replica is, the next one does."""
        if replica.trying:
            replica.trying = False
            replica.aside_until = self._loop.time()

    def failed(self, replica: Replica, *, busy: bool) -> None:
        """Sets a replica aside for a while, which grows with its failures and is short if it was only busy."""
        if replica.failures and not replica.trying:
            return  # one of many calls that were under way when it first failed
        replica.trying = False
        replica.failures += 1
        first_s, longest_s = (
            (_FIRST_BUSY_PAUSE_S, _LONGEST_BUSY_PAUSE_S) if busy else (_FIRST_PAUSE_S, _LONGEST_PAUSE_S)
        )
        replica.aside_until = self._loop.time() + pause_s(replica.failures, first_s, longest_s)

    def done(self, replica: Replica) -> None:
        """Notes that a call is over, however it ended."""
        replica.outstanding -= 1
        if replica.gone and not replica.outstanding:
            self._channels.release(replica.server)
        if self._waiters:
            if replica.failures:
                self._retry_in_time()
            else:
                self._wake(1)

    async def wait(self, until: float) -> None:
        """Waits until it is worth to pick() again, or it is `until` (loop time).

        Raises:
            ModelNotFound: the model is not published.
            CellNotFound: there is no such cell.
            AdminUnavailable: no replica is known, and the admin cannot be asked.
        """
        if not self._replicas:
            self._admin_needed.set()
        waiter: asyncio.Future[BaseException | None] = self._loop.create_future()
        self._waiters[waiter] = None
        self._retry_in_time()
        timer = self._loop.call_at(until, _resolve, waiter, None)
        try:
            error = await waiter
        except asyncio.CancelledError:
            if not waiter.cancelled():
                self._wake(1)  # this one was woken but leaves: the next may try
            raise
        finally:
            timer.cancel()
            self._waiters.pop(waiter, None)
        if error is not None:
            raise error

    async def aclose(self) -> None:
        """Stops watching."""
        self._watching.cancel()
        await asyncio.wait((self._watching,))

    async def _watch(self) -> None:
        """Follows the admin; ends with an error once there is nothing left to follow."""
        while True:
            try:
                news = await self._admin.watch(self._watched.request())
            except ModelNotFound:
                raise
            except SaxError as error:
                if not self._replicas:
                    if isinstance(error, CellNotFound):
                        raise
                    self._wake(len(self._waiters), error)
                await self._rest()
            else:
                if news is None:
                    continue
                if self._watched.apply(news):
                    self._follow(self._watched.addresses)
                else:
                    await asyncio.sleep(_NO_NEWS_PAUSE_S)

    async def _rest(self) -> None:
        self._admin_needed.clear()
        try:
            async with asyncio.timeout(_ADMIN_PAUSE_S):
                await self._admin_needed.wait()
        except TimeoutError:
            pass

    def _follow(self, addresses: frozenset[str]) -> None:
        _log.info("%s: %d %s", self._model, len(addresses), "replica" if len(addresses) == 1 else "replicas")
        old, self._replicas = self._replicas, []
        for replica in old:
            if replica.server.address in addresses:
                self._replicas.append(replica)
            else:
                self._retire(replica)
        for address in sorted(addresses - {replica.server.address for replica in old}):
            self._replicas.append(Replica(self._channels.open(address)))
        self._wake(len(self._waiters))

    def _retire(self, replica: Replica) -> None:
        replica.gone = True
        if not replica.outstanding:
            self._channels.release(replica.server)

    def _end_if_idle(self) -> None:
        if self._used or self._waiters or any(replica.outstanding for replica in self._replicas):
            self._used = False
            self._idle = self._loop.call_later(self._idle_s, self._end_if_idle)
        else:
            self._watching.cancel()

    def _end(self, watching: asyncio.Task[None]) -> None:
        self._forget(self._model)
        self._idle.cancel()
        if self._retry is not None:
            self._retry.cancel()
        for replica in self._replicas:
            self._retire(replica)
        self._replicas = []
        error = None if watching.cancelled() else watching.exception()
        if not isinstance(error, SaxError | None):
            _log.error("watching %s failed", self._model, exc_info=error)
        self._wake(len(self._waiters), error)

    def _wake(self, count: int, error: BaseException | None = None) -> None:
        """Lets the first `count` waiters go on, or tells them why it is no use."""
        # One that its own timer has resolved is on its way out and must not use up somebody's turn.
        waiting = (waiter for waiter in self._waiters if not waiter.done())
        for waiter in list(islice(waiting, count)):
            del self._waiters[waiter]
            _resolve(waiter, error)

    def _retry_in_time(self) -> None:
        """Wakes a waiter when the first of the replicas, all of which are set aside, may be tried again."""
        when = min((replica.aside_until for replica in self._replicas), default=None)
        if when is None or (self._retry is not None and self._retry.when() <= when):
            return
        if self._retry is not None:
            self._retry.cancel()
        self._retry = self._loop.call_at(when, self._retry_now)

    def _retry_now(self) -> None:
        self._retry = None
        self._wake(1)


def _less_loaded(replicas: Sequence[Replica]) -> Replica:
    count = len(replicas)
    first = int(random() * count)  # noqa: S311 -- no secret
    second = int(random() * (count - 1))  # noqa: S311 -- no secret
    a, b = replicas[first], replicas[second + (second >= first)] if count > 1 else replicas[0]
    return a if a.outstanding <= b.outstanding else b


def _resolve(waiter: asyncio.Future[BaseException | None], error: BaseException | None) -> None:
    if not waiter.done():
        waiter.set_result(error)
