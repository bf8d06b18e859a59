"""Google's module: where it is found, what is said when it is not there, and what it may meet in the process."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf import descriptor_pool

from saxgw.sax import InvalidName, official
from saxgw.sax.wire import POOL
from tests.sax.clients import official_client
from tests.sax.scripted import CELL, ScriptedCell

HOW_TO_GET_IT = (
    "build //saxml/client/python:sax of https://github.com/google/saxml with Bazel and put it on PYTHONPATH, because "
    "what PyPI has as saxml is an empty placeholder; or use saxgw's own client, the default"
)


@pytest.fixture
def nothing_imported(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Has neither module in the process, and leaves none there that was imported meanwhile."""
    monkeypatch.setenv("SAX_ROOT", "/before")
    names = ["sax", "saxml"]
    before = {name: sys.modules.pop(name) for name in names if name in sys.modules}
    yield
    for name in names:
        sys.modules.pop(name, None)
    sys.modules.update(before)


@pytest.mark.usefixtures("nothing_imported")
def test_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(official.ModuleMissing) as raised:
        official.connect(str(tmp_path))
    assert str(raised.value) == (
        f"the official Sax client is not here (No module named 'sax'; No module named 'saxml'): {HOW_TO_GET_IT}"
    )
    assert os.environ["SAX_ROOT"] == "/before"


@pytest.mark.usefixtures("nothing_imported")
def test_what_pypi_has_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a package with nothing in it."""
    (tmp_path / "saxml").mkdir()
    (tmp_path / "saxml" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(official.ModuleMissing, match=r"No module named 'saxml\.client'"):
        official.connect(str(tmp_path))


@pytest.mark.usefixtures("nothing_imported")
def test_another_module_of_this_name_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PyPI has one that simulates light in circuits."""
    (tmp_path / "sax.py").write_text("def circuit(): ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(official.ModuleMissing, match=r"the module 'sax' of .*sax\.py is another one"):
        official.connect(str(tmp_path))


@pytest.mark.usefixtures("nothing_imported")
def test_a_module_that_was_built_for_something_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sax.so").write_bytes(b"not a library")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(official.ModuleMissing, match=r"is not here .*sax\.so: file too short"):
        official.connect(str(tmp_path))


@pytest.mark.usefixtures("google")
def test_it_is_given_its_root(tmp_path: Path) -> None:
    """It takes it from the environment when it is imported, and ends the process where there is none."""
    official.connect(str(tmp_path))
    assert os.environ["SAX_ROOT"] == str(tmp_path)
    official.connect(str(tmp_path))


@pytest.mark.usefixtures("google")
def test_a_second_root_in_one_process_is_refused(tmp_path: Path) -> None:
    official.connect(str(tmp_path))
    with pytest.raises(InvalidName) as raised:
        official.connect("/elsewhere")
    assert str(raised.value) == (
        f'the official client keeps one SAX_ROOT for the whole process, "{tmp_path}"; '
        'start another process for "/elsewhere"'
    )
    assert os.environ["SAX_ROOT"] == str(tmp_path)


@pytest.mark.usefixtures("google")
@pytest.mark.parametrize("root", ["s3://bucket/dir", "file:///srv/sax"])
def test_roots_that_it_does_not_take(root: str) -> None:
    with pytest.raises(InvalidName, match=f'takes a folder or gs://bucket/path, not "{root}"'):
        official.connect(root)
    with pytest.raises(InvalidName, match="SAX_ROOT is empty"):
        official.connect("")


@pytest.mark.usefixtures("google")
def test_refused_roots_keep_their_secrets() -> None:
    """No message shows the user, password and query of a URL."""
    with pytest.raises(InvalidName, match='not "s3://…@bucket/dir"'):
        official.connect("s3://user:hunter2@bucket/dir")
    official.connect("gs://bucket/dir?sig=hunter2")
    with pytest.raises(InvalidName) as raised:
        official.connect("gs://user:hunter2@bucket/dir")
    assert '"gs://bucket/dir?…"; start another process for "gs://…@bucket/dir"' in str(raised.value)


@pytest.mark.usefixtures("google")
async def test_its_messages_and_ours_do_not_meet(cell: ScriptedCell) -> None:
    """Both are called sax.Model and so on; ours are in a pool of their own."""
    async with official_client(cell.root) as sax:
        assert await sax.list_models(CELL) == []
    theirs = descriptor_pool.Default().FindMessageTypeByName("sax.Model")
    assert theirs is not POOL.FindMessageTypeByName("sax.Model")
