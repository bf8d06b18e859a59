"""The files of a cell (Sax protocol §2): where they are, and how they are read and written.

<SAX_ROOT>/sax/<cell>/config.proto      sax.Config: where the state is kept
<SAX_ROOT>/sax/<cell>/location.proto    sax.Location: the address of the admin server
<fs_root>/sax/<cell>/state.proto        sax.State: every published model
"""

from __future__ import annotations

import os
import secrets
import time
from pathlib import Path
from typing import Final, Literal, TypeAlias

from google.protobuf.message import DecodeError, Message

from saxgw.devcell.errors import DevCellError
from saxgw.sax.wire.admin_pb2 import Config, Location, State

_OPEN_ADMIN_ACL: Final = "acl/all"
"""What Sax's own tool writes when it makes a cell."""

_NO_ADMIN: Final = "No admin server has been started for this Sax cell."
"""What Sax's own tool writes as the address when it makes a cell."""

Spoilt: TypeAlias = Literal["truncated", "empty", "placeholder", "garbage", "missing"]
"""What may be wrong with location.proto."""


class CellFiles:
    """The files of one cell. Each is replaced as a whole, so that readers never see half of one.

    Args:
        root: SAX_ROOT, a local folder.
        cell: The cell's short name, such as "test".
    """

    def __init__(self, root: Path, cell: str) -> None:
        self._root = root
        self._folder = Path("sax", cell)
        self._location = root / self._folder / "location.proto"

    def create(self) -> None:
        """Makes the folder and config.proto, where they are missing."""
        config = self._root / self._folder / "config.proto"
        config.parent.mkdir(parents=True, exist_ok=True)
        if not config.exists():
            _write(config, Config(fs_root=str(self._root), admin_acl=_OPEN_ADMIN_ACL))

    def read_location(self) -> str:
        """Returns the address of the admin server; "" if none is written, or not yet whole."""
        location = Location()
        try:
            location.ParseFromString(self._location.read_bytes())
        except (OSError, DecodeError):
            return ""
        return "" if location.location == _NO_ADMIN else location.location

    def location_version(self) -> str:
        """Returns a text that is another one after each write of the address, though it be the same address."""
        try:
            status = self._location.stat()
        except OSError:
            return ""
        return f"{status.st_ino} {status.st_mtime_ns}"

    def write_location(self, address: str) -> None:
        """Writes the address of the admin server, `host:port`."""
        _write(self._location, Location(location=address))

    def spoil_location(self, address: str, how: Spoilt) -> None:
        """Writes the address as it should not be written, in place, as Sax does."""
        whole = Location(location=address).SerializeToString()
        contents = {
            "truncated": whole[: len(whole) // 2],
            "empty": b"",
            "placeholder": Location(location=_NO_ADMIN).SerializeToString(),
            "garbage": b"\xff" * len(whole),
        }
        if how == "missing":
            self._location.unlink(missing_ok=True)
        else:
            self._location.write_bytes(contents[how])

    def read_state(self) -> State:
        """Returns the saved state, an empty one if there is none; raises DevCellError if it cannot be read."""
        path = self._state_path()
        state = State()
        try:
            state.ParseFromString(path.read_bytes())
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)
        except (OSError, DecodeError) as error:
            raise DevCellError(f'cannot read the state of the cell from "{path}": {error}') from error
        return state

    def write_state(self, state: State) -> None:
        """Saves the state; raises OSError if that is impossible."""
        _write(self._state_path(), state)

    def _state_path(self) -> Path:
        path = self._root / self._folder / "config.proto"
        config = Config()
        try:
            config.ParseFromString(path.read_bytes())
        except (OSError, DecodeError) as error:
            raise DevCellError(f'cannot read the configuration of the cell from "{path}": {error}') from error
        return Path(config.fs_root) / self._folder / "state.proto"


def _write(path: Path, message: Message) -> None:
    # The name has the form that Sax gives to its temporary files.
    now_ns = time.time_ns()
    temporary = path.with_name(f"{path.name}.{now_ns}.{secrets.token_hex(8)}")
    try:
        temporary.write_bytes(message.SerializeToString(deterministic=True))
        # Of itself the system writes down its last tick: two files of one tick may have the same time and inode.
        os.utime(temporary, ns=(now_ns, now_ns))
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
