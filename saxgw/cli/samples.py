"""How samples of a model are shown to people."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from saxgw.cli.output import Output
    from saxgw.sax import Sample, StreamItem


class Samples:
    """Writes samples one after another: the text, then the score; if there are several, with a heading each.

        [1 of 2]
        Alice was late.
        score -3.2500

    Args:
        out: Where to.
        most: How many to show at most; None is all.
        terse: Whether to write the texts only.
    """

    def __init__(self, out: Output, most: int | None, *, terse: bool) -> None:
        self._out = out
        self._most = most
        self._terse = terse
        self._texts: list[list[str]] = []
        self._scores: list[float] = []

    def show(self, samples: Sequence[Sample]) -> None:
        """Writes samples that are complete."""
        for at, (text, score) in enumerate(samples):
            self._head(at, len(samples))
            self._out.write(text)
            self._tail(score)

    def add(self, items: Sequence[StreamItem]) -> None:
        """Takes a step of a stream that only adds; writes what there is of the first sample and keeps the others."""
        if not self._scores:
            shown = len(items) if self._most is None else min(self._most, len(items))
            self._texts = [[] for _ in range(shown)]
            self._scores = [0.0] * shown
            self._head(0, shown)
        for at, item in enumerate(items[: len(self._scores)]):
            self._scores[at] += sum(item.scores)
            if at == 0:
                self._out.write(item.text)
            else:
                self._texts[at].append(item.text)

    def finish(self) -> None:
        """Writes what was kept, and the scores, at the end of the stream."""
        for at, score in enumerate(self._scores):
            if at > 0:
                self._head(at, len(self._scores))
                self._out.write("".join(self._texts[at]))
            self._tail(score)

    def _head(self, at: int, count: int) -> None:
        if count > 1 and not self._terse:
            self._out.line(f"[{at + 1} of {count}]" if at == 0 else f"\n[{at + 1} of {count}]")

    def _tail(self, score: float) -> None:
        self._out.end_line()
        if not self._terse:
            self._out.line(f"score {score:.4f}")
