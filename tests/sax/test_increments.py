"""Streams that may take text back, turned into ones that only add."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saxgw.sax import Revised, StreamItem
from saxgw.sax.increments import Increments

BAD = "\ufffd"


def item(text: str, prefix_len: int = 0) -> StreamItem:
    return StreamItem(text, prefix_len, (-1.0,))


def texts(items: list[StreamItem]) -> list[str]:
    return [each.text for each in items]


def test_text_that_only_grows() -> None:
    """Nothing is changed where the model only adds; lengths are in code points."""
    increments = Increments()
    assert increments.add([item("h\u00e9"), item("\U0001f600")]) == [item("h\u00e9"), item("\U0001f600")]
    assert increments.add([item("llo", 2), item("!", 1)]) == [item("llo", 2), item("!", 1)]
    assert increments.rest() == []


def test_character_in_two_halves() -> None:
    """An incomplete character is held back until the model has replaced it."""
    increments = Increments()
    assert increments.add([item(f"a{BAD}")]) == [item("a")]
    assert increments.add([item(BAD, 2)]) == [item("", 1)]
    assert increments.add([item("\U0001f600!", 1)]) == [item("\U0001f600!", 1)]
    assert increments.rest() == []


def test_character_that_stays_incomplete() -> None:
    """What was held back is given out at the end, for it is part of the text; and as soon as something follows it."""
    increments = Increments()
    increments.add([item(BAD), item("b")])
    assert increments.rest() == [StreamItem(BAD, 0, ()), StreamItem("", 1, ())]
    increments = Increments()
    increments.add([item(BAD)])
    assert increments.add([item("x", 1)]) == [item(f"{BAD}x")]


def test_repeating_what_was_said() -> None:
    """A model may send again what was sent, as long as it is the same."""
    increments = Increments()
    increments.add([item("once")])
    assert increments.add([item("once upon", 0)]) == [item(" upon", 4)]


@pytest.mark.parametrize("revised", [item("other"), item("", 2), item("x", 3)])
def test_text_taken_back(revised: StreamItem) -> None:
    """What was given out cannot be taken back."""
    increments = Increments()
    increments.add([item("once")])
    with pytest.raises(Revised, match="without increments"):
        increments.add([revised])


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])).map(str.encode), st.lists(st.integers(0, 30)))
def test_bytes_decoded_bit_by_bit(data: bytes, cuts: list[int]) -> None:
    """However a text's bytes are cut, what is given out is the text."""
    increments, made = Increments(), ""
    shown = ""
    for end in [*sorted(min(cut, len(data)) for cut in cuts), len(data)]:
        now = data[:end].decode(errors="replace")
        keep = next((n for n, (a, b) in enumerate(zip(shown, now, strict=False)) if a != b), min(len(shown), len(now)))
        (added,) = increments.add([item(now[keep:], keep)])
        assert added.prefix_len == len(made)
        made += added.text
        shown = now
    made += "".join(texts(increments.rest()))
    assert made == data.decode()
