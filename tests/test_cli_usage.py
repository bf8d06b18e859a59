"""Wrong usage, failures, and what starting a command costs."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from saxgw.devcell import DevCell
from saxgw.gateway import Gateway
from tests.process import clean, run
from tests.sax.bucket import serve_bucket
from tests.ways import Saxgw

NOBODY = {"SAXGW_SERVER": "127.0.0.1:1"}

COMMANDS: Mapping[str, list[str]] = {
    "ls": [],
    "publish": ["/sax/test/a", "b.C", "None", "1"],
    "update": ["/sax/test/a", "--replicas", "1"],
    "unpublish": ["/sax/test/a"],
    "generate": ["/sax/test/a", "x"],
    "score": ["/sax/test/a", "x", "y"],
    "embed": ["/sax/test/a", "x"],
    "wait": ["/sax/test/a"],
    "stats": ["/sax/test"],
}
"""Every command that calls, with arguments that will do."""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["ls", "/sax/test/a/b"], '"/sax/test/a/b" names neither a cell nor a model'),
        (["ls", "/sax/Test"], '"Test" in "/sax/Test" is not the name of a cell'),
        (["ls", "/sax/test", "/sax/other"], "unexpected extra argument"),
        (["ls", "--server", "here"], '"here" is not the address of a gateway; write HOST:PORT'),
        (["ls", "--server", ""], "is not the address of a gateway"),
        (["ls", "--sax-root", ""], "SAX_ROOT is empty"),
        (["ls", "--sax-root", "nonsense://x"], '"nonsense://x" cannot be SAX_ROOT'),
        (["ls", "--server", "localhost:1", "--sax-root", "/x"], "give --server or --sax-root, not both"),
        (["ls", "--output", "xml"], "'xml' is not one of 'table', 'json'"),
        *((["ls", "--timeout", bad], "is not a number of seconds above 0") for bad in ("0", "-1", "nan", "inf", "1e9")),
        (["ls", "--timeout", "soon"], "'soon' is not a valid float"),
        (["ls", "--nonsense"], "No such option"),
        (["generate", "/sax/test/a"], "Missing argument 'QUERY|-'"),
        (["generate", "/sax/test/a", "x", "-n", "0"], "0 is not in the range"),
        (["generate", "test/a", "x"], '"test/a" is not the name of a model'),
        (["generate", "/sax/test/a", "x", "-e", "temperature"], "write NAME=VALUE, such as temperature=0.5"),
        (["generate", "/sax/test/a", "x", "-e", "a=[1,true]"], "[1,true] is not a list of numbers"),
        (["generate", "/sax/test/a", "x", "-e", "a=1", "--extra", "a:2"], "a is given twice"),
        (["generate", "/sax/test/a", "x", "--extra", "a:1,b"], '"b" is not an extra input; write NAME:VALUE'),
        (["generate", "/sax/test/a", b"\xff"], "an argument is not UTF-8"),
        (["generate", "/sax/test/a", "x", "-e", b"a=\xff"], "an argument is not UTF-8"),
        (["score", "/sax/test/a", "x"], "Missing argument 'SUFFIX...'"),
        (["publish", "/sax/test/a", "b.C", "None"], "Missing argument 'REPLICAS'"),
        (["publish", "/sax/test/a", "b.C", "None", "-1"], "No such option"),
        (["publish", "/sax/test/a", "b.C", "None", "many"], "'many' is not a valid integer"),
        (["publish", "/sax/test/a", "b.C", "None", "2147483648"], "2147483648 is not in the range"),
        (["publish", "/sax/test/a", "b,C", "None", "1"], '"b,C" is not a model path'),
        (["publish", "/sax/test/a", "b.C", "", "1"], "a checkpoint cannot be empty"),
        (["publish", "/sax/test/a", "b.C", "None", "1", "A"], '"A" is not a setting; write KEY=JSON'),
        (["publish", "/sax/test/a", "b.C", "None", "1", "A=b"], 'what follows A in "A=b" is not JSON'),
        (["publish", "/sax/test/a", "b.C", "None", "1", "A=1", "A=2"], "A is given twice"),
        (["update", "/sax/test/a"], "say what to change: --replicas or --checkpoint"),
        (["stats", "/sax"], '"/sax" names neither a cell nor a model'),
    ],
    ids=str,
)
async def test_wrong_usage(arguments: list[str | bytes], said: str) -> None:
    """Exit code 2, what is wrong and where help is; nothing is asked of anybody."""
    code, output, errors = await run(
        *(
            argument if isinstance(argument, str) else argument.decode(errors="surrogateescape")
            for argument in arguments
        ),
        environment=NOBODY,
    )
    assert (code, output) == (2, "")
    assert said in errors
    assert errors.startswith(f"Usage: saxgw {arguments[0]!s} ")


async def test_standard_input_that_is_no_text() -> None:
    code, _, errors = await run("generate", "/sax/test/a", "-", environment=NOBODY, given=b"\xff")
    assert code == 2
    assert "what standard input has is not UTF-8" in errors


@pytest.mark.parametrize("command", COMMANDS)
async def test_neither_gateway_nor_cell(command: str) -> None:
    """Without --server, --sax-root and their variables a command says what to give."""
    code, output, errors = await run(command, *COMMANDS[command])
    assert (code, output) == (2, "")
    for name in ("--server", "SAXGW_SERVER", "--sax-root", "SAX_ROOT", "saxgw dev"):
        assert name in errors


@pytest.mark.parametrize("command", COMMANDS)
async def test_nobody_is_there(command: str) -> None:
    """A gateway that is not there is one clear line and exit code 1."""
    code, output, errors = await run(command, *COMMANDS[command], environment=NOBODY)
    assert (code, output) == (1, "")
    assert errors.startswith("saxgw: no gateway could be reached at 127.0.0.1:1; check that it runs")
    assert errors.count("\n") == 1


async def test_no_such_root(tmp_path: Path) -> None:
    code, output, errors = await run("ls", "--sax-root", str(tmp_path / "none"))
    assert (code, output) == (1, "")
    assert errors == "saxgw: SAX_ROOT does not exist; check how it is spelled, or create it\n"


async def test_no_such_cell(saxgw: Saxgw) -> None:
    code, output, errors = await saxgw("ls", "/sax/other")
    assert (code, output) == (1, "")
    assert errors.startswith("saxgw: there is no cell /sax/other under SAX_ROOT; ")
    assert errors.count("\n") == 1


async def test_no_admin_is_there(tmp_path: Path) -> None:
    """What the client would log is not said beside what the command says."""
    (tmp_path / "sax" / "test").mkdir(parents=True)
    code, output, errors = await run("ls", "/sax/test", "--sax-root", str(tmp_path))
    assert (code, output) == (1, "")
    assert errors == "saxgw: no admin has ever run for /sax/test; start its admin server\n"


async def test_an_extra_input_that_the_model_does_not_take(saxgw: Saxgw, published: str) -> None:
    """The model's words, in one line."""
    code, output, errors = await saxgw("generate", published, "x", "-e", "beam_size=4")
    assert (code, output) == (1, "")
    assert errors.startswith(f"saxgw: {published} refused the request: The extra_inputs key `beam_size`")
    assert errors.count("\n") == 1


