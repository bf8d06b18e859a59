"""The log, read from real processes; and its handler, before a stream that is slow."""

from __future__ import annotations

import errno
import io
import logging
import os
import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import orjson
import pytest

from saxgw.access.key_file import KeyFile
from saxgw.access.keys import ApiKey
from saxgw.devcell import DevCell
from saxgw.telemetry import log as log_module
from saxgw.telemetry.log import BackgroundHandler, JsonFormatter, TextFormatter
from tests.callers import CallError, GrpcCaller
from tests.process import Running, running
from tests.terminal import on_terminal

DROPPED = "{} log lines were dropped: they could not be written, or not fast enough"
PROMPT = "the prompt is nobody's business"
REQUEST = {"query": PROMPT, "extra_inputs": {"per_example_max_decode_steps": 3, "temperature": 0}}


async def lines_of(gateway: Running) -> tuple[list[dict[str, Any]], str]:
    """All lines of a gateway that is ended by this, and as they are."""
    code, errors = await gateway.stop(signal.SIGTERM)
    assert code == 0
    return [orjson.loads(line) for line in errors.splitlines() if line.startswith("{")], errors


def of_calls(lines: list[dict[str, Any]], method: str) -> list[dict[str, Any]]:
    return [line for line in lines if line["logger"] == "saxgw.calls" and line["method"] == method]


async def test_names_that_would_be_lines(cell: DevCell) -> None:
    """What a caller writes stays within the line of its call, and is nothing that a terminal obeys."""
    forged = "/sax/test/a\n2030-01-01 INFO saxgw.calls: forged\x1b[2J\u202e"
    async with running("serve", "--log-format", "text", environment={"SAX_ROOT": cell.root}) as gateway:
        async with grpc.aio.insecure_channel(gateway.grpc_address) as channel:
            with pytest.raises(CallError):
                await GrpcCaller(channel)("ListCell", {"model": forged})
        _, errors = await gateway.stop(signal.SIGTERM)
    [line] = [line for line in errors.splitlines() if "forged" in line]
    assert r"ListCell /sax/test/a\n2030-01-01 INFO saxgw.calls: forged\x1b[2J\u202e INVALID_ARGUMENT" in line


async def test_lines_of_calls(cell: DevCell, published: str) -> None:
    """Each call has one line in JSON, with all that is known of it but what was asked and answered."""
    traced = {"X-Request-Id": "my-own-id", "traceparent": f"00-{'a' * 32}-{'b' * 16}-00"}
    async with running("serve", environment={"SAX_ROOT": cell.root}) as gateway:
        async with aiohttp.ClientSession(f"http://{gateway.http_address}", headers=traced) as http:
            async with http.post("/generate", json={"model": published, **REQUEST}) as response:
                [[completion, _], *_] = await response.json()
            async with http.post("/generate", json={"model": published, "query": [PROMPT]}) as response:
                assert response.status == 400
        async with grpc.aio.insecure_channel(gateway.grpc_address) as channel:
            call = GrpcCaller(channel)
            messages = await call("GenerateStream", {"model": published, **REQUEST})
            with pytest.raises(CallError):
                await call("Generate", {"model": "/sax/test/nothing", **REQUEST})
        lines, as_they_are = await lines_of(gateway)
    good, malformed, unknown = of_calls(lines, "Generate")
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", good.pop("time"))
    assert 0 < good.pop("duration_s") < 20
    assert good.pop("queued_s") > 0  # the first request to a model waits until its replicas are known
    assert good.pop("request_bytes") > len(PROMPT)
    assert good.pop("response_bytes") > len(completion)
    assert good == {
        "level": "info",
        "logger": "saxgw.calls",
        "request_id": "my-own-id",
        "method": "Generate",
        "door": "http",
        "model": published,
        "code": "OK",
        "peer": "127.0.0.1",
        "trace_id": "a" * 32,
    }
    assert (malformed["code"], malformed["request_bytes"] > 0) == ("INVALID_ARGUMENT", True)
    assert "model" not in malformed
    assert (unknown["code"], unknown["reason"], unknown["door"]) == ("NOT_FOUND", "MODEL_NOT_FOUND", "grpc")
    [stream] = of_calls(lines, "GenerateStream")
    assert stream["messages"] == len(messages)
    assert 0 < stream["first_message_s"] <= stream["duration_s"]
    assert len(stream["request_id"]) == 16
    assert PROMPT not in as_they_are
    assert len(completion) > 3
    assert completion not in as_they_are


