"""A gateway that asks who calls: every scope, method and door, and what nobody may do without a key."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest
import pytest_asyncio
from google.protobuf.descriptor import MethodDescriptor
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from saxgw.access.key_file import KeyFile
from saxgw.access.keys import ApiKey
from saxgw.access.scopes import SCOPES, scope_of
from saxgw.devcell import DevCell
from saxgw.gateway import SERVICE, Gateway
from saxgw.rpc.identity import ALL_MODELS
from tests.access.issuer import AUDIENCE, ISSUER, Issuer
from tests.callers import Caller, CallError, http_rules
from tests.conftest import DOORS, connected, definition, settings

NOWHERE = "/sax/nowhere/lm"

REQUESTS: dict[str, dict[str, Any]] = {
    "Publish": definition(NOWHERE),
    "Update": definition(NOWHERE),
    "Unpublish": {"model": NOWHERE},
    "ListAll": {"sax_cell": "/sax/nowhere"},
    "ListCell": {"model": NOWHERE},
    "Generate": {"model": NOWHERE, "query": ""},
    "GenerateStream": {"model": NOWHERE, "query": ""},
    "BatchGenerate": {"model": NOWHERE, "queries": [""]},
    "Score": {"model": NOWHERE, "suffixes": [""]},
    "BatchScore": {"model": NOWHERE, "queries": [{"suffixes": [""]}]},
    "Embed": {"model": NOWHERE, "text": ""},
    "WaitForReady": {"model": NOWHERE},
    "Stats": {"name": NOWHERE},
    "ListCells": {},
}
"""Whoever may make these finds that there is no such cell."""

METHODS = list(SERVICE.methods)


class Secured:
    """A gateway with a file of keys and an issuer of tokens."""

    def __init__(self, gateway: Gateway, file: Path, issuer: Issuer) -> None:
        self.gateway = gateway
        self.keys = KeyFile(file)
        self.issuer = issuer
        self.by_scope = {scope: self.key(scope, scope) for scope in SCOPES}
        self.all = self.key("all", *SCOPES)
        self.test_only = self.key("test-only", *SCOPES, models=("/sax/test/lm*",))
        self.expired = self.key("expired", *SCOPES, lifetime_s=-1)

    def key(self, name: str, *scopes: str, models: tuple[str, ...] = ALL_MODELS, **more: Any) -> str:
        """Makes a key."""
        secret, key = ApiKey.new(name, scopes, models, **more)
        self.keys.add(key)
        return secret


@pytest_asyncio.fixture(scope="module")
async def secured(cell: DevCell, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Secured]:
    folder = tmp_path_factory.mktemp("access")
    issuer = Issuer()
    (folder / "jwks.json").write_bytes(issuer.jwks())
    (folder / "keys").touch()
    gateway = Gateway(
        settings(
            cell.root,
            api_keys=str(folder / "keys"),
            jwt_jwks=str(folder / "jwks.json"),
            jwt_issuer=ISSUER,
            jwt_audience=AUDIENCE,
        )
    )
    # The keys are there before the gateway is, so that nobody need wait for it to read them again.
    made = Secured(gateway, folder / "keys", issuer)
    async with gateway:
        yield made


Connect = Callable[[str | None], Any]


@pytest_asyncio.fixture(params=DOORS)
async def connect(secured: Secured, request: pytest.FixtureRequest) -> AsyncIterator[Connect]:
    """Makes callers of the secured gateway through one of its doors, with a credential."""
    async with AsyncExitStack() as stack:

        async def connect(credential: str | None) -> Caller:
            return await stack.enter_async_context(connected(secured.gateway, request.param, credential))

        yield connect


async def failure(call: Caller, method: str, request: dict[str, Any]) -> CallError:
    with pytest.raises(CallError) as caught:
        await call(method, request)
    return caught.value


@pytest.mark.parametrize("credential", ["key", "token"])
@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
@pytest.mark.parametrize("scope", SCOPES)
async def test_scope(secured: Secured, connect: Connect, method: MethodDescriptor, scope: str, credential: str) -> None:
    """A key or a token with one scope may do what that is for, and nothing else."""
    call = await connect(secured.by_scope[scope] if credential == "key" else secured.issuer.token(scope=scope))
    request = REQUESTS[method.name]
    if scope_of(method) == scope and method.name == "ListCells":
        assert await call(method.name, request) == {"cells": ["/sax/test"]}
        return
    if scope_of(method) == scope and method.name.startswith("Batch"):
        (outcome,) = (await call(method.name, request))["outcomes"]
        assert outcome["error"]["code"] == 5
        return
    error = await failure(call, method.name, request)
    if scope_of(method) == scope:
        assert error.code == "NOT_FOUND"
    else:
        assert error.code == "PERMISSION_DENIED"
        caller = scope if credential == "key" else "jwt:alice"
        assert error.message == f'{caller} may not do this: {method.name} needs the scope "{scope_of(method)}"'
        assert [detail.get("reason") for detail in error.details] == ["SCOPE_MISSING"]


WRONG: dict[str, Callable[[Secured], str | None]] = {
    "missing": lambda _: None,
    "empty": lambda _: "",
    "unknown key": lambda _: f"saxgw_{'A' * 43}",
    "expired key": lambda secured: secured.expired,
    "hash of a key": lambda secured: secured.keys.keys()["all"].sha256,
    "no token": lambda _: "a.b.c",
    "expired token": lambda secured: secured.issuer.token(exp=1),
    "token of tomorrow": lambda secured: secured.issuer.token(nbf=2**40),
    "token of another issuer": lambda secured: secured.issuer.token(iss="https://other.test"),
    "token for somebody else": lambda secured: secured.issuer.token(aud="other"),
    "token without a subject": lambda secured: secured.issuer.token(without="sub"),
    "token with a subject that is no name": lambda secured: secured.issuer.token(sub="alice\nbob"),
    "token with a long subject": lambda secured: secured.issuer.token(sub="a" * 257),
    "token without an end": lambda secured: secured.issuer.token(without="exp"),
    "token without an audience": lambda secured: secured.issuer.token(without="aud"),
    "token with a key not known": lambda secured: secured.issuer.token(headers={"kid": "other"}),
    "token signed by another": lambda _: Issuer().token(),
    "token with models that are none": lambda secured: secured.issuer.token(saxgw_models="/sax/test/*"),
    "token with a pattern for no model": lambda secured: secured.issuer.token(saxgw_models=["*"]),
    "token with scopes that are none": lambda secured: secured.issuer.token(scope=1),
    "two tokens swapped": lambda secured: _swapped(secured.issuer.token(), secured.issuer.token(sub="bob")),
    "unsigned token": lambda secured: _unsigned(secured.issuer.token()),
}


def _swapped(one: str, other: str) -> str:
    """The one's claims with the other's signature."""
    return f"{one.rpartition('.')[0]}.{other.rpartition('.')[2]}"


def _unsigned(token: str) -> str:
    return f"eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{token.split('.')[1]}."


@pytest.mark.parametrize("wrong", WRONG)
async def test_unauthenticated(secured: Secured, connect: Connect, wrong: str) -> None:
    """Whatever is wrong with a credential, the answer is the same to the letter."""
    reference = await failure(await connect(None), "Generate", REQUESTS["Generate"])
    error = await failure(await connect(WRONG[wrong](secured)), "Generate", REQUESTS["Generate"])
    assert error.code == "UNAUTHENTICATED"
    assert (error.message, error.details) == (reference.message, reference.details)


def routes() -> Iterator[tuple[str, str, bool]]:
    """HTTP method, path, and whether events are asked for, of every rule of every method."""
    for method in METHODS:
        for rule in http_rules(method):
            kind = rule.WhichOneof("pattern")
            assert kind is not None
            path = getattr(rule, kind)
            for name in ("model", "name", "sax_cell"):
                path = path.replace(f"{{{name}=sax/*/*}}", "sax/test/lm").replace(f"{{{name}=sax/*}}", "sax/test")
            assert "{" not in path
            for events in (False, True):
                yield kind.upper(), path, events


@pytest.mark.parametrize(("http_method", "path", "events"), list(routes()))
async def test_every_route_is_closed(secured: Secured, http_method: str, path: str, *, events: bool) -> None:
    """No route answers who has no key: it says 401 and how to do better, and has not looked at the body."""
    headers = {"Accept": "text/event-stream" if events else "application/json", "Content-Type": "application/json"}
    async with (
        aiohttp.ClientSession(f"http://{secured.gateway.http_address}") as session,
        session.request(http_method, path, headers=headers, data=None if http_method == "GET" else b"{") as response,
    ):
        assert response.status == 401
        assert response.headers["WWW-Authenticate"] == "Bearer"
        assert (await response.json())["error"]["status"] == "UNAUTHENTICATED"


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
async def test_every_rpc_is_closed(secured: Secured, method: MethodDescriptor) -> None:
    """No RPC answers who has no key, whatever it sends, nor waits for it."""
    async with grpc.aio.insecure_channel(secured.gateway.grpc_address) as channel:
        path = f"/{SERVICE.full_name}/{method.name}"
        kind: Any = channel.unary_stream if method.server_streaming else channel.unary_unary
        call = kind(path)(b"\xff")
        assert await call.code() is grpc.StatusCode.UNAUTHENTICATED
        waiting: Any = channel.stream_stream(path)(timeout=60)
        assert await waiting.code() is grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize("path", ["/", "/openapi.json", "/docs", "/docs/start.js"])
async def test_pages_are_open(secured: Secured, path: str) -> None:
    """What says nothing of cells is for everybody, so that a page can ask its reader for a key."""
    async with (
        aiohttp.ClientSession(f"http://{secured.gateway.http_address}") as session,
        session.get(path) as response,
    ):
        assert response.status == 200


async def test_health_and_reflection_are_open(secured: Secured) -> None:
    """Probes and tools that ask what can be called need no key over gRPC."""
    async with grpc.aio.insecure_channel(secured.gateway.grpc_address) as channel:
        probe: Any = health_pb2_grpc.HealthStub(channel)
        health = await probe.Check(health_pb2.HealthCheckRequest())
        assert health.status == health_pb2.HealthCheckResponse.SERVING
        asked = reflection_pb2.ServerReflectionRequest(list_services="")
        stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)  # type: ignore[arg-type]  # its types know no aio
        async for answer in stub.ServerReflectionInfo(iter([asked])):
            assert SERVICE.full_name in [service.name for service in answer.list_services_response.service]


@pytest_asyncio.fixture
async def two_models(secured: Secured) -> AsyncIterator[tuple[str, str]]:
    """A published model that the restricted key may use, and one that it may not."""
    mine, other = "/sax/test/lm-mine", "/sax/test/other"
    async with connected(secured.gateway, "grpc", secured.all) as call:
        for model in (mine, other):
            await call("Publish", definition(model))
        yield mine, other
        for model in (mine, other):
            await call("Unpublish", {"model": model})


async def test_models(secured: Secured, connect: Connect, two_models: tuple[str, str]) -> None:
    """A key with patterns sees and uses the models that they are for; of others it does not learn whether they are."""
    mine, other = two_models
    call = await connect(secured.test_only)
    assert (await call("ListAll", {"sax_cell": "/sax/test"}))["models"] == [mine]
    assert (await call("ListCells", {})) == {"cells": ["/sax/test"]}
    assert (await call("ListCell", {"model": mine}))["model"] == mine
    assert (await call("Generate", {"model": mine, "query": "a"}))["results"]
    for model in (other, "/sax/test/no-such-model"):
        for method in ("ListCell", "Generate", "Unpublish", "WaitForReady"):
            error = await failure(call, method, {**REQUESTS[method], "model": model})
            assert (error.code, error.message) == ("PERMISSION_DENIED", f'model: test-only may not use "{model}"')
    error = await failure(call, "ListAll", {"sax_cell": "/sax/nowhere"})
    assert error.code == "PERMISSION_DENIED"


async def test_models_of_a_token(secured: Secured, connect: Connect, two_models: tuple[str, str]) -> None:
    """The claim saxgw_models does the same; an empty one is for no model at all."""
    mine, other = two_models
    call = await connect(secured.issuer.token(saxgw_models=["/sax/test/oth*"], scp=["read"], without="scope"))
    assert (await call("ListAll", {"sax_cell": "/sax/test"}))["models"] == [other]
    call = await connect(secured.issuer.token(saxgw_models=[]))
    assert await call("ListCells", {}) == {"cells": []}
    assert (await failure(call, "ListCell", {"model": mine})).code == "PERMISSION_DENIED"
