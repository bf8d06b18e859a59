"""API keys: what a file of them may hold, who has one, and how it is changed while gateways read it."""

from __future__ import annotations

import asyncio
import os
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import orjson
import pytest

from saxgw.access.key_file import KeyFile
from saxgw.access.keys import ApiKey, InvalidKey, KeyRing, digest, read_keys
from saxgw.devcell import DevCell
from saxgw.gateway import Gateway
from saxgw.watched import InvalidFile
from tests.callers import code_of
from tests.conftest import connected, settings
from tests.devcell.harness import until
from tests.footprint import uncollected
from tests.process import run, running

LINE = {"name": "app", "sha256": "0" * 64, "scopes": ["generate"], "models": ["/sax/test/*"]}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys.jsonl"


def test_round_trip(file: Path) -> None:
    """What is added is found, by its key alone, and the file does not have the key."""
    secret, key = ApiKey.new("app", ["generate", "read"], ["/sax/test/*"], lifetime_s=60)
    KeyFile(file).add(key)
    (read,) = read_keys(file).values()
    assert (read.identity, read.created) == (key.identity, key.created)
    assert KeyRing([read]).find(digest(secret)) == key.identity
    assert KeyRing([read]).find(digest(secret[:-1])) is None
    assert secret.removeprefix("saxgw_") not in file.read_text()


def test_keys_are_random() -> None:
    """A key has 256 bits, and no two are alike."""
    secrets = {ApiKey.new("app", ["read"])[0] for _ in range(100)}
    assert len(secrets) == 100
    assert {len(secret) for secret in secrets} == {len("saxgw_") + 43}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"name": "a b"}, "a name is up to 64"),
        ({"name": "jwt:alice"}, "a name is up to 64"),
        ({"name": None}, "a name is up to 64"),
        ({"scopes": []}, "scopes are one or more of read, generate, admin"),
        ({"scopes": "read"}, "scopes are one or more"),
        ({"scopes": ["write"]}, "scopes are one or more"),
        ({"models": []}, "models are one or more"),
        ({"models": "/sax/*/*"}, "models are one or more"),
        ({"models": ["/sax/test"]}, '"/sax/test" is not a pattern for models'),
        ({"sha256": "0"}, "sha256 is not 64 hexadecimal digits"),
        ({"expires": "2030-01-01T00:00:00"}, "expires is not a moment"),
        ({"expires": 1}, "expires is not a moment"),
        ({"created": 1}, "created is not a text"),
        ({"model": []}, "nothing is known of model"),
    ],
)
def test_line_that_makes_no_sense(file: Path, changed: dict[str, Any], said: str) -> None:
    """It is named by its number and what is wrong with it, and shown nowhere."""
    file.write_bytes(b"# people may write here\n\n" + orjson.dumps({**LINE, **changed}))
    with pytest.raises(InvalidFile, match=said) as caught:
        read_keys(file)
    assert str(caught.value).startswith(f"line 3 of {file} is no API key: ")
    assert "0000" not in str(caught.value)


@pytest.mark.parametrize(("text", "said"), [(b"{", "it is not JSON"), (b"[]", "not a JSON object"), (b"\xff", "JSON")])
def test_line_that_is_no_object(file: Path, text: bytes, said: str) -> None:
    """Nor is anything else taken for a key."""
    file.write_bytes(text)
    with pytest.raises(InvalidFile, match=said):
        read_keys(file)


def test_one_name_twice(file: Path) -> None:
    """Names tell callers apart, so no two keys have the same."""
    file.write_bytes(orjson.dumps(LINE) + b"\n" + orjson.dumps({**LINE, "sha256": "1" * 64}))
    with pytest.raises(InvalidFile, match=r"line 2 of .* has a second key app"):
        read_keys(file)


@contextmanager
def steps() -> Iterator[list[tuple[str, int]]]:
    """Notes each line of saxgw that is run."""
    seen: list[tuple[str, int]] = []

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        if "saxgw" not in frame.f_code.co_filename:
            return None
        if event == "line":
            seen.append((frame.f_code.co_filename, frame.f_lineno))
        return trace

    before = sys.gettrace()
    with uncollected():  # whatever would be ended of earlier tests takes steps of its own
        sys.settrace(trace)
        try:
            yield seen
        finally:
            sys.settrace(before)


