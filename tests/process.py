"""Runs the real command in a process of its own."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

READY = re.compile(r"saxgw \S+ ready: https?://(\S+) and grpc (\S+), (.*)\n")

TIMEOUT_S = 60
"""No command takes nearly as long; without it a failure would be a test that hangs."""


@dataclass
class Running:
    """A `saxgw` process that is ready."""

    process: asyncio.subprocess.Process
    http_address: str
    grpc_address: str
    serving: str

    async def stop(self, signal: int) -> tuple[int, str]:
        """Sends the signal; returns exit code and standard error."""
        self.process.send_signal(signal)
        _, errors = await asyncio.wait_for(self.process.communicate(), TIMEOUT_S)
        assert self.process.returncode is not None
        return self.process.returncode, errors.decode()


def command(*arguments: str) -> tuple[str, ...]:
    """How `saxgw` is started, with warnings as errors."""
    return (sys.executable, "-W", "error", "-m", "saxgw", *arguments)


def clean(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """Our environment without all SAX variables, and with these."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("SAX")}
    return {**inherited, **(environment or {})}


async def start(
    *arguments: str,
    environment: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    output: int = asyncio.subprocess.PIPE,
    errors: int = asyncio.subprocess.PIPE,
) -> asyncio.subprocess.Process:
    """Starts `saxgw` with an environment of which all SAX variables are removed."""
    return await asyncio.create_subprocess_exec(
        *command(*arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=output,
        stderr=errors,
        env=clean(environment),
        cwd=cwd,
    )


async def run(
    *arguments: str, environment: Mapping[str, str] | None = None, given: bytes = b""
) -> tuple[int, str, str]:
    """Runs `saxgw` to its end, with `given` as its input; returns exit code, standard output and standard error."""
    process = await start(*arguments, environment=environment)
    output, errors = await asyncio.wait_for(process.communicate(given), TIMEOUT_S)
    assert process.returncode is not None
    return process.returncode, output.decode(), errors.decode()


@asynccontextmanager
async def running(
    *arguments: str, environment: Mapping[str, str] | None = None, ports: tuple[int, int] = (0, 0)
) -> AsyncIterator[Running]:
    """`saxgw` with these arguments, ready; killed at the end if it still runs.

    `ports` are those of the HTTP and the gRPC door; by default they are free ones.
    """
    http_port, grpc_port = map(str, ports)
    process = await start(*arguments, "--http-port", http_port, "--grpc-port", grpc_port, environment=environment)
    assert process.stdout is not None
    try:
        line = (await asyncio.wait_for(process.stdout.readline(), TIMEOUT_S)).decode()
        if not (match := READY.fullmatch(line)):
            _, errors = await process.communicate()
            raise AssertionError(f"not ready: {line}{errors.decode()}")
        yield Running(process, *match.groups())
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()
