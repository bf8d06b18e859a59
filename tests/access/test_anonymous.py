"""A gateway that asks nobody who they are: who may publish, what it says of itself, and what may be published."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import aiohttp
import grpc
import pytest

from saxgw.access.authorization import admin_from_this_machine
from saxgw.access.scopes import scope_of
from saxgw.devcell import DevCell
from saxgw.gateway import SERVICE, Gateway
from saxgw.rpc.call import Call
from saxgw.rpc.status import Code, RpcError
from tests.callers import Caller, CallError
from tests.conftest import DOORS, connected, definition, settings
from tests.process import running

ADMIN = [method for method in SERVICE.methods if scope_of(method) == "admin"]
NOWHERE = definition("/sax/nowhere/lm")
REQUESTS = {"Publish": NOWHERE, "Update": NOWHERE, "Unpublish": {"model": "/sax/nowhere/lm"}}


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"])
def test_this_machine(peer: str) -> None:
    """Loopback is this machine, however it is written."""
    for method in ADMIN:
        scope = admin_from_this_machine(method)
        assert scope is not None
        with scope(Call("grpc", None, find_peer=lambda: peer)):
            pass


@pytest.mark.parametrize("peer", ["192.0.2.2", "10.0.0.1", "fd00::2", "::ffff:192.0.2.2", "", "localhost"])
def test_elsewhere(peer: str) -> None:
    """Everything else is not, nor is a peer that is not known."""
    for method in ADMIN:
        scope = admin_from_this_machine(method)
        assert scope is not None
        with pytest.raises(RpcError, match=f"{method.name} is taken from its own machine alone") as caught:
            scope(Call("grpc", None, find_peer=lambda: peer))
        assert caught.value.code is Code.PERMISSION_DENIED


def test_other_methods() -> None:
    """Whoever reaches the gateway may look and generate."""
    assert {m.name for m in SERVICE.methods if admin_from_this_machine(m)} == set(REQUESTS)


async def codes(call: Caller, requests: dict[str, dict[str, Any]]) -> set[str]:
    found = set()
    for method, request in requests.items():
        with pytest.raises(CallError) as caught:
            await call(method, request)
        found.add(caught.value.code)
    return found


def own_address() -> str:
    """An address of this machine that is not loopback: the one that it would send from."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.connect(("192.0.2.1", 9))  # nothing is sent
        return str(sender.getsockname()[0])


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    ("changed", "code"), [({}, "PERMISSION_DENIED"), ({"allow_anonymous_admin": True}, "NOT_FOUND")]
)
async def test_from_another_address(cell: DevCell, door: str, changed: dict[str, Any], code: str) -> None:
    """What comes from another address than loopback may not publish, unless the gateway was told to let it."""
    async with (
        Gateway(settings(cell.root, host=own_address(), **changed)) as gateway,
        connected(gateway, door) as call,
    ):
        assert await codes(call, REQUESTS) == {code}
        assert (await call("ListCells", {}))["cells"] == ["/sax/test"]


@pytest.mark.parametrize(
    "header", ["X-Forwarded-For", "X-Forwarded-Proto", "X-Envoy-Attempt-Count", "Forwarded", "Via", "X-Real-IP"]
)
async def test_forwarded(gateway: Gateway, header: str) -> None:
    """What a proxy on this machine forwards comes from elsewhere, whatever it says of where."""
    async with (
        aiohttp.ClientSession(f"http://{gateway.http_address}") as session,
        session.post("/publish", json=NOWHERE, headers={header: "127.0.0.1"}) as response,
    ):
        assert response.status == 403
    async with grpc.aio.insecure_channel(gateway.grpc_address) as channel:
        publish: Any = channel.unary_unary(f"/{SERVICE.full_name}/Publish")
        call = publish(b"", metadata=[(header.lower(), "127.0.0.1")])
        assert await call.code() is grpc.StatusCode.PERMISSION_DENIED


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), ""),
        (("--host=0.0.0.0",), "whoever reaches 0.0.0.0 may generate, and whoever is on this machine publish"),
        (("--host=0.0.0.0", "--allow-anonymous-admin"), "whoever reaches 0.0.0.0 may generate, publish and unpublish"),
        (("--allow-anonymous-admin",), "whoever reaches 127.0.0.1 may generate, publish and unpublish"),
    ],
)
async def test_warning(cell: DevCell, arguments: tuple[str, ...], said: str) -> None:
    """Who starts a gateway that others can reach, and that asks nobody, is told so."""
    async with running("serve", "--sax-root", cell.root, *arguments) as gateway:
        _, errors = await gateway.stop(15)
    assert said in errors
    assert ("nobody is asked who they are" in errors) == bool(said)


LISTS = {"allow_model_path": ("saxml.server.pax.*",), "allow_checkpoint": ("gs://bucket/**", "None")}


@pytest.mark.parametrize("door", DOORS)
async def test_allow_lists(cell: DevCell, door: str) -> None:
    """What is not on a list is neither published nor updated to; everything else is as without lists."""
    async with Gateway(settings(cell.root, **LISTS)) as gateway, connected(gateway, door) as call:
        for method in ("Publish", "Update"):
            for changed, code in (
                ({}, "NOT_FOUND"),
                ({"checkpoint": "gs://bucket/a/b"}, "NOT_FOUND"),
                ({"checkpoint": "gs://bucket/../other"}, "PERMISSION_DENIED"),
                ({"checkpoint": "gs://other/a"}, "PERMISSION_DENIED"),
                ({"model_path": "os.path"}, "PERMISSION_DENIED"),
                ({"model_path": ""}, "INVALID_ARGUMENT"),
            ):
                assert await codes(call, {method: {**NOWHERE, **changed}}) == {code}, (method, changed)
        with pytest.raises(CallError, match=r'model_path: "os\.path" is not among what this gateway allows'):
            await call("Publish", {**NOWHERE, "model_path": "os.path"})


async def test_lists_on_the_command_line(cell: DevCell) -> None:
    """A flag may be repeated; a variable has spaces or commas between its items."""
    for arguments, environment in (
        (("--allow-checkpoint=a", "--allow-checkpoint=b/*"), {}),
        ((), {"SAXGW_ALLOW_CHECKPOINT": "a b/*"}),
        ((), {"SAXGW_ALLOW_CHECKPOINT": "a,b/*"}),
        (("--allow-checkpoint=a", "--allow-checkpoint=b/*"), {"SAXGW_ALLOW_CHECKPOINT": "c"}),
    ):
        async with (
            running("serve", "--sax-root", cell.root, *arguments, environment=environment) as gateway,
            aiohttp.ClientSession(f"http://{gateway.http_address}") as session,
        ):
            statuses = await asyncio.gather(
                *(_publish(session, {**NOWHERE, "checkpoint": checkpoint}) for checkpoint in ("a", "b/c", "c"))
            )
        assert statuses == [404, 404, 403]


async def _publish(session: aiohttp.ClientSession, request: dict[str, Any]) -> int:
    async with session.post("/publish", json=request) as response:
        return response.status
