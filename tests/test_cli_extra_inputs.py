"""Extra inputs as they are written on the command line."""

from __future__ import annotations

import math
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saxgw.cli.extra_inputs import parse_item, parse_list, parse_value

names = st.text(st.characters(exclude_characters=':,="', exclude_categories=["Cs"]), min_size=1)

texts = st.text(st.characters(exclude_categories=["Cs"]))

numbers = st.floats(allow_nan=False)


def quoted(text: str) -> str:
    return orjson.dumps(text).decode()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1.0),
        ("-0.5", -0.5),
        (".5", 0.5),
        ("5.", 5.0),
        ("1e-3", 0.001),
        ("inf", math.inf),
        ("", ""),
        ("warm", "warm"),
        ("1_000", "1_000"),
        ("0x10", "0x10"),
        (" 1", " 1"),
        ("٣", "٣"),
        ('"1"', "1"),
        ('"a\\n"', "a\n"),
        ("'a'", "'a'"),
    ],
)
def test_values(text: str, value: float | str) -> None:
    """What reads as a number is one, quotes make a text of anything, all else is a text."""
    assert parse_value(text) == value
    assert type(parse_value(text)) is type(value)


@pytest.mark.parametrize("text", ['"', '"a', '"a"b', '"\\x"'])
def test_quotes_that_do_not_match(text: str) -> None:
    with pytest.raises(ValueError, match="is not a quoted text"):
        parse_value(text)


@given(names, st.lists(numbers))
def test_lists_of_numbers(name: str, values: list[float]) -> None:
    finite = [value for value in values if math.isfinite(value)]
    assert parse_item(f"{name}={orjson.dumps(finite).decode()}") == (name, finite)


@pytest.mark.parametrize("text", ["a=[", "a=[1,]", 'a=["x"]', "a=[[1]]", "a=[true]", "a=[null]"])
def test_lists_of_something_else(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a list of numbers; write \[0.5,1\]"):
        parse_item(text)


@given(st.lists(st.tuples(names, numbers | texts)), st.booleans())
def test_what_is_written_is_read(items: list[tuple[str, Any]], comma: bool) -> None:  # noqa: FBT001 - drawn
    """Texts may have anything in them if they are in quotes; one comma may end the list."""
    written = [(name, repr(value) if isinstance(value, float) else quoted(value)) for name, value in items]
    assert [parse_item(f"{name}={value}") for name, value in written] == items
    joined = ",".join(f"{name}:{value}" for name, value in written)
    assert parse_list(joined + ("," if comma and joined else "")) == items


@given(st.text())
def test_anything_else_is_refused(text: str) -> None:
    """With a ValueError and no other exception."""
    for parse in (parse_list, parse_item):
        try:
            parse(text)
        except ValueError as error:
            assert "write NAME" in str(error) or "is not a" in str(error)  # noqa: PT017 - it may well be valid
