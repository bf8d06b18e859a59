"""Commands that call a gateway or a cell: the options they share, and how they run and end."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import logging
import os
import select
import signal
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import click
from click.core import ParameterSource

from saxgw.cli.command import Failed, read_seconds
from saxgw.cli.output import Output, discard_output
from saxgw.cli.security import OPTIONS, Security

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

    from saxgw.sax import SaxClient

ADMIN_S: Final = 10.0
"""How long commands take that the admin answers, at most, unless they are told otherwise."""

DATA_S: Final = 600.0
"""How long commands take that wait for model servers."""

_GRACE_S: Final = 1.0
"""What the one who can tell what was going on gives up earlier than the one who cannot."""

_FAREWELL_S: Final = 3.0
"""How long a command may take to end once a signal has come."""

_NOWHERE: Final = (
    "say where to: --server HOST:PORT (or SAXGW_SERVER) for a gateway, "
    "--sax-root DIRECTORY-OR-URL (or SAX_ROOT) for a cell.\n"
    "To try saxgw without either, run: saxgw dev"
)


@dataclass(frozen=True)
class Call:
    """What a command works with."""

    sax: SaxClient
    out: Output

    until: float
    """When the command must be done, in the event loop's time."""

    timeout_s: float
    """How long it had from its start."""


def calling(*, data: bool = False, waits: str = "") -> Callable[[Callable[..., Awaitable[None]]], Any]:
    """Makes a command of a coroutine function that takes a Call and the command's own parameters, by name.

    Args:
        data: Whether it calls model servers, which takes long.
        waits: The name of a flag of the command by which it does.
    """

    def decorate(function: Callable[..., Awaitable[None]]) -> Any:  # noqa: ANN401 - what click makes of it
        @functools.wraps(function)
        def command(
            server: str | None,
            sax_root: str | None,
            output: str,
            timeout: float | None,
            **values: Any,  # noqa: ANN401 - the command's own
        ) -> None:
            is_long = data or bool(values.get(waits))
            timeout_s = (DATA_S if is_long else ADMIN_S) if timeout is None else timeout
            security = Security(**{field.name: values.pop(field.name) for field in dataclasses.fields(Security)})
            connect = _way(server, sax_root, security)
            out = Output(json=output == "json")

            async def work() -> None:
                # An admin that does not answer is told apart from a model that takes its time.
                admin_s = min(timeout_s, ADMIN_S) if is_long else timeout_s
                limit_s = timeout_s if is_long else timeout_s + _GRACE_S
                async with connect(admin_s, timeout_s + _GRACE_S) as sax:
                    until = asyncio.get_running_loop().time() + limit_s
                    try:
                        async with asyncio.timeout_at(until):
                            await function(Call(sax, out, until, timeout_s), **values)
                    except TimeoutError:
                        raise Failed(f"no answer within {timeout_s:g} s; give it more time with --timeout") from None
                    finally:
                        out.interrupted()

            _run(work)

        return _options(DATA_S if data else ADMIN_S, waits)(command)

    return decorate


def _options(default_s: float, waits: str) -> Callable[[Any], Any]:
    shared = (
        click.option(
            "--server",
            metavar="HOST:PORT",
            envvar="SAXGW_SERVER",
            show_envvar=True,
            help="The gRPC door of the gateway to ask.",
        ),
        click.option(
            "--sax-root",
            metavar="DIRECTORY-OR-URL",
            envvar=["SAXGW_SAX_ROOT", "SAX_ROOT"],
            show_envvar=True,
            help="Where cells are registered, to ask the cell itself. SAXGW_SERVER comes before these variables.",
        ),
        *OPTIONS,
        click.option(
            "--timeout",
            type=float,
            callback=read_seconds,
            metavar="SECONDS",
            help=f"When to give up.  [default: {default_s:g}{f', or {DATA_S:g} with --{waits}' if waits else ''}]",
        ),
        click.option(
            "-o",
            "--output",
            type=click.Choice(["table", "json"]),
            default="table",
            show_default=True,
            help="For people, or for programs: JSON as the HTTP API has it.",
        ),
    )

    def decorate(command: Any) -> Any:  # noqa: ANN401 - click decorates functions and commands alike
        for option in reversed(shared):
            command = option(command)
        return command

    return decorate


