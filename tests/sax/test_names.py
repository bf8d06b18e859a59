"""The grammar of names (Sax protocol §1)."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saxgw.sax import InvalidName, parse_cell, parse_model
from saxgw.sax.names import cell_of, check_checkpoint, check_model_path, parse_cell_or_model

parts = st.from_regex(r"[a-z]+[a-z0-9_-]*", fullmatch=True)


@given(cell=parts, model=parts, slash=st.sampled_from(["", "/"]))
def test_well_formed_names_come_back_with_their_leading_slash(cell: str, model: str, slash: str) -> None:
    assert parse_cell(f"{slash}sax/{cell}") == f"/sax/{cell}"
    assert parse_model(f"{slash}sax/{cell}/{model}") == f"/sax/{cell}/{model}"
    assert cell_of(f"/sax/{cell}/{model}") == f"/sax/{cell}"
    assert parse_cell_or_model(f"{slash}sax/{cell}") == (f"/sax/{cell}", None)
    assert parse_cell_or_model(f"{slash}sax/{cell}/{model}") == (f"/sax/{cell}", f"/sax/{cell}/{model}")


@given(st.one_of(st.text(), st.from_regex(r"/?sax/[a-zA-Z0-9_./\n-]*")))
def test_anything_else_is_refused_and_quoted(name: str) -> None:
    well_formed = re.compile(r"/?sax/[a-z]+[a-z0-9_-]*(/[a-z]+[a-z0-9_-]*)?", re.ASCII)
    for parse, slashes in ((parse_cell, 2), (parse_model, 3)):
        if well_formed.fullmatch(name) and f"/{name.removeprefix('/')}".count("/") == slashes:
            assert parse(name) == f"/{name.removeprefix('/')}"
        else:
            with pytest.raises(InvalidName, match=re.escape(f'"{name}"')):
                parse(name)


@pytest.mark.parametrize(
    "name",
    ["", "/", "lm", "/sax", "/sax/", "//sax/test", "/sax/Test", "/sax/te.st", "/sax/1", "/sax/test\n", "/sax/tést"],
)
def test_malformed_cells(name: str) -> None:
    for parse in (parse_cell, parse_cell_or_model):
        with pytest.raises(InvalidName):
            parse(name)


@pytest.mark.parametrize("name", ["lm", "/sax", "/sax/test/lm/x", "/other/test"])
def test_what_names_neither_a_cell_nor_a_model(name: str) -> None:
    with pytest.raises(InvalidName) as raised:
        parse_cell_or_model(name)
    assert str(raised.value) == f'"{name}" names neither a cell nor a model; write /sax/<cell> or /sax/<cell>/<model>'


@pytest.mark.parametrize("path", ["a", "saxml.server.pax.lm.params.lm_cloud.LmCloudSpmd2BTest", "A-b_c.1"])
def test_model_paths(path: str) -> None:
    assert check_model_path(path) == path


@pytest.mark.parametrize("path", ["", "1a", "a/b", "a b", "a\n", "_a", "é"])
def test_malformed_model_paths(path: str) -> None:
    with pytest.raises(InvalidName, match="is not a model path; write the registry name"):
        check_model_path(path)


@pytest.mark.parametrize("path", ["None", "gs://bucket/a-b/checkpoint_00000100", "/a/b.c", "a%20b", "x=1|y+2"])
def test_checkpoints(path: str) -> None:
    assert check_checkpoint(path) == path


@pytest.mark.parametrize("path", ["", "a b", "a,b", "a@b", "a*", "a?b", "a&b", "~/a", "a\n", "é"])
def test_malformed_checkpoints(path: str) -> None:
    with pytest.raises(InvalidName, match="checkpoint"):
        check_checkpoint(path)
