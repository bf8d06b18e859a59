"""Threads for work that would hold up the event loop."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from contextlib import suppress
from functools import partial
from typing import Any

import pytest

from saxgw.compute import Compute
from saxgw.service.extra_inputs import to_sax

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


async def test_what_is_cancelled_is_let_go() -> None:
    """A call that is cancelled while it waits holds nothing from then on, however long the line before it is."""
    compute = Compute(1, "test-compute")
    go_on = threading.Event()
    running = asyncio.ensure_future(compute.run(go_on.wait))
    large = Large()
    waiting = asyncio.ensure_future(compute.run(large))
    await asyncio.sleep(0)
    alive = weakref.ref(large)
    del large
    assert alive() is not None
    waiting.cancel()
    await asyncio.wait((waiting,))
    del waiting
    try:
        assert alive() is None
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
    gc.disable()
    try:
        with suppress(ZeroDivisionError):
            await compute.run(partial(fail, large))
        await compute.close()
        del large
        await asyncio.sleep(0)  # in debug mode the loop has what it runs, and with it what that was woken by
        assert alive() is None
    finally:
        gc.enable()


async def test_large_extra_inputs_that_are_left() -> None:
    """They are let go of at once, too, while asyncio's own threads all have other work."""
    go_on = threading.Event()
    others = [asyncio.ensure_future(asyncio.to_thread(go_on.wait)) for _ in range(_MORE_THAN_THREADS)]
    struct: Any = Large()
    waiting = asyncio.ensure_future(to_sax(struct))
    await asyncio.sleep(0)
    alive = weakref.ref(struct)
    del struct
    assert alive() is not None
    waiting.cancel()
    await asyncio.wait((waiting,))
    del waiting
    try:
        assert alive() is None
    finally:
        go_on.set()
        await asyncio.gather(*others)
