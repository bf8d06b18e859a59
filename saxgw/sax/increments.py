"""Streams in which a model server may take text back, turned into ones that only ever add."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from saxgw.sax.api import StreamItem
from saxgw.sax.errors import Revised

if TYPE_CHECKING:
    from collections.abc import Sequence

_INCOMPLETE: Final = "\ufffd"
"""What decoders write for bytes that are no character, which bytes that follow may make them."""


class Increments:
    """What each step of a stream adds to the text of each sample.

    An incomplete character at the end of a text is held back until it is complete, since a model server replaces it
    then. The texts of a sample, joined, are what the stream says in the end.
    """

    def __init__(self) -> None:
        self._texts: list[str] = []
        """All of each sample's text so far."""
        self._sent: list[int] = []
        """How much of each was given out, in code points."""

    def add(self, items: Sequence[StreamItem]) -> list[StreamItem]:
        """What the items of one step add; raises Revised if they take back what was given out."""
        missing = len(items) - len(self._texts)
        self._texts += [""] * missing
        self._sent += [0] * missing
        return [self._added(sample, item) for sample, item in enumerate(items)]

    def rest(self) -> list[StreamItem]:
        """What was held back, at the end of the stream; empty if that is nothing."""
        if all(sent == len(text) for text, sent in zip(self._texts, self._sent, strict=True)):
            return []
        return [self._given_out(sample, len(text), ()) for sample, text in enumerate(self._texts)]

    def _added(self, sample: int, item: StreamItem) -> StreamItem:
        old, sent = self._texts[sample], self._sent[sample]
        if item.prefix_len == len(old):  # as it nearly always is
            text = old + item.text
        else:
            text = old[: item.prefix_len] + item.text
            if text[:sent] != old[:sent]:
                raise Revised(
                    "the model has taken back text that was sent already; ask for the stream without increments"
                )
        self._texts[sample] = text
        return self._given_out(sample, len(text.rstrip(_INCOMPLETE)), item.scores)

    def _given_out(self, sample: int, until: int, scores: Sequence[float]) -> StreamItem:
        sent = self._sent[sample]
        until = max(until, sent)
        self._sent[sample] = until
        return StreamItem(self._texts[sample][sent:until], sent, scores)
