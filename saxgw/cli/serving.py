"""Running a gateway as a process: its event loop, its log, its signals."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gc
import os
import resource
import signal
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Final

import click

from saxgw import __version__
from saxgw.cli.standard_streams import say
from saxgw.gateway import Gateway
from saxgw.sax import InvalidName
from saxgw.sax.official import ModuleMissing
from saxgw.settings import InvalidSetting, may_be_secret
from saxgw.telemetry.log import logging_to_stderr
from saxgw.watched import InvalidFile

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from saxgw.settings import Settings

_GC_THRESHOLD: Final = 50_000
"""Allocations between collections of young objects. Python's 700 collects several times within one request."""


async def serve(settings: Settings, tell: Callable[[str], None] | None = None) -> None:
    """Serves the cells under SAX_ROOT until a signal comes.

    With `tell` it does as one of several workers: `tell` gets the line that says that it is ready.
    """

    async def start(stack: AsyncExitStack) -> tuple[Gateway, str]:
        gateway = Gateway(settings, reuse_port=tell is not None)
        root = "SAX_ROOT" if may_be_secret(settings.sax_root) else settings.sax_root
        return await stack.enter_async_context(gateway), f"cells of {root}"

    await _until_signal(start, tell, settings.warning)


async def dev(settings: Settings, root: str | None, model_servers: int, *, google: bool) -> None:
    """Serves a cell of its own until a signal comes."""
    from saxgw.devcell import DevCell, DevCellError  # noqa: PLC0415 - whoever serves another cell starts sooner without

    async def start(stack: AsyncExitStack) -> tuple[Gateway, str]:
        try:
            cell = await stack.enter_async_context(DevCell(root=root, model_servers=model_servers, google=google))
        except DevCellError as error:
            raise click.ClickException(str(error)) from error
        gateway = Gateway(dataclasses.replace(settings, sax_root=cell.root))
        return await stack.enter_async_context(gateway), f"development cell /sax/test, SAX_ROOT={cell.root}"

    await _until_signal(start)


async def _until_signal(
    start: Callable[[AsyncExitStack], Awaitable[tuple[Gateway, str]]],
    tell: Callable[[str], None] | None = None,
    warning: str | None = None,
) -> None:
    """Starts a gateway, says that it is ready, and leaves at SIGTERM or SIGINT; a second one ends the process at once.

    `start` enters what it starts into the stack and returns the gateway and what it serves. With `tell` it is a
    supervisor that hears when the gateway is ready, speaks of signals, and ends what does not leave.
    """
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()

    def stop(number: signal.Signals) -> None:
        if tell is not None:  # the signal may well come twice, from the supervisor and from who sends it to all
            stopped.set()
            return
        if stopped.is_set():
            # Not by the signal's default action, for there is none for a process that is PID 1.
            os._exit(128 + number)
        stopped.set()
        say(f"{number.name}, finishing what is running")

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number)
    async with AsyncExitStack() as stack:
        starting = asyncio.ensure_future(start(stack))
        stopping = asyncio.ensure_future(stopped.wait())
        await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
            await asyncio.wait((starting,))
            return
        gateway, what = starting.result()
        # What exists now lives as long as the process: collections need not look at it again.
        gc.freeze()
        gc.set_threshold(_GC_THRESHOLD)
        if gateway.admin_address is not None:
            what += f", metrics at http://{gateway.admin_address}/metrics"
        if tell is None and warning is not None:
            say(warning)
        (tell or click.echo)(f"saxgw {__version__} ready: {gateway.http_url} and grpc {gateway.grpc_address}, {what}")
        await stopping


def run(main: Coroutine[Any, Any, None], settings: Settings) -> None:
    """Runs a server to its end. Raises ClickException for what keeps it from starting."""
    _let_the_loop_finish()
    _open_all_files_allowed()
    try:
        with (
            logging_to_stderr(settings.log_level, settings.log_format),
            asyncio.Runner(loop_factory=_loop_factory()) as runner,
        ):
            runner.run(main)
    except InvalidName as error:  # nothing but SAX_ROOT is named here
        raise click.UsageError(f"--sax-root: {error}") from error
    except (InvalidFile, InvalidSetting, ModuleMissing) as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        told = [str(each) for each in (error.filename, error.strerror) if each is not None]
        raise click.ClickException(": ".join(told) or str(error)) from error


def _let_the_loop_finish() -> None:
    """Keeps gRPC's threads from preempting the event loop whenever they wake, which costs a fifth of a call's CPU."""
    if hasattr(os, "SCHED_BATCH"):  # Linux; threads that start later inherit it
        with contextlib.suppress(PermissionError):  # a container may not be allowed to say how it is scheduled
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def _open_all_files_allowed() -> None:
    """Raises the soft limit of open files to the hard one; it is often 1,024, and each connection takes one.

    What runs out of them serves nobody any more: connections to model servers take some, too.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # macOS says that there is no limit, and has one
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """The loop of uvloop, where there is one: it takes a tenth off the cost of a call."""
    try:
        import uvloop  # noqa: PLC0415 - it does not exist on every platform
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory
