"""Processes of their own, each pinned to a core."""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Final, cast

import click

if TYPE_CHECKING:
    from collections.abc import Iterator

_ADDRESS: Final = re.compile(r"127\.0\.0\.1:\d+")


class ProcessFailed(click.ClickException):
    """A process ended that should not have, or failed; ends the bench."""


@dataclass(frozen=True)
class Server:
    """A process that serves."""

    pid: int

    addresses: tuple[str, ...]
    """Host and port of each thing that it serves, in the order of its ready line."""


def allow_sockets(count: int) -> None:
    """Lets this process and those that it starts have so many sockets each."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = count + 1000  # for all else
    if most != resource.RLIM_INFINITY and most < needed:
        raise ProcessFailed(f"the bench needs {needed} open files in a process; ulimit -Hn allows {most}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, most))


def two_cores() -> tuple[int, int]:
    """Two cores that this process may use: the measured process's, and everything else's."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:  # noqa: PLR2004 - the name says it
        raise ProcessFailed("the bench needs two cores, one for what is measured and one for the rest")
    return cores[-1], cores[0]


@contextmanager
def serving(core: int | None, module: str, *arguments: str) -> Iterator[Server]:
    """Runs `python -m module` as a server on `core`, or on all, from its ready line until it is killed."""
    with _started(core, module, *arguments) as process:
        try:
            line = cast("IO[str]", process.stdout).readline()
            addresses = tuple(_ADDRESS.findall(line))
            if not addresses:
                raise ProcessFailed(f"{module} did not start; it said: {line}")
            yield Server(process.pid, addresses)
        finally:
            process.kill()


def run(core: int | None, module: str, *arguments: str) -> str:
    """Runs `python -m module` on `core`, or on all, to its end; returns what it printed."""
    with _started(core, module, *arguments) as process:
        output, _ = process.communicate()
    if process.returncode:
        raise ProcessFailed(f"{module} {' '.join(arguments)} failed; its errors are above")
    return output


def _started(core: int | None, module: str, *arguments: str) -> subprocess.Popen[str]:
    """A child takes over its parent's core: this way it is pinned from its first instruction and in all threads."""
    own_cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, own_cores if core is None else {core})
    try:
        return subprocess.Popen(  # noqa: S603 - our own modules and nothing from outside
            [sys.executable, "-m", module, *arguments],
            stdout=subprocess.PIPE,
            text=True,
            env={name: value for name, value in os.environ.items() if not name.startswith("SAX")},
        )
    finally:
        os.sched_setaffinity(0, own_cores)
