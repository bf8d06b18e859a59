"""Waiting for a model to be loaded, with progress."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Mapping

import pytest
import pytest_asyncio

from saxgw.devcell import DevCell
from tests.devcell.harness import GATED, QUICK, Gate, gated
from tests.patience import limits
from tests.process import run, start
from tests.terminal import on_terminal
from tests.ways import leading_to

MODEL = "/sax/test/gated"

PUBLISH = ("publish", MODEL, GATED, "None")


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest_asyncio.fixture
async def environment(way: str, gate: Gate) -> AsyncIterator[Mapping[str, str]]:
    """Leads to a cell of two model servers that load as the gate lets them."""
    async with (
        DevCell(models=gated(gate), model_servers=2, timing=QUICK) as cell,
        leading_to(way, cell) as environment,
    ):
        yield environment
        gate.open()


async def test_progress(environment: Mapping[str, str], gate: Gate) -> None:
    """Off a terminal there is a line for each change, on standard error."""
    process = await start(*PUBLISH, "2", "--wait", environment=environment)
    assert process.stdout is not None
    assert process.stderr is not None
    assert await process.stdout.readline() == f"{MODEL} is published\n".encode()
    for ready in range(2):
        line = await asyncio.wait_for(process.stderr.readline(), 60)
        assert line == f"{MODEL}: {ready} of 2 replicas ready\n".encode()
        gate.loads.release()
    output, errors = await asyncio.wait_for(process.communicate(), 60)
    assert (process.returncode, output, errors) == (0, f"{MODEL} has ready replicas: 2\n".encode(), b"")


async def test_progress_on_a_terminal(environment: Mapping[str, str], gate: Gate) -> None:
    """One line that is written anew, with the time that has passed, and is gone in the end."""
    await run(*PUBLISH, "1", environment=environment)
    async with on_terminal("wait", MODEL, environment=environment) as terminal:
        shown = f"\r{MODEL}: 0 of 1 replicas ready, "
        first = await terminal.until_match(rf"{shown}(\d+) s")
        await terminal.until_match(rf"{shown}(?!{first[1]} s)\d+ s")
        assert "\n" not in terminal.shown
        gate.loads.release()
        assert await terminal.end() == 0
        await terminal.until("\n")
    assert terminal.shown.endswith(f"\r{MODEL} has ready replicas: 1\r\n")


async def test_nothing_to_wait_for(environment: Mapping[str, str]) -> None:
    """No replicas are ready at once."""
    assert await run(*PUBLISH, "0", "--wait", environment=environment) == (
        0,
        f"{MODEL} is published\n{MODEL} has ready replicas: 0\n",
        "",
    )


async def test_time_is_up(environment: Mapping[str, str]) -> None:
    """What has come of it until then is told, and what to do."""
    for number, timeout_s in enumerate(limits(0.3)):
        model = f"{MODEL}{number}"
        arguments = ("publish", model, GATED, "None", "1", "--wait", "--timeout", str(timeout_s))
        code, output, errors = await run(*arguments, environment=environment)
        if "of 1 replicas of" in errors:  # there was time to find it out
            break
    assert (code, output) == (1, f"{model} is published\n")
    assert errors.splitlines()[-1] == (
        f"saxgw: 0 of 1 replicas of {model} are ready; give it more time with --timeout, "
        "or look at the model servers' logs"
    )
    for timeout_s in limits(0.3):
        code, output, errors = await run("wait", model, "-n", "2", "--timeout", str(timeout_s), environment=environment)
        if "of 2 replicas of" in errors:
            break
    assert (code, output) == (1, "")
    assert errors.splitlines()[-1] == (
        f"saxgw: 0 of 2 replicas of {model} are ready, and 1 are asked for; update it to have more"
    )


async def test_ctrl_c(environment: Mapping[str, str]) -> None:
    await run(*PUBLISH, "1", environment=environment)
    process = await start("wait", MODEL, environment=environment)
    assert process.stderr is not None
    await process.stderr.readline()
    process.send_signal(signal.SIGINT)
    output, errors = await asyncio.wait_for(process.communicate(), 60)
    assert (process.returncode, output, errors) == (130, b"", b"")
