"""Files that are read again whenever they change, such as keys and certificates that somebody rotates."""

from __future__ import annotations

import asyncio
import logging
import os
from typing import TYPE_CHECKING, Final, Generic, Self, TypeAlias, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

T = TypeVar("T")

_State: TypeAlias = "tuple[tuple[int, int, int] | None, ...]"

_log = logging.getLogger("saxgw.files")

POLL_S: Final = 1.0
"""How often it is looked whether files have changed. Looking costs a few microseconds, and works wherever there are
files: what tells of changes by itself does not for those that Kubernetes or a network brings."""


class InvalidFile(Exception):
    """A file cannot be read or makes no sense; the message names it, and shows none of it."""


class Watched(Generic[T]):
    """What some files say: `async with Watched([path], load) as watched: watched.value`.

    Args:
        paths: The files.
        load: Reads them, and returns what they say; raises InvalidFile.
        poll_s: Seconds between two looks.

    Making one raises InvalidFile; while it is entered, files that make no sense leave the value as it was, and are
    complained of in the log.
    """

    def __init__(self, paths: Iterable[Path], load: Callable[[], T], *, poll_s: float = POLL_S) -> None:
        self._paths = tuple(paths)
        self._load = load
        self._poll_s = poll_s
        self._state = self._look()  # before they are read, so that no change is missed
        self.value = load()
        """What the files say, or said when they last made sense."""
        self._polling: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._polling = asyncio.create_task(self._poll())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._polling is not None:
            self._polling.cancel()
            await asyncio.wait((self._polling,))

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(self._poll_s)
            if (state := self._look()) == self._state:
                continue
            self._state = state
            try:
                self.value = self._load()
            except InvalidFile as error:
                _log.error("%s; what was read before still holds", error)
            except Exception:  # noqa: BLE001 - whatever it is, the next change must be read: it may take back a key
                _log.exception("reading %s failed; what was read before still holds", ", ".join(map(str, self._paths)))
            else:
                _log.info("read again: %s", ", ".join(map(str, self._paths)))

    def _look(self) -> _State:
        return tuple(map(_state_of, self._paths))


def read(path: Path) -> bytes:
    """What a file has; raises InvalidFile if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidFile(f"{path} cannot be read: {error.strerror}") from error


def _state_of(path: Path) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)  # noqa: PTH116 - half the time of Path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size
