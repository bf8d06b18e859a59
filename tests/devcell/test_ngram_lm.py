"""The built-in language model."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from math import exp
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saxgw.devcell import ExtraInput
from saxgw.devcell.models.ngram_lm import NgramLm, NgramLmSettings
from saxgw.devcell.models.tokens import paragraphs, tokenize

PROMPTS = [
    "Q: Who is Harry Potter's mom? A: ",
    "Alice was",
    "",
    " ",
    '"Oh',
    "The Queen said, ",
    "日本 🐇",
    "x\n",
    "a  ",
]


@pytest.fixture(scope="module")
def lm() -> NgramLm:
    return NgramLm.load("None", NgramLmSettings())


class Sample(NamedTuple):
    """A text and its score."""

    text: str
    score: float


def generate(lm: NgramLm, prompt: str, **inputs: ExtraInput) -> list[Sample]:
    """Returns the samples, in the order in which they are drawn."""
    samples: list[Sample] = []
    for step in lm.generate(prompt, {**lm.extra_inputs, **inputs}):
        samples = samples or [Sample("", 0.0) for _ in step]
        samples = [Sample(one.text + new.text, one.score + new.score) for one, new in zip(samples, step, strict=True)]
    return samples


def score(lm: NgramLm, prefix: str, suffix: str) -> float:
    (value,) = lm.score(prefix, [suffix], lm.extra_inputs)
    return value


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("temperature", [0.0, 0.1, 1.0, 5.0])
def test_a_sample_is_scored_as_it_was_generated(lm: NgramLm, prompt: str, temperature: float) -> None:
    samples = generate(lm, prompt, temperature=temperature)
    assert len(samples) == 4
    for text, logp in samples:
        assert text or prompt.endswith(" ")
        assert logp < 0
        assert score(lm, prompt, text) == pytest.approx(logp)


@given(st.text(max_size=30))
@settings(max_examples=50)
def test_any_prompt_is_continued_and_its_continuation_scored_alike(lm: NgramLm, prompt: str) -> None:
    for text, logp in generate(lm, prompt, temperature=3.0, per_example_max_decode_steps=8):
        assert score(lm, prompt, text) == pytest.approx(logp)


@given(st.text(max_size=20), st.text(max_size=20))
def test_any_text_has_a_finite_score(lm: NgramLm, prefix: str, suffix: str) -> None:
    assert float("-inf") < score(lm, prefix, suffix) <= 0


def test_scores_add_up(lm: NgramLm) -> None:
    """The score of a text is that of its beginning and that of the rest after the beginning."""
    whole = score(lm, "Alice", " was not a bit hurt, and she jumped up.")
    parts = score(lm, "Alice", " was not a bit hurt") + score(lm, "Alice was not a bit hurt", ", and she jumped up.")
    assert whole == pytest.approx(parts)


def test_the_first_tokens_after_an_open_space_are_a_distribution(lm: NgramLm) -> None:
    """Given that a space comes, the probabilities of all words that may follow it sum to less than 1, but nearly."""
    corpus = files("saxgw.devcell.models").joinpath("corpus.txt").read_text("utf-8")
    words = {token[1:] for text in paragraphs(corpus) for token in tokenize(text) if token.startswith(" ")}
    total = sum(map(exp, lm.score("said the ", sorted(words), lm.extra_inputs)))
    assert 0.9 < total < 1


def test_english_is_likelier_than_its_words_in_disorder(lm: NgramLm) -> None:
    assert score(lm, "Alice", " was beginning to get very tired.") > score(
        lm, "Alice", " tired very get to beginning was."
    )


def test_temperature_0_is_greedy_and_so_is_top_k_1(lm: NgramLm) -> None:
    greedy = generate(lm, "The Queen said", temperature=0.0)
    assert len(set(greedy)) == 1
    assert greedy == generate(lm, "The Queen said", per_example_top_k=1.0)
    assert greedy == generate(lm, "The Queen said", per_example_top_p=1e-6)


def test_a_greedy_token_is_the_likeliest(lm: NgramLm) -> None:
    ((text, logp), *_) = generate(lm, "The White Rabbit ", temperature=0.0, per_example_max_decode_steps=1.0)
    others = generate(lm, "The White Rabbit ", temperature=5.0, per_example_max_decode_steps=1.0)
    assert text
    assert all(other.score <= logp for other in others)


def test_the_same_request_gets_the_same_answer_and_another_seed_another(lm: NgramLm) -> None:
    again = NgramLm.load("None", NgramLmSettings())
    assert generate(lm, "Alice") == generate(again, "Alice")
    assert generate(lm, "Alice") != generate(lm, "Alice ")
    other = NgramLm.load("None", NgramLmSettings(SEED=1))
    assert generate(lm, "Alice") != generate(other, "Alice")


def test_a_sample_has_at_most_so_many_tokens(lm: NgramLm) -> None:
    steps = list(lm.generate("Alice", {**lm.extra_inputs, "per_example_max_decode_steps": 5.0}))
    assert len(steps) == 5
    short = generate(lm, "Alice", per_example_max_decode_steps=5.0)
    for beginning, whole in zip(short, generate(lm, "Alice"), strict=True):
        assert whole.text.startswith(beginning.text)


def test_text_after_an_open_space_has_no_second_one(lm: NgramLm) -> None:
    assert not any(text.startswith(" ") for text, _ in generate(lm, "said the "))


def test_settings_decide_number_and_length_of_samples() -> None:
    lm = NgramLm.load("None", NgramLmSettings(NUM_SAMPLES=2, MAX_DECODE_STEPS=3, TOP_K=0))
    assert len(list(lm.generate("Alice", lm.extra_inputs))) <= 3
    assert len(generate(lm, "Alice")) == 2
    assert lm.extra_inputs == {
        "temperature": 0.7,
        "per_example_top_k": 0,
        "per_example_top_p": 1.0,
        "per_example_max_decode_steps": 3,
    }


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("temperature", -0.5, "temperature must be at least 0, got -0.5"),
        ("temperature", float("nan"), "temperature must be a number, got nan"),
        ("temperature", float("inf"), "temperature must be a number, got inf"),
        ("temperature", "hot", "temperature must be a number, got 'hot'"),
        ("per_example_top_p", 0.0, "per_example_top_p must be above 0 and at most 1, got 0"),
        ("per_example_top_p", 1.5, "per_example_top_p must be above 0 and at most 1, got 1.5"),
        ("per_example_top_k", -1.0, "per_example_top_k must be an integer from 0 to 40, the model's TOP_K, got -1"),
        ("per_example_top_k", 41.0, "per_example_top_k must be an integer from 0 to 40, the model's TOP_K, got 41"),
        ("per_example_top_k", 1.5, "per_example_top_k must be an integer from 0 to 40, the model's TOP_K, got 1.5"),
        (
            "per_example_max_decode_steps",
            129.0,
            "per_example_max_decode_steps must be an integer from 1 to 128, the model's MAX_DECODE_STEPS, got 129",
        ),
        (
            "per_example_max_decode_steps",
            0.0,
            "per_example_max_decode_steps must be an integer from 1 to 128, the model's MAX_DECODE_STEPS, got 0",
        ),
    ],
)
def test_an_extra_input_out_of_range_is_refused(lm: NgramLm, name: str, value: ExtraInput, text: str) -> None:
    with pytest.raises(ValueError, match="must be") as raised:
        lm.generate("Alice", {**lm.extra_inputs, name: value})
    assert str(raised.value) == text
    with pytest.raises(ValueError, match="must be"):
        lm.score("Alice", ["was"], {**lm.extra_inputs, name: value})


@pytest.mark.parametrize(("name", "value"), [("NUM_SAMPLES", 0), ("MAX_DECODE_STEPS", 0), ("TOP_K", -1)])
def test_settings_out_of_range_are_refused(name: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"{name} must be at least"):
        NgramLmSettings(**{name: value})


def test_the_text_of_the_package_is_counted_once() -> None:
    """Be it by servers that load at the same time, with settings of their own."""
    with ThreadPoolExecutor(3) as servers:
        loaded = list(servers.map(lambda seed: NgramLm.load("None", NgramLmSettings(SEED=seed)), range(3)))
    assert len({id(lm.learned) for lm in loaded}) == 1
    assert len({generate(lm, "Alice", temperature=5.0)[0].text for lm in loaded}) == 3


def test_a_text_file_is_a_checkpoint(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("Le chat dort.\n\nLe chat mange. Été 🐈.\n", "utf-8")
    lm = NgramLm.load(str(text), NgramLmSettings())
    assert any("chat" in sample.text for sample in generate(lm, "Le"))
    assert score(lm, "Le", " chat") > score(lm, "Le", " cat")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "No such file or directory"),
        (b"", "the text is empty"),
        (b" \n\n ", "the text is empty"),
        (b"\xff\xfe", "it is not a UTF-8 text"),
    ],
)
def test_a_checkpoint_that_is_no_text_is_refused(tmp_path: Path, content: bytes | None, reason: str) -> None:
    path = tmp_path / "text.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match="cannot be loaded") as raised:
        NgramLm.load(str(path), NgramLmSettings())
    assert str(raised.value) == f'checkpoint "{path}" cannot be loaded: {reason}'
    with pytest.raises(ValueError, match="Is a directory"):
        NgramLm.load(str(tmp_path), NgramLmSettings())
