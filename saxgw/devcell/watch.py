"""The log of a model's addresses that WatchLoc tells from (Sax protocol §4.6)."""

from __future__ import annotations

from saxgw.devcell.news import News
from saxgw.sax.wire.admin_pb2 import WatchResult


class WatchLog:
    """A base set of addresses and the mutations since, numbered in order.

    Mutation `n` is what a watcher that has seen `n` mutations lacks. Old ones are folded into the base set, so that
    the log stays within about twice the set's size.

    Args:
        full_sets: Whether who comes from another admin gets a full set even if nothing is folded yet.
    """

    def __init__(self, *, full_sets: bool = True) -> None:
        self._full_sets = full_sets
        self._base: set[str] = set()
        self._log: list[WatchResult.Mutation] = []
        self._next = 0
        self._closed = False
        self._news = News()

    def add(self, address: str) -> None:
        """Logs that clients may send requests to this address."""
        self._append(WatchResult.Mutation(addition=address))

    def delete(self, address: str) -> None:
        """Logs that they should not any longer."""
        self._append(WatchResult.Mutation(deletion=address))

    def close(self) -> None:
        """The model is unpublished: waiting watchers get an empty full set, numbered 0."""
        self._closed = True
        self._news.tell()

    async def read(self, seqno: int, *, from_scratch: bool = False) -> WatchResult:
        """Returns what a watcher lacks; waits while that is nothing.

        Args:
            seqno: How many mutations the watcher has seen.
            from_scratch: The watcher has seen another admin's log, if any: it gets the whole set.
        """
        if from_scratch:
            seqno = 0
        await self._news.until(lambda: self._closed or seqno != self._next)
        if self._closed:
            return WatchResult(has_fullset=True)
        folded = self._next - len(self._log)
        # Google's admin sends no full set to a newcomer from whom nothing is folded yet, and its clients keep dead
        # addresses then. A full set is always allowed.
        if (from_scratch and self._full_sets) or seqno < folded:
            return WatchResult(next_seqno=self._next, has_fullset=True, values=sorted(self._base), changelog=self._log)
        return WatchResult(next_seqno=self._next, changelog=self._log[seqno - folded :])

    def _append(self, mutation: WatchResult.Mutation) -> None:
        self._log.append(mutation)
        self._next += 1
        if len(self._log) >= 2 and len(self._log) > 2 * len(self._base):  # noqa: PLR2004 (the protocol has these numbers)
            self._fold(len(self._log) // 2)
        self._news.tell()

    def _fold(self, count: int) -> None:
        for mutation in self._log[:count]:
            if mutation.WhichOneof("kind") == "addition":
                self._base.add(mutation.addition)
            else:
                self._base.discard(mutation.deletion)
        del self._log[:count]
