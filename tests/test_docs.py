"""What the documentation says is so: commands give what they are said to give, tables are complete, code runs."""

from __future__ import annotations

import asyncio
import dataclasses
import re
import shlex
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from saxgw.settings import Settings, environment_variable, flag
from tests.process import Running, running

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


@pytest_asyncio.fixture
async def dev() -> AsyncIterator[Running]:
    """A `saxgw dev` process with two model servers."""
    async with running("dev", "--model-servers", "2") as gateway:
        yield gateway


async def shell(command: str) -> tuple[str, str]:
    """Output and errors of a shell command that must succeed."""
    process = await asyncio.create_subprocess_shell(
        command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    output, errors = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, errors.decode()
    return output.decode(), errors.decode()


def console_commands(text: str) -> list[tuple[str, str]]:
    """(command, expected output) of each `$ …` in the text's console blocks; `...` stands for anything."""
    commands = []
    for block in re.findall(r"```console\n(.*?)```", text, re.DOTALL):
        for entry in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            lines = entry.splitlines()
            end = next(n for n in range(1, len(lines) + 1) if is_complete("\n".join(lines[:n])))
            commands.append(("\n".join(lines[:end]), "\n".join(lines[end:])))
    return commands


def is_complete(command: str) -> bool:
    """Whether all quotes of a shell command are closed."""
    try:
        shlex.split(command)
    except ValueError:
        return False
    return True


def matches(expected: str, actual: str) -> bool:
    """Whether the output is the expected one, in which `...` stands for anything."""
    return re.fullmatch(".*".join(map(re.escape, expected.split("..."))), actual.strip(), re.DOTALL) is not None


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl was not found")
async def test_walkthrough_with_curl(dev: Running) -> None:
    """The walk-through, word for word but for the port, gives what it says."""
    commands = console_commands(README)
    assert len(commands) == 9
    for command, expected in commands:
        output, _ = await shell(command.replace("curl ", "curl -sS ", 1).replace("localhost:8888", dev.http_address))
        assert matches(expected, output), f"{command}\ngave {output}\nnot  {expected}"


async def test_python_example(dev: Running) -> None:
    """The example for gRPC from Python runs as it stands, but for the port."""
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-W",
        "error",
        "-c",
        example.replace("localhost:50051", dev.grpc_address),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await asyncio.wait_for(process.communicate(), 60)
    assert errors == b""
    assert re.match(r" +-\d+\.\d\d .", output.decode())


def test_settings_table() -> None:
    """README's table has every setting with its flag, variable, default and what it does."""
    table = "| flag | variable | default | |\n| --- | --- | --- | --- |\n" + "".join(
        f"| `{flag(field.name)}` | `{environment_variable(field.name)}` "
        f"| {'' if field.default is dataclasses.MISSING else field.default} | {field.metadata['help']} |\n"
        for field in dataclasses.fields(Settings)
    )
    assert table in README, f"put this into README.md:\n{table}"


@pytest.mark.parametrize("page", sorted(ROOT.glob("*.md")), ids=lambda page: page.name)
def test_links(page: Path) -> None:
    """Links to files of the repository lead somewhere."""
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
        assert (ROOT / target).exists(), target
