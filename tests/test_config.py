"""The configuration file: what comes before what, what is refused, and what --print-config says."""

from __future__ import annotations

import dataclasses
import math
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saxgw.cli.config import to_toml
from saxgw.devcell import DevCell
from saxgw.settings import Settings
from tests.docs import code_block
from tests.process import run, running

Write: TypeAlias = Callable[[str | bytes], str]

PAGE = (Path(__file__).parent.parent / "docs" / "configuration.md").read_text()

SOURCES = ("flag --max-queue", "environment variable SAXGW_MAX_QUEUE", "file {file}", "default")
"""Where a value may come from, what comes first first."""

SECRETS = ["gs://name:pass@bucket/dir", "s3://key@bucket/dir", "az://container/dir?sig=pass", "http://[pass"]
"""Roots with credentials in them, and one that nobody can read."""


async def printed(
    *arguments: str, command: str = "serve", environment: dict[str, str] | None = None
) -> tuple[str, dict[str, Any]]:
    """What --print-config prints, as text and as TOML has it."""
    code, output, errors = await run(command, *arguments, "--print-config", environment=environment)
    assert (code, errors) == (0, "")
    return output, tomllib.loads(output)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a configuration file and returns its path."""

    def write(content: str | bytes) -> str:
        file = tmp_path / "saxgw.toml"
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(file)

    return write


@pytest.mark.parametrize("command", ["serve", "dev"])
@pytest.mark.parametrize("first", range(len(SOURCES)))
async def test_precedence(write: Write, command: str, first: int) -> None:
    """Flags come before the environment, this before the file, and this before defaults."""
    file = write("max_queue = 30\n" if first <= 2 else "")
    environment = {"SAXGW_CONFIG": file} | ({"SAXGW_MAX_QUEUE": "20"} if first <= 1 else {})
    output, values = await printed(
        *(["--max-queue=10"] if first == 0 else []), command=command, environment=environment
    )
    value = [10, 20, 30, 1000][first]
    assert values["max_queue"] == value
    assert f"max_queue = {value}  # {SOURCES[first].format(file=file)}\n" in output


async def test_config_flag_comes_before_its_variable(write: Write) -> None:
    """--config is read, and not what SAXGW_CONFIG names."""
    file = write("host = 'localhost'")
    _, values = await printed("--config", file, environment={"SAXGW_CONFIG": "/does/not/exist"})
    assert values["host"] == "localhost"


async def test_switches_can_be_turned_off(write: Write) -> None:
    """What is on in the file is off with --no-."""
    file = write("ignore_unknown_fields = true\ngoogle = true")
    arguments = ("--config", file, "--no-ignore-unknown-fields", "--no-google")
    _, values = await printed(*arguments, command="dev")
    assert (values["ignore_unknown_fields"], values["google"]) == (False, False)


async def test_printed_config_can_be_read_back(write: Write) -> None:
    """What --print-config prints gives the same values as a configuration file, which then is where they come from."""
    output, values = await printed(
        "--drain-timeout=2.5", "--allow-checkpoint=None", environment={"SAX_ROOT": 'a "b"\\ü\n#'}
    )
    unset = re.findall(r"^# (\w+) is not set$", output, re.MULTILINE)
    assert set(values) | set(unset) == {field.name for field in dataclasses.fields(Settings)}
    assert values["allow_checkpoint"] == ["None"]
    assert values["sax_root"] == 'a "b"\\ü\n#'
    assert "# environment variable SAX_ROOT\n" in output
    file = write(output)
    again, values_again = await printed("--config", file)
    assert values_again == values
    assert again.count(f"# file {file}\n") == len(values)


async def test_dev_prints_what_it_takes(write: Write) -> None:
    """`saxgw dev` prints its own options as well, and not what it decides itself, which the file may have."""
    file = write("host = '0.0.0.0'\nsax_root = '/srv/sax'\nmodel_servers = 3\nroot = 'cell'")
    output, values = await printed("--config", file, command="dev")
    assert (values["model_servers"], values["root"]) == (3, "cell")
    assert not {"host", "sax_root"} & set(values)
    assert "google = false  # default\n" in output


@pytest.mark.parametrize("root", SECRETS)
async def test_secrets_are_hidden(root: str) -> None:
    """A root with credentials is not printed; where it comes from is."""
    output, values = await printed(environment={"SAXGW_SAX_ROOT": root})
    assert "sax_root" not in values
    assert "# sax_root is hidden  # environment variable SAXGW_SAX_ROOT\n" in output
    assert root not in output


async def test_printing_checks_the_values() -> None:
    """Values that make no sense are printed, with where they come from, and refused."""
    code, output, errors = await run("serve", "--print-config", environment={"SAXGW_HTTP_PORT": "70000"})
    assert code == 2
    assert "http_port = 70000  # environment variable SAXGW_HTTP_PORT\n" in output
    assert "# sax_root is not set\n" in output
    assert "--http-port must be between 0 and 65535, got 70000" in errors


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"http-port = 1", "there is no setting http-port; did you mean http_port?"),
        (b"zzz = 1", "there is no setting zzz; saxgw serve --print-config shows all"),
        (b"model_servers = 1", "there is no setting model_servers"),
        (b"config = 'x'", "there is no setting config"),
        (b"[saxgw]\nhttp_port = 1", "there is no setting saxgw"),
        (b"http_port = '80'", "http_port must be an integer, not a string"),
        (b"http_port = true", "http_port must be an integer, not a boolean"),
        (b"http_port = 80.0", "http_port must be an integer, not a float"),
        (b"drain_timeout = '5'", "drain_timeout must be a number, not a string"),
        (b"drain_timeout = 2026-01-01", "drain_timeout must be a number, not a date or time"),
        (b"ignore_unknown_fields = 1", "ignore_unknown_fields must be a boolean, not an integer"),
        (b"host = ['a']", "host must be a string, not an array"),
        (b"allow_checkpoint = 'None'", "allow_checkpoint must be an array whose items are each a string, not a string"),
        (
            b"allow_checkpoint = ['None', 1]",
            "allow_checkpoint must be an array whose items are each a string, not one with others",
        ),
        (b"[host]", "host must be a string, not a table"),
        (b"http_port = 1\nhttp_port", "is not TOML: Expected '=' after a key in a key/value pair (at "),
        (b"host = '\xff'", "is not UTF-8 (at byte 8)"),
    ],
)
async def test_bad_file(write: Write, content: bytes, said: str) -> None:
    """A file that cannot be taken is refused before anything starts, with its name, the place and what is right."""
    file = write(content)
    code, output, errors = await run("serve", "--sax-root=/nowhere", environment={"SAXGW_CONFIG": file})
    assert (code, output) == (2, "")
    assert said in errors
    assert file in errors
    assert "Traceback" not in errors


async def test_no_file(tmp_path: Path) -> None:
    """A file that is not there, or cannot be read, is an error and not an empty one."""
    for path, said in ((tmp_path / "none.toml", "No such file or directory"), (tmp_path, "Is a directory")):
        code, output, errors = await run("dev", "--config", str(path))
        assert (code, output) == (2, "")
        assert f"cannot read {path}: {said}" in errors


async def test_value_out_of_range(write: Write) -> None:
    """The file's values are checked as all others are."""
    file = write("http_port = 70000")
    code, _, errors = await run("serve", "--sax-root=/nowhere", "--config", file)
    assert code == 2
    assert "--http-port must be between 0 and 65535, got 70000" in errors


