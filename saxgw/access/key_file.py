"""Changing a file of API keys, while gateways read it: it is always whole, and keeps its owner and its mode."""

from __future__ import annotations

import fcntl
import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from saxgw.access.keys import ApiKey, InvalidKey, holds_key, read_keys
from saxgw.watched import InvalidFile, read

if TYPE_CHECKING:
    from collections.abc import Iterator


class KeyFile:
    """A file of API keys, which need not be there yet. Methods raise InvalidFile if it is not readable or writable."""

    def __init__(self, path: Path) -> None:
        self._path = Path(os.path.realpath(path))  # what a link leads to is replaced, not the link

    def keys(self) -> dict[str, ApiKey]:
        """The keys by name; none if there is no such file."""
        return read_keys(self._path) if self._path.exists() else {}

    def add(self, key: ApiKey) -> None:
        """Puts a key at the end; raises InvalidKey if there is one of its name."""
        with self._locked():
            if key.identity.name in self.keys():
                raise InvalidKey(f"there is a key {key.identity.name} already; choose another name, or revoke it first")
            before = read(self._path) if self._path.exists() else b""
            self._replace(before + (b"\n" if before and not before.endswith(b"\n") else b"") + key.to_json() + b"\n")

    def revoke(self, name: str) -> None:
        """Takes a key out and leaves all other lines as they are; raises InvalidKey if there is none of this name."""
        with self._locked():
            if name not in self.keys():
                raise InvalidKey(f"there is no key {name}")
            lines = read(self._path).splitlines(keepends=True)
            self._replace(b"".join(line for line in lines if not _is_of(line, name)))

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Keeps other processes that change files of this folder waiting."""
        try:
            folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise InvalidFile(f"{self._path} cannot be written: {error.strerror}") from error
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)

    def _replace(self, content: bytes) -> None:
        try:
            number, name = tempfile.mkstemp(dir=self._path.parent, prefix=f".{self._path.name}.")  # mode 0600
            try:
                with os.fdopen(number, "wb") as file:
                    file.write(content)
                    if self._path.exists():
                        known = self._path.stat()
                        os.fchmod(number, known.st_mode & 0o777)
                        os.fchown(number, known.st_uid, known.st_gid)
                    file.flush()
                    os.fsync(number)
                Path(name).replace(self._path)
            except BaseException:
                Path(name).unlink()
                raise
        except OSError as error:
            raise InvalidFile(f"{self._path} cannot be written: {error.strerror}") from error


def _is_of(line: bytes, name: str) -> bool:
    return holds_key(line) and ApiKey.from_json(line).identity.name == name
