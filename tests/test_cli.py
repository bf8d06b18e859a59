"""The commands, as real processes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import resource
import signal
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import grpc
import pytest

import saxgw
from saxgw.devcell import DevCell
from saxgw.sax.wire.admin_pb2 import ListRequest, Location, StatsRequest
from saxgw.sax.wire.admin_pb2_grpc import AdminStub
from tests.conftest import definition
from tests.process import READY, clean, command, run, running, start
from tests.telemetry.scrape import scrape

if TYPE_CHECKING:
    from saxgw.sax.wire.admin_pb2_grpc import AdminAsyncStub


async def get(session: aiohttp.ClientSession, url: str) -> Any:
    async with session.get(url) as response:
        return json.loads(await response.read())


async def test_version() -> None:
    """--version prints name and version."""
    assert await run("--version") == (0, f"saxgw {saxgw.__version__}\n", "")


@pytest.mark.parametrize("command", [[], ["serve"], ["dev"]])
async def test_help(command: list[str]) -> None:
    """--help works everywhere, and tells the environment variables."""
    code, output, _ = await run(*command, "--help")
    assert code == 0
    assert ("SAXGW_HTTP_PORT" in output) == bool(command)


async def test_serve_without_root() -> None:
    """Without SAX_ROOT there is one clear message, which names `saxgw dev`."""
    code, output, errors = await run("serve")
    assert (code, output) == (2, "")
    assert "SAX_ROOT" in errors
    assert "saxgw dev" in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        (["--grpc-port", "70000"], {}, "--grpc-port must be between 0 and 65535, got 70000"),
        ([], {"SAXGW_HTTP_PORT": "-1"}, "--http-port must be between 0 and 65535, got -1"),
        (["--http-port", "many"], {}, "'--http-port'"),
        (["--drain-timeout", "nan"], {}, "--drain-timeout must be at least 0, got nan"),
        (["--log-level", "loud"], {}, "--log-level must be one of debug, info, warning, error, got loud"),
        (["--sax-root", "nonsense://x"], {}, "nonsense://x"),
        (["--sax-root", ""], {}, "--sax-root is empty"),
        (["--host", ""], {}, "--host is empty"),
    ],
)
async def test_bad_settings(arguments: list[str], environment: dict[str, str], said: str) -> None:
    """Bad settings are refused before anything starts; the message quotes the flag and the value."""
    code, output, errors = await run("serve", *arguments, environment={"SAX_ROOT": "/nowhere", **environment})
    assert (code, output) == (2, "")
    assert said in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize("door", ["http", "grpc"])
async def test_port_in_use(tmp_path: Path, door: str) -> None:
    """A port in use is one clear line and exit code 1."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        ports = {"http": "0", "grpc": "0", door: port}
        code, output, errors = await run(
            "serve", "--sax-root", str(tmp_path), "--http-port", ports["http"], "--grpc-port", ports["grpc"]
        )
    assert (code, output) == (1, "")
    assert port in errors
    assert errors.count("\n") == 1


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a..b"])
async def test_host_that_does_not_exist(tmp_path: Path, host: str) -> None:
    """A host that cannot be is one clear line."""
    code, output, errors = await run("serve", "--sax-root", str(tmp_path), "--host", host, "--http-port", "0")
    assert (code, output) == (1, "")
    assert errors == f"Error: the HTTP door cannot listen on {host}:0: there is no such host\n"


async def test_folder_that_does_not_exist() -> None:
    """What keeps a gateway from starting is told in words, with what it is about."""
    environment = {"SAX_ROOT": "/nowhere", "PROMETHEUS_MULTIPROC_DIR": "/nowhere"}
    code, _, errors = await run("serve", "--http-port=0", "--grpc-port=0", "--admin-port=0", environment=environment)
    assert code == 1
    assert re.search(r"^Error: /nowhere/\w+\.db: No such file or directory$", errors, re.MULTILINE)


async def test_root_that_does_not_exist() -> None:
    """A root that is not there is served, for it may come, but not without a word."""
    async with running("serve", "--sax-root", "/does/not/exist") as gateway:
        code, errors = await gateway.stop(signal.SIGTERM)
    assert code == 0
    assert "there is no directory /does/not/exist" in errors


async def test_empty_root_of_the_dev_cell() -> None:
    """An empty --root, as an unset shell variable gives, is refused."""
    code, _, errors = await run("dev", "--root", "")
    assert code == 2
    assert "--root is empty" in errors


