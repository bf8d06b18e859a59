"""The probability of writing a token that is not in the vocabulary, character by character."""

from __future__ import annotations

from collections import Counter
from math import log
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

_UNICODE_SCALARS: Final = 0x110000 - 0x800
"""How many characters a text may be made of: all code points but the surrogates."""

_STOP: Final = ""


class Spelling:
    """A distribution over strings: independent characters, then a stop; unseen characters share what is left.

    It gives some of its mass to words of the vocabulary too, which are never spelled. That mass is lost, so scores of
    texts with unknown words are a little too low, as they are in every open-vocabulary model of this kind.
    """

    def __init__(self, words: Iterable[str]) -> None:
        counts = Counter(character for word in words for character in (*word, _STOP))
        total = counts.total() + len(counts)
        self._probabilities = {character: count / total for character, count in counts.items()}
        # As Witten and Bell do it: as much mass for what is new as there were kinds of characters.
        self._unseen = len(counts) / total / (_UNICODE_SCALARS + 1 - len(counts))

    def probability(self, character: str) -> float:
        """Returns the probability of one character, or of the stop, which is ""."""
        return self._probabilities.get(character, self._unseen)

    def log_probability(self, word: str) -> float:
        """Returns the natural logarithm of the probability of `word` and the stop behind it."""
        return sum(log(self.probability(character)) for character in (*word, _STOP))
