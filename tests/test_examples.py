"""The examples do what their pages say."""

from __future__ import annotations

import asyncio
import re
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import grpc
import pytest

from saxgw.devcell import DevCell
from tests.docs import code_block, code_blocks, walk_through

ROOT = Path(__file__).parent.parent


@asynccontextmanager
async def running(*arguments: str, cwd: Path) -> AsyncIterator[asyncio.StreamReader]:
    """A Python process, killed in the end; gives what it prints."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-W", "error", *arguments, cwd=cwd, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        yield process.stdout
    finally:
        process.kill()
        await process.communicate()


async def ready(output: asyncio.StreamReader) -> tuple[str, str]:
    """The addresses of HTTP and gRPC, once a process says that it is ready."""
    line = (await asyncio.wait_for(output.readline(), 60)).decode()
    found = re.fullmatch(r"ready: http://(\S+) and grpc (\S+)\n", line)
    assert found, line
    return found[1], found[2]


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl was not found")
async def test_library_with_curl() -> None:
    """The library's page, word for word but for the port, gives what it says."""
    page = (ROOT / "examples/library/README.md").read_text()
    async with running("-m", "examples.library", "--http-port", "0", "--grpc-port", "0", cwd=ROOT) as output:
        http_address, _ = await ready(output)
        assert await walk_through(page, "localhost:8080", http_address) == 14


async def test_library_over_grpc() -> None:
    """The same library answers gRPC clients, in just the same way."""
    pb = grpc.protos("examples/library/library.proto")
    async with running("-m", "examples.library", "--http-port", "0", "--grpc-port", "0", cwd=ROOT) as output:
        http_address, grpc_address = await ready(output)
        async with grpc.aio.insecure_channel(grpc_address) as channel:
            create = channel.unary_unary(
                "/examples.library.Library/CreateShelf",
                request_serializer=pb.CreateShelfRequest.SerializeToString,
                response_deserializer=pb.Shelf.FromString,
            )
            request = pb.CreateShelfRequest(shelf=pb.Shelf(theme="Fiction"), shelf_id="novels")
            assert (await create(request)).name == "shelves/novels"
            with pytest.raises(grpc.aio.AioRpcError) as again:
                await create(request)
        assert again.value.code() is grpc.StatusCode.ALREADY_EXISTS
        async with aiohttp.ClientSession() as http, http.get(f"http://{http_address}/v1/shelves/novels") as response:
            assert await response.json() == {"name": "shelves/novels", "theme": "Fiction"}


async def test_client() -> None:
    """The tour of a cell, word for word but for where the cell is, gives what its page says."""
    page = (ROOT / "examples/client/README.md").read_text().replace(".venv/bin/python", sys.executable)
    async with DevCell() as cell:
        assert await walk_through(page, "/tmp/cell", cell.root, tool=sys.executable) == 1  # noqa: S108 - it is replaced


async def test_bookshop(tmp_path: Path) -> None:
    """README's own service of ten lines is served by both doors."""
    page = (ROOT / "README.md").read_text()
    (proto,) = code_blocks(page, "proto")
    code = code_block(page, "python", "class Bookshop")
    (tmp_path / "bookshop.proto").write_text(proto)
    wait = "await asyncio.Event().wait()"
    assert code.count("8080") == code.count("50052") == code.count(wait) == 1
    code = (
        code.replace("8080", "0")
        .replace("50052", "0")
        .replace('0), GrpcDoor(endpoints, "localhost", 0):', '0) as h, GrpcDoor(endpoints, "localhost", 0) as g:')
        .replace(
            wait, f'print(f"ready: http://localhost:{{h.port}} and grpc localhost:{{g.port}}", flush=True); {wait}'
        )
    )
    async with running("-c", code, cwd=tmp_path) as output:
        http_address, _ = await ready(output)
        url = f"http://{http_address}/v1/shelves/novels/books/lavinia"
        async with aiohttp.ClientSession() as http, http.get(url) as response:
            text = await response.text()
    assert f"`curl {url.replace(http_address, 'localhost:8080').removeprefix('http://')}` gives\n`{text}`" in page