@pytest.mark.parametrize("variable", ["SAX_ROOT", "SAXGW_SAX_ROOT"])
async def test_serve_a_cell(cell: DevCell, variable: str) -> None:
    """SAX_ROOT says where the cell is; the ready line tells addresses and root."""
    async with running("serve", environment={variable: cell.root}) as gateway, aiohttp.ClientSession() as session:
        assert cell.root in gateway.serving
        assert await get(session, f"http://{gateway.http_address}/") == {"message": "HTTP Server for SAX Client"}
        assert isinstance(await get(session, f"http://{gateway.http_address}/listall?sax_cell=/sax/test"), list)


async def test_open_files(cell: DevCell) -> None:
    """A gateway has as many files open as it is allowed to, whatever the soft limit."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, before[1]))
    try:
        async with running("serve", "--sax-root", cell.root) as gateway:
            limits = resource.prlimit(gateway.process.pid, resource.RLIMIT_NOFILE)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert limits == (before[1], before[1])


async def test_root_with_a_password() -> None:
    """The ready line does not tell a root that may have a secret in it."""
    async with running("serve", "--sax-root", "gs://name:pass@bucket/dir") as gateway:
        assert gateway.serving == "cells of SAX_ROOT"
        assert "pass" not in (await gateway.stop(signal.SIGTERM))[1]


async def test_serve_before_the_cell(tmp_path: Path) -> None:
    """The gateway starts and answers before its cell does; the answer says what is missing."""
    async with running("serve", "--sax-root", str(tmp_path)) as gateway, aiohttp.ClientSession() as session:
        answer = await get(session, f"http://{gateway.http_address}/listall?sax_cell=/sax/test")
        assert answer["error"]["code"] == 404
        assert "/sax/test" in answer["error"]["message"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_signal(number: signal.Signals) -> None:
    """SIGTERM and SIGINT stop the gateway with exit code 0."""
    async with running("dev") as gateway:
        code, errors = await gateway.stop(number)
    assert code == 0
    assert number.name in errors
    assert "Traceback" not in errors
    assert "Warning" not in errors


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("is_there", [True, False])
async def test_nobody_reads_errors(workers: str, *, is_there: bool) -> None:
    """A gateway serves and ends well though nobody reads standard error: a pipe is full, or broken."""
    reader, writer = os.pipe()
    if is_there:
        os.set_blocking(writer, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(writer, bytes(4096))
        os.set_blocking(writer, True)
    else:
        os.close(reader)
    process = await start(
        *("serve", "--sax-root", "/nowhere", "--http-port", "0", "--grpc-port", "0", "--workers", workers),
        errors=writer,
    )
    os.close(writer)
    assert process.stdout is not None
    ready = READY.fullmatch((await asyncio.wait_for(process.stdout.readline(), 60)).decode())
    assert ready
    async with aiohttp.ClientSession() as session:
        assert "error" in await get(session, f"http://{ready[1]}/listall?sax_cell=/sax/test")
    process.send_signal(signal.SIGTERM)
    await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0
    if is_there:
        os.close(reader)


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_without_standard_error(workers: str) -> None:
    """A gateway may be started without standard error, and input."""
    serve = command("serve", "--sax-root=/nowhere", "--http-port=0", "--grpc-port=0", f"--workers={workers}")
    process = await asyncio.create_subprocess_exec(
        *("sh", "-c", 'exec "$@" <&- 2>&-', "sh", *serve), env=clean(), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    assert READY.fullmatch((await asyncio.wait_for(process.stdout.readline(), 60)).decode())
    process.send_signal(signal.SIGTERM)
    await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0


LOADS_FOR_EVER = """
import sys, time

class Loading:
    def find_spec(self, name, path, target=None):
        if name == "saxgw.gateway":
            print("loading", flush=True)
            time.sleep(3600)

