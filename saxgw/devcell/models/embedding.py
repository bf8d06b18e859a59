"""Vectors of texts: a weighted sum of vectors of their words, each made of how it is written and what follows it.

Both are sets of features, words and parts of words, and each feature has a random direction that its hash decides
(random indexing; Sahlgren 2005). So words that share letters are similar, and words of the training text that are used
alike. Frequent words weigh little (smooth inverse frequency; Arora, Liang & Ma 2017).
"""

from __future__ import annotations

from array import array
from collections import Counter
from functools import lru_cache
from hashlib import blake2b
from math import log, sqrt
from typing import TYPE_CHECKING, Final

from saxgw.devcell.models.tokens import END, UNKNOWN, tokenize

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from saxgw.devcell.models.ngram import NgramModel

DIMENSIONS: Final = 256
"""Length of a vector."""

_FREQUENT: Final = 1e-3
"""A word of this probability weighs half of what a very rare one does."""

_CACHED_WORDS: Final = 4096
"""Words whose vectors are remembered, of 2 KiB each."""

_COORDINATES: Final = 6
"""Of the direction of a feature, how many are not 0; two bytes of its hash decide each."""


class Embedding:
    """Embeds texts by what an n-gram model has learned. May be used from several threads."""

    def __init__(self, model: NgramModel) -> None:
        self._model = model
        self._word = lru_cache(_CACHED_WORDS)(self._word_vector)

    def embed(self, text: str) -> list[float]:
        """Returns a vector of length 1; raises ValueError for a text of nothing but white space.

        Upper case and the order of words make no difference, nor does punctuation beside words.
        """
        tokens = [stripped for token in tokenize(text) if (stripped := token.strip())]
        words = [token for token in tokens if any(map(str.isalnum, token))]
        if not tokens:
            raise ValueError("there is no text to embed")
        total = [0.0] * DIMENSIONS
        for word, count in Counter(token.casefold() for token in words or tokens).items():
            _add(self._word(word), count, total)
        return _normal(total)

    def _word_vector(self, word: str) -> Sequence[float]:
        """Returns the vector of a word without its space, in lower case; longer for rarer words."""
        capitalized = word.capitalize()
        spaced_or_not = dict.fromkeys((f" {word}", word, f" {capitalized}", capitalized))
        forms = [form for form in spaced_or_not if self._model.known(form) == form]
        frequency = sum(self._model.probability(form, ()) for form in forms)
        weight = _FREQUENT / (_FREQUENT + frequency)
        vector = [0.0] * DIMENSIONS
        _add(_direction((feature, 1.0) for feature in _spelling(word)), weight, vector)
        if forms:
            _add(_direction(self._usage(forms)), weight, vector)
        return array("d", vector)

    def _usage(self, forms: Iterable[str]) -> Iterator[tuple[str, float]]:
        """Yields the tokens that follow a word oftener than chance has it, and how much so."""
        for form in forms:
            for token, probability in self._model.followers(form):
                if token not in (END, UNKNOWN):
                    surprise = log(probability / self._model.probability(token, ()))
                    if surprise > 0:
                        yield token, surprise


def _spelling(word: str) -> Iterator[str]:
    """Yields a word, and all three letters in a row of it, marked at its ends."""
    marked = f"<{word}>"
    yield marked
    for start in range(len(marked) - 2):
        yield marked[start : start + 3]


def _direction(features: Iterable[tuple[str, float]]) -> list[float]:
    """Returns the direction of weighted features together, as a vector of length 1."""
    vector = [0.0] * DIMENSIONS
    for feature, weight in features:
        digest = blake2b(feature.encode("utf-8", "surrogatepass"), digest_size=2 * _COORDINATES).digest()
        for place, sign in zip(digest[::2], digest[1::2], strict=True):
            vector[place] += weight if sign & 1 else -weight
    return _normal(vector)


def _add(vector: Sequence[float], factor: float, total: list[float]) -> None:
    for place, value in enumerate(vector):
        total[place] += factor * value


def _normal(vector: list[float]) -> list[float]:
    length = sqrt(sum(value * value for value in vector))
    return [value / length for value in vector] if length else vector
