"""How many requests a replica is sent at a time, and how that follows what it takes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saxgw.sax.backoff import RetryBudget
from saxgw.sax.limits import Bounds, Limit
from saxgw.sax.status import Code, Status


def run(limit: Limit, capacity: int, answers: int) -> int:
    """Keeps a server as busy as the limit lets, which takes `capacity` at a time; returns how many it has refused."""
    refused = 0
    for _ in range(answers):
        while limit.has_room:
            limit.in_flight += 1
            if limit.in_flight > capacity:
                limit.refused(None)
                limit.in_flight -= 1
                refused += 1
        limit.answered()
        limit.in_flight -= 1
    return refused


def test_the_first_limit_is_within_the_bounds() -> None:
    assert [Limit(Bounds(least=20)).current, Limit(Bounds(most=5)).current] == [20, 5]


@given(st.integers(1, 100), st.integers(1, 64))
def test_any_capacity_is_found(capacity: int, first: int) -> None:
    """Whatever a server takes and wherever the search begins, it is soon kept busy, and few requests are in vain."""
    limit = Limit(Bounds(first=first))
    run(limit, capacity, 20 * capacity + 100)
    assert capacity - 1 <= limit.current <= capacity + 1
    assert run(limit, capacity, 100 * capacity) <= 11


@given(st.lists(st.sampled_from(["begin", "answer", "refuse", "fail"])), st.integers(1, 5), st.integers(5, 20))
def test_bounds_hold(events: list[str], least: int, most: int) -> None:
    """Whatever happens, the limit stays between its bounds, and counts stay right."""
    limit = Limit(Bounds(least=least, first=least, most=most))
    for event in events:
        if event == "begin":
            if limit.has_room:
                limit.in_flight += 1
        elif limit.in_flight:
            if event == "answer":
                limit.answered()
            elif event == "refuse":
                limit.refused(None)
            limit.in_flight -= 1
        assert least <= limit.current <= most
        assert limit.in_flight >= 0


def test_stated_limit() -> None:
    """A server that says how much it takes is believed, unless others have some of it."""
    limit = Limit(Bounds(first=64))
    limit.in_flight = 64
    limit.refused(4)
    assert limit.current == 4
    limit.in_flight = 3
    limit.refused(4)
    assert limit.current == 2


@pytest.mark.parametrize(
    ("words", "stated"),
    [
        ("Too many requests: MethodKey(name='lm.generate', model_key='/sax/test/lm2b') 4", 4),
        ("Too many requests: lm.generate 128\n", 128),
        ("Too many requests", None),
        ("received message larger than max (5 vs. 4)", None),
    ],
)
def test_words_of_a_refusal(words: str, stated: int | None) -> None:
    """The number that ends the refusal of Google's model servers is their limit."""
    assert Status(Code.RESOURCE_EXHAUSTED, words).stated_limit == stated


def test_retry_budget() -> None:
    """Retries are a small share of traffic, beyond a reserve for the death of a replica."""
    budget = RetryBudget()
    reserve = 0
    while budget.spend():
        reserve += 1
    assert reserve == 500
    spent = 0
    for _ in range(1000):
        budget.earn()
        spent += budget.spend()
    assert 195 <= spent <= 200
