"""Globs: what matches, what is refused, and that nothing is slow."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saxgw.globs import Globs, InvalidGlob

TEXTS = st.text(st.sampled_from("ab/"), max_size=8)
GLOBS = st.text(st.sampled_from("ab/*?"), min_size=1, max_size=8)


@pytest.mark.parametrize(
    ("glob", "text"),
    [
        ("/sax/test/*", "/sax/test/lm2b"),
        ("/sax/*/*", "/sax/test/lm2b"),
        ("/sax/test/lm?b", "/sax/test/lm2b"),
        ("None", "None"),
        ("gs://bucket/**", "gs://bucket/a/b"),
        ("gs://bucket/*/step-*", "gs://bucket/run.1/step-7"),
        ("**", "anything/at/all"),
        ("a.b.*", "a.b.c.D"),
        ("*a*a", "aaa"),
    ],
)
def test_match(glob: str, text: str) -> None:
    """A glob is for all of a text, and a star stops at a slash."""
    assert Globs(["nothing", glob]).match(text)


@pytest.mark.parametrize(
    ("glob", "text"),
    [
        ("/sax/test/*", "/sax/test/a/b"),
        ("/sax/test/*", "/sax/tests/a"),
        ("/sax/test/lm", "/sax/test/lm2b"),
        ("a.b", "acb"),
        ("a?c", "a/c"),
        ("/checkpoints/**", "/checkpoints/../secret"),
        ("/checkpoints/**", "/checkpoints/a/.."),
        ("/checkpoints/**", "/checkpoints/./a"),
        ("**", ".."),
        ("None", "None\n"),
    ],
)
def test_no_match(glob: str, text: str) -> None:
    """What a glob is not for; paths that lead elsewhere than they say are never matched."""
    assert not Globs([glob]).match(text)


def test_none_matches_nothing() -> None:
    """Without a glob nothing matches."""
    assert not Globs([]).match("")


@pytest.mark.parametrize("glob", ["", "a**b", "***", "**/a"])
def test_refused(glob: str) -> None:
    """An empty glob, and ** anywhere but at the end, is refused, quoting it."""
    with pytest.raises(InvalidGlob, match="is not a pattern"):
        Globs([glob])


@given(GLOBS, TEXTS)
def test_as_by_definition(glob: str, text: str) -> None:
    """Whatever the glob, it matches what its definition says, tried out character by character."""
    try:
        globs = Globs([glob])
    except InvalidGlob:
        assert "**" in glob.removesuffix("**") or glob.endswith("***")
    else:
        assert globs.match(text) == _matches(glob, text)


def _matches(glob: str, text: str) -> bool:
    if glob == "**":
        return True
    if not glob:
        return not text
    if glob[0] == "*":
        return _matches(glob[1:], text) or (text[:1] not in ("", "/") and _matches(glob, text[1:]))
    return text != "" and (glob[0] == text[0] or (glob[0] == "?" and text[0] != "/")) and _matches(glob[1:], text[1:])


def test_long_names_are_matched_at_once() -> None:
    """A megabyte of what nearly matches, which backtracking would never be done with."""
    assert not Globs(["*a*a*a*a*a*b"]).match("a" * 2**20)
