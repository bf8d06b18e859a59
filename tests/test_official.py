"""The gateway with the official client: the real command, with a stand-in for Google's module on its path."""

from __future__ import annotations

import asyncio
import shutil
import signal
from pathlib import Path

import aiohttp
import pytest

from saxgw.devcell import DevCell
from tests.conftest import definition
from tests.docs import walk_through
from tests.held_model import HELD, HeldModel
from tests.process import Running, run, running
from tests.sax.clients import PYTHON_PATH

README = (Path(__file__).parent.parent / "README.md").read_text()


def arguments(root: str, *more: str) -> tuple[str, ...]:
    return ("serve", "--sax-root", root, "--sax-client=official", *more)


def url(gateway: Running, route: str) -> str:
    return f"http://{gateway.http_address}{route}"


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl was not found")
async def test_walkthrough_with_curl() -> None:
    """README's walk-through gives what it says with the official client as well."""
    async with (
        DevCell(model_servers=2) as cell,
        running(*arguments(cell.root), environment={"PYTHONPATH": PYTHON_PATH}) as gateway,
    ):
        assert await walk_through(README, "localhost:8888", gateway.http_address) == 12
        code, errors = await gateway.stop(signal.SIGTERM)
    assert code == 0
    assert "Traceback" not in errors


async def test_hanging_models_hold_up_nothing_else() -> None:
    """Calls that hang take the threads of models and no others; leaving does not wait for them."""
    held = HeldModel()
    async with (
        DevCell(models=held.classes) as cell,
        running(
            *arguments(cell.root, "--sax-threads", "4", "--drain-timeout", "0.2"),
            environment={"PYTHONPATH": PYTHON_PATH},
        ) as gateway,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http,
    ):
        async with http.post(
            url(gateway, "/publish"), json=definition("/sax/test/lm", model_path=HELD, wait_for_replicas=1)
        ) as response:
            assert response.status == 200

        async def generate() -> int:
            async with http.post(url(gateway, "/generate"), json={"model": "/sax/test/lm", "query": "x"}) as response:
                return response.status

        calls = [asyncio.create_task(generate()) for _ in range(300)]
        await held.until(lambda: held.running == 4)
        for route in ("/", "/listall?sax_cell=/sax/test", "/listcell?model=/sax/test/lm"):
            async with asyncio.timeout(60), http.get(url(gateway, route)) as response:
                assert response.status == 200
        assert held.running == 4
        code, errors = await gateway.stop(signal.SIGTERM)
        statuses = await asyncio.gather(*calls, return_exceptions=True)
        held.open()
    assert code == 0
    assert "Traceback" not in errors
    assert 200 not in statuses


async def test_no_official_client(tmp_path: Path) -> None:
    """Without Google's module there is one sentence, which says how to get it."""
    code, output, errors = await run(*arguments(str(tmp_path), "--http-port", "0", "--grpc-port", "0"))
    assert (code, output) == (1, "")
    assert errors.startswith("Error: the official Sax client is not here (No module named 'sax'")
    assert "build //saxml/client/python:sax of https://github.com/google/saxml with Bazel" in errors
    assert errors.count("\n") == 1


async def test_root_of_another_kind() -> None:
    """A SAX_ROOT that only saxgw's own client knows is wrong usage."""
    code, _, errors = await run(*arguments("s3://bucket/dir"), environment={"PYTHONPATH": PYTHON_PATH})
    assert code == 2
    assert '--sax-root: the official client takes a folder or gs://bucket/path, not "s3://bucket/dir"' in errors


async def test_client_that_there_is_not(tmp_path: Path) -> None:
    """The message names the clients."""
    code, _, errors = await run("serve", "--sax-root", str(tmp_path), "--sax-client", "unofficial")
    assert code == 2
    assert "--sax-client must be one of native, official, got unofficial" in errors
