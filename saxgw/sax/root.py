"""SAX_ROOT: the folder or bucket where cells are found (Sax protocol §2).

Each cell has a folder `<SAX_ROOT>/sax/<cell>/`, and in it a file `location.proto` with the address of its admin.
"""

from __future__ import annotations

import asyncio
import errno
import os
import re
import stat
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import urlsplit
from urllib.request import url2pathname

from google.protobuf.message import DecodeError

from saxgw.sax.errors import AdminUnavailable, CellNotFound, InvalidName, RootUnavailable
from saxgw.sax.names import is_cell_name
from saxgw.sax.wire import admin_pb2

if TYPE_CHECKING:
    from obstore.store import ObjectStore

_ADDRESS: Final = re.compile(r"\S+:\d+")

_NOT_THERE: Final = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG)

_NEVER_RAN: Final = "No admin server has been started for this Sax cell."
"""What stands in the location file of a cell that was created but never had an admin (Sax protocol §2.3)."""

_HTTP_STATUS: Final = re.compile(r"status code: (\d{3})")
"""How obstore tells, in words only, why a bucket was not listed."""

_QUOTED_URL: Final = re.compile(r'[\s:"]*[a-z0-9+.-]+://.*', re.IGNORECASE | re.DOTALL)
"""How it says, last of all, which URL it cannot open."""

_USER: Final = re.compile(r"(?<=://).*@", re.DOTALL)
"""The user and password of a URL. A password that should have been escaped may have any character in it."""

_QUERY: Final = re.compile(r"([?#]).*", re.DOTALL)
"""The query of a URL, where signatures are, and what follows it."""

_REQUEST_TIMEOUT: Final = timedelta(seconds=3)
"""Time limit of one request to a bucket, whose files are a few bytes."""

_RETRY_TIMEOUT: Final = timedelta(seconds=5)
"""Time limit of one read of a bucket, retries included."""


class Files(Protocol):
    """The files under SAX_ROOT. Names are relative to it; methods block."""

    def read(self, name: str) -> bytes:
        """Returns a file's content; raises FileNotFoundError, PermissionError or, for all else, OSError."""
        ...

    def has_folder(self, name: str) -> bool:
        """Whether there is such a folder; raises as read() does."""
        ...

    def folders(self, name: str) -> list[str]:
        """Returns the names of the folders in a folder, which may be missing.

        Raises FileNotFoundError if SAX_ROOT itself is missing, and otherwise as read() does.
        """
        ...


class Root:
    """Finds cells and their admins.

    Args:
        url: a path, or a URL that obstore opens: gs://bucket/path, s3://, az:// or file://. Buckets take credentials
            and endpoints from the usual variables of their kind, such as GOOGLE_APPLICATION_CREDENTIALS.

    Raises:
        InvalidName: `url` cannot be a root. Whether it exists is not looked at.
    """

    def __init__(self, url: str) -> None:
        self._files = _open(url)

    async def admin_address(self, cell: str) -> str:
        """Returns the address, host:port, of the admin of `cell` (/sax/<cell>) as its location file tells it now.

        Raises:
            CellNotFound: there is no such cell.
            AdminUnavailable: no address is there. That may change within moments, because a cell that is being set
                up has no location file at first, and the file is empty while it is rewritten (Sax protocol §9.1.12).
        """
        # A thread, because a file may be on a network; obstore's own asyncio calls can crash an ending process.
        return await asyncio.to_thread(self._admin_address, cell)

    async def cells(self) -> list[str]:
        """Returns the full names of the cells that have a folder, sorted; other folders are passed over.

        Raises:
            RootUnavailable: SAX_ROOT is missing, forbidden or out of reach. In a bucket, where an empty folder is
                none, one without any cell is not told from one that is missing, and has no cells.
        """
        return await asyncio.to_thread(self._cells)

    def _cells(self) -> list[str]:
        try:
            names = self._files.folders("sax")
        except FileNotFoundError as error:
            raise RootUnavailable("SAX_ROOT does not exist; check how it is spelled, or create it") from error
        except PermissionError as error:
            raise RootUnavailable(
                "SAX_ROOT may not be listed; give this process permission to list and read it"
            ) from error
        except OSError as error:
            raise RootUnavailable(
                "SAX_ROOT cannot be listed; check that its storage is reachable and has credentials"
            ) from error
        return [f"/sax/{name}" for name in sorted(names) if is_cell_name(name)]

    def _admin_address(self, cell: str) -> str:
        folder = cell.removeprefix("/")
        try:
            try:
                content = self._files.read(f"{folder}/location.proto")
            except FileNotFoundError:
                if self._files.has_folder(folder):
                    raise _never_ran(cell) from None
                raise CellNotFound(
                    f"there is no cell {cell} under SAX_ROOT; check its name, or create it with Sax's admin_config"
                ) from None
        except PermissionError as error:
            raise AdminUnavailable(
                f"SAX_ROOT may not be read, so the admin of {cell} cannot be found; "
                "give this process permission to read it"
            ) from error
        except OSError as error:
            raise AdminUnavailable(
                f"SAX_ROOT cannot be read, so the admin of {cell} cannot be found; "
                "check that its storage is reachable and has credentials"
            ) from error
        return _parse_location(cell, content)