def test_refusals_take_the_same_steps() -> None:
    """What is done for a key that is unknown, expired or missing is the same, line by line; so is it for a good one."""
    good, one = ApiKey.new("good", ["read"])
    expired, other = ApiKey.new("expired", ["read"], lifetime_s=-1)
    ring = KeyRing([one, other])
    taken = []
    for credential, found in ((good, True), (expired, False), (good[:-1] + "~", False), ("", False)):
        with steps() as seen:
            identity = ring.find(digest(credential))
        assert (identity is not None) == found
        taken.append(seen)
    assert taken[0]
    assert all(seen == taken[0] for seen in taken)


def test_mode(file: Path) -> None:
    """A new file is for its owner alone; one that is there keeps its mode."""
    KeyFile(file).add(ApiKey.new("a", ["read"])[1])
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.chmod(0o640)
    KeyFile(file).add(ApiKey.new("b", ["read"])[1])
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_link(file: Path) -> None:
    """A link goes on leading to the file."""
    file.touch()
    link = file.with_name("link")
    link.symlink_to(file)
    KeyFile(link).add(ApiKey.new("a", ["read"])[1])
    assert link.is_symlink()
    assert list(read_keys(file)) == ["a"]


def test_revoking_leaves_the_rest_alone(file: Path) -> None:
    """Comments, order and the other keys stay as they were written."""
    kept = b'# ours\n{ "name": "b", "sha256": "%b", "scopes": ["read"] }\n' % (b"1" * 64)
    file.write_bytes(orjson.dumps(LINE) + b"\n" + kept)
    KeyFile(file).revoke("app")
    assert file.read_bytes() == kept
    with pytest.raises(InvalidKey, match="there is no key app"):
        KeyFile(file).revoke("app")


async def test_many_at_once(file: Path) -> None:
    """Processes that add keys at the same time lose none of them, and what is read meanwhile is whole."""
    names = [f"key-{number}" for number in range(8)]
    adding = [
        asyncio.create_task(run("keys", "add", name, "--scope=read", environment={"SAXGW_API_KEYS": str(file)}))
        for name in names
    ]
    while not all(task.done() for task in adding):
        if file.exists():
            read_keys(file)
        await asyncio.wait(adding, timeout=0.001)
    assert [task.result()[0] for task in adding] == [0] * len(names)
    assert sorted(read_keys(file)) == names


async def test_commands(file: Path) -> None:
    """`saxgw keys` makes, lists and revokes; what it prints of a key is printed once."""
    code, secret, errors = await run(
        "keys", "add", "app", "--scope", "generate", "--scope=read", "--model", "/sax/test/*", "--expires-in=90d",
        "--file", str(file),
    )  # fmt: skip
    assert (code, errors) == (0, "")
    identity = KeyRing(read_keys(file).values()).find(digest(secret.strip()))
    assert identity is not None
    assert identity.scopes == {"generate", "read"}
    assert identity.models == ("/sax/test/*",)
    code, output, _ = await run("keys", "list", "--file", str(file))
    assert code == 0
    header, row = output.splitlines()
    assert header.split() == ["NAME", "SCOPES", "MODELS", "CREATED", "EXPIRES"]
    assert row.split()[:3] == ["app", "generate,read", "/sax/test/*"]
    code, output, _ = await run("keys", "list", "-o", "json", "--file", str(file))
    (listed,) = orjson.loads(output)["keys"]
    assert set(listed) == {"name", "scopes", "models", "created", "expires"}
    assert await run("keys", "revoke", "app", "--file", str(file)) == (0, "", "")
    assert await run("keys", "revoke", "app", "--file", str(file)) == (1, "", "saxgw: there is no key app\n")
    assert file.read_bytes() == b""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("add", "app", "--scope=write"), "scopes are one or more of read, generate, admin"),
        (("add", "app"), "Missing option '--scope'"),
        (("add", "a b", "--scope=read"), "a name is up to 64 letters"),
        (("add", "app", "--scope=read", "--model=*"), '"*" is not a pattern for models'),
        (("add", "app", "--scope=read", "--expires-in=soon"), '"soon" is not a time'),
    ],
)
async def test_commands_refuse(file: Path, arguments: tuple[str, ...], said: str) -> None:
    """What makes no sense is refused as wrong usage, and nothing is written."""
    code, output, errors = await run("keys", *arguments, "--file", str(file))
    assert (code, output) == (2, "")
    assert said in errors
    assert not file.exists()


