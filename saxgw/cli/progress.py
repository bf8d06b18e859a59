"""Waiting for model servers to load a model, and telling meanwhile how far it has come."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sys
from typing import TYPE_CHECKING, Final

from saxgw.cli.command import Failed

if TYPE_CHECKING:
    from saxgw.cli.calls import Call
    from saxgw.sax import ModelDetail

_LOOK_S: Final = 0.5
"""Seconds between looks at how many replicas are ready."""

_LONGEST_TO_TELL_S: Final = 1.0
_SHARE_TO_TELL: Final = 0.25
"""How long before the end of its time waiting ends, so that it can be told how far it has come: seconds, and the same
as a share of all the time that there is, where that is less."""


async def wait_for_replicas(call: Call, model: str, replicas: int) -> int:
    """Waits until so many replicas are ready, or just before the command's time is up; returns how many are.

    Raises Failed if they are too few.
    """
    to_tell_s = min(_LONGEST_TO_TELL_S, call.timeout_s * _SHARE_TO_TELL)
    watch = _Watch(call, model, replicas)
    watching = asyncio.create_task(watch.run())
    try:
        async with asyncio.timeout_at(call.until - to_tell_s):
            await call.sax.wait_for_ready(model, replicas)
    except TimeoutError:
        raise Failed(watch.how_far()) from None
    finally:
        watching.cancel()
        await asyncio.wait((watching,))
    return (await call.sax.describe(model)).active_replicas


class _Watch:
    """Looks how many replicas are ready, and shows it while they are too few."""

    def __init__(self, call: Call, model: str, replicas: int) -> None:
        self._call = call
        self._model = model
        self._replicas = replicas
        self._seen: ModelDetail | None = None

    async def run(self) -> None:
        from saxgw.sax import SaxError  # noqa: PLC0415 - calls.py has imported it by now

        loop = asyncio.get_running_loop()
        began = loop.time()
        line = _Line()
        try:
            while True:
                with contextlib.suppress(SaxError):  # the admin may be away; what else is wrong ends the waiting itself
                    self._seen = await self._call.sax.describe(self._model)
                if self._seen is not None and self._seen.active_replicas < self._replicas:
                    line.show(
                        f"{self._model}: {self._seen.active_replicas} of {self._replicas} replicas ready",
                        f", {loop.time() - began:.0f} s",
                    )
                await asyncio.sleep(_LOOK_S)
        finally:
            line.clear()

    def how_far(self) -> str:
        """What to tell when the time is up, and what to do."""
        if self._seen is None:
            return (
                f"how many replicas of {self._model} are ready could not be found out; give it more time with --timeout"
            )
        ready, asked = self._seen.active_replicas, self._seen.max_replicas
        what = f"{ready} of {self._replicas} replicas of {self._model} are ready"
        if asked < self._replicas:
            return f"{what}, and {asked} are asked for; update it to have more"
        return f"{what}; give it more time with --timeout, or look at the model servers' logs"


class _Line:
    """The last thing on standard error: on a terminal one line, written anew; elsewhere a line for each change."""

    def __init__(self) -> None:
        self._terminal = sys.stderr is not None and sys.stderr.isatty()
        self._last = ""

    def show(self, what: str, elapsed: str) -> None:
        """Shows what is so, and on a terminal for how long it has been waited for."""
        if self._terminal:
            width = shutil.get_terminal_size().columns - 1
            self._write(f"{what}{elapsed}"[:width])
        elif what != self._last and sys.stderr is not None:
            print(what, file=sys.stderr, flush=True)  # noqa: T201 - it is what this is for
            self._last = what

    def clear(self) -> None:
        """Leaves the line to whoever writes next."""
        if self._terminal:
            self._write("")
            sys.stderr.write("\r")
            sys.stderr.flush()

    def _write(self, text: str) -> None:
        sys.stderr.write(f"\r{text.ljust(len(self._last))}")
        sys.stderr.flush()
        self._last = text
