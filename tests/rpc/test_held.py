"""The bytes of requests that are held at a time."""

from __future__ import annotations

import random
from contextlib import ExitStack, suppress

import pytest

from saxgw.rpc.call import Call
from saxgw.rpc.held import STEP_BYTES, HeldBytes
from saxgw.rpc.status import Code, RpcError
from saxgw.v1 import sax_service_pb2 as pb

GENERATE = pb.DESCRIPTOR.services_by_name["SaxService"].methods_by_name["Generate"]
MOST = 10 * STEP_BYTES


def refused(held: HeldBytes, call: Call, size: int) -> bool:
    """Takes so many bytes for a call, after asking whether there is room for them; whether that was refused."""
    before = held.held, call.request_bytes
    try:
        call.expect(size)
    except RpcError:
        with pytest.raises(RpcError) as caught:
            call.take(size)
        assert caught.value.code is Code.RESOURCE_EXHAUSTED
        assert (held.held, call.request_bytes) == before
        return True
    call.take(size)
    return False


@pytest.mark.parametrize("seed", [1, 2])
def test_any_calls(seed: int) -> None:
    """Whatever calls come, take and go: what is held is what they have taken, and only what does not fit is refused."""
    drawn = random.Random(seed)  # noqa: S311 - no secret
    told: list[int] = []
    held = HeldBytes(MOST, told.append)
    scope = held.intercept(GENERATE)
    calls: list[tuple[Call, ExitStack]] = []
    seen = {True: 0, False: 0}
    for _ in range(5000):
        match drawn.choice(("come", "take", "take", "take", "go")):
            case "come":
                call, inside = Call("http", None), ExitStack()
                inside.enter_context(scope(call))
                calls.append((call, inside))
            case "take" if calls:
                call, _ = drawn.choice(calls)
                size = drawn.choice((0, 1, STEP_BYTES, drawn.randrange(MOST), max(0, MOST - held.held)))
                fits = held.held + size <= MOST
                assert refused(held, call, size) is not fits
                seen[fits] += 1
            case "go" if calls:
                _, inside = calls.pop(drawn.randrange(len(calls)))
                inside.close()
        assert held.held == sum(call.request_bytes for call, _ in calls)
        assert (told or [0])[-1] == held.held // STEP_BYTES * STEP_BYTES
    assert min(seen.values()) > 100
    for _, inside in calls:
        inside.close()
    assert held.held == 0
    assert all(before != after for before, after in zip([0, *told], told, strict=False)), "told without a change"


def test_failures_give_back() -> None:
    """A call that fails gives back what it took, and lets go of its request."""
    held = HeldBytes(MOST)
    call = Call("grpc", None)
    with suppress(ZeroDivisionError), held.intercept(GENERATE)(call):
        call.take(MOST)
        call.request = pb.GenerateRequest()
        assert held.held == MOST
        raise ZeroDivisionError
    assert held.held == 0
    assert call.request is None
    assert call.request_bytes == MOST, "who looks at a call that is over is told what its size was"


def test_calls_that_nobody_counts() -> None:
    """Without the interceptor calls may be as large as the doors let them."""
    call = Call("grpc", None)
    call.expect(2**40)
    call.take(2**40)
    assert call.request_bytes == 2**40
