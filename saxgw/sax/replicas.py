"""The replicas of one model: which there are, which to ask next, and waiting for one."""

from __future__ import annotations

import asyncio
import logging
from copy import copy
from functools import partial
from itertools import islice
from random import random
from typing import TYPE_CHECKING, Final

from saxgw.sax.addresses import WatchedAddresses
from saxgw.sax.backoff import pause_s
from saxgw.sax.errors import Busy, CellNotFound, ModelNotFound, SaxError
from saxgw.sax.limits import Bounds, Limit
from saxgw.sax.line import Line
from saxgw.sax.observer import NOBODY

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from saxgw.sax.admin import Admin
    from saxgw.sax.channels import Channels, Server
    from saxgw.sax.observer import Observer

_log: Final = logging.getLogger("saxgw.sax")

_FIRST_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 1.0
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

    __slots__ = ("_bounds", "_limits", "aside_until", "failures", "gone", "outstanding", "server", "trying")

    def __init__(self, server: Server, bounds: Bounds) -> None:
        self._bounds = bounds
        self._limits: dict[str, Limit] = {}
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

    def limit(self, method: str) -> Limit:
        """How many requests of one method it is sent at a time."""
        limit = self._limits.get(method)
        if limit is None:
            limit = self._limits[method] = Limit(self._bounds)
        return limit


