"""The files of a cell (Sax protocol §2)."""

from __future__ import annotations

from pathlib import Path

import pytest

from saxgw.devcell import AdminServer, DevCell, DevCellError
from saxgw.devcell.layout import CellFiles
from saxgw.sax.wire.admin_pb2 import Config, Location, Model, State
from tests.devcell.harness import QUICK, admin_at, model

LOCATION = bytes.fromhex("0a0f3132372e302e302e313a3130303030")
CONFIG = bytes.fromhex("0a032f6673120761636c2f616c6c")


def test_the_bytes_are_those_of_sax(tmp_path: Path) -> None:
    files = CellFiles(tmp_path, "test")
    files.create()
    files.write_location("127.0.0.1:10000")
    assert (tmp_path / "sax/test/location.proto").read_bytes() == LOCATION
    assert files.read_location() == "127.0.0.1:10000"
    assert Config(fs_root="/fs", admin_acl="acl/all").SerializeToString() == CONFIG


def test_a_config_that_is_there_is_kept_and_says_where_the_state_is(tmp_path: Path) -> None:
    elsewhere = tmp_path / "fs"
    config = tmp_path / "root/sax/test/config.proto"
    config.parent.mkdir(parents=True)
    content = Config(fs_root=str(elsewhere)).SerializeToString()
    config.write_bytes(content)
    files = CellFiles(tmp_path / "root", "test")
    files.create()
    assert config.read_bytes() == content
    assert files.read_state() == State()
    files.write_state(State(models=[model("alice")]))
    assert State.FromString((elsewhere / "sax/test/state.proto").read_bytes()).models == [model("alice")]


@pytest.mark.parametrize("content", [None, b"", b"\xff"])
def test_a_location_that_is_not_whole_is_none(tmp_path: Path, content: bytes | None) -> None:
    files = CellFiles(tmp_path, "test")
    files.create()
    if content is not None:
        (tmp_path / "sax/test/location.proto").write_bytes(content)
    assert not files.read_location()


def test_every_write_is_seen_and_leaves_nothing_behind(tmp_path: Path) -> None:
    files = CellFiles(tmp_path, "test")
    files.create()
    versions = [files.location_version()]
    for _ in range(3):
        files.write_location("127.0.0.1:10000")
        versions.append(files.location_version())
    assert len(set(versions)) == 4
    assert {path.name for path in (tmp_path / "sax/test").iterdir()} == {"config.proto", "location.proto"}


async def test_an_admin_writes_its_files_at_once(tmp_path: Path) -> None:
    folder = tmp_path / "sax/test"
    async with AdminServer(tmp_path, timing=QUICK) as server, admin_at(server.address) as admin:
        assert Location.FromString((folder / "location.proto").read_bytes()) == Location(location=server.address)
        assert Config.FromString((folder / "config.proto").read_bytes()).fs_root == str(tmp_path)
        await admin.publish(model("alice", BATCH_SIZE="2"))
        (published,) = State.FromString((folder / "state.proto").read_bytes()).models
        assert len(published.uuid) == 16
        await admin.update(model("alice", checkpoint="other"))
        (updated,) = State.FromString((folder / "state.proto").read_bytes()).models
        assert updated.checkpoint_path == "other"
        assert updated.uuid == published.uuid
        await admin.unpublish("/sax/test/alice")
        assert not State.FromString((folder / "state.proto").read_bytes()).models
    assert Location.FromString((folder / "location.proto").read_bytes()) == Location(location=server.address)


async def test_what_another_admin_wrote_into_the_state_is_kept(tmp_path: Path) -> None:
    """Unknown fields, the deprecated generation and the uuids survive a restore and a save (§9.2)."""
    files = CellFiles(tmp_path, "test")
    files.create()
    theirs = Model.FromString(model("alice").SerializeToString() + b"\xa2\x06\x03new")
    theirs.uuid = bytes(range(16))
    path = tmp_path / "sax/test/state.proto"
    path.write_bytes(State(models=[theirs], last_generation=7).SerializeToString() + b"\xa2\x06\x05newer")
    async with AdminServer(tmp_path, timing=QUICK) as server, admin_at(server.address) as admin:
        await admin.publish(model("bob"))
    state = State.FromString(path.read_bytes())
    assert state.last_generation == 7
    assert state.models[0] == theirs
    assert b"new" in state.models[0].SerializeToString()
    assert state.SerializeToString().endswith(b"\xa2\x06\x05newer")


@pytest.mark.parametrize("content", [b"\xff", State(models=[Model(model_id="/sax/other/a")]).SerializeToString()])
async def test_a_state_that_makes_no_sense_stops_the_start(tmp_path: Path, content: bytes) -> None:
    files = CellFiles(tmp_path, "test")
    files.create()
    (tmp_path / "sax/test/state.proto").write_bytes(content)
    with pytest.raises(DevCellError, match="state of the cell"):
        await AdminServer(tmp_path).start()
    assert not files.read_location()


async def test_a_config_that_makes_no_sense_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "sax/test").mkdir(parents=True)
    (tmp_path / "sax/test/config.proto").write_bytes(b"\xff")
    with pytest.raises(DevCellError, match="configuration of the cell"):
        await AdminServer(tmp_path).start()


async def test_a_root_that_is_no_folder_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DevCellError, match="cannot keep a cell under"):
        await DevCell(tmp_path / "file").start()


async def test_a_change_that_cannot_be_saved_does_not_happen(tmp_path: Path) -> None:
    async with AdminServer(tmp_path, timing=QUICK) as server, admin_at(server.address) as admin:
        await admin.publish(model("alice", replicas=0))
        config = tmp_path / "sax/test/config.proto"
        config.write_bytes(Config(fs_root=str(tmp_path / "missing")).SerializeToString())
        for change in (
            admin.publish(model("bob")),
            admin.update(model("alice", checkpoint="other", replicas=0)),
            admin.unpublish("/sax/test/alice"),
        ):
            with pytest.raises(Exception, match="the state of the cell cannot be saved"):
                await change
        assert (await admin.list_one("/sax/test/alice")).model.checkpoint_path == "None"
