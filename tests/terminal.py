"""A terminal that a process runs on: what it shows, and keys to press."""

from __future__ import annotations

import asyncio
import os
import pty
import re
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from saxgw.devcell.news import News
from tests.process import clean, command

TIMEOUT_S = 60.0

CTRL_C = "\x03"

_ON_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
)
"""Makes standard input the terminal whose keys send signals, and goes on as the command."""


class Terminal:
    """A process, and what it has written to its terminal so far."""

    def __init__(self, process: asyncio.subprocess.Process, controller: int) -> None:
        self.shown = ""
        self.process = process
        self._controller = controller
        self._news = News()
        asyncio.get_running_loop().add_reader(controller, self._read)

    async def until(self, text: str) -> None:
        """Waits until the text was shown."""
        await self.until_match(re.escape(text))

    async def until_match(self, pattern: str) -> re.Match[str]:
        """Waits until something was shown that a regular expression is for; returns the first."""
        async with asyncio.timeout(TIMEOUT_S):
            await self._news.until(lambda: re.search(pattern, self.shown) is not None)
        found = re.search(pattern, self.shown)
        assert found is not None
        return found

    async def end(self) -> int:
        """Waits for the end of the process, and returns its exit code."""
        return await asyncio.wait_for(self.process.wait(), TIMEOUT_S)

    def press(self, keys: str) -> None:
        """Presses keys, such as CTRL_C."""
        os.write(self._controller, keys.encode())

    def _read(self) -> None:
        try:
            data = os.read(self._controller, 65536)
        except OSError:  # the last one who had the terminal open is gone
            asyncio.get_running_loop().remove_reader(self._controller)
        else:
            self.shown += data.decode()
        self._news.tell()


@asynccontextmanager
async def on_terminal(*arguments: str, environment: Mapping[str, str]) -> AsyncIterator[Terminal]:
    """`saxgw` on a terminal; killed at the end if it still runs."""
    controller, terminal = pty.openpty()
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            _ON_TERMINAL,
            *command(*arguments),
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            env=clean(environment),
            start_new_session=True,
        )
    finally:
        os.close(terminal)
    try:
        yield Terminal(process, controller)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        asyncio.get_running_loop().remove_reader(controller)
        os.close(controller)
