"""A fault of calls: what a server does to some of its calls instead of, before or after answering them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from saxgw.devcell.news import News

if TYPE_CHECKING:
    from collections.abc import Callable

    from google.protobuf.message import Message

    from saxgw.devcell.errors import Context


class Fault:
    """Something that a server does wrong, until `end`, or for so many calls.

        with server.faults.refuse(grpc.StatusCode.UNAVAILABLE, "going away", "Generate") as fault:
            call = asyncio.create_task(sax.generate(model, "x"))
            await fault.struck(2)     # two calls have been refused

    What begins before a fault is made is not touched by it.

    Args:
        methods: Names of the RPCs that it strikes.
        calls: How many calls it strikes before it ends by itself; None is no end.
    """

    def __init__(self, methods: frozenset[str] = frozenset(), calls: int | None = None) -> None:
        if calls is not None and calls < 1:
            raise ValueError(f"calls must be at least 1, got {calls}")
        self._methods = methods
        self._calls = calls
        self._news = News()
        self._undo: list[Callable[[], None]] = []
        self.strikes = 0
        """How many calls it has struck so far."""
        self.over = False
        """Whether it has ended."""

    def end(self) -> None:
        """Ends it. Does nothing if it has ended."""
        if not self.over:
            self.over = True
            for undo in self._undo:
                undo()

    def when_over(self, undo: Callable[[], None]) -> None:
        """Calls this when it ends."""
        self._undo.append(undo)

    async def struck(self, calls: int = 1) -> None:
        """Waits until it has struck so many calls, in all."""
        await self._news.until(lambda: self.strikes >= calls)

    def strike(self, method: str, request: Message | None = None) -> bool:
        """Tells whether it strikes a call, and counts it if so."""
        if self.over or method not in self._methods or (request is not None and not self.concerns(request)):
            return False
        self.strikes += 1
        if self.strikes == self._calls:
            self.end()
        self._news.tell()
        return True

    def concerns(self, request: Message) -> bool:  # noqa: ARG002 (all, unless a subclass chooses)
        """Tells whether a request is among those that it is for."""
        return True

    async def before(self, request: Message, context: Context) -> Message | None:
        """Does what is to be done before the call is carried out; what it returns is the answer in place of that."""

    async def after(self, response: Message, context: Context) -> None:
        """Does what is to be done before an answer is sent; of a stream, before each."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.end()
