"""Threads for work that would hold up the event loop."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any

import pytest

from saxgw.compute import Compute
from saxgw.service.extra_inputs import to_sax
from tests.footprint import uncollected

_MORE_THAN_THREADS = 33
"""asyncio has 32 of them at the most."""


class Large:
    """Stands for what a call is about; unlike messages it tells when it is gone."""

    def __call__(self) -> str:
        return "done"

    def ByteSize(self) -> int:  # noqa: N802 - as messages have it
        return 2**20


async def test_results_and_errors() -> None:
    """What the call returns is returned, and what it raises is raised."""
    compute = Compute(1, "test-compute")
    assert await compute.run(Large()) == "done"
    with pytest.raises(ZeroDivisionError):
        await compute.run(lambda: 1 / 0)
    await compute.close()


async def let_go(leave: Callable[[Any], Awaitable[object]]) -> bool:
    """Tells whether what is cancelled while it waits for a thread holds from then on nothing of what it was about."""
    large = Large()
    waiting = asyncio.ensure_future(leave(large))
    await asyncio.sleep(0)
    alive = weakref.ref(large)
    del large
    assert alive() is not None
    waiting.cancel()
    await asyncio.wait((waiting,))
    del waiting
    return alive() is None


async def test_what_is_cancelled_is_let_go() -> None:
    """However long the line is that a call waits in."""
    compute = Compute(1, "test-compute")
    go_on = threading.Event()
    running = asyncio.ensure_future(compute.run(go_on.wait))
    try:
        assert await let_go(compute.run)
    finally:
        go_on.set()
        await running
        await compute.close()


async def test_what_fails_is_let_go() -> None:
    """A call that fails holds nothing once its exception is gone, without the garbage collector."""
    compute = Compute(1, "test-compute")
    large = Large()

    def fail(_: Large) -> None:
        raise ZeroDivisionError

    alive = weakref.ref(large)
    with uncollected():
        with suppress(ZeroDivisionError):
            await compute.run(partial(fail, large))
        await compute.close()
        del large
        await asyncio.sleep(0)  # in debug mode the loop has what it runs, and with it what that was woken by
        assert alive() is None


async def test_large_extra_inputs_that_are_left() -> None:
    """They are let go of, too, while asyncio's own threads all have other work."""
    go_on = threading.Event()
    others = [asyncio.ensure_future(asyncio.to_thread(go_on.wait)) for _ in range(_MORE_THAN_THREADS)]
    try:
        assert await let_go(to_sax)
    finally:
        go_on.set()
        await asyncio.gather(*others)
