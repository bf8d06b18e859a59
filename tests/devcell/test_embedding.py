"""Vectors of texts by the built-in model: alike for texts that are alike."""

from __future__ import annotations

import os
import subprocess
import sys
from math import hypot

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saxgw.devcell.models.ngram_lm import NgramLm, NgramLmSettings


@pytest.fixture(scope="module")
def lm() -> NgramLm:
    return NgramLm.load("None", NgramLmSettings())


def similarity(lm: NgramLm, one: str, other: str) -> float:
    first, second = (lm.embed(text, lm.extra_inputs) for text in (one, other))
    return sum(a * b for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize(
    ("text", "similar", "unrelated"),
    [
        (
            "The White Rabbit was late for the Duchess.",
            "The rabbit feared to be late, and to keep the Duchess waiting.",
            "They played croquet with flamingoes and hedgehogs.",
        ),
        (
            "The Hatter drinks tea with the Dormouse.",
            "A mad tea-party: Dormouse, Hatter and March Hare.",
            "The Knave of Hearts was tried before the King.",
        ),
        ("How do I get a refund?", "I want my money refunded.", "What is the weather tomorrow?"),
        ("a database for vectors", "databases of vector data", "the violin concerto"),
        ("日本語 の 本", "日本語 の 新聞", "русский язык"),
    ],
)
def test_texts_that_say_alike_are_more_similar(lm: NgramLm, text: str, similar: str, unrelated: str) -> None:
    assert similarity(lm, text, similar) > similarity(lm, text, unrelated) + 0.1


@pytest.mark.parametrize(
    ("word", "alike", "other"),
    [("he", "she", "tea"), ("queen", "king", "little"), ("went", "ran", "cat"), ("do", "know", "rabbit")],
)
def test_words_that_are_used_alike_are_more_similar(lm: NgramLm, word: str, alike: str, other: str) -> None:
    """They have no letters in common to speak of; the model has learned it from its text."""
    assert similarity(lm, word, alike) > similarity(lm, word, other)


def test_what_makes_no_difference(lm: NgramLm) -> None:
    texts = ("Curiouser and curiouser", "curiouser CURIOUSER and!", "\n  and curiouser,  curiouser. ")
    for text in texts:
        assert similarity(lm, texts[0], text) == pytest.approx(1)


def test_frequent_words_weigh_little(lm: NgramLm) -> None:
    assert similarity(lm, "the and of a Dormouse", "Dormouse") > 0.9


@given(st.text())
def test_any_text_has_a_vector_of_length_1_unless_it_is_blank(lm: NgramLm, text: str) -> None:
    if text.strip():
        vector = lm.embed(text, lm.extra_inputs)
        assert len(vector) == 256
        assert hypot(*vector) == pytest.approx(1)
    else:
        with pytest.raises(ValueError, match="there is no text to embed"):
            lm.embed(text, lm.extra_inputs)


def test_every_process_gives_the_same_vector(lm: NgramLm) -> None:
    """Python's own hashes differ from one to the next."""
    program = (
        "from saxgw.devcell.models.ngram_lm import NgramLm, NgramLmSettings\n"
        "lm = NgramLm.load('None', NgramLmSettings())\n"
        "print(lm.embed('The White Rabbit', lm.extra_inputs))"
    )
    printed = [
        subprocess.run(  # noqa: S603 - our own interpreter
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert printed == [f"{lm.embed('The White Rabbit', lm.extra_inputs)}\n"] * 2
