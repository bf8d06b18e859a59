"""What web pages may do: nothing, unless their origin is on the list; and what a name that leads here is worth."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from saxgw.access.key_file import KeyFile
from saxgw.access.keys import ApiKey
from saxgw.devcell import DevCell
from saxgw.gateway import Gateway
from saxgw.settings import InvalidSetting
from tests.browser import CHROMIUM, tab
from tests.conftest import settings

APP = "https://app.example"

CORS = "Access-Control-Allow-Origin"


async def listcells(gateway: Gateway, **headers: str) -> tuple[int, Any]:
    """Status and headers of a call with these headers, whose names have underscores for hyphens."""
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    async with (
        aiohttp.ClientSession(f"http://{gateway.http_address}") as session,
        session.get("/listcells", headers=given) as response,
    ):
        return response.status, response.headers


async def preflight(gateway: Gateway, path: str, **headers: str) -> tuple[int, Any]:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    async with (
        aiohttp.ClientSession(f"http://{gateway.http_address}") as session,
        session.options(path, headers={"Access-Control-Request-Method": "POST", **given}) as response,
    ):
        return response.status, response.headers


@pytest.fixture
async def allowing(cell: DevCell) -> AsyncIterator[Gateway]:
    """A gateway that lets the pages of APP call."""
    async with Gateway(settings(cell.root, cors_origin=(APP, "http://localhost:3000"))) as gateway:
        yield gateway


async def test_allowed_origin(allowing: Gateway) -> None:
    """A page of an allowed origin may call, and read the answer and what it may need of its head."""
    for site in ({"Sec_Fetch_Site": "cross-site"}, {}):
        status, headers = await listcells(allowing, Origin=APP, **site)
        assert (status, headers[CORS], headers["Vary"]) == (200, APP, "Origin")
        assert headers["Access-Control-Expose-Headers"] == "X-Request-Id, Retry-After"
        assert "Access-Control-Allow-Credentials" not in headers


@pytest.mark.parametrize(
    "origin", ["https://other.example", "http://app.example", f"{APP}.evil.example", "null", APP + "/"]
)
async def test_other_origin(allowing: Gateway, origin: str) -> None:
    """Any other page may not, whether its browser tells the site or not; caches keep the answers apart."""
    for site in ({"Sec_Fetch_Site": "cross-site"}, {"Sec_Fetch_Site": "same-site"}, {}):
        status, headers = await listcells(allowing, Origin=origin, **site)
        assert (status, headers["Vary"]) == (403, "Origin")
        assert CORS not in headers


async def test_own_pages(gateway: Gateway) -> None:
    """Pages of the gateway's own may call it, and so may what is no browser."""
    own = f"http://{gateway.http_address}"
    for headers in (
        {"Origin": own, "Sec_Fetch_Site": "same-origin"},
        {"Origin": "https://public.example", "Sec_Fetch_Site": "same-origin"},  # behind a proxy with another name
        {"Sec_Fetch_Site": "none"},
        {"Origin": own},
        {},
    ):
        status, answered = await listcells(gateway, **headers)
        assert (status, answered.get(CORS)) == (200, None)


async def test_errors_can_be_read(allowing: Gateway) -> None:
    """A page that may call may read what went wrong, and of a stream what comes."""
    async with aiohttp.ClientSession(f"http://{allowing.http_address}", headers={"Origin": APP}) as session:
        for path, status in (("/listall", 400), ("/nothing", 404), ("/generate", 405), ("/", 200), ("/docs", 200)):
            async with session.get(path) as response:
                assert (response.status, response.headers[CORS]) == (status, APP)
        async with session.post("/generate_stream", json={"model": "/sax/test/none", "query": ""}) as response:
            assert (response.status, response.headers[CORS]) == (404, APP)


async def test_preflight(allowing: Gateway) -> None:
    """What a browser asks beforehand is answered for pages that may call, and for no others."""
    status, headers = await preflight(allowing, "/generate", Origin=APP)
    assert (status, headers[CORS]) == (204, APP)
    assert headers["Access-Control-Allow-Methods"] == "POST, OPTIONS"
    assert "Authorization" in headers["Access-Control-Allow-Headers"].split(", ")
    assert headers["Access-Control-Max-Age"] == "600"
    for path, given in (
        ("/generate", {"Origin": "https://other.example"}),
        ("/generate", {}),
        ("/nothing", {"Origin": APP}),
    ):
        _, headers = await preflight(allowing, path, **given)
        assert "Access-Control-Allow-Methods" not in headers


