"""The mathematics of the n-gram model."""

from __future__ import annotations

import random
from math import exp, fsum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saxgw.devcell.models.ngram import Candidate, NgramModel
from saxgw.devcell.models.sampling import Decoding
from saxgw.devcell.models.spelling import Spelling
from saxgw.devcell.models.tokens import END, UNKNOWN, Boundary, tokenize

TEXTS = ["the cat sat.", "the cat ran.", "a cat and a dog sat.", "the dog ran, and the cat", "a dog!"]


@pytest.fixture(scope="module")
def model() -> NgramModel:
    return NgramModel(tokenize(text) for text in TEXTS)


@given(st.lists(st.sampled_from([END, *(token for text in TEXTS for token in tokenize(text)), "unseen"]), max_size=5))
def test_next_token_probabilities_sum_to_1_after_any_text(model: NgramModel, history: list[str]) -> None:
    context = model.context(history)
    tokens = {*model.vocabulary, UNKNOWN}
    assert fsum(model.probability(token, context) for token in tokens) == pytest.approx(1, abs=1e-12)
    assert all(model.probability(token, context) > 0 for token in tokens)


@pytest.mark.parametrize("texts", [[["a"]], [["a", "a", "a"]], [["a"], ["a"]], [[" "]]], ids=repr)
def test_the_smallest_texts_make_a_model_too(texts: list[list[str]]) -> None:
    model = NgramModel(texts)
    for history in ([], [END], ["a"], ["b"]):
        context = model.context(history)
        total = fsum(model.probability(token, context) for token in {*model.vocabulary, UNKNOWN})
        assert total == pytest.approx(1, abs=1e-12)


def test_a_longer_context_that_was_seen_counts(model: NgramModel) -> None:
    assert model.context([END, "the", " cat"]) == (END, "the", " cat")
    assert model.context(["dog", "the", " sat"]) == (" sat",)
    assert model.context([" cat", "unseen"]) == ()
    seen = model.probability(" sat", model.context([END, "the", " cat"]))
    assert seen > model.probability(" dog", model.context([END, "the", " cat"]))


@given(
    st.lists(st.sampled_from([END, "the", "a", " cat", " dog", " sat", "."]), max_size=4),
    st.sampled_from(Boundary),
    st.integers(1, 40),
)
def test_candidates_are_the_likeliest_tokens(
    model: NgramModel, history: list[str], boundary: Boundary, limit: int
) -> None:
    context = model.context(history)
    allowed = [token for token in model.vocabulary if boundary.allows(token)]
    expected = sorted((model.probability(token, context) for token in allowed), reverse=True)[:limit]
    candidates = model.candidates(context, boundary, limit)
    assert [candidate.probability for candidate in candidates] == pytest.approx(expected)
    for token, probability in candidates:
        assert boundary.allows(token)
        assert probability == pytest.approx(model.probability(token, context))


def test_the_probability_of_an_open_space_is_that_of_all_tokens_with_one(model: NgramModel) -> None:
    for history in ([END], ["the"], [END, "the", " cat"], ["unseen"]):
        context = model.context(history)
        expected = fsum(model.probability(token, context) for token in model.vocabulary if token.startswith(" "))
        assert model.open_space_probability(context) == pytest.approx(expected)


def test_spelling_is_a_distribution_over_characters() -> None:
    spelling = Spelling(["ab", "a"])
    unseen = (0x110000 - 0x800 - 2) * spelling.probability("é")
    assert fsum([spelling.probability("a"), spelling.probability("b"), spelling.probability(""), unseen]) == (
        pytest.approx(1)
    )
    assert spelling.probability("a") > spelling.probability("b") > spelling.probability("é")
    assert exp(spelling.log_probability("ab")) == pytest.approx(
        spelling.probability("a") * spelling.probability("b") * spelling.probability("")
    )


CANDIDATES = [Candidate("a", 0.4), Candidate("b", 0.2), Candidate("c", 0.1), Candidate("d", 0.1)]


def frequencies(decoding: Decoding, draws: int = 20_000) -> dict[str, float]:
    rng = random.Random(1)  # noqa: S311 (no secret)
    drawn = [decoding.draw(CANDIDATES[: decoding.top_k], rng).token for _ in range(draws)]
    return {token: drawn.count(token) / draws for token in "abcd"}


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p", "expected"),
    [
        (1.0, 4, 1.0, [4 / 8, 2 / 8, 1 / 8, 1 / 8]),
        (0.5, 4, 1.0, [16 / 22, 4 / 22, 1 / 22, 1 / 22]),
        (2.0, 2, 1.0, [2**0.5 / (1 + 2**0.5), 1 / (1 + 2**0.5), 0, 0]),
        (1.0, 2, 1.0, [4 / 6, 2 / 6, 0, 0]),
        (1.0, 4, 0.7, [4 / 6, 2 / 6, 0, 0]),
        (1.0, 4, 0.8, [4 / 7, 2 / 7, 1 / 7, 0]),
        (0.5, 4, 0.7, [1, 0, 0, 0]),
        (1.0, 3, 0.01, [1, 0, 0, 0]),
        (0.0, 4, 1.0, [1, 0, 0, 0]),
        (1e-6, 4, 1.0, [1, 0, 0, 0]),
        (1.0, 1, 1.0, [1, 0, 0, 0]),
    ],
)
def test_temperature_and_filters(temperature: float, top_k: int, top_p: float, expected: list[float]) -> None:
    decoding = Decoding(temperature=temperature, top_k=top_k, top_p=top_p, max_steps=1)
    assert list(frequencies(decoding).values()) == pytest.approx(expected, abs=0.015)