sys.meta_path.insert(0, Loading())
"""


async def test_sigterm_while_starting(tmp_path: Path) -> None:
    """SIGTERM ends a gateway that is still loading its code, without a traceback."""
    (tmp_path / "sitecustomize.py").write_text(LOADS_FOR_EVER)
    process = await start("dev", environment={"PYTHONPATH": str(tmp_path)})
    assert process.stdout is not None
    assert await asyncio.wait_for(process.stdout.readline(), 60) == b"loading\n"
    process.send_signal(signal.SIGTERM)
    output, errors = await asyncio.wait_for(process.communicate(), 60)
    assert (process.returncode, output) == (128 + signal.SIGTERM, b"")
    assert b"Traceback" not in errors


async def test_second_signal_in_shutdown_delay() -> None:
    """A second signal does not wait for the shutdown delay, in which calls are still answered."""
    async with running("dev", "--shutdown-delay", "600") as gateway, aiohttp.ClientSession() as session:
        gateway.process.send_signal(signal.SIGTERM)
        assert gateway.process.stderr is not None
        while b"SIGTERM" not in await gateway.process.stderr.readline():
            pass
        assert await get(session, f"http://{gateway.http_address}/listall?sax_cell=/sax/test") == []
        assert (await gateway.stop(signal.SIGINT))[0] == 128 + signal.SIGINT


async def test_second_signal() -> None:
    """A second signal does not wait for what is running."""
    arguments = ("dev", "--drain-timeout=600", "--replica-wait=600", "--admin-port=0")
    async with running(*arguments) as gateway, aiohttp.ClientSession() as session:
        address = f"http://{gateway.http_address}"
        async with session.post(f"{address}/publish", json=definition("/sax/test/never", replicas=0)) as response:
            assert response.status == 200
        hanging = asyncio.create_task(
            session.post(f"{address}/generate", json={"model": "/sax/test/never", "query": "x"}).__aenter__()
        )
        admin = gateway.serving.partition("http://")[2].partition("/")[0]
        while not (await scrape(admin)).value("saxgw_calls_in_flight", method="Generate", door="http"):
            assert not hanging.done()
        gateway.process.send_signal(signal.SIGTERM)
        assert gateway.process.stderr is not None
        while b"SIGTERM" not in await gateway.process.stderr.readline():
            pass
        code, _ = await gateway.stop(signal.SIGTERM)
        assert code == 128 + signal.SIGTERM
        with pytest.raises(aiohttp.ClientError):
            await hanging


async def test_dev_keeps_a_cell(tmp_path: Path) -> None:
    """With --root, what was published is there at the next start."""
    root = tmp_path / "cell"
    async with aiohttp.ClientSession() as session:
        async with running("dev", "--root", str(root)) as gateway:
            address = f"http://{gateway.http_address}"
            async with session.post(f"{address}/publish", json=definition("/sax/test/kept")) as response:
                assert response.status == 200
            assert (await gateway.stop(signal.SIGTERM))[0] == 0
        async with running("dev", "--root", str(root), "--model-servers", "2") as gateway:
            address = f"http://{gateway.http_address}"
            assert await get(session, f"{address}/listall?sax_cell=/sax/test") == ["/sax/test/kept"]
            async with session.post(f"{address}/generate", json={"model": "/sax/test/kept", "query": "x"}) as response:
                assert response.status == 200


async def test_cell_that_makes_no_sense(tmp_path: Path) -> None:
    """A cell that cannot be started is an error, and no traceback."""
    (tmp_path / "sax/test").mkdir(parents=True)
    (tmp_path / "sax/test/config.proto").write_bytes(b"\xff")
    code, _, errors = await run("dev", "--root", str(tmp_path), "--http-port=0", "--grpc-port=0")
    assert code == 1
    assert errors.startswith("Error: ")
    assert "configuration of the cell" in errors


async def test_dev_behaves_as_googles_cells_do(tmp_path: Path) -> None:
    """With --google the admin of the cell sends its errors as UNKNOWN, and the gateway understands them."""
    async with (
        running("dev", "--google", "--model-servers", "3", "--root", str(tmp_path)) as gateway,
        aiohttp.ClientSession(f"http://{gateway.http_address}") as session,
    ):
        location = Location.FromString((tmp_path / "sax/test/location.proto").read_bytes()).location
        async with grpc.aio.insecure_channel(location) as channel:
            stub: AdminAsyncStub = AdminStub(channel)
            assert len((await stub.Stats(StatsRequest())).model_server_type_stats) == 1
            with pytest.raises(grpc.aio.AioRpcError, match="code = NotFound") as raised:
                await stub.List(ListRequest(model_id="/sax/test/none"))
        assert raised.value.code() is grpc.StatusCode.UNKNOWN
        async with session.get("/listcell?model=/sax/test/none") as response:
            assert response.status == 404


async def test_dev_listens_on_loopback_only() -> None:
    """`saxgw dev` takes no --host."""
    code, _, errors = await run("dev", "--host", "0.0.0.0")  # noqa: S104 - it is refused
    assert code == 2
    assert "--host" in errors


async def test_dev_leaves_nothing(tmp_path: Path) -> None:
    """Without --root, the cell's files are gone afterwards."""
    async with running("dev", environment={"TMPDIR": str(tmp_path)}) as gateway:
        assert os.listdir(tmp_path)  # noqa: PTH208 - names are enough
        assert (await gateway.stop(signal.SIGTERM))[0] == 0
    assert not os.listdir(tmp_path)  # noqa: PTH208 - names are enough
