"""Streams as real clients of each kind read them: curl, an SSE library, a browser, Node."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlencode

import google.api
import httpx
import pytest
import pytest_asyncio
from httpx_sse import aconnect_sse

from saxgw.devcell import DevCell, Piece
from saxgw.gateway import Gateway
from tests.browser import CHROMIUM, tab
from tests.callers import active_replicas
from tests.conftest import connected, definition, settings
from tests.held_model import HELD, PLAIN, HeldModel

MODEL = "/sax/test/lm"
BODY = {"model": MODEL, "query": "x"}
EVENTS = {"Accept": "text/event-stream"}
HERE = Path(__file__).parent


@pytest_asyncio.fixture
async def held() -> HeldModel:
    return HeldModel(PLAIN)


@pytest_asyncio.fixture
async def gateway(held: HeldModel) -> AsyncIterator[Gateway]:
    """A gateway before a model that goes on as the test says."""
    async with (
        DevCell(models=held.classes) as cell,
        Gateway(settings(cell.root)) as gateway,
        connected(gateway, "grpc") as call,
    ):
        await call("Publish", definition(MODEL, model_path=HELD))
        await active_replicas(call, MODEL, 1)
        yield gateway


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl was not found")
async def test_curl(gateway: Gateway, held: HeldModel) -> None:
    """`curl -N` shows each word while the model is at the next one."""
    url = f"http://{gateway.http_address}/generate"
    process = await asyncio.create_subprocess_exec(
        *("curl", "-sSN", url, "-H", "Accept: text/event-stream", "-d", json.dumps(BODY)),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    for number, (piece,) in enumerate(PLAIN, 1):
        held.release()
        event = await asyncio.wait_for(process.stdout.readuntil(b"\n\n"), 60)
        id_line, data = event.decode().strip().split("\n")
        assert id_line == f"id: {number}"
        assert json.loads(data.removeprefix("data: "))["results"][0]["text"] == piece.text
    assert await process.stdout.read() == b"event: end\ndata: {}\n\n"
    await process.wait()
    assert process.returncode == 0


async def test_sse_library(gateway: Gateway, held: HeldModel) -> None:
    """A common SSE library has each message as an event with an id, and the end as an event of its own."""
    held.open()
    async with (
        httpx.AsyncClient(base_url=f"http://{gateway.http_address}") as client,
        aconnect_sse(client, "POST", "/generate_stream", json=BODY) as source,
    ):
        events = [event async for event in source.aiter_sse()]
    assert [(event.event, event.id) for event in events] == [
        ("message", "1"),
        ("message", "2"),
        ("message", "3"),
        ("end", "3"),
    ]
    assert [event.json()["results"][0]["text"] for event in events[:-1]] == ["Once", " upon", " a time"]


async def test_sse_library_and_an_error(gateway: Gateway, held: HeldModel) -> None:
    """An error in the middle is an event of its own, with the error as its data."""
    held.steps = [[Piece("Once", -1.0)], RuntimeError()]
    held.open()
    async with (
        httpx.AsyncClient(base_url=f"http://{gateway.http_address}") as client,
        aconnect_sse(client, "POST", "/generate_stream", json=BODY) as source,
    ):
        first, error = [event async for event in source.aiter_sse()]
    assert (first.event, error.event) == ("message", "error")
    assert error.json()["error"]["status"] == "INTERNAL"


@pytest.mark.skipif(CHROMIUM is None, reason="chromium was not found")
async def test_event_source_in_a_browser(gateway: Gateway, held: HeldModel) -> None:
    """A page's EventSource grows with the model's words, ends with the stream, and does not begin it anew."""
    query = urlencode(BODY)
    async with tab() as page:
        await page.open(f"http://{gateway.http_address}/openapi.json")
        await page.until("document.body")
        await page.until(
            f"""(() => {{
                window.text = ""; window.state = "open";
                const source = new EventSource("/generate_stream?{query}");
                source.onmessage = (event) => text += JSON.parse(event.data).results[0].text;
                source.onerror = () => {{ if (source.readyState === EventSource.CLOSED) state = "closed"; }};
                return true;
            }})()"""
        )
        shown = ""
        for (piece,) in PLAIN:
            held.release()
            shown += piece.text
            await page.until(f"text === {json.dumps(shown)}")
        await page.until("state === 'closed'")  # it came back after the end, and was told to stop
        assert (held.asked, await page.until("text")) == (len(PLAIN), shown)


@pytest.mark.skipif(CHROMIUM is None, reason="chromium was not found")
async def test_fetch_in_a_browser(gateway: Gateway, held: HeldModel) -> None:
    """A page that fetches lines of JSON has each while the model is at the next, and stops the model when it aborts."""
    async with tab() as page:
        await page.open(f"http://{gateway.http_address}/openapi.json")
        await page.until("document.body")
        await page.until(
            f"""(() => {{
                window.text = ""; window.leave = new AbortController();
                (async () => {{
                    const body = JSON.stringify({json.dumps(BODY)});
                    const headers = {{"Content-Type": "application/json"}};
                    const options = {{method: "POST", body, headers, signal: leave.signal}};
                    const answer = await fetch("/generate_stream", options);
                    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
                    for (;;) {{
                        const {{done, value}} = await reader.read();
                        if (done) break;
                        text += JSON.parse(value).results[0].text;
                    }}
                }})();
                return true;
            }})()"""
        )
        held.release()
        await page.until('text === "Once"')
        held.release()
        await page.until('text === "Once upon"')
        await page.until("(leave.abort(), true)")
        await held.until(lambda: held.left == 1)


@pytest.mark.skipif(shutil.which("node") is None, reason="node was not found")
@pytest.mark.skipif(
    not (HERE / "node" / "node_modules").exists(), reason="run `make test`, which installs what Node needs"
)
async def test_node(gateway: Gateway, held: HeldModel) -> None:
    """A Node client over gRPC prints each word as it comes."""
    process = await asyncio.create_subprocess_exec(
        "node",
        HERE / "node" / "stream.js",
        gateway.grpc_address,
        MODEL,
        HERE.parent / "protos",
        Path(next(iter(google.api.__path__))).parent.parent,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    for (piece,) in PLAIN:
        held.release()
        line = await asyncio.wait_for(process.stdout.readline(), 60)
        assert json.loads(line)["results"][0]["text"] == piece.text
    assert await process.stdout.read() == b'"end"\n'
    await process.wait()
    assert process.returncode == 0
