"""Text that is shown as it comes, and all the ways in which it may end early."""

from __future__ import annotations

import array
import asyncio
import fcntl
import itertools
import os
import signal
import termios
from collections.abc import Mapping

import orjson
import pytest

from saxgw.devcell import Piece
from tests.devcell.harness import until
from tests.held_model import PLAIN, SAMPLES, HeldModel, Step
from tests.patience import limits
from tests.process import run, start
from tests.terminal import CTRL_C, on_terminal
from tests.ways import MODEL, holding

TWO: list[Step] = [
    [Piece("Alice", -2.0), Piece("The", -1.0)],
    [Piece(" was\nlate", -1.5), Piece(" Rabbit\n", -0.25)],
]
"""Two samples: the second is the better one, and ends its line itself."""

PIPE_BYTES = 65536
"""What a pipe holds on Linux, in pages of 4,096 bytes."""


async def generate(environment: Mapping[str, str], *options: str) -> tuple[int, str, str]:
    return await run("generate", MODEL, "x", *options, environment=environment)


async def test_text_comes_as_the_model_writes_it(way: str) -> None:
    """Each piece is there before the next one is made."""
    held = HeldModel(PLAIN)
    async with holding(way, held) as environment:
        process = await start("generate", MODEL, "x", environment=environment)
        assert process.stdout is not None
        for text in (b"Once", b" upon", b" a time"):
            held.release()
            assert await asyncio.wait_for(process.stdout.readexactly(len(text)), 60) == text
        output, errors = await process.communicate()
    assert (process.returncode, output, errors) == (0, b"\nscore -3.5000\n", b"")


async def test_json_comes_as_the_model_writes_it(way: str) -> None:
    """A line for each message."""
    held = HeldModel(TWO)
    async with holding(way, held) as environment:
        process = await start("generate", MODEL, "x", "--output", "json", environment=environment)
        assert process.stdout is not None
        held.release()
        line = await asyncio.wait_for(process.stdout.readline(), 60)
        assert orjson.loads(line)["results"] == [
            {"text": "Alice", "prefix_len": 0, "scores": [-2.0]},
            {"text": "The", "prefix_len": 0, "scores": [-1.0]},
        ]
        held.release()
        output, errors = await process.communicate()
    assert (process.returncode, errors) == (0, b"")
    assert [item["text"] for item in orjson.loads(output)["results"]] == [" was\nlate", " Rabbit\n"]


FIRST = "[1 of 2]\nAlice was\nlate\nscore -3.5000\n"
SECOND = "[2 of 2]\nThe Rabbit\nscore -1.2500\n"
BEST_FIRST = "[1 of 2]\nThe Rabbit\nscore -1.2500\n\n[2 of 2]\nAlice was\nlate\nscore -3.5000\n"


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ([], f"{FIRST}\n{SECOND}"),
        (["--no-stream"], BEST_FIRST),
        (["-n", "1"], "The Rabbit\nscore -1.2500\n"),
        (["-n", "5"], BEST_FIRST),
        (["--terse"], "The Rabbit\nAlice was\nlate\n"),
        (["--terse", "-n", "1"], "The Rabbit\n"),
        (["--stream", "-n", "1"], "Alice was\nlate\nscore -3.5000\n"),
        (["--stream", "--terse"], "Alice was\nlate\nThe Rabbit\n"),
    ],
    ids=" ".join,
)
async def test_several_samples(options: list[str], shown: str) -> None:
    """The first of a stream as it comes, then the others; best first if all is there before anything is shown."""
    held = HeldModel(TWO)
    held.open()
    async with holding("gateway", held) as environment:
        assert await generate(environment, *options) == (0, shown, "")


async def test_a_model_that_takes_text_back(way: str) -> None:
    """What was shown cannot be taken back; --no-stream shows what it comes to."""
    held = HeldModel(SAMPLES)
    held.open()
    async with holding(way, held) as environment:
        code, output, errors = await generate(environment)
        assert (code, output) == (1, "[1 of 3]\nab")
        assert errors == "saxgw: the model has taken back text that was shown already; use --no-stream\n"
        code, output, _ = await generate(environment, "--no-stream", "--terse")
        assert (code, output) == (0, "\N{RABBIT FACE}\nZ\nac\n")


async def test_an_error_in_the_middle(way: str) -> None:
    held = HeldModel([PLAIN[0], ValueError("too much\nof everything")])
    held.open()
    async with holding(way, held) as environment:
        code, output, errors = await generate(environment)
    assert (code, output) == (1, "Once")
    assert errors == f"saxgw: {MODEL} refused the request: too much of everything\n"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("options", [[], ["--no-stream"]], ids=["stream", "whole"])