async def test_keys(cell: DevCell, tmp_path: Path) -> None:
    """A line says whose key it was, and never the key; nor does it say one that was refused."""
    key, known = ApiKey.new("the-app", ["read"])
    wrong, _ = ApiKey.new("other", ["read"])
    file = tmp_path / "keys"
    KeyFile(file).add(known)
    async with running("serve", f"--api-keys={file}", environment={"SAX_ROOT": cell.root}) as gateway:
        async with aiohttp.ClientSession(f"http://{gateway.http_address}") as http:
            for credential, status in ((key, 200), (wrong, 401)):
                headers = {"Authorization": f"Bearer {credential}"}
                async with http.get("/listall?sax_cell=/sax/test", headers=headers) as response:
                    assert response.status == status
        lines, as_they_are = await lines_of(gateway)
    good, bad = of_calls(lines, "ListAll")
    assert (good["identity"], good["code"]) == ("the-app", "OK")
    assert (bad.get("identity"), bad["code"]) == (None, "UNAUTHENTICATED")
    assert key not in as_they_are
    assert wrong not in as_they_are


@pytest.mark.parametrize(("option", "lines"), [("--log-calls", 1), ("--no-log-calls", 0), ("--log-level=warning", 0)])
async def test_lines_of_calls_are_wanted_or_not(cell: DevCell, option: str, lines: int) -> None:
    """A setting and the level say whether there are lines of calls."""
    async with running("serve", option, environment={"SAX_ROOT": cell.root}) as gateway:
        async with aiohttp.ClientSession() as http:
            await (await http.get(f"http://{gateway.http_address}/listall?sax_cell=/sax/test")).read()
        assert len(of_calls((await lines_of(gateway))[0], "ListAll")) == lines


async def test_text(cell: DevCell) -> None:
    """--log-format=text is for people."""
    async with running("serve", "--log-format=text", environment={"SAX_ROOT": cell.root}) as gateway:
        async with aiohttp.ClientSession(f"http://{gateway.http_address}") as http:
            await (await http.get("/listall?sax_cell=/sax/test", headers={"X-Request-Id": "x1"})).read()
        lines, errors = await lines_of(gateway)
    assert lines == []
    pattern = r"(?m)^20\S+ \S+ INFO saxgw\.calls: ListAll OK \d+\.\d ms 0→\d+ bytes, http 127\.0\.0\.1 \[x1\]$"
    assert re.search(pattern, errors), errors


async def test_auto(cell: DevCell) -> None:
    """On a terminal it is text without being asked for."""
    async with on_terminal("serve", "--http-port=0", "--grpc-port=0", environment={"SAX_ROOT": cell.root}) as terminal:
        await terminal.until("cells of")
        match = re.search(r"ready: (http://\S+) and", terminal.shown)
        assert match
        async with aiohttp.ClientSession(match[1]) as http:
            await (await http.get("/listall?sax_cell=/sax/test")).read()
        await terminal.until("INFO saxgw.calls: ListAll OK")


class Stuck(io.StringIO):
    """A stream that takes nothing until it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.go_on = threading.Event(), threading.Event()

    def write(self, text: str) -> int:
        self.asked.set()
        assert self.go_on.wait(60)
        return super().write(text)


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gives the last lines the time that they need on a busy machine."""
    monkeypatch.setattr(log_module, "_LAST_LINES_S", 60.0)


