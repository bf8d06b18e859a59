"""What one caller may use of the gateway."""

from __future__ import annotations

import pytest

from saxgw.rpc.call import Call
from saxgw.rpc.endpoint import Scope
from saxgw.rpc.identity import Identity
from saxgw.rpc.quotas import Callers, Quota, enforce_quota
from saxgw.rpc.status import Code, RpcError
from saxgw.v1 import sax_service_pb2 as pb

GENERATE = pb.DESCRIPTOR.services_by_name["SaxService"].methods_by_name["Generate"]


class Clock:
    def __init__(self) -> None:
        self.time_s = 0.0

    def __call__(self) -> float:
        return self.time_s


def scope_of(quota: Quota, clock: Clock | None = None) -> Scope:
    scope = enforce_quota(quota, now=clock or Clock())(GENERATE)
    assert scope is not None
    return scope


def by(name: str | None) -> Call:
    return Call("http", None, identity=None if name is None else Identity(name, frozenset()))


def refusal(scope: Scope, name: str) -> RpcError:
    with pytest.raises(RpcError) as caught, scope(by(name)):
        pass
    assert caught.value.code is Code.RESOURCE_EXHAUSTED
    return caught.value


def test_calls_at_once() -> None:
    """One call too many of a caller is refused; others are not, nor is it once one of its calls is over."""
    scope = scope_of(Quota(max_calls=2))
    with scope(by("a")):
        with scope(by("a")):
            error = refusal(scope, "a")
            assert str(error.message).startswith("a has 2 calls running, which is its limit")
            assert error.retry_delay_s == 1
            with scope(by("b")):
                pass
        with scope(by("a")):
            pass


def test_failed_calls_are_over() -> None:
    """A call that failed does not count any more."""
    scope = scope_of(Quota(max_calls=1))
    for _ in range(3):
        with pytest.raises(LookupError), scope(by("a")):
            raise LookupError


def test_calls_in_time() -> None:
    """In the long run it is so many per second; one second's may come at once. The refusal says when to come again."""
    clock = Clock()
    scope = scope_of(Quota(calls_per_s=4), clock)
    for _ in range(4):
        with scope(by("a")):
            pass
    assert refusal(scope, "a").retry_delay_s == 0.25
    with scope(by("b")):
        pass
    clock.time_s = 0.125
    assert refusal(scope, "a").retry_delay_s == 0.125
    clock.time_s = 0.25
    with scope(by("a")):
        pass
    refusal(scope, "a")
    clock.time_s = 1000
    for _ in range(4):
        with scope(by("a")):
            pass
    refusal(scope, "a")


def test_seldom() -> None:
    """Less than one call a second is possible, and the first comes at once."""
    clock = Clock()
    scope = scope_of(Quota(calls_per_s=0.1), clock)
    with scope(by("a")):
        pass
    assert refusal(scope, "a").retry_delay_s == 10
    clock.time_s = 10
    with scope(by("a")):
        pass


def test_refused_calls_cost_nothing() -> None:
    """A call refused for running beside too many does not use up the rate."""
    scope = scope_of(Quota(max_calls=1, calls_per_s=2))
    with scope(by("a")):
        for _ in range(5):
            refusal(scope, "a")
    with scope(by("a")):
        pass


def test_unknown_callers_and_no_quota() -> None:
    """Whoever is not known has no quota, and without quotas there is no scope."""
    scope = scope_of(Quota(max_calls=1))
    with scope(by(None)), scope(by(None)):
        pass
    assert enforce_quota(Quota())(GENERATE) is None


def test_callers_are_forgotten_when_idle() -> None:
    """Any number of names leaves only those behind that still use something."""
    clock = Clock()
    callers = Callers(Quota(max_calls=1, calls_per_s=1), clock)
    with callers.of("busy"):
        for number in range(5000):
            clock.time_s += 1
            with callers.of(f"token {number}"):
                pass
        assert len(callers) < 2000
        with pytest.raises(RpcError), callers.of("busy"):
            pass
