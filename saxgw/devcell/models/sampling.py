"""Drawing tokens from an n-gram model."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate
from math import log
from typing import TYPE_CHECKING

from saxgw.devcell.models.tokens import END, Boundary, boundary_after

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator, Sequence

    from saxgw.devcell.models.ngram import Candidate, NgramModel


@dataclass(frozen=True, slots=True)
class Decoding:
    """How to draw a token. The filters apply in this order: temperature, top-k, top-p."""

    temperature: float
    """Probabilities are raised to the power 1 / temperature; 0 always takes the likeliest token."""

    top_k: int
    """Only so many of the likeliest tokens are drawn from; at least 1."""

    top_p: float
    """Of those, the likeliest that together have this share of their probability; above 0, at most 1."""

    max_steps: int
    """Tokens in a sample, at most."""

    def draw(self, candidates: Sequence[Candidate], rng: random.Random) -> Candidate:
        """Draws one of the candidates, which are the `top_k` likeliest tokens, likeliest first."""
        if self.temperature == 0 or len(candidates) == 1:
            return candidates[0]
        best = candidates[0].probability
        # Relative to the best, which stays 1: the powers of small temperatures would underflow otherwise.
        power = 1 / self.temperature
        sums = list(accumulate((candidate.probability / best) ** power for candidate in candidates))
        # The token with which the share is reached is still in.
        last = min(bisect_right(sums, self.top_p * sums[-1]), len(sums) - 1) if self.top_p < 1 else len(sums) - 1
        return candidates[bisect_right(sums, rng.random() * sums[last], hi=last)]


@dataclass(frozen=True, slots=True)
class Start:
    """The place at the end of a prompt."""

    tokens: Sequence[str]
    """The prompt's tokens, END before them."""

    boundary: Boundary
    """What the prompt asks of the first token."""

    log_condition: float
    """Logarithm of the probability that the first token meets an OPEN_SPACE boundary; 0 for the others."""


def sample(model: NgramModel, start: Start, decoding: Decoding, rng: random.Random) -> Iterator[tuple[str, float]]:
    """Yields the tokens of one sample, each with its log-probability under the model, whatever the filters were.

    A sample has at least one token. It ends before END, which is not part of it and not counted in its score. Tokens
    outside the vocabulary, and those that would not be cut off at this place again, are never drawn.
    """
    context = model.context(start.tokens)
    boundary = start.boundary
    log_condition = start.log_condition
    for step in range(decoding.max_steps):
        if step == 0:
            candidates: Sequence[Candidate] = model.candidates(context, boundary, decoding.top_k + 1)
            candidates = [candidate for candidate in candidates if candidate.token != END][: decoding.top_k]
            if not candidates:
                return
        else:
            candidates = model.candidates(context, boundary, decoding.top_k)
        token, probability = decoding.draw(candidates, rng)
        if token == END:
            return
        yield token, log(probability) - log_condition
        log_condition = 0.0
        context = model.context((*context, token))
        boundary = boundary_after(token)
