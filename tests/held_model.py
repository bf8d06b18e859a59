"""A model of a dev cell that goes on when the test says so, and writes what the test chooses.

    held = HeldModel(EMOJI_REVISED)
    async with DevCell(models=held.classes) as cell, connect(cell.root) as sax:
        await sax.publish(model, HELD, "None", 1)
        call = asyncio.create_task(sax.generate(model, "x"))
        await held.until(lambda: held.running == 1)
        held.release(2)
        await held.until(lambda: held.asked == 3)   # two steps were made, and a third is waited for
        call.cancel()
        await held.until(lambda: held.left == 1)

It needs no threads, so any number of calls may be held, and a cell that stops ends them all. The cell must run on the
test's own event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, Self, TypeAlias

from saxgw.devcell import ExtraInput, LanguageModel, Piece, Settings
from saxgw.devcell.news import News

HELD: Final = "test.Held"
"""The model path."""

TIMEOUT_S: Final = 60.0
"""No test waits nearly as long; without it a failure would be a test that hangs."""

Step: TypeAlias = Sequence[Piece]

PLAIN: Final[Sequence[Step]] = [[Piece("Once", -1.0)], [Piece(" upon", -2.0)], [Piece(" a time", -0.5)]]
"""Words, one after another."""

EMOJI_REVISED: Final[Sequence[Step]] = [
    [Piece("a ", -1.0)],
    [Piece("\N{REPLACEMENT CHARACTER}", -2.0)],
    [Piece("\N{RABBIT FACE}", -0.25, prefix_len=2)],
    [Piece("!", -0.5)],
]
"""The bytes of an emoji come in two steps: what stood for the first of them is taken back."""

ZWJ_SPLIT: Final[Sequence[Step]] = [
    [Piece("\N{MAN}", -1.0)],
    [Piece("\N{ZERO WIDTH JOINER}", -1.0)],
    [Piece("\N{WOMAN}\N{ZERO WIDTH JOINER}", -1.0)],
    [Piece("\N{GIRL}", -1.0)],
]
"""A family, one character to the reader, in four steps."""

ASTRAL: Final[Sequence[Step]] = [
    [Piece("\N{MATHEMATICAL BOLD CAPITAL A}\N{MUSICAL SYMBOL G CLEF}", -1.0)],
    [Piece("é\N{CJK UNIFIED IDEOGRAPH-20000}", -1.0)],
    [Piece("\N{LINEAR B SYLLABLE B008 A}", -1.0, prefix_len=3)],
]
"""Characters of two UTF-16 units and four UTF-8 bytes; one code point of them is taken back."""

EMPTY_PIECES: Final[Sequence[Step]] = [
    [Piece("", -0.5)],
    [Piece("x", -1.0)],
    [Piece("", -0.5)],
    [Piece("", 0.0, prefix_len=0)],
    [Piece("y", -1.0)],
    [Piece("", 0.0)],
]
"""Steps that add nothing, and one that takes everything back."""

SAMPLES: Final[Sequence[Step]] = [
    [Piece("a", -3.0), Piece("\N{RABBIT FACE}", -1.0), Piece("", -2.0)],
    [Piece("b", -3.0), Piece("", 0.0), Piece("z", -1.0)],
    [Piece("c", -3.0, prefix_len=1), Piece("", 0.0), Piece("Z", -1.0, prefix_len=0)],
]
"""Three samples: the first is the worst, the second the best and ends early, the third takes its text back."""

STREAMS: Final[Mapping[str, Sequence[Step]]] = {
    "plain": PLAIN,
    "emoji revised": EMOJI_REVISED,
    "ZWJ split": ZWJ_SPLIT,
    "astral": ASTRAL,
    "empty pieces": EMPTY_PIECES,
    "samples": SAMPLES,
}
"""All of them, for tests that run with each."""


def written(steps: Iterable[Step]) -> list[tuple[str, float]]:
    """Returns what steps add up to: text and score of each sample, in the order of the stream."""
    samples: list[tuple[str, float]] = []
    for step in steps:
        samples = samples or [("", 0.0) for _ in step]
        samples = [
            (text[: piece.prefix_len] + piece.text, score + piece.score)
            for (text, score), piece in zip(samples, step, strict=True)
        ]
    return samples


class HeldModel:
    """What a test holds the model by: steps to write, a gate for them, and counts of what happens.

    Args:
        steps: What each call writes. It may be infinite, such as `itertools.repeat(step)`. An exception among the
            steps is raised in its turn: ValueError ends a call with INVALID_ARGUMENT, any other with INTERNAL.
    """

    def __init__(self, steps: Iterable[Step | Exception] = PLAIN) -> None:
        self.steps = steps
        """What calls write that begin from now on; may be changed at any time."""
        self.asked = 0
        """Steps asked for, by all calls so far; those that wait at the gate are among them."""
        self.running = 0
        """Calls that have begun and are not over."""
        self.ended = 0
        """Calls that came to the end of their steps, be that an exception."""
        self.left = 0
        """Calls that were left by their caller, by cancelling, by a deadline or by hanging up."""
        self._news = News()
        self._passes = asyncio.Semaphore(0)
        self._open = False

    @property
    def classes(self) -> dict[str, type[LanguageModel]]:
        """For `DevCell(models=…)`: the class, to be published with the model path HELD."""
        return {HELD: type("Held", (_Held,), {"held": self})}

    def release(self, steps: int = 1) -> None:
        """Lets so many steps pass, those first that were asked for first, of whichever call."""
        for _ in range(steps):
            self._passes.release()

    def open(self) -> None:
        """Lets everything pass from now on."""
        self._open = True
        self._passes.release()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Waits until a condition on the counts holds."""
        async with asyncio.timeout(TIMEOUT_S):
            await self._news.until(condition)

    async def write(self) -> AsyncGenerator[Step, None]:
        """One call."""
        self._count(running=1)
        finished = False
        try:
            for step in self.steps:
                self._count(asked=1)
                await self._pass()
                if isinstance(step, Exception):
                    finished = True
                    raise step
                yield step
            finished = True
        finally:
            self._count(running=-1, ended=int(finished), left=int(not finished))

    async def _pass(self) -> None:
        await self._passes.acquire()
        if self._open:
            self._passes.release()

    def _count(self, **more: int) -> None:
        for name, number in more.items():
            setattr(self, name, getattr(self, name) + number)
        self._news.tell()


@dataclass(frozen=True, kw_only=True)
class _Settings(Settings):
    BATCH_SIZE: int = 10_000
    """More than tests have calls; publish with BATCH_SIZE and MAX_LIVE_BATCHES for less."""


class _Held(LanguageModel):
    held: ClassVar[HeldModel]
    settings_class: ClassVar[type[Settings]] = _Settings

    @classmethod
    def load(cls, checkpoint: str, settings: Settings) -> Self:  # noqa: ARG003 (it has none of its own)
        return cls()

    @property
    def extra_inputs(self) -> Mapping[str, ExtraInput]:
        return {"temperature": 1.0}

    def generate(
        self,
        text: str,  # noqa: ARG002 (the test chooses the answer, whatever the question is)
        extra_inputs: Mapping[str, ExtraInput],  # noqa: ARG002 (the same)
    ) -> AsyncGenerator[Step, None]:
        return self.held.write()

    def score(
        self,
        prefix: str,  # noqa: ARG002 (as above)
        suffixes: Sequence[str],
        extra_inputs: Mapping[str, ExtraInput],  # noqa: ARG002 (as above)
    ) -> list[float]:
        return [-float(len(suffix)) for suffix in suffixes]
