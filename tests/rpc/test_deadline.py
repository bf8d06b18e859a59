"""Deadlines and the headers that carry them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
import uvloop

from saxgw.rpc.deadline import Deadline, decode_grpc_timeout, decode_seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1H", 3600), ("2M", 120), ("3S", 3), ("500m", 0.5), ("7u", 7e-6), ("99999999n", 0.099999999), (" 1S ", 1)],
)
def test_decode_grpc_timeout(text: str, seconds: float) -> None:
    """Every unit of the gRPC wire."""
    assert decode_grpc_timeout(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "5", "S", "1.5S", "-1S", "123456789S", "1s", "1 S", "1S1S", "٣S"])
def test_decode_grpc_timeout_refuses(text: str) -> None:
    """Anything else is refused, and quoted."""
    with pytest.raises(ValueError, match="expected up to eight digits") as caught:
        decode_grpc_timeout(text)
    assert f'"{text}"' in str(caught.value)


@pytest.mark.parametrize(("text", "seconds"), [("2.5", 2.5), ("0", 0), ("1e-3", 0.001)])
def test_decode_seconds(text: str, seconds: float) -> None:
    """A plain number of seconds."""
    assert decode_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "-1", "nan", "inf", "1s"])
def test_decode_seconds_refuses(text: str) -> None:
    """Anything else is refused, and quoted."""
    with pytest.raises(ValueError, match="expected a number of seconds") as caught:
        decode_seconds(text)
    assert f'"{text}"' in str(caught.value)


def test_earliest() -> None:
    """The earlier of two deadlines wins, whichever is asked."""
    soon, late = Deadline.after(1), Deadline.after(2)
    assert soon.earliest(late) is late.earliest(soon) is soon.earliest(None) is soon


@pytest.mark.parametrize("new_event_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_deadline_is_on_the_clock_of_event_loops(new_event_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """A deadline may be given to an event loop as it is."""
    before = Deadline.after(0).at
    loop = new_event_loop()
    now = loop.time()
    after = Deadline.after(0).at
    loop.close()
    granularity_s = 0.01
    assert before - granularity_s <= now <= after + granularity_s