async def test_signals_stop_the_model(way: str, number: int, code: int, options: list[str]) -> None:
    """A signal ends the command without a word, and the model server is told to stop."""
    held = HeldModel(PLAIN)
    async with holding(way, held) as environment:
        process = await start("generate", MODEL, "x", *options, environment=environment)
        held.release()
        await held.until(lambda: held.asked == 2)
        assert process.stdout is not None
        if not options:
            assert await process.stdout.readexactly(4) == b"Once"
        process.send_signal(number)
        output, errors = await asyncio.wait_for(process.communicate(), 60)
        assert (process.returncode, output, errors) == (code, b"", b"")
        await held.until(lambda: held.left == 1)


@pytest.mark.parametrize("signals", [[signal.SIGTERM], [signal.SIGTERM, signal.SIGINT]], ids=["one", "two"])
async def test_signals_do_not_wait_for_a_reader(signals: list[int]) -> None:
    """Whoever reads the output, and does not, could keep the command from ending; a second signal ends it at once."""
    held = HeldModel(itertools.repeat([Piece("x" * 4096, -1.0)]))
    held.open()
    async with holding("gateway", held) as environment:
        reader, writer = os.pipe()
        process = await start("generate", MODEL, "x", environment=environment, output=writer)
        os.close(writer)
        await until(lambda: _waiting_bytes(reader) == PIPE_BYTES)
        for number in signals:
            process.send_signal(number)
        _, errors = await asyncio.wait_for(process.communicate(), 60)
        os.close(reader)
        assert process.returncode in (130, 143, -signal.SIGTERM, -signal.SIGINT)
        assert errors == b""
        await held.until(lambda: held.left == 1)


def _waiting_bytes(reader: int) -> int:
    """How much of a pipe was not read yet."""
    count = array.array("i", [0])
    fcntl.ioctl(reader, termios.FIONREAD, count)
    return count[0]


async def test_a_closed_pipe(way: str) -> None:
    """When the reader leaves, so does the command, quietly, and the model server is told to stop."""
    held = HeldModel(itertools.repeat([Piece("again ", -1.0)]))
    async with holding(way, held) as environment:
        reader, writer = os.pipe()
        process = await start("generate", MODEL, "x", environment=environment, output=writer)
        os.close(writer)
        held.release()
        assert await asyncio.to_thread(os.read, reader, 6) == b"again "
        os.close(reader)
        held.release()
        _, errors = await asyncio.wait_for(process.communicate(), 60)
        assert (process.returncode, errors) == (128 + signal.SIGPIPE, b"")
        await held.until(lambda: held.left == 1)


async def test_a_full_disk() -> None:
    held = HeldModel(PLAIN)
    held.open()
    async with holding("gateway", held) as environment:
        with open("/dev/full", "wb") as full:  # noqa: ASYNC230, PTH123 - a device that blocks nobody
            process = await start("generate", MODEL, "x", environment=environment, output=full.fileno())
        _, errors = await process.communicate()
    assert process.returncode == 1
    assert errors == b"saxgw: the output cannot be written: No space left on device\n"


async def test_time_is_up(way: str) -> None:
    """--timeout ends the command and stops the model."""
    for timeout_s in limits(0.3):
        held = HeldModel(PLAIN)
        async with holding(way, held) as environment:
            held.release()
            code, output, errors = await generate(environment, "--timeout", str(timeout_s))
            assert code == 1
            if output == "Once":  # there was time to begin
                await held.until(lambda: held.left == 1)  # noqa: B023 - it is called here
                break
    assert (output, errors) == ("Once", f"saxgw: no answer within {timeout_s:g} s; give it more time with --timeout\n")


async def test_text_grows_on_a_terminal(way: str) -> None:
    """Without control characters, which could do anything to it; Ctrl-C ends the line."""
    held = HeldModel([[Piece("Once\x1b[2J", -1.0)], [Piece(" upon\r\n\ta", -1.0)], *PLAIN])
    async with holding(way, held) as environment:
        async with on_terminal("generate", MODEL, "x", environment=environment) as terminal:
            held.release()
            await terminal.until("Once\N{REPLACEMENT CHARACTER}[2J")
            held.release()
            await terminal.until(" upon\r\n\ta")
            terminal.press(CTRL_C)
            assert await terminal.end() == 130
            await terminal.until("^C\r\n")
        await held.until(lambda: held.left == 1)
    assert terminal.shown == "Once\N{REPLACEMENT CHARACTER}[2J upon\r\n\ta^C\r\n"
