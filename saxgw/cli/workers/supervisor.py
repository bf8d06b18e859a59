"""Starts workers, starts others in place of those that die, and ends them all.

It may be the first process of a container: it reaps whatever children it is given.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import signal
import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final

import click

from saxgw.cli.standard_streams import say
from saxgw.cli.workers.ports import held
from saxgw.cli.workers.process import WorkerProcess
from saxgw.settings import flag
from saxgw.telemetry.shared_metrics import shared_metrics

if TYPE_CHECKING:
    from saxgw.settings import Settings
    from saxgw.telemetry.shared_metrics import SharedMetrics

_PORTS: Final = {"http_port": "host", "grpc_port": "host", "admin_port": "admin_host"}
"""Settings that are ports, and those that say where."""

_KILLED: Final = 128
"""What exit codes begin with, as in shells, of what a signal has ended."""

_STEADY_S: Final = 10.0
"""A worker that ran for less died at once."""

_SHORTEST_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 10.0
"""How long the supervisor waits after a worker died at once: it doubles each time, from the first to the second."""


def supervise(settings: Settings, count: int) -> None:
    """Serves the cells under SAX_ROOT with `count` workers until SIGTERM or SIGINT.

    Then they finish what is running; a second signal ends them at once. Raises ClickException if they cannot start, and
    Exit if one of them did not finish.
    """
    with ExitStack() as stack:
        ports: dict[str, Any] = {
            name: _hold(stack, settings, name) for name in _PORTS if getattr(settings, name) is not None
        }
        try:
            metrics = None if settings.admin_port is None else stack.enter_context(shared_metrics())
            asyncio.run(_Supervisor(dataclasses.replace(settings, **ports), count, metrics).run())
        except OSError as error:
            raise click.ClickException(str(error)) from error


def _hold(stack: ExitStack, settings: Settings, name: str) -> int:
    """Holds the port that a setting names until the stack is left; returns its number."""
    host, port = getattr(settings, _PORTS[name]) or settings.host, getattr(settings, name)
    try:
        return stack.enter_context(held(host, port))
    except (OSError, UnicodeError) as error:  # a UnicodeError is a host name that cannot be one
        known = isinstance(error, OSError) and not isinstance(error, socket.gaierror) and error.errno
        reason = os.strerror(known) if known else "there is no such host"
        raise click.ClickException(f"{flag(name)}: cannot listen on {host}:{port}: {reason}") from error


class _Supervisor:
    """Keeps as many workers running as are wanted, until a signal comes."""

    def __init__(self, settings: Settings, count: int, metrics: SharedMetrics | None) -> None:
        self._settings = settings
        self._count = count
        self._metrics = metrics
        self._workers: dict[int, WorkerProcess] = {}
        """Those that run, by process id."""
        self._leaving = asyncio.Event()
        self._exit_code = 0

    async def run(self) -> None:
        """Runs to the end of all workers."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGCHLD, self._reap)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._leave, number)
        try:
            workers = [self._start() for _ in range(self._count)]
            lines = await asyncio.gather(*(worker.ready() for worker in workers))
            if self._settings.warning is not None:
                say(self._settings.warning)
            click.echo(f"{lines[0]}, {self._count} workers")
            await asyncio.gather(*(self._keep(number, worker) for number, worker in enumerate(workers, 1)))
        except click.ClickException:
            if not self._leaving.is_set():  # a worker that is told to leave before it is ready just ends
                raise
        finally:
            self._signal(signal.SIGTERM)
            await asyncio.gather(*(worker.ended() for worker in self._workers.values()))
        if self._exit_code:
            raise click.exceptions.Exit(self._exit_code)

    def _start(self) -> WorkerProcess:
        worker = WorkerProcess(self._settings)
        self._workers[worker.pid] = worker
        return worker

    async def _keep(self, number: int, worker: WorkerProcess) -> None:
        """Starts another worker whenever one has ended."""
        pause_s = 0.0
        while True:
            what = f"worker {number} (process {worker.pid}) {await worker.ended()}"
            if self._leaving.is_set():
                if worker.has_served and worker.failed and self._exit_code < _KILLED:
                    self._exit_code = 1
                    say(what)
                return
            pause_s = 0.0 if worker.age_s >= _STEADY_S else _longer(pause_s)
            replacement = None
            while replacement is None:
                say(f"{what}; another is started{f' in {pause_s:g} s' if pause_s else ''}")
                if await self._leaves_within(pause_s):
                    return
                try:
                    replacement = self._start()
                except OSError as error:
                    what, pause_s = f"worker {number} cannot be started: {error.strerror}", _longer(pause_s)
            worker = replacement

    async def _leaves_within(self, seconds: float) -> bool:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._leaving.wait(), seconds)
        return self._leaving.is_set()

    def _leave(self, number: signal.Signals) -> None:
        if self._leaving.is_set():
            self._exit_code = _KILLED + number
            self._signal(signal.SIGKILL)
            return
        self._leaving.set()
        self._signal(signal.SIGTERM)
        say(f"{number.name}, finishing what is running")

    def _signal(self, number: signal.Signals) -> None:
        for pid in self._workers:
            os.kill(pid, number)

    def _reap(self) -> None:
        """Takes note of all children that have ended; one SIGCHLD may stand for several."""
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG)) != (0, 0):
                pid, status = ended
                if worker := self._workers.pop(pid, None):
                    worker.end(os.waitstatus_to_exitcode(status))
                    if self._metrics is not None:
                        self._metrics.forget(pid, served=worker.has_served)


def _longer(pause_s: float) -> float:
    return min(max(2 * pause_s, _SHORTEST_PAUSE_S), _LONGEST_PAUSE_S)
