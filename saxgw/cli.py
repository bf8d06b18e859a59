"""The command line: parses, calls, prints. Exit codes: 0 done, 1 failed, 2 wrong usage."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gc
import logging
import os
import signal
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
import orjson

from saxgw import __version__
from saxgw.devcell import DevCell, DevCellError
from saxgw.gateway import Gateway, openapi
from saxgw.sax import InvalidName
from saxgw.settings import InvalidSetting, Settings, environment_variable, flag

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

_GC_THRESHOLD: Final = 50_000
"""Allocations between collections of young objects. Python's 700 collects several times within one request."""

_DEV_HOST: Final = "127.0.0.1"

_NO_SAX_ROOT: Final = (
    "SAX_ROOT is not set: name the directory or URL where the cell is registered, in SAX_ROOT or with --sax-root.\n"
    "To try saxgw without a cell, run: saxgw dev"
)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(__version__, message="%(prog)s %(version)s")
def main() -> None:
    """A gRPC and HTTP/JSON gateway in front of a Saxml cell."""


def _settings_options(*omitted: str) -> Callable[[Any], Any]:
    """Options for the fields of Settings, so that flags, environment variables and settings cannot part."""

    def decorate(command: Any) -> Any:  # noqa: ANN401 - click decorates functions and commands alike
        for field in reversed(dataclasses.fields(Settings)):
            if field.name not in omitted:
                command = _option(field)(command)
        return command

    return decorate


def _option(field: dataclasses.Field[Any]) -> Callable[[Any], Any]:
    variables = [environment_variable(field.name)]
    if field.name == "sax_root":
        variables.append("SAX_ROOT")  # the name that Sax's own tools know
    required = field.default is dataclasses.MISSING
    return click.option(
        flag(field.name),
        field.name,
        default=None if required else field.default,
        type=str if required else type(field.default),
        is_flag=isinstance(field.default, bool),
        envvar=variables,
        show_envvar=True,
        show_default=not required,
        help=field.metadata["help"],
    )


@main.command()
@_settings_options()
def serve(**values: Any) -> None:  # noqa: ANN401 - one for each setting
    """Serve the cells under SAX_ROOT."""
    if values["sax_root"] is None:
        raise click.UsageError(_NO_SAX_ROOT)
    settings = _settings(values)
    if "://" not in settings.sax_root and not Path(settings.sax_root).is_dir():
        click.echo(f"saxgw: there is no directory {settings.sax_root} yet; until there is, no cell is found", err=True)
    _run(_serve(settings), settings)


@main.command()
@_settings_options("sax_root", "host")
@click.option(
    "--root",
    type=click.Path(file_okay=False),
    envvar="SAXGW_ROOT",
    show_envvar=True,
    help="Keep the cell in this directory between runs.  [default: a temporary one]",
)
@click.option(
    "--model-servers",
    envvar="SAXGW_MODEL_SERVERS",
    show_envvar=True,
    default=1,
    show_default=True,
    type=click.IntRange(min=1),
    help="How many model servers to start.",
)
def dev(root: str | None, model_servers: int, **values: Any) -> None:  # noqa: ANN401 - one for each setting
    """Start a small cell on this machine and serve it, on loopback only.

    The cell is /sax/test, its admin and model servers are real, its language model is small.
    """
    if root == "":
        raise click.UsageError("--root is empty; name a directory, or leave it out for a temporary one")
    # The root is known once the cell runs; all other settings are checked before that.
    settings = _settings({**values, "host": _DEV_HOST, "sax_root": str(root or "(temporary)")})
    _run(_dev(settings, root, model_servers), settings)


@main.command("openapi")
def print_openapi() -> None:
    """Print the OpenAPI document of the HTTP door, which a running gateway serves at /openapi.json."""
    click.echo(orjson.dumps(openapi(), option=orjson.OPT_INDENT_2))


async def _serve(settings: Settings) -> None:
    async def start(stack: AsyncExitStack) -> tuple[Gateway, str]:
        return await stack.enter_async_context(Gateway(settings)), f"cells of {settings.sax_root}"

    await _until_signal(start)


async def _dev(settings: Settings, root: str | None, model_servers: int) -> None:
    async def start(stack: AsyncExitStack) -> tuple[Gateway, str]:
        cell = await stack.enter_async_context(DevCell(root=root, model_servers=model_servers))
        gateway = Gateway(dataclasses.replace(settings, sax_root=cell.root))
        return await stack.enter_async_context(gateway), f"development cell /sax/test, SAX_ROOT={cell.root}"

    await _until_signal(start)


async def _until_signal(start: Callable[[AsyncExitStack], Awaitable[tuple[Gateway, str]]]) -> None:
    """Starts a gateway, says that it is ready, and leaves at SIGTERM or SIGINT; a second one ends the process at once.

    `start` enters what it starts into the stack and returns the gateway and what it serves.
    """
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()

    def stop(number: signal.Signals) -> None:
        if stopped.is_set():
            # Not by the signal's default action, for there is none for a process that is PID 1.
            os._exit(128 + number)
        click.echo(f"saxgw: {number.name}, finishing what is running", err=True)
        stopped.set()

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
        click.echo(f"saxgw {__version__} ready: http://{gateway.http_address} and grpc {gateway.grpc_address}, {what}")
        await stopping


def _settings(values: dict[str, Any]) -> Settings:
    try:
        return Settings(**values)
    except InvalidSetting as error:
        raise click.UsageError(str(error)) from error


def _run(main_coroutine: Coroutine[Any, Any, None], settings: Settings) -> None:
    logging.basicConfig(
        stream=sys.stderr, level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    _let_the_loop_finish()
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(main_coroutine)
    except InvalidName as error:  # nothing but SAX_ROOT is named here
        raise click.UsageError(f"--sax-root: {error}") from error
    except (OSError, DevCellError) as error:
        raise click.ClickException(str(error)) from error


def _let_the_loop_finish() -> None:
    """Keeps gRPC's threads from preempting the event loop whenever they wake, which costs a fifth of a call's CPU."""
    if hasattr(os, "SCHED_BATCH"):  # Linux; threads that start later inherit it
        with contextlib.suppress(PermissionError):  # a container may not be allowed to say how it is scheduled
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """The loop of uvloop, where there is one: it takes a tenth off the cost of a call."""
    try:
        import uvloop  # noqa: PLC0415 - it does not exist on every platform
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory
