"""Finding the admin of a cell under SAX_ROOT (Sax protocol §2)."""

from __future__ import annotations

import errno
import traceback
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Protocol

import pytest
import pytest_asyncio

from saxgw.sax import AdminUnavailable, CellNotFound, InvalidName, RootUnavailable, connect
from saxgw.sax.root import Root
from saxgw.sax.wire import admin_pb2
from tests.sax.bucket import Bucket, serve_bucket

CELL = "/sax/test"

LOCATION = bytes.fromhex("0a0f3132372e302e302e313a3130303030")
"""A location file as Google's admin writes it (§2.1)."""


def location(address: str) -> bytes:
    return admin_pb2.Location(location=address).SerializeToString()


class Storage(Protocol):
    """Somewhere to put a SAX_ROOT."""

    url: str

    def create(self, cell: str = "test") -> None:
        """Makes a cell, without a location file."""

    def write(self, content: bytes) -> None:
        """Makes the cell with a location file."""


class FolderStorage:
    def __init__(self, path: Path, url: str) -> None:
        self.url = url
        self.folder = path / "sax" / "test"

    def create(self, cell: str = "test") -> None:
        (self.folder.parent / cell).mkdir(parents=True)

    def write(self, content: bytes) -> None:
        self.create()
        (self.folder / "location.proto").write_bytes(content)


class BucketStorage:
    def __init__(self, bucket: Bucket, url: str) -> None:
        self.url = url
        self.bucket = bucket

    def create(self, cell: str = "test") -> None:
        self.bucket.objects[f"bucket/cells/sax/{cell}/METADATA"] = b""

    def write(self, content: bytes) -> None:
        # METADATA is left out on purpose: a cell with a location file exists.
        self.bucket.objects["bucket/cells/sax/test/location.proto"] = content


@pytest_asyncio.fixture
async def bucket(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bucket]:
    async with serve_bucket() as bucket:
        monkeypatch.setenv("GOOGLE_BASE_URL", bucket.url)
        monkeypatch.setenv("GOOGLE_BEARER_TOKEN", "token")
        yield bucket


@pytest.fixture(params=["path", "path/", "file://", "gs://", "gs://…/"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    """One after another, everything that a SAX_ROOT can be on."""
    match request.param:
        case "path":
            return FolderStorage(tmp_path, str(tmp_path))
        case "path/":
            return FolderStorage(tmp_path, f"{tmp_path}/")
        case "file://":
            return FolderStorage(tmp_path / "a b", f"{tmp_path.as_uri()}/a%20b")
        case "gs://":
            return BucketStorage(request.getfixturevalue("bucket"), "gs://bucket/cells")
        case _:
            return BucketStorage(request.getfixturevalue("bucket"), "gs://bucket/cells/")


async def test_the_address_stands_in_the_location_file(storage: Storage) -> None:
    storage.write(LOCATION)
    assert await Root(storage.url).admin_address(CELL) == "127.0.0.1:10000"


@pytest.mark.parametrize("address", ["10.0.0.1:80", "[fe80::1]:10000", "admin.example:10000"])
async def test_forms_of_addresses(tmp_path: Path, address: str) -> None:
    FolderStorage(tmp_path, "").write(location(address))
    assert await Root(str(tmp_path)).admin_address(CELL) == address


async def test_a_cell_that_is_not_there(storage: Storage) -> None:
    with pytest.raises(CellNotFound) as raised:
        await Root(storage.url).admin_address(CELL)
    assert str(raised.value) == (
        "there is no cell /sax/test under SAX_ROOT; check its name, or create it with Sax's admin_config"
    )


NEVER_RAN = "no admin has ever run for /sax/test; start its admin server"

EMPTY = "the location file of /sax/test is empty; its admin may be starting, otherwise restart it, which rewrites it"

DAMAGED = (
    "the location file of /sax/test is damaged, so its admin cannot be found; restart the admin, which rewrites it"
)

NO_ADDRESS = (
    "the location file of /sax/test holds no host:port, so its admin cannot be found; "
    "restart the admin, which rewrites it"
)


async def test_a_cell_without_a_location_file(storage: Storage) -> None:
    storage.create()
    with pytest.raises(AdminUnavailable) as raised:
        await Root(storage.url).admin_address(CELL)
    assert str(raised.value) == NEVER_RAN


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (location("No admin server has been started for this Sax cell."), NEVER_RAN),
        (b"", EMPTY),
        (location(""), EMPTY),
        (LOCATION[:5], DAMAGED),
        (location("somewhere"), NO_ADDRESS),
    ],
    ids=["placeholder", "empty file", "empty address", "half a file", "no address"],
)
async def test_location_files_without_an_address(storage: Storage, content: bytes, message: str) -> None:
    storage.write(content)
    with pytest.raises(AdminUnavailable) as raised:
        await Root(storage.url).admin_address(CELL)
    assert str(raised.value) == message


