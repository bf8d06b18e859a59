"""The condition of a subject: what it may be, and how it is kept, looked at once for all who ask.

A subject is whatever is asked about, named as grpc.health.v1 names services: the empty name is the server itself.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from enum import Enum
from typing import Final, NamedTuple, TypeAlias

_log = logging.getLogger("saxgw.health")


class Readiness(Enum):
    """What a subject may be."""

    READY = "ready"
    NOT_READY = "not ready"
    UNKNOWN = "unknown"
    """There is nothing of that name."""


class Condition(NamedTuple):
    """How a subject is."""

    readiness: Readiness
    reason: str = ""
    """Why it is not ready, for people."""


READY: Final = Condition(Readiness.READY)

Look: TypeAlias = Callable[[str], Awaitable[Condition]]
"""Finds out how a subject is; may take long and may be cancelled."""


async def always_ready(subject: str) -> Condition:
    """The look of a server with nothing behind it: it is ready, and nothing else is known."""
    return Condition(Readiness.UNKNOWN, f'there is nothing called "{subject}"') if subject else READY


class Subject:
    """One subject, as it was when it was last looked at.

    Args:
        name: What it is called.
        look: Finds out how it is.
        timeout_s: Seconds that a look may take; one that takes longer makes it not ready, as one that fails does.
    """

    def __init__(self, name: str, look: Look, timeout_s: float) -> None:
        self.name: Final = name
        self.asked_at = 0.0
        """When somebody asked last, in seconds of time.monotonic()."""
        self.watchers = 0
        """How many wait to be told of changes."""
        self.changed = asyncio.Event()
        """Is set at the next change, and then replaced by another."""
        self._look = look
        self._timeout_s = timeout_s
        self._condition: Condition | None = None
        self._looking: asyncio.Future[None] | None = None
        self._answered = False

    @property
    def was_looked_at(self) -> bool:
        """Whether its condition is known, so that another look may change it."""
        return self._condition is not None

    @property
    def is_idle(self) -> bool:
        """Whether nobody waits to be told of it."""
        return not self.watchers and self._looking is None

    @property
    def is_nothing(self) -> bool:
        """Whether there is nothing of that name, however many wait for it."""
        return self._looking is None and self._condition is not None and self._condition.readiness is Readiness.UNKNOWN

    async def condition(self) -> Condition:
        """How it was when it was last looked at; the first to ask waits for the look."""
        self.asked_at = time.monotonic()
        while (condition := self._condition) is None:  # again, if it was forgotten just after it had been looked at
            await self.look_again()
        return condition

    async def look_again(self) -> None:
        """Looks, once for all who want to know at the same time; who leaves meanwhile does not end it."""
        if self._looking is None:
            self._looking = asyncio.ensure_future(self._find_out())
        await asyncio.shield(self._looking)

    async def stop(self) -> None:
        """Gives up looking, if a look is under way."""
        if (looking := self._looking) is not None:
            looking.cancel()
            await asyncio.wait([looking])

    def answered(self) -> None:
        """Says that what is behind it has just answered a call: if the next look fails, it is ready all the same."""
        self._answered = True

    def forget(self) -> None:
        """Has the next to ask wait for a look."""
        self._condition = None

    def tell(self) -> None:
        """Wakes all who wait for a change."""
        self.changed.set()
        self.changed = asyncio.Event()

    async def _find_out(self) -> None:
        try:
            async with asyncio.timeout(self._timeout_s):
                condition = await self._look(self.name)
        except TimeoutError:
            condition = Condition(Readiness.NOT_READY, f"no answer within {self._timeout_s:g} s")
        except Exception:  # noqa: BLE001 - whatever it is, probes are answered, and the next look comes
            _log.exception("looking whether %r is ready failed", self.name)
            condition = Condition(Readiness.NOT_READY, "the gateway failed unexpectedly; its log tells more")
        finally:
            self._looking = None
        if condition.readiness is Readiness.NOT_READY and self._answered:
            condition = READY
        self._answered = False
        if self._condition != condition:
            self._condition = condition
            self.tell()
