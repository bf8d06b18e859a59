"""Calls of the module on threads: how long they may take, and how they fail."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, TypeVar

import grpc

from saxgw.sax.official.status import NotOk, status_of
from saxgw.sax.status import Status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from saxgw.sax.official.threads import Threads

T = TypeVar("T")

_GRACE_S: Final = 0.5
"""How long after a time limit a caller stays with a call, so that the module can tell what was wrong. Not longer: it
connects to an admin without looking at the limit (Sax protocol §6.2)."""


async def on_thread(threads: Threads, call: Callable[[float], T], until: float) -> T:
    """Returns what `call` returns, which is told how many seconds it has when its turn comes.

    Args:
        threads: where it is made.
        call: a call of the module.
        until: when it ends at the latest, by time.monotonic().

    Raises:
        NotOk: the module said so; with DEADLINE_EXCEEDED also if it did not come back in time.
        Busy: it waited all the time for a thread.
    """
    with statuses():
        return await threads.run(lambda: call(seconds_left(until)), caller_patience_s(until))


def seconds_left(until: float) -> float:
    """The seconds until `until`. Raises TimeoutError if there are none, so that so late a call is not made."""
    left_s = until - time.monotonic()
    if left_s <= 0:
        raise TimeoutError
    return left_s


def caller_patience_s(until: float) -> float:
    """The seconds after which a caller leaves a call that should have ended by itself at `until`."""
    return until + _GRACE_S - time.monotonic()


@contextmanager
def statuses() -> Iterator[None]:
    """Makes NotOk of what the module raises, and of a TimeoutError."""
    try:
        yield
    except TimeoutError as error:
        raise NotOk(Status(grpc.StatusCode.DEADLINE_EXCEEDED, "")) from error
    except Exception as error:
        status = status_of(error)
        if status is None:
            raise
        raise NotOk(status) from error