async def test_the_command_line_comes_before_the_environment(cell: DevCell, gateway: Gateway) -> None:
    """And a gateway in the environment before a cell, which saxutil may have put there."""
    both = {"SAXGW_SERVER": gateway.grpc_address, "SAX_ROOT": "/does/not/exist"}
    assert await run("ls", environment=both) == (0, "/sax/test\n", "")
    nobody = {**NOBODY, "SAX_ROOT": "/does/not/exist"}
    assert await run("ls", "--sax-root", cell.root, environment=nobody) == (0, "/sax/test\n", "")
    assert await run("ls", "--server", gateway.grpc_address, environment=nobody) == (0, "/sax/test\n", "")


async def test_a_root_in_a_bucket() -> None:
    """The process ends as it should right after its last read (obstore's own asyncio calls would crash some)."""
    async with serve_bucket() as bucket:
        bucket.objects["bucket/cells/sax/test/METADATA"] = b""
        environment = {"GOOGLE_BASE_URL": bucket.url, "GOOGLE_BEARER_TOKEN": "x", "SAX_ROOT": "gs://bucket/cells"}
        for _ in range(5):
            assert await run("ls", environment=environment) == (0, "/sax/test\n", "")
        code, _, errors = await run("ls", "/sax/other", environment=environment)
        assert (code, errors.partition(";")[0]) == (1, "saxgw: there is no cell /sax/other under SAX_ROOT")


async def test_commands_import_no_servers(environment: Mapping[str, str]) -> None:
    """They start quickly."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-X", "importtime", "-m", "saxgw", "ls"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=clean(environment),
    )
    output, imported = await process.communicate()
    assert (process.returncode, output) == (0, b"/sax/test\n")
    assert b"saxgw.cli" in imported
    for module in (b"aiohttp", b"uvloop", b"obstore", b"saxgw.devcell", b"saxgw.doors", b"saxgw.gateway"):
        assert module not in imported


async def test_completion() -> None:
    """Shells complete commands; the names of saxutil are not among them."""
    code, output, _ = await run(
        environment={"_SAXGW_COMPLETE": "bash_complete", "COMP_WORDS": "saxgw ", "COMP_CWORD": "1"}
    )
    assert code == 0
    commands = [line.partition(",")[2] for line in output.splitlines()]
    assert commands == sorted([*COMMANDS, "serve", "dev", "keys", "openapi"])


@pytest.mark.parametrize(
    ("output", "code", "said"), [(">&-", 0, b""), (">/dev/full", 1, b"saxgw: No space left on device\n")]
)
async def test_nowhere_to_print_to(output: str, code: int, said: bytes) -> None:
    """An output that is closed is meant to be; one that is full is a failure."""
    process = await asyncio.create_subprocess_shell(
        f"{sys.executable} -W error -m saxgw --version {output}", stderr=asyncio.subprocess.PIPE
    )
    _, errors = await process.communicate()
    assert (process.returncode, errors) == (code, said)