FORBIDDEN = (
    "SAX_ROOT may not be read, so the admin of /sax/test cannot be found; give this process permission to read it"
)

UNREADABLE = (
    "SAX_ROOT cannot be read, so the admin of /sax/test cannot be found; "
    "check that its storage is reachable and has credentials"
)


async def test_a_forbidden_bucket(bucket: Bucket) -> None:
    bucket.forbidden = True
    with pytest.raises(AdminUnavailable) as raised:
        await Root("gs://bucket/cells").admin_address(CELL)
    assert str(raised.value) == FORBIDDEN


async def test_a_bucket_that_fails(bucket: Bucket) -> None:
    bucket.broken = True
    with pytest.raises(AdminUnavailable) as raised:
        await Root("gs://bucket/cells").admin_address(CELL)
    assert str(raised.value) == UNREADABLE


async def test_a_bucket_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_BASE_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("GOOGLE_BEARER_TOKEN", "token")
    with pytest.raises(AdminUnavailable) as raised:
        await Root("gs://bucket/cells").admin_address(CELL)
    assert str(raised.value) == UNREADABLE


async def test_a_forbidden_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_bytes(path: Path) -> bytes:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    FolderStorage(tmp_path, "").write(LOCATION)
    monkeypatch.setattr(Path, "read_bytes", read_bytes)  # file modes would not stop a test that runs as root
    with pytest.raises(AdminUnavailable) as raised:
        await Root(str(tmp_path)).admin_address(CELL)
    assert str(raised.value) == FORBIDDEN


async def test_a_location_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "sax" / "test" / "location.proto").mkdir(parents=True)
    with pytest.raises(AdminUnavailable) as raised:
        await Root(str(tmp_path)).admin_address(CELL)
    assert str(raised.value) == UNREADABLE


async def test_names_that_no_folder_can_have(tmp_path: Path) -> None:
    with pytest.raises(CellNotFound):
        await Root(str(tmp_path)).admin_address("/sax/" + "x" * 1000)


async def test_a_file_where_folders_should_be(tmp_path: Path) -> None:
    (tmp_path / "sax").write_text("")
    with pytest.raises(CellNotFound):
        await Root(str(tmp_path)).admin_address(CELL)


# Listing cells.


async def test_cells_are_listed_sorted(storage: Storage) -> None:
    """What cannot be a cell, for its name, is passed over."""
    for cell in ("b-2", "a", "Trash", ".git", "c_"):
        storage.create(cell)
    storage.write(LOCATION)
    async with connect(storage.url) as sax:
        assert await sax.list_cells() == ["/sax/a", "/sax/b-2", "/sax/c_", "/sax/test"]


async def test_a_root_without_cells(tmp_path: Path, bucket: Bucket) -> None:
    bucket.objects["bucket/cells/README"] = b""
    (tmp_path / "other").mkdir()
    for url in (str(tmp_path), tmp_path.as_uri(), "gs://bucket/cells", "gs://bucket/elsewhere"):
        assert await Root(url).cells() == []


async def test_files_are_not_cells(tmp_path: Path, bucket: Bucket) -> None:
    bucket.objects["bucket/sax/file"] = b""
    (tmp_path / "sax").mkdir()
    (tmp_path / "sax" / "file").write_text("")
    for url in (str(tmp_path), "gs://bucket"):
        assert await Root(url).cells() == []
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "sax").write_text("")
    assert await Root(str(tmp_path / "other")).cells() == []


@pytest.mark.parametrize("root", ["folder", "file", "bucket"])
async def test_a_root_that_is_missing(tmp_path: Path, bucket: Bucket, root: str) -> None:
    (tmp_path / "file").write_text("")
    bucket.objects["other/sax/test/METADATA"] = b""
    with pytest.raises(RootUnavailable) as raised:
        await Root("gs://bucket/cells" if root == "bucket" else str(tmp_path / root)).cells()
    assert str(raised.value) == "SAX_ROOT does not exist; check how it is spelled, or create it"


