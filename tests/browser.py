"""A headless Chromium, spoken to by its DevTools protocol (https://chromedevtools.github.io/devtools-protocol)."""

from __future__ import annotations

import asyncio
import itertools
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp

CHROMIUM = shutil.which("chromium")

_FLAGS = (
    "--headless",
    "--no-sandbox",  # it refuses to run as root, as in a container, otherwise
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-port=0",
)
_LISTENING = re.compile(r"DevTools listening on (ws://\S+)")
_TIMEOUT_S = 60

_UNTIL = """new Promise((done) => {
  const look = () => { const value = %s; if (value) done(value); else requestAnimationFrame(look); };
  look();
})"""


class Tab:
    """One page, and what it has done since it was opened."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.requested: list[str] = []
        """The URLs of all requests."""
        self.errors: list[str] = []
        """What the console has of errors and warnings, violations of the Content-Security-Policy included."""
        self._socket = socket
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._session = ""

    async def open(self, url: str) -> None:
        """Goes to a page."""
        target = await self._send("Target.createTarget", url="about:blank")
        attached = await self._send("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Runtime", "Log", "Network", "Page"):
            await self._send(f"{domain}.enable")
        await self._send("Page.navigate", url=url)

    async def until(self, expression: str) -> Any:
        """The value of a JavaScript expression once it is true; looked at whenever the page is painted."""
        found = await self._send(
            "Runtime.evaluate", expression=_UNTIL % expression, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    async def click(self, selector: str) -> None:
        """Clicks on an element once it is there."""
        element = f"document.querySelector({selector!r})"
        await self.until(f"{element} && ({element}.click(), true)")

    async def listen(self) -> None:
        """Takes what the browser sends, until it goes."""
        async for message in self._socket:
            told = message.json()
            if "id" in told:
                self._waiting.pop(told["id"]).set_result(told)
            else:
                self._note(told["method"], told["params"])

    async def _send(self, method: str, **parameters: Any) -> Any:
        number = next(self._ids)
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        session = {"sessionId": self._session} if self._session else {}
        await self._socket.send_json({"id": number, "method": method, "params": parameters, **session})
        told = await asyncio.wait_for(answer, _TIMEOUT_S)
        assert "error" not in told, told
        return told["result"]

    def _note(self, event: str, told: dict[str, Any]) -> None:
        match event:
            case "Network.requestWillBeSent":
                self.requested.append(told["request"]["url"])
            case "Runtime.exceptionThrown":
                self.errors.append(str(told["exceptionDetails"]))
            case "Runtime.consoleAPICalled" if told["type"] in ("error", "warning", "assert"):
                self.errors.append(str(told["args"]))
            case "Log.entryAdded" if told["entry"]["level"] in ("error", "warning"):
                self.errors.append(str(told["entry"]))


@asynccontextmanager
async def tab() -> AsyncIterator[Tab]:
    """An empty tab of a browser that is started for it."""
    assert CHROMIUM is not None
    with TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = await asyncio.create_subprocess_exec(
            CHROMIUM, *_FLAGS, f"--user-data-dir={profile}", stderr=asyncio.subprocess.PIPE
        )
        try:
            address = await asyncio.wait_for(_address(process), _TIMEOUT_S)
            async with aiohttp.ClientSession() as session, session.ws_connect(address, max_msg_size=0) as socket:
                made = Tab(socket)
                listening = asyncio.create_task(made.listen())
                try:
                    yield made
                finally:
                    listening.cancel()
                    await asyncio.wait((listening,))
        finally:
            process.terminate()
            await process.communicate()


async def _address(process: asyncio.subprocess.Process) -> str:
    assert process.stderr is not None
    while line := await process.stderr.readline():
        if found := _LISTENING.search(line.decode()):
            return found[1]
    raise AssertionError("chromium ended before it listened")