async def test_serve_with_a_file(cell: DevCell, write: Write) -> None:
    """A gateway runs with what its file says."""
    file = write(f"sax_root = {to_toml(cell.root)}")
    async with running("serve", "--config", file) as gateway:
        assert cell.root in gateway.serving


async def test_documented_example(write: Write) -> None:
    """The file in docs/configuration.md is one, and --print-config says of it what stands there."""
    file = write(code_block(PAGE, "toml", ""))
    command, *expected = code_block(PAGE, "console", "").splitlines()
    assert command.endswith("saxgw serve --config saxgw.toml --http-port 8080 --print-config")
    output, _ = await printed("--config", file, "--http-port", "8080", environment={"SAX_ROOT": "/srv/sax-root"})
    assert expected.pop() == "..."
    assert output.replace(file, "saxgw.toml").splitlines()[: len(expected)] == expected


@given(
    st.text()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats()
    | st.booleans()
    | st.lists(st.text() | st.integers()).map(tuple)
)
def test_toml(value: Any) -> None:
    """Whatever value is written, the same is read."""
    read = tomllib.loads(f"a = {to_toml(value)}")["a"]
    if isinstance(value, tuple):
        read = tuple(read)
    assert type(read) is type(value)
    assert read == value or (math.isnan(read) and math.isnan(value))