MAY_NOT_BE_LISTED = "SAX_ROOT may not be listed; give this process permission to list and read it"


async def test_a_bucket_that_may_not_be_listed(bucket: Bucket) -> None:
    bucket.forbidden = True
    with pytest.raises(RootUnavailable) as raised:
        await Root("gs://bucket/cells").cells()
    assert str(raised.value) == MAY_NOT_BE_LISTED


async def test_a_folder_that_may_not_be_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def scandir(path: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr("saxgw.sax.root.os.scandir", scandir)  # file modes would not stop a test that runs as root
    with pytest.raises(RootUnavailable) as raised:
        await Root(str(tmp_path)).cells()
    assert str(raised.value) == MAY_NOT_BE_LISTED


@pytest.mark.parametrize("reachable", [True, False], ids=["fails", "is out of reach"])
async def test_a_bucket_that_cannot_be_listed(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch, *, reachable: bool
) -> None:
    bucket.broken = True
    if not reachable:
        monkeypatch.setenv("GOOGLE_BASE_URL", "http://127.0.0.1:1")
    with pytest.raises(RootUnavailable) as raised:
        await Root("gs://bucket/cells").cells()
    assert str(raised.value) == "SAX_ROOT cannot be listed; check that its storage is reachable and has credentials"


async def test_messages_do_not_show_where_the_root_is(storage: Storage) -> None:
    with pytest.raises(CellNotFound) as raised:
        await Root(storage.url).admin_address(CELL)
    assert storage.url.strip("/") not in str(raised.value)


@pytest.mark.parametrize(("root", "reason"), [("", "is empty"), (" ", "is empty"), ("a\0b", "has a zero byte in it")])
def test_roots_that_say_nothing_are_refused_at_once(root: str, reason: str) -> None:
    with pytest.raises(InvalidName) as raised:
        connect(root)
    assert str(raised.value) == f"SAX_ROOT {reason}; set it to the folder or bucket where the cells are"


@pytest.mark.parametrize(
    ("root", "reason"),
    [
        ("ftp://host/x", "Unable to recognise URL"),
        ("gs://", "Unable to recognise URL"),
        ("gs://a bucket/path", "invalid domain character"),
        ("az://container/path", "Account must be specified"),
    ],
)
def test_impossible_roots_are_refused_at_once(root: str, reason: str) -> None:
    with pytest.raises(InvalidName) as raised:
        connect(root)
    assert str(raised.value) == (
        f'"{root}" cannot be SAX_ROOT ({reason}); write a path, or a URL such as gs://bucket/path'
    )


@pytest.mark.parametrize(
    ("root", "shown", "reason"),
    [
        ("ftp://user:hunter2@host/x", "ftp://…@host/x", "Unable to recognise URL"),
        ("ftp://hunter2@host", "ftp://…@host", "Unable to recognise URL"),
        ("ftp://user:hunter2@and?hunter2/@host/x", "ftp://…@host/x", "Unable to recognise URL"),
        ("ftp://host/x?sig=hunter2#hunter2", "ftp://host/x?…", "Unable to recognise URL"),
        ("ftp://host/x#hunter2", "ftp://host/x#…", "Unable to recognise URL"),
        ("az://user:hunter2@box/x?sig=hunter2", "az://…@box/x?…", "URL did not match any known pattern for scheme"),
        ("https://user:hunter2@host:99999/x", "https://…@host:99999/x", "invalid port number"),
        ("s3://[user:hunter2@/x?sig=hunter2", "s3://…@/x?…", "empty host"),
    ],
)
def test_impossible_roots_keep_their_secrets(root: str, shown: str, reason: str) -> None:
    """Neither what is said of a URL nor a traceback has its user, password and query."""
    with pytest.raises(InvalidName) as raised:
        connect(root)
    assert str(raised.value) == (
        f'"{shown}" cannot be SAX_ROOT ({reason}); write a path, or a URL such as gs://bucket/path'
    )
    assert "hunter2" not in "".join(traceback.format_exception(raised.value))


@pytest.mark.parametrize("root", ["s3://bucket/path", "gs://bucket", "relative/path", "/absolute/path"])
def test_possible_roots_are_not_looked_at_yet(root: str) -> None:
    connect(root)
