"""Whether what is served is ready: one state, looked at now and then, for all who ask and however they ask.

Each subject that somebody asks about (saxgw/rpc/condition.py) is looked at again every few seconds, as long as somebody
does, so that probes cost what lies behind the gateway next to nothing, and all of them are told the same.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final, Self

from saxgw.rpc.condition import Condition, Look, Readiness, Subject, always_ready

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable
    from types import TracebackType

    from google.protobuf.descriptor import MethodDescriptor

    from saxgw.rpc.call import Call
    from saxgw.rpc.endpoint import Interceptor, Scope

INTERVAL_S: Final = 5.0
"""How long after a look at a subject comes the next."""

TIMEOUT_S: Final = 5.0
"""How long a look may take."""

_MAX_SUBJECTS: Final = 256
"""How many subjects are looked at. Anybody may ask about anything, and each costs a question now and then."""

_MAX_WATCHES: Final = 10_000
"""How many watches run. Anybody may watch, for as long as it likes."""

_FORGET_S: Final = 60.0
"""After how long without anybody asking a subject is no longer looked at."""

LEAVING: Final = Condition(Readiness.NOT_READY, "the gateway is shutting down")


class TooManySubjects(Exception):
    """So many subjects are being watched that no other can be, or so often."""


class Health:
    """Looks at what is asked about, from entering to leaving: `async with Health(look) as health`.

    Args:
        look: Finds out how a subject is.
        aliases: Other names of the server itself, such as those of its services.
        canonical: Makes one name of those that mean the same subject.
        interval_s: Seconds between two looks at a subject.
        timeout_s: Seconds that one may take.
    """

    def __init__(
        self,
        look: Look = always_ready,
        *,
        aliases: Iterable[str] = (),
        canonical: Callable[[str], str] = str,
        interval_s: float = INTERVAL_S,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._look = look
        self._aliases = frozenset(aliases)
        self._canonical = canonical
        self._interval_s = interval_s
        self._timeout_s = timeout_s
        self._subjects = {"": Subject("", look, timeout_s)}
        self._watches = 0
        self._leaving = False

    async def __aenter__(self) -> Self:
        self._looker = asyncio.create_task(self._look_again())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._looker.cancel()
        await asyncio.wait([self._looker])
        await asyncio.gather(*(subject.stop() for subject in self._subjects.values()))

    def leave(self) -> None:
        """Makes everything not ready, for good: callers shall go elsewhere."""
        self._leaving = True
        for subject in self._subjects.values():
            subject.tell()

    def answered(self, name: str = "") -> None:
        """Says that what is behind a subject has just answered a call.

        A look that fails after that does not make the subject not ready: model servers go on without their admin.
        """
        if (subject := self._subjects.get(self._canonical(name))) is not None:
            subject.answered()

    async def condition(self, name: str = "") -> Condition:
        """How a subject was when it was last looked at; the first to ask about one waits for the look.

        Raises TooManySubjects.
        """
        if self._leaving:
            return LEAVING
        condition = await self._subject(name).condition()
        return LEAVING if self._leaving else condition  # looking may have taken until after leave()

    async def watch(self, name: str = "") -> AsyncGenerator[Condition]:
        """Yields how a subject is, and again whenever its readiness has changed.

        Raises TooManySubjects, which may be later: what is not there makes room for others.
        """
        if self._watches >= _MAX_WATCHES:
            raise TooManySubjects(f"{self._watches} watches run already, which is the limit")
        subject = self._subject(name)
        subject.watchers += 1
        self._watches += 1
        told: Readiness | None = None
        try:
            while True:
                changed = subject.changed
                condition = await self.condition(name)
                if condition.readiness is not told:
                    told = condition.readiness
                    yield condition
                await changed.wait()
                if self._subjects.get(subject.name) is not subject:
                    raise self._too_many()
        finally:
            subject.watchers -= 1
            self._watches -= 1

    def _subject(self, name: str) -> Subject:
        name = "" if name in self._aliases else self._canonical(name)
        if (subject := self._subjects.get(name)) is None:
            if len(self._subjects) >= _MAX_SUBJECTS:
                self._forget_oldest()
            subject = self._subjects[name] = Subject(name, self._look, self._timeout_s)
        return subject

    def _forget_oldest(self) -> None:
        models = [subject for subject in self._subjects.values() if subject.name]
        # Names of nothing can be made up at will; they must not keep out those of models.
        may_go = [each for each in models if each.is_idle] or [each for each in models if each.is_nothing]
        if not may_go:
            raise self._too_many()
        oldest = min(may_go, key=lambda subject: subject.asked_at)
        self._forget(oldest)
        oldest.tell()

    def _too_many(self) -> TooManySubjects:
        return TooManySubjects(f"{len(self._subjects)} names are being watched already, which is the limit")

    async def _look_again(self) -> None:
        while True:
            await asyncio.sleep(self._interval_s)
            long_ago = time.monotonic() - _FORGET_S
            for subject in list(self._subjects.values()):
                if subject.is_idle and subject.asked_at < long_ago:
                    self._forget(subject)
            await asyncio.gather(*(each.look_again() for each in self._subjects.values() if each.was_looked_at))

    def _forget(self, subject: Subject) -> None:
        subject.forget()
        if subject.name:
            del self._subjects[subject.name]


def note_answers(health: Health, methods: Iterable[str], subject_of: Callable[[Call], str]) -> Interceptor:
    """Tells `health` of calls that have succeeded.

    `methods` are the names of those whose success shows that what is behind the server is well; `subject_of` tells the
    subject, beside the server itself, that a call was about.
    """
    telling = frozenset(methods)

    def interceptor(method: MethodDescriptor) -> Scope | None:
        return (lambda call: _Noting(health, subject_of, call)) if method.name in telling else None

    return interceptor


class _Noting:
    __slots__ = ("_call", "_health", "_subject_of")

    def __init__(self, health: Health, subject_of: Callable[[Call], str], call: Call) -> None:
        self._health = health
        self._subject_of = subject_of
        self._call = call

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._health.answered()
            self._health.answered(self._subject_of(self._call))