def _way(
    server: str | None, sax_root: str | None, security: Security
) -> Callable[[float, float], AbstractAsyncContextManager[SaxClient]]:
    """What connects to the gateway or the cell that was named, given the time limits of admin and data calls.

    What the command line says comes before the environment, which may well name both.
    """
    context = click.get_current_context()
    named = {
        name for name in ("server", "sax_root") if context.get_parameter_source(name) is ParameterSource.COMMANDLINE
    }
    if len(named) > 1:
        raise click.UsageError("give --server or --sax-root, not both", context)
    if server is not None and "sax_root" not in named:
        return lambda admin_s, data_s: _to_gateway(server, security, admin_s, data_s)
    if sax_root is not None:
        return lambda admin_s, _: _to_cell(sax_root, admin_s)
    raise click.UsageError(_NOWHERE, context)


def _to_gateway(
    server: str, security: Security, admin_s: float, data_s: float
) -> AbstractAsyncContextManager[SaxClient]:
    from saxgw import remote  # noqa: PLC0415 - takes a quarter of a second, which --help and completion can do without

    return remote.connect(
        server,
        admin_timeout_s=admin_s,
        data_timeout_s=data_s,
        api_key=security.api_key,
        credentials=security.credentials(),
    )


def _to_cell(sax_root: str, admin_s: float) -> AbstractAsyncContextManager[SaxClient]:
    from saxgw import sax  # noqa: PLC0415 - as above

    return sax.connect(sax_root, admin_timeout_s=admin_s)


def _run(work: Callable[[], Awaitable[None]]) -> None:
    """Does a command's work, and raises what click makes messages and exit codes of."""
    logging.basicConfig(handlers=[logging.NullHandler()])  # what is worth saying is in the error
    caught: list[int] = []
    try:
        with asyncio.Runner() as runner:
            runner.run(_until_signal(work, caught))
    except (Exception, asyncio.CancelledError) as error:
        if caught:
            raise click.exceptions.Exit(128 + caught[0]) from None
        raise _failure(error) from error


def _failure(error: BaseException) -> BaseException:
    """What to tell of an error; there are no tracebacks."""
    from saxgw.sax import InvalidName, SaxError  # noqa: PLC0415 - as above

    match error:
        case click.ClickException():
            return error
        case BrokenPipeError():  # whoever read the output has left, as `head` does
            discard_output()
            return click.exceptions.Exit(128 + signal.SIGPIPE)
        case InvalidName():
            return click.UsageError(str(error), click.get_current_context())
        case SaxError():
            return Failed(str(error))
    return Failed(f"an unexpected error, which is a bug: {type(error).__name__}: {error}")


async def _until_signal(work: Callable[[], Awaitable[None]], caught: list[int]) -> None:
    """Does the work until SIGINT or SIGTERM, which is put into `caught` and cancels it.

    What is cancelled here is cancelled at the gateway and in the model servers. A second signal ends the process, and
    so does time: a reader of the output that does not read would keep it for ever.
    """
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - for the type checker: a coroutine that runs is run by a task
    handled = [number for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) is not signal.SIG_IGN]
    told, telling = os.pipe()
    os.set_blocking(telling, False)
    stop = functools.partial(loop.call_soon_threadsafe, task.cancel)
    watching = threading.Thread(target=_watch, args=(told, caught, stop), daemon=True)
    watching.start()
    # Not by the loop, nor by Python's handlers: neither is run while a reader of the output keeps us waiting.
    signal.set_wakeup_fd(telling)
    for number in handled:
        signal.signal(number, lambda *_: None)
    try:
        await work()
    finally:
        for number in handled:
            signal.signal(number, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        os.close(telling)
        watching.join()
        os.close(told)


def _watch(told: int, caught: list[int], stop: Callable[[], object]) -> None:
    """Reads the numbers of signals from a pipe until its end: the first one stops the work, the next the process."""
    if first := os.read(told, 1):
        caught.append(first[0])
        stop()
        in_time, _, _ = select.select([told], [], [], _FAREWELL_S)
        if last := os.read(told, 1) if in_time else first:
            os._exit(128 + last[0])
