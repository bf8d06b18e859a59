"""Samples as model servers answer them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from saxgw.sax.api import Sample

if TYPE_CHECKING:
    from collections.abc import Iterable


def to_samples(texts: Iterable[tuple[str, float]]) -> list[Sample]:
    """Returns texts with their scores as samples, in their order.

    Servers of vLLM models add one empty entry to what they generated, which is left out (Sax protocol §5.6).
    """
    samples = [Sample(text, score) for text, score in texts]
    if len(samples) > 1 and samples[-1] == ("", 0.0):
        samples.pop()
    return samples