async def test_any_origin(cell: DevCell, tmp_path: Path) -> None:
    """With keys, pages of any origin may be let in: they need a key. The browser asks without one."""
    secret, key = ApiKey.new("app", ["read"])
    KeyFile(tmp_path / "keys").add(key)
    async with Gateway(settings(cell.root, cors_origin=("*",), api_keys=str(tmp_path / "keys"))) as gateway:
        status, headers = await preflight(gateway, "/generate", Origin=APP)
        assert (status, headers[CORS]) == (204, "*")
        status, headers = await listcells(gateway, Origin=APP)
        assert (status, headers[CORS], headers["WWW-Authenticate"]) == (401, "*", "Bearer")
        status, headers = await listcells(
            gateway, Origin=APP, Sec_Fetch_Site="cross-site", Authorization=f"Bearer {secret}"
        )
        assert (status, headers[CORS]) == (200, "*")


@pytest.mark.parametrize(
    "origin", ["*", "app.example", f"{APP}/", f"{APP}:443", "http://APP.example", "http://a@b", ""]
)
def test_invalid_origins(origin: str) -> None:
    """What no browser would say is refused, and so is everybody without keys or tokens."""
    with pytest.raises(InvalidSetting, match="--cors-origin"):
        settings("/srv/sax", cors_origin=(origin,))


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LOCALHOST:8888", 200),
        ("localhost.", 200),
        ("app.localhost:8888", 200),
        ("gateway:8888", 200),
        ("127.0.0.1:8888", 200),
        ("[::1]:8888", 200),
        ("10.1.2.3", 200),
        ("sax.example:8888", 200),
        ("evil.example", 403),
        ("evil.example:8888", 403),
        ("localhost.evil.example", 403),
        ("127.0.0.1.evil.example", 403),
        ("[::1", 200),
        ("sax.example.evil.example", 403),
    ],
)
async def test_names(cell: DevCell, host: str, status: int) -> None:
    """From its own machine, a gateway that asks nobody answers to names that no site has for its own, and those set."""
    async with Gateway(settings(cell.root, allowed_host=("sax.example",))) as gateway:
        assert (await listcells(gateway, Host=host))[0] == status


async def test_names_with_keys(cell: DevCell, tmp_path: Path) -> None:
    """With keys, any name will do: a page that leads here has no key."""
    secret, key = ApiKey.new("app", ["read"])
    KeyFile(tmp_path / "keys").add(key)
    async with Gateway(settings(cell.root, api_keys=str(tmp_path / "keys"))) as gateway:
        assert (await listcells(gateway, Host="evil.example", Authorization=f"Bearer {secret}"))[0] == 200


CALL = """fetch("%s/listcells", {headers: {Authorization: "Bearer none", "X-Request-Id": "from-a-page"}})
  .then(async (answer) => { document.title = (await answer.text()) + answer.headers.get("X-Request-Id"); })
  .catch((error) => { document.title = "failed"; });"""


@asynccontextmanager
async def page(script: list[str]) -> AsyncIterator[str]:
    """A site of its own with one page that runs what is a script when it is opened; yields its origin."""

    async def answer(_: web.BaseRequest) -> web.Response:
        return web.Response(
            text=f"<!doctype html><link rel=icon href='data:,'><script>{''.join(script)}</script>",
            content_type="text/html",
        )

    server = web.Server(answer)
    listener = await asyncio.get_running_loop().create_server(server, "localhost", 0)
    try:
        yield f"http://localhost:{listener.sockets[0].getsockname()[1]}"
    finally:
        listener.close()
        await server.shutdown(0)


@pytest.mark.skipif(CHROMIUM is None, reason="chromium was not found")
async def test_in_a_browser(cell: DevCell) -> None:
    """A page of an allowed origin calls with headers of its own and reads the answer; any other fails."""
    async with (
        Gateway(settings(cell.root)) as closed,
        page([CALL % f"http://{closed.http_address}"]) as origin,
        tab() as one,
    ):
        await one.open(origin)
        assert await one.until("document.title") == "failed"
    script: list[str] = []
    async with page(script) as origin, Gateway(settings(cell.root, cors_origin=(origin,))) as allowing, tab() as one:
        script.append(CALL % f"http://{allowing.http_address}")
        await one.open(origin)
        assert await one.until("document.title") == '["/sax/test"]from-a-page'