class ReplicaSet:
    """The replicas of a model, kept up to date by a background task for as long as the model is used.

    While the admin is out of reach the last known replicas stay in use.

        replica = replicas.pick(method)
        if replica is None:
            replicas.admit()
        if replica is None and replicas.are_full:
            replica = await replicas.queue(method)  # and pick again if that is None
        if replica is None:
            await replicas.wait(until)  # and pick again
        try:
            …                           # the call, then replicas.answered(replica, method), or failed() or refused()
        finally:
            replicas.done(replica, method)
    """

    def __init__(  # noqa: PLR0913 - by name
        self,
        model: str,
        admin: Admin,
        channels: Channels,
        *,
        idle_s: float,
        forget: Callable[[str], object],
        bounds: Bounds | None = None,
        max_waiting: int = 1000,
        observer: Observer = NOBODY,
    ) -> None:
        """Watches `model`, and calls `forget` when that ends: it was unpublished, or not used for `idle_s`.

        `bounds` are those of what a replica is sent at a time; `max_waiting` requests may wait here at once; `observer`
        is told how many replicas there are, and how many of them are not set aside.
        """
        self._model = model
        self._admin = admin
        self._channels = channels
        self._idle_s = idle_s
        self._forget = forget
        self._bounds = bounds or Bounds()
        self._max_waiting = max_waiting
        self._observer = observer
        self._lines: dict[str, Line[Replica]] = {}
        """Requests that wait for room, by method."""
        self._loop = asyncio.get_running_loop()
        self._watched = WatchedAddresses(model)
        self._replicas: list[Replica] = []
        self._waiters: dict[asyncio.Future[BaseException | None], None] = {}
        self._retry: asyncio.TimerHandle | None = None
        self._retry_at = 0.0
        self._used = True
        self._idle = self._loop.call_later(idle_s, self._end_if_idle)
        self._admin_needed = asyncio.Event()
        self._watching = asyncio.create_task(self._watch(), name=f"sax: watch {model}")
        self._watching.add_done_callback(self._end)

    @property
    def known(self) -> bool:
        """Whether the admin has named any replica."""
        return bool(self._replicas)

    @property
    def waiting(self) -> int:
        """How many requests wait here."""
        return len(self._waiters) + sum(map(len, self._lines.values()))

    def pick(self, method: str) -> Replica | None:
        """Returns the replica to send a request of `method` to, or None if there is none, or if others wait for one.

        Of two at random it is the one with fewer outstanding calls. A replica that failed gets one call when its time
        aside is over, and more once that is answered.
        """
        self._used = True
        line = self._lines.get(method)
        return None if line else self._pick(method)

    @property
    def are_full(self) -> bool:
        """Whether there are replicas that are well, so that pick() returns None only because they have no room.

        One that has no request of ours and refuses one all the same is not well for the time being.
        """
        return any(not replica.failures for replica in self._replicas)

    def admit(self) -> None:
        """Raises Busy if as many requests wait here as may."""
        if self.waiting >= self._max_waiting:
            raise Busy(
                f"{self.waiting} requests for {self._model} wait already, as many as the gateway lets wait; "
                "try again later"
            )

    async def queue(self, method: str, *, again: bool = False) -> Replica | None:
        """Waits for room, after all who came before; those who come `again`, as they were refused, go first.

        Returns a replica as pick() does, or None once it is of no use to wait here any longer.
        """
        line = self._lines.get(method)
        if line is None:
            line = self._lines[method] = Line(partial(self._give_back, method))
        self._retry_in_time()
        return await line.join(first=again)

    def answered(self, replica: Replica, method: str) -> None:
        """Notes that a call was answered."""
        replica.limit(method).answered()
        self._is_well(replica)

    def abandoned(self, replica: Replica) -> None:
        """Notes that a call was given up by its caller; if it was to find out how the replica is, the next one does."""
        if replica.trying:
            replica.trying = False
            replica.aside_until = self._loop.time()

    def refused(self, replica: Replica, method: str, stated: int | None) -> None:
        """Notes that a replica has no room for a call; `stated` is its own limit, if it named one."""
        limit = replica.limit(method)
        limit.refused(stated)
        if limit.in_flight <= limit.current:
            # It has less room than is always tried, so no answer will tell when there is some again.
            self._set_aside(replica, _FIRST_BUSY_PAUSE_S, _LONGEST_BUSY_PAUSE_S)
        else:
            self._is_well(replica)

    def failed(self, replica: Replica) -> None:
        """Sets a replica aside for a while, which grows with its failures."""
        self._set_aside(replica, _FIRST_PAUSE_S, _LONGEST_PAUSE_S)

    def done(self, replica: Replica, method: str) -> None:
        """Notes that a call is over, however it ended."""
        replica.limit(method).in_flight -= 1
        replica.outstanding -= 1
        if replica.gone and not replica.outstanding:
            self._channels.release(replica.server)
        line = self._lines.get(method)
        if line:
            line.serve(partial(self._pick, method))
        if replica.failures and self.waiting:
            self._retry_in_time()

    def _pick(self, method: str) -> Replica | None:
        replicas = self._replicas
        if len(replicas) == 1:
            replica = replicas[0]
            if replica.failures or not replica.limit(method).has_room:
                replicas = []
        else:
            replicas = [each for each in replicas if not each.failures and each.limit(method).has_room]
        if len(replicas) != len(self._replicas):
            now = self._loop.time()
            replicas = replicas + [
                each
                for each in self._replicas
                if each.failures and now >= each.aside_until and each.limit(method).has_room
            ]
        if not replicas:
            return None
        replica = _less_loaded(replicas)
        if replica.failures:
            replica.trying = True
            replica.aside_until = self._loop.time() + _LONGEST_PAUSE_S
        replica.outstanding += 1
        replica.limit(method).in_flight += 1
        return replica

    def _is_well(self, replica: Replica) -> None:
        """Ends a replica's time aside, and has all go on who waited for that: their number is limited elsewhere."""
        if replica.failures:
            replica.failures = 0
            replica.trying = False
            self._tell()
            self._serve()
            self._wake(len(self._waiters))

    def _set_aside(self, replica: Replica, first_s: float, longest_s: float) -> None:
        if replica.failures and not replica.trying:
            return  # one of many calls that were under way when it first failed
        replica.trying = False
        replica.failures += 1
        replica.aside_until = self._loop.time() + pause_s(replica.failures, first_s, longest_s)
        self._tell()
        if all(each.failures for each in self._replicas):
            for line in self._lines.values():  # those who wait for room wait for a replica that is well now
                line.dismiss()

    def _give_back(self, method: str, replica: Replica) -> None:
        """Takes a replica back from one who left with it in hand."""
        self.abandoned(replica)
        self.done(replica, method)

    def _serve(self) -> None:
        """Lets those who wait for room go on, as far as there is any."""
        for method, line in self._lines.items():
            line.serve(partial(self._pick, method))

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
        if isinstance(error, SaxError):
            # Each its own: the traceback of one for all, which is kept here as well, would hold all their requests.
            raise copy(error) from error
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
            self._replicas.append(Replica(self._channels.open(address), self._bounds))
        self._tell()
        self._wake(len(self._waiters))
        self._serve()
        if not self._replicas:
            for line in self._lines.values():
                line.dismiss()

    def _tell(self) -> None:
        """Tells the observer of a change."""
        well = sum(not replica.failures for replica in self._replicas)
        self._observer.replicas(self._model, len(self._replicas), well)

    def _retire(self, replica: Replica) -> None:
        replica.gone = True
        if not replica.outstanding:
            self._channels.release(replica.server)

    def _end_if_idle(self) -> None:
        if self._used or self.waiting or any(replica.outstanding for replica in self._replicas):
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
        self._tell()
        error = None if watching.cancelled() else watching.exception()
        if not isinstance(error, SaxError | None):
            _log.error("watching %s failed", self._model, exc_info=error)
        self._wake(len(self._waiters), error)
        for line in self._lines.values():
            line.dismiss()

    def _wake(self, count: int, error: BaseException | None = None) -> None:
        """Lets the first `count` waiters go on, or tells them why it is no use."""
        # One that its own timer has resolved is on its way out and must not use up somebody's turn.
        waiting = (waiter for waiter in self._waiters if not waiter.done())
        for waiter in list(islice(waiting, count)):
            del self._waiters[waiter]
            _resolve(waiter, error)

    def _retry_in_time(self) -> None:
        """Wakes who waits when the first of the replicas that are set aside may be tried again."""
        when = min((replica.aside_until for replica in self._replicas if replica.failures), default=None)
        if when is None or (self._retry is not None and self._retry_at <= when):
            return
        if self._retry is not None:
            self._retry.cancel()
        self._retry_at = when  # uvloop's handles do not always know
        self._retry = self._loop.call_at(when, self._retry_now)

    def _retry_now(self) -> None:
        self._retry = None
        self._wake(1)
        self._serve()


def _less_loaded(replicas: Sequence[Replica]) -> Replica:
    count = len(replicas)
    first = int(random() * count)  # noqa: S311 -- no secret
    second = int(random() * (count - 1))  # noqa: S311 -- no secret
    a, b = replicas[first], replicas[second + (second >= first)] if count > 1 else replicas[0]
    return a if a.outstanding <= b.outstanding else b


def _resolve(waiter: asyncio.Future[BaseException | None], error: BaseException | None) -> None:
    if not waiter.done():
        waiter.set_result(error)
