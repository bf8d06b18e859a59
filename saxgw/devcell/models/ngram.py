"""An n-gram model of tokens with interpolated Kneser–Ney smoothing (Chen & Goodman 1999, §2.7).

A context that was seen gives each token that was seen after it

    P(token | context) = (count - D) / total + backoff · P(token | context without its first token)

and every other token `backoff · P(token | shorter context)`. D, the discount, is estimated for each length of context,
and `backoff` is what discounting freed, so that the probabilities after any context sum to 1. The shortest context is
empty; what discounting freed there is the probability of UNKNOWN, any token outside the vocabulary.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from saxgw.devcell.models.tokens import END, UNKNOWN, Boundary

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

ORDER: Final = 4
"""Tokens in the longest n-gram; a context has up to one less."""

_CACHED_CANDIDATES: Final = 4096
"""Places in texts whose likeliest continuations are remembered."""

Context: TypeAlias = tuple[str, ...]


class Candidate(NamedTuple):
    """A token that may come next."""

    token: str
    probability: float


class _Node:
    """What was seen after one context: the full probability of each token, and the factor for all others."""

    __slots__ = ("backoff", "probabilities", "rankings")

    def __init__(self, probabilities: dict[str, float], backoff: float) -> None:
        self.probabilities = probabilities
        self.backoff = backoff
        self.rankings: dict[Boundary, list[Candidate]] = {}

    def ranking(self, boundary: Boundary) -> list[Candidate]:
        """Returns the tokens that the boundary allows, likeliest first, UNKNOWN left out."""
        if boundary not in self.rankings:
            allowed = [
                Candidate(token, probability)
                for token, probability in self.probabilities.items()
                if token != UNKNOWN and boundary.allows(token)
            ]
            self.rankings[boundary] = sorted(allowed, key=_by_probability)
        return self.rankings[boundary]


class NgramModel:
    """The model of a training text. It does not change once it is made, and may be used from several threads.

    Args:
        texts: Texts of canonical tokens; the model learns that END follows each.
    """

    def __init__(self, texts: Iterable[list[str]]) -> None:
        stream = [END] * (ORDER - 1)
        for tokens in texts:
            stream += tokens
            stream.append(END)
        # Kneser and Ney: only the longest n-grams are counted in the text; a shorter one counts in how many it ends.
        counts = [Counter(zip(*(stream[start:] for start in range(ORDER)), strict=False))]
        for _ in range(1, ORDER):
            counts.append(Counter([ngram[1:] for ngram in counts[-1]]))
        self._nodes: dict[Context, _Node] = {}
        for ngrams in reversed(counts):
            self._add(ngrams)
        self.candidates = lru_cache(_CACHED_CANDIDATES)(self._candidates)

    def _add(self, ngrams: Counter[Context]) -> None:
        followers: dict[Context, dict[str, int]] = defaultdict(dict)
        for ngram, count in ngrams.items():
            followers[ngram[:-1]][ngram[-1]] = count
        discount = _discount(ngrams)
        for context, after in followers.items():
            total = sum(after.values())
            backoff = discount * len(after) / total
            if context:
                # Whatever follows a context follows the shorter one too, so its probability there is in the table.
                shorter = self._nodes[context[1:]].probabilities
                probabilities = {
                    token: (count - discount) / total + backoff * shorter[token] for token, count in after.items()
                }
            else:
                probabilities = {token: (count - discount) / total for token, count in after.items()}
                probabilities[UNKNOWN] = backoff
            self._nodes[context] = _Node(probabilities, backoff)

    @property
    def vocabulary(self) -> frozenset[str]:
        """Every token of the training text, and END."""
        return frozenset(self._nodes[()].probabilities) - {UNKNOWN}

    def known(self, token: str) -> str:
        """Returns the token, or UNKNOWN if it is outside the vocabulary."""
        return token if token in self._nodes[()].probabilities else UNKNOWN

    def context(self, tokens: Sequence[str]) -> Context:
        """Returns the longest context that was seen, of those that `tokens`, the text so far, ends with."""
        context = tuple(map(self.known, tokens[1 - ORDER :]))
        while context not in self._nodes:
            context = context[1:]
        return context

    def probability(self, token: str, context: Context) -> float:
        """Returns the probability that `token` comes next.

        Args:
            token: A token of the vocabulary, END or UNKNOWN.
            context: As `context` returns it.
        """
        weight = 1.0
        for node in self._nodes_of(context):
            if (probability := node.probabilities.get(token)) is not None:
                return weight * probability
            weight *= node.backoff
        raise KeyError(token)

    def followers(self, token: str) -> Iterable[tuple[str, float]]:
        """Returns the tokens that were seen after a token, UNKNOWN apart, and their probabilities after it."""
        node = self._nodes.get((token,))
        return node.probabilities.items() if node else ()

    def open_space_probability(self, context: Context) -> float:
        """Returns the probability that a token of the vocabulary that begins with a space comes next."""
        total = 0.0
        weight = 1.0
        seen: dict[str, float] = {}
        for node in self._nodes_of(context):
            own = node.probabilities
            total += weight * sum(p for token, p in own.items() if token.startswith(" ") and token not in seen)
            weight *= node.backoff
            seen = own
        return total

    def _candidates(self, context: Context, boundary: Boundary, limit: int) -> tuple[Candidate, ...]:
        """Returns the `limit` likeliest tokens of the vocabulary that the boundary allows, likeliest first.

        `candidates`, which callers use, remembers the results.
        """
        found: list[Candidate] = []
        weight = 1.0
        seen: dict[str, float] = {}
        for node in self._nodes_of(context):
            # Among the best of all contexts are at most `limit` of each; what a longer context knows, it knows better.
            ranking = (one for one in node.ranking(boundary) if one.token not in seen)
            found += [Candidate(token, weight * probability) for token, probability in islice(ranking, limit)]
            weight *= node.backoff
            seen = node.probabilities
        found.sort(key=_by_probability)
        return tuple(found[:limit])

    def _nodes_of(self, context: Context) -> Iterator[_Node]:
        """Yields the nodes of a context and of all shorter ones; each knows all tokens that the one before knows."""
        for start in range(len(context) + 1):
            yield self._nodes[context[start:]]


def _by_probability(candidate: Candidate) -> float:
    return -candidate.probability


def _discount(ngrams: Counter[Context]) -> float:
    """The estimate of Ney, Essen & Kneser from the numbers of n-grams seen once and twice, kept off its extremes."""
    of_count = Counter(ngrams.values())
    once, twice = of_count[1], of_count[2]
    return min(max(once / (once + 2 * twice), 0.1), 0.9) if once else 0.5
