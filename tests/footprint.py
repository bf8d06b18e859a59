"""What this process holds, for tests that nothing is left behind: tasks, threads, channels, sockets and objects."""

from __future__ import annotations

import asyncio
import gc
import os
import stat
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from saxgw.sax.channels import Channels
from tests.devcell.harness import TIMEOUT_S

_OURS = "saxgw."
_NOT_OURS = ("saxgw.devcell.", "saxgw.sax.wire.")
"""What the cell itself makes of its faults is its own business."""

_STRAY = 3
"""Objects of a class that may be there on top: some are made when they are first needed, gRPC's servers keep the last
call that has failed, and pytest keeps what was logged."""

_POOLS = ("asyncio_", "saxgw-devcell")
"""Names of threads in pools, which grow up to their limits and keep what they have."""


@contextmanager
def only_new_objects() -> Iterator[None]:
    """Leaves out of footprints what is there already: earlier tests have left much, and looking at it takes time."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@contextmanager
def uncollected() -> Iterator[None]:
    """Keeps the garbage collector away: what is gone meanwhile was held by nothing."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


async def footprint() -> Counter[str]:
    """Counts what there is, by kind; objects by their class, which tells more than bytes do and does not vary.

    Tasks and sockets come and go while servers of a cell talk to each other: these are as many as there are at times.
    """
    held = _at_a_glance()
    for _ in range(20):
        await asyncio.sleep(0.005)
        held |= _at_a_glance()
    return held | _objects()


async def back_to(before: Counter[str]) -> None:
    """Waits until there is nothing more of any kind than there was `before`."""
    end = time.monotonic() + TIMEOUT_S
    while more := (_at_a_glance() - before) or _without_strays(_objects() - before):
        assert time.monotonic() < end, f"left behind: {dict(more)}"
        await asyncio.sleep(0.02)


def sockets() -> int:
    """Counts the sockets that this process has open."""
    count = 0
    for descriptor in os.listdir("/dev/fd"):  # noqa: PTH208 (numbers, not paths)
        with suppress(OSError):
            count += stat.S_ISSOCK(os.fstat(int(descriptor)).st_mode)
    return count


def open_channels() -> int:
    """Counts the channels of Sax clients."""
    return sum(len(thing) for thing in gc.get_objects() if type(thing) is Channels)


def system_threads() -> int:
    """Counts all threads of this process, those that gRPC's core has made for itself included."""
    return len(os.listdir("/proc/self/task"))  # noqa: PTH208 (numbers, not paths)


def _at_a_glance() -> Counter[str]:
    threads = sum(not thread.name.startswith(_POOLS) for thread in threading.enumerate())
    return Counter(tasks=len(asyncio.all_tasks()), threads=threads, sockets=sockets())


def _objects() -> Counter[str]:
    gc.collect()
    held = Counter(channels=open_channels())
    for thing in gc.get_objects():
        kind = type(thing)
        name = f"{kind.__module__}.{kind.__qualname__}"
        if name.startswith(_OURS) and not name.startswith(_NOT_OURS):
            held[name] += 1
    return held


def _without_strays(more: Counter[str]) -> Counter[str]:
    return Counter({kind: count for kind, count in more.items() if kind == "channels" or count > _STRAY})
