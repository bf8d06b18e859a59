"""How the bench's own processes run: on the gateway's event loop, with its settings of the garbage collector."""

from __future__ import annotations

import asyncio
import gc
import os
from typing import TYPE_CHECKING, Final, TypeVar

import click
import uvloop

if TYPE_CHECKING:
    from collections.abc import Coroutine

HOST: Final = "127.0.0.1"

_Result = TypeVar("_Result")


def run(main: Coroutine[object, object, _Result]) -> _Result:
    """Runs `main` on uvloop and scheduled as saxgw does."""
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    return uvloop.run(main)


def tune() -> None:
    """Does what saxgw.cli does before it serves; floors without it would flatter the gateway."""
    gc.freeze()
    gc.set_threshold(50_000)


async def serve_forever(*addresses: str) -> None:
    """Tells the parent process that what listens on `addresses` is ready, and waits to be killed."""
    tune()
    click.echo(f"ready: {' '.join(addresses)}")
    await asyncio.Event().wait()