def _parse_location(cell: str, content: bytes) -> str:
    try:
        address = admin_pb2.Location.FromString(content).location
    except DecodeError as error:
        raise AdminUnavailable(
            f"the location file of {cell} is damaged, so its admin cannot be found; "
            "restart the admin, which rewrites it"
        ) from error
    if not address:
        raise AdminUnavailable(
            f"the location file of {cell} is empty; its admin may be starting, otherwise restart it, which rewrites it"
        )
    if address == _NEVER_RAN:
        raise _never_ran(cell)
    if not _ADDRESS.fullmatch(address):
        raise AdminUnavailable(
            f"the location file of {cell} holds no host:port, so its admin cannot be found; "
            "restart the admin, which rewrites it"
        )
    return address


def _never_ran(cell: str) -> AdminUnavailable:
    return AdminUnavailable(f"no admin has ever run for {cell}; start its admin server")


def without_secrets(url: str) -> str:
    """SAX_ROOT as it is shown to people: a URL has `…` in place of its user and password, and of its query."""
    return _QUERY.sub(r"\1…", _USER.sub("…@", url)) if "://" in url else url


def _open(url: str) -> Files:
    if not url.strip() or "\0" in url:
        reason = "has a zero byte in it" if url.strip() else "is empty"
        raise InvalidName(f"SAX_ROOT {reason}; set it to the folder or bucket where the cells are")
    if "://" not in url:
        return _Folder(Path(url).absolute())
    if url.startswith("file://"):
        return _Folder(Path(url2pathname(urlsplit(url).path)))
    return _Bucket(url)


class _Folder:
    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self, name: str) -> bytes:
        try:
            return (self._path / name).read_bytes()
        except OSError as error:
            if error.errno in _NOT_THERE:
                raise FileNotFoundError(*error.args) from error
            raise

    def has_folder(self, name: str) -> bool:
        try:
            return stat.S_ISDIR((self._path / name).stat().st_mode)
        except OSError as error:
            if error.errno in _NOT_THERE:
                return False
            raise

    def folders(self, name: str) -> list[str]:
        try:
            with os.scandir(self._path / name) as entries:
                return [entry.name for entry in entries if entry.is_dir()]
        except OSError as error:
            if error.errno not in _NOT_THERE:
                raise
            if not self._path.is_dir():
                raise FileNotFoundError(*error.args) from error
            return []


class _Bucket:
    def __init__(self, url: str) -> None:
        # Here and not above, because most roots are folders and the import takes ten milliseconds.
        from obstore import exceptions, store  # noqa: PLC0415 -- as the comment says

        self._forbidden = (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError)
        self._error = exceptions.BaseError
        try:
            self._store: ObjectStore = store.from_url(
                url,
                # For emulators: real services are addressed by https unless the environment says otherwise.
                client_options={"allow_http": True, "timeout": _REQUEST_TIMEOUT},
                retry_config={"max_retries": 2, "retry_timeout": _RETRY_TIMEOUT},
            )
        except (exceptions.BaseError, ValueError) as error:
            reason = _QUOTED_URL.sub("", str(error).partition("\n")[0].rpartition(" error: ")[2])
            raise InvalidName(
                f'"{without_secrets(url)}" cannot be SAX_ROOT ({reason}); write a path, or a URL such as gs://bucket/path'
            ) from None  # it has all of the URL in it

    def read(self, name: str) -> bytes:
        try:
            return bytes(self._store.get(name).bytes())
        except self._forbidden as error:
            raise PermissionError(str(error)) from error
        except self._error as error:
            raise OSError(str(error)) from error

    def has_folder(self, name: str) -> bool:
        # An empty object of this name stands for the folder (Sax protocol §2.1).
        try:
            self.read(f"{name}/METADATA")
        except FileNotFoundError:
            return False
        return True

    def folders(self, name: str) -> list[str]:
        try:
            listed = self._store.list_with_delimiter(name)
        except self._error as error:
            match _HTTP_STATUS.search(str(error)):
                case re.Match() as status if status[1] == "404":
                    raise FileNotFoundError(str(error)) from error
                case re.Match() as status if status[1] in ("401", "403"):
                    raise PermissionError(str(error)) from error
            raise OSError(str(error)) from error
        return [folder.rpartition("/")[2] for folder in listed["common_prefixes"]]
