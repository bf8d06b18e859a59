"""The built-in model's tokens."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saxgw.devcell.models.tokens import END, Boundary, boundary_after, paragraphs, tokenize


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", []),
        ("Oh dear! I'm late.", ["Oh", " dear", "!", " I'm", " late", "."]),
        ("a  b", ["a", " ", " b"]),
        ("a ", ["a", " "]),
        ("x\n\ty", ["x", "\n", "\t", "y"]),
        ('"Why?" she', ['"', "Why", "?", '"', " she"]),
        ("naïve 日本 🐇", ["naïve", " 日本", " 🐇"]),
    ],
)
def test_tokens(text: str, tokens: list[str]) -> None:
    assert tokenize(text) == tokens


@given(st.text())
def test_tokens_joined_are_the_text(text: str) -> None:
    assert "".join(tokenize(text)) == text


@given(st.text(alphabet="ab'\u2019 \n\t.,é🐇_1"))
def test_each_token_of_a_text_is_allowed_after_the_one_before(text: str) -> None:
    tokens = [END, *tokenize(text), END]
    for previous, token in pairwise(tokens):
        assert boundary_after(previous).allows(token)


@given(st.lists(st.sampled_from(["a", " a", "'s", ".", " .", " ", "\n", "\t", "é", " 🐇", "_"])))
def test_tokens_that_are_allowed_one_after_the_other_are_cut_there_again(tokens: list[str]) -> None:
    text: list[str] = []
    for token in tokens:
        if boundary_after(text[-1] if text else END).allows(token):
            text.append(token)
    # A lone space at the end is allowed, and what must follow it stands behind it or not at all.
    assert tokenize("".join(text)) == text


def test_after_an_open_space_only_tokens_with_a_space_may_come() -> None:
    assert Boundary.OPEN_SPACE.allows(" a")
    assert not Boundary.OPEN_SPACE.allows("a")
    assert not Boundary.OPEN_SPACE.allows(END)


def test_blank_lines_divide_paragraphs() -> None:
    assert paragraphs(" one\ntwo \n \n\n three\r\n\r\nfour\n") == ["one\ntwo", "three", "four"]
    assert paragraphs("\n \n") == []