@contextmanager
def logger(handler: BackgroundHandler) -> Iterator[logging.Logger]:
    """A logger of its own that has this handler alone; the handler is closed at the end."""
    handler.setFormatter(JsonFormatter())
    logger = logging.Logger("test")  # noqa: LOG001 - one that nobody else has
    logger.addHandler(handler)
    try:
        yield logger
    finally:
        handler.close()


def test_slow_stream() -> None:
    """Who logs does not wait for a stream that is stuck; what does not fit is dropped, and how much is told."""
    stream = Stuck()
    with logger(BackgroundHandler(stream, most_lines=10)) as log:
        log.warning("first")
        assert stream.asked.wait(60)
        for number in range(15):
            log.warning("%d", number)
        stream.go_on.set()
    messages = [orjson.loads(line)["message"] for line in stream.getvalue().splitlines()]
    assert messages == ["first", *map(str, range(10)), DROPPED.format(5)]


class Full(io.StringIO):
    """A file on a disk that has no room until it is told so."""

    def __init__(self) -> None:
        super().__init__()
        self.failed, self.has_room = threading.Event(), False

    def flush(self) -> None:
        if not self.has_room:
            self.seek(0)
            self.truncate()
            self.failed.set()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_full_disk() -> None:
    """Lines for which there is no room are dropped; those that come when there is some again are written."""
    stream = Full()
    with logger(BackgroundHandler(stream)) as log:
        for _ in range(2):
            log.warning("lost")
            assert stream.failed.wait(60)
            stream.failed.clear()
        stream.has_room = True
        log.warning("found")
    messages = [orjson.loads(line)["message"] for line in stream.getvalue().splitlines()]
    assert messages == ["found", DROPPED.format(2)]


class Counting(io.StringIO):
    """A stream that keeps what each write was given."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[str] = []

    def write(self, text: str) -> int:
        self.writes.append(text)
        return super().write(text)


def test_whole_lines() -> None:
    """Lines are written in parts that a pipe keeps together, and never torn unless one is longer than that."""
    stream = Counting()
    texts = ["é" * length for length in (10, 1500, 1500, 1500, 5000, 10, 100, 1900, 1000, 1000, 1000)]
    with logger(BackgroundHandler(stream)) as log:
        for text in texts:
            log.warning(text)
    written = "".join(stream.writes)
    assert [orjson.loads(line)["message"] for line in written.splitlines()] == texts
    assert all(write.endswith("\n") for write in stream.writes)
    assert all(len(write.encode()) <= 4096 or write.count("\n") == 1 for write in stream.writes)


def test_closed_stream() -> None:
    """A stream that nobody reads any more ends the writing, and nothing else."""
    stream = io.StringIO()
    with logger(BackgroundHandler(stream)) as log:
        stream.close()
        for _ in range(3):
            log.warning("x")


def test_other_lines() -> None:
    """Lines that are of no call have their message, and what has gone wrong; bytes that are no text do no harm."""
    stream = io.StringIO()
    with logger(BackgroundHandler(stream)) as log:
        log.info("%s and %d", "one", 2)
        log.warning("a path: %s", b"\xff".decode(errors="surrogateescape"))
        try:
            raise KeyError("k")  # noqa: TRY301 - it has to come from somewhere
        except KeyError:
            log.exception("it failed")
    first, second, third = map(orjson.loads, stream.getvalue().splitlines())
    assert (first["level"], first["logger"], first["message"]) == ("info", "test", "one and 2")
    assert second["message"] == "a path: ?"
    assert third["exception"].startswith("Traceback")
    assert third["exception"].endswith("KeyError: 'k'")


def test_text_formatter() -> None:
    """Text has what has gone wrong below the line."""
    record = logging.LogRecord("saxgw", logging.ERROR, "", 0, "it failed", None, (KeyError, KeyError("k"), None))
    assert re.fullmatch(r"20\S+ \S+ ERROR saxgw: it failed\nKeyError: 'k'", TextFormatter().format(record))
