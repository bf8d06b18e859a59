"""A worker as its supervisor sees it: a process, and a connection to it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from multiprocessing import Pipe
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from saxgw.settings import Settings


class WorkerProcess:
    """A process from its start, which this is, to its end, of which end() must be told. Raises OSError.

    It is a new Python, in a process group of its own: what a terminal sends to all is for the supervisor to pass on.
    """

    def __init__(self, settings: Settings) -> None:
        self._began = time.monotonic()
        self._loop = asyncio.get_running_loop()
        self._ready: asyncio.Future[str] = self._loop.create_future()
        self._ended = asyncio.Event()
        self._refusal: click.ClickException | None = None
        self._exit_code = 0
        self._connection, its = Pipe()
        with its:
            try:
                self.pid = _spawn(its.fileno())
            except OSError:
                self._connection.close()
                raise
        self._loop.add_reader(self._connection.fileno(), self._hear)
        with contextlib.suppress(BrokenPipeError):  # it has ended already
            self._connection.send(settings)

    @property
    def age_s(self) -> float:
        """Seconds since its start."""
        return time.monotonic() - self._began

    @property
    def has_served(self) -> bool:
        """Whether it was ready, be it no more."""
        return self._ready.done()

    @property
    def failed(self) -> bool:
        """Whether it ended in another way than by finishing what it had to do."""
        return self._exit_code != 0

    async def ready(self) -> str:
        """Waits for the line that says so; raises ClickException if it will never come."""
        ended = asyncio.ensure_future(self._ended.wait())
        await asyncio.wait((self._ready, ended), return_when=asyncio.FIRST_COMPLETED)
        ended.cancel()
        if not self._ready.done():
            raise self._refusal or click.ClickException(f"a worker {self._how()} before it was ready")
        return self._ready.result()

    async def ended(self) -> str:
        """Waits for its end, and tells how it came."""
        await self._ended.wait()
        return f"could not start: {self._refusal.format_message()}" if self._refusal else self._how()

    def end(self, exit_code: int) -> None:
        """Takes note that the process has ended; `exit_code` is as os.waitstatus_to_exitcode() has it."""
        self._hear()
        self._hang_up()
        self._exit_code = exit_code
        self._ended.set()

    def _how(self) -> str:
        code = self._exit_code
        return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"

    def _hear(self) -> None:
        """Takes what the worker has said."""
        try:
            while not self._connection.closed and self._connection.poll():
                match self._connection.recv():
                    case click.ClickException() as refusal:
                        self._refusal = refusal
                    case line:
                        self._ready.set_result(line)
        except (EOFError, OSError):  # it ends, of which end() will be told
            self._hang_up()

    def _hang_up(self) -> None:
        if not self._connection.closed:
            self._loop.remove_reader(self._connection.fileno())
            self._connection.close()


def _spawn(connection: int) -> int:
    """Starts a Python with the modules and the warnings of this one; returns its process id."""
    os.set_inheritable(connection, True)  # noqa: FBT003 - the function takes it so
    return os.posix_spawn(
        sys.executable,
        # Without -P it would look for modules in the current directory first, whatever is there.
        [
            sys.executable,
            "-P",
            *(f"-W{each}" for each in sys.warnoptions),
            "-m",
            f"{__package__}.worker",
            str(connection),
        ],
        {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        setpgroup=0,
    )
