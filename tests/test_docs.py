"""What the documentation says is so: commands give what they are said to give, tables are complete, code runs."""

from __future__ import annotations

import asyncio
import dataclasses
import re
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from saxgw.devcell import DevCell
from saxgw.settings import Settings, environment_variable, flag
from tests.docs import at_the_command_line, code_block, console_commands, walk_through
from tests.process import Running, running

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


@pytest_asyncio.fixture
async def dev() -> AsyncIterator[Running]:
    """A `saxgw dev` process with two model servers."""
    async with running("dev", "--model-servers", "2") as gateway:
        yield gateway


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl was not found")
async def test_walkthrough_with_curl(dev: Running) -> None:
    """The walk-through, word for word but for the port, gives what it says."""
    assert await walk_through(README, "localhost:8888", dev.http_address) == 12


async def test_walkthrough_at_the_command_line(dev: Running) -> None:
    """The commands of `saxgw` print what README says, and no command of README is left out."""
    assert await at_the_command_line(README, dev.grpc_address) == 11
    assert len(console_commands(README)) == 12 + 11


async def test_python_example(dev: Running) -> None:
    """The example for gRPC from Python runs as it stands, but for the port."""
    output = await run(code_block(README, "python", "SaxServiceStub").replace("localhost:50051", dev.grpc_address))
    assert re.match(r" +-\d+\.\d\d .", output)


async def test_remote_example(dev: Running) -> None:
    """The example for saxgw.remote runs as it stands, but for the port."""
    output = await run(code_block(README, "python", "remote.connect").replace("localhost:50051", dev.grpc_address))
    assert re.match(r"[ ,;.!?\w]", output)


async def test_library_example() -> None:
    """The example for Python without a gateway runs as it stands, but for where the cell is."""
    async with DevCell() as cell:
        output = await run(code_block(README, "python", "with connect(").replace("/srv/sax-root", cell.root))
    assert re.fullmatch(r"( +-\d+\.\d\d [^\n]*\n){4}.+", output, re.DOTALL)


async def run(code: str) -> str:
    """What a Python program prints that must say nothing else."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-W", "error", "-c", code, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    output, errors = await asyncio.wait_for(process.communicate(), 60)
    assert errors == b""
    return output.decode()


def test_settings_table() -> None:
    """README's table has every setting with its flag, variable, default and what it does."""
    table = "| flag | variable | default | |\n| --- | --- | --- | --- |\n" + "".join(
        f"| `{flag(field.name)}` | `{environment_variable(field.name)}` "
        f"| {'' if field.default in (dataclasses.MISSING, None, ()) else field.default} | {field.metadata['help']} |\n"
        for field in dataclasses.fields(Settings)
    )
    assert table in README, f"put this into README.md:\n{table}"


@pytest.mark.parametrize("page", sorted((*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"))), ids=lambda page: page.name)
def test_links(page: Path) -> None:
    """Links to files of the repository lead somewhere."""
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
        assert (page.parent / target).exists(), target