@pytest.mark.parametrize("command", [("add", "app", "--scope=read"), ("list",), ("revoke", "app")])
async def test_commands_on_a_broken_file(file: Path, command: tuple[str, ...]) -> None:
    """A file that makes no sense is left as it is."""
    file.write_text("{")
    code, output, errors = await run("keys", *command, "--file", str(file))
    assert (code, output) == (1, "")
    assert errors == f"saxgw: line 1 of {file} is no API key: it is not JSON\n"
    assert file.read_text() == "{"


async def refused(gateway: Gateway, secret: str) -> None:
    """Waits until a key is refused."""
    async with connected(gateway, "grpc", secret) as call, asyncio.timeout(60):
        while await code_of(call) != "UNAUTHENTICATED":
            pass


async def accepted(gateway: Gateway, secret: str) -> None:
    """Waits until a key is accepted."""
    async with connected(gateway, "documented routes", secret) as call, asyncio.timeout(60):
        while await code_of(call) != "OK":
            pass


@pytest.mark.parametrize("door", ["grpc", "documented routes"])
async def test_rotation_under_load(cell: DevCell, file: Path, door: str) -> None:
    """A new key is taken, and a revoked one refused, while calls with others go on without a failure."""
    old, key = ApiKey.new("old", ["read"])
    steady, other = ApiKey.new("steady", ["read"])
    keys = KeyFile(file)
    keys.add(key)
    keys.add(other)
    calls = 0

    async with Gateway(settings(cell.root, api_keys=str(file))) as gateway, connected(gateway, door, steady) as call:

        async def load() -> None:
            nonlocal calls
            while True:
                await call("ListCells", {})
                calls += 1

        loading = [asyncio.create_task(load()) for _ in range(4)]
        new, key = ApiKey.new("new", ["read"])
        keys.add(key)
        await accepted(gateway, new)
        keys.revoke("old")
        await refused(gateway, old)
        await accepted(gateway, new)
        await until(lambda: calls > 0)
        for task in loading:
            task.cancel()
        assert [type(error) for error in await asyncio.gather(*loading, return_exceptions=True)] == [
            asyncio.CancelledError
        ] * 4


@pytest.mark.parametrize("breaking", [lambda file: file.write_text("{"), os.unlink])
async def test_broken_file_keeps_the_keys(
    cell: DevCell, file: Path, breaking: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    """While the file makes no sense or is away, the keys that were read last hold, and the log says so."""
    secret, key = ApiKey.new("app", ["read"])
    KeyFile(file).add(key)
    async with Gateway(settings(cell.root, api_keys=str(file))) as gateway:
        breaking(file)
        async with asyncio.timeout(60):
            while "what was read before still holds" not in caplog.text:
                await accepted(gateway, secret)
        file.unlink(missing_ok=True)
        new, key = ApiKey.new("new", ["read"])
        KeyFile(file).add(key)
        await accepted(gateway, new)
        await refused(gateway, secret)
    assert next(record.levelname for record in caplog.records if record.name == "saxgw.files") == "ERROR"


async def test_serve_with_a_broken_file(cell: DevCell, file: Path) -> None:
    """A gateway does not start with a file that makes no sense, and says what is wrong."""
    file.write_text("{")
    code, output, errors = await run("serve", "--sax-root", cell.root, "--api-keys", str(file))
    assert (code, output) == (1, "")
    assert f"line 1 of {file} is no API key" in errors


async def test_serve_with_keys(cell: DevCell, file: Path) -> None:
    """The walk of an operator: make a key, start a gateway with the file, call it; the key is in no log."""
    _, secret, _ = await run("keys", "add", "app", "--scope=read", environment={"SAXGW_API_KEYS": str(file)})
    secret = secret.strip()
    async with running(
        "serve", "--sax-root", cell.root, "--log-level=debug", environment={"SAXGW_API_KEYS": str(file)}
    ) as gateway:
        code, output, _ = await run("ls", environment={"SAXGW_SERVER": gateway.grpc_address, "SAXGW_API_KEY": secret})
        assert (code, output) == (0, "/sax/test\n")
        code, output, errors = await run("ls", environment={"SAXGW_SERVER": gateway.grpc_address})
        assert (code, output) == (1, "")
        assert "this gateway answers nobody whom it does not know" in errors
        _, log = await gateway.stop(15)
    assert secret not in log
