"""Authentication, scopes and models as interceptors and inspectors, without a door."""

from __future__ import annotations

from typing import Any

import pytest
from google.api import resource_pb2
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor

from saxgw.access.authentication import authenticate
from saxgw.access.authorization import require_model, require_scope
from saxgw.access.scopes import SCOPES, resource_fields, scope_of
from saxgw.gateway import SERVICE
from saxgw.globs import InvalidGlob
from saxgw.rpc.call import Call
from saxgw.rpc.endpoint import UnaryEndpoint, make_endpoints
from saxgw.rpc.identity import Identity
from saxgw.rpc.status import Code, RpcError
from saxgw.v1 import sax_service_pb2 as pb

APP = Identity("app", frozenset({"generate"}), ("/sax/test/*",))


class Servicer:
    """Answers Generate with the caller's name."""

    def __getattr__(self, name: str) -> object:
        async def answer(_: object, call: Call) -> pb.GenerateResponse:
            return pb.GenerateResponse(results=[pb.Result(text="" if call.identity is None else call.identity.name)])

        return answer


def endpoint(name: str, identity: Identity | None, *, later: bool = False) -> UnaryEndpoint:
    """The endpoint of a method for which "good" is the credential of `identity`."""

    def identify(credential: str) -> Identity | None:
        return identity if credential == "good" else None

    async def identify_later(credential: str) -> Identity | None:
        return identify(credential)

    table = make_endpoints(
        SERVICE, Servicer(), [authenticate(identify_later if later else identify), require_scope], [require_model]
    )
    found = next(endpoint for endpoint in table if endpoint.method.name == name)
    assert isinstance(found, UnaryEndpoint)
    return found


async def call(found: UnaryEndpoint, request: object, authorization: str | None = "Bearer good") -> str:
    async def receive() -> object:
        return request

    headers = {} if authorization is None else {"authorization": authorization}
    answer = await found.handler(Call("grpc", None, headers), receive)
    assert isinstance(answer, pb.GenerateResponse)
    return answer.results[0].text


GENERATE = pb.GenerateRequest(model="/sax/test/lm", query="")


@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize("authorization", ["Bearer good", "bearer good", "BEARER  good "])
async def test_identity(authorization: str, *, later: bool) -> None:
    """A call knows whose it is, whether that is known at once or has to be waited for."""
    assert await call(endpoint("Generate", APP, later=later), GENERATE, authorization) == "app"


@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize("authorization", [None, "", "Bearer", "Bearer bad", "good", "Basic good", "Bearer good bad"])
async def test_unauthenticated(authorization: str | None, *, later: bool) -> None:
    """Whatever is wrong with a credential, the answer is the same, and the request is not read."""

    async def receive() -> object:
        raise AssertionError("the request was read")

    headers = {} if authorization is None else {"authorization": authorization}
    with pytest.raises(RpcError, match="answers nobody whom it does not know") as caught:
        await endpoint("Generate", APP, later=later).handler(Call("http", None, headers), receive)
    assert caught.value.code is Code.UNAUTHENTICATED


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("method", list(SERVICE.methods), ids=lambda method: method.name)
async def test_scopes(method: MethodDescriptor, scope: str) -> None:
    """A scope lets a caller do what it is for and nothing else, and is asked for before the request is read."""
    identity = Identity("app", frozenset({scope}))

    async def receive() -> object:
        raise InterruptedError

    table = make_endpoints(SERVICE, Servicer(), [authenticate(lambda _: identity), require_scope], [require_model])
    found = next(endpoint for endpoint in table if endpoint.method.name == method.name)
    handler: Any = found.handler
    answering = handler(Call("grpc", None), receive, *([None] if method.server_streaming else []))
    if scope == scope_of(method):
        with pytest.raises(InterruptedError):
            await answering
    else:
        with pytest.raises(RpcError, match=f'app may not do this: {method.name} needs the scope "') as caught:
            await answering
        assert caught.value.code is Code.PERMISSION_DENIED


@pytest.mark.parametrize("name", ["/sax/test/lm", "sax/test/lm"])
async def test_model_inside(name: str) -> None:
    """A model that a pattern is for may be used, with the leading slash or without it."""
    assert await call(endpoint("Generate", APP), pb.GenerateRequest(model=name)) == "app"


@pytest.mark.parametrize(
    "name", ["/sax/other/lm", "sax/other/lm", "lm", "//sax/test/lm", "/sax/test/a/b", "/sax/other"]
)
async def test_model_outside(name: str) -> None:
    """Any other model is refused, quoted, with the field that names it."""
    with pytest.raises(RpcError, match='model: app may not use "') as caught:
        await call(endpoint("Generate", APP), pb.GenerateRequest(model=name))
    assert caught.value.code is Code.PERMISSION_DENIED


@pytest.mark.parametrize(("name", "allowed"), [("/sax/test", True), ("sax/test/lm", True), ("sax/other", False)])
async def test_cell_or_model(name: str, *, allowed: bool) -> None:
    """A cell may be looked at in which there may be models of the caller's own."""
    found = endpoint("Stats", Identity("app", frozenset({"read"}), ("/sax/test/*",)))
    if allowed:
        assert await call(found, pb.StatsRequest(name=name)) == "app"
    else:
        with pytest.raises(RpcError, match="may not use"):
            await call(found, pb.StatsRequest(name=name))


def test_every_method_says_what_it_needs() -> None:
    """Each has a scope, and each request but one names what it is about."""
    assert {scope_of(method) for method in SERVICE.methods} == set(SCOPES)
    assert [method.name for method in SERVICE.methods if not resource_fields(method)] == ["ListCells"]


def test_method_without_a_scope() -> None:
    """A method that says no scope is open to nobody: there is no table with it."""
    service = _service("unscoped", descriptor_pb2.FieldDescriptorProto())
    with pytest.raises(TypeError, match=r"unscoped\.Trial\.Do says no scope"):
        make_endpoints(service, Servicer(), [require_scope])


def test_reference_that_nobody_checks() -> None:
    """A request that names another kind of resource, or names one out of sight, is refused with its method."""
    field = descriptor_pb2.FieldDescriptorProto()
    field.options.Extensions[resource_pb2.resource_reference].type = "saxgw/Checkpoint"
    with pytest.raises(TypeError, match=r"checkpoint\.Request\.name refers to saxgw/Checkpoint"):
        make_endpoints(_service("checkpoint", field), Servicer(), [], [require_model])
    field = descriptor_pb2.FieldDescriptorProto(
        type=descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE, type_name=".saxgw.v1.GenerateRequest"
    )
    with pytest.raises(TypeError, match=r"GenerateRequest\.model refers to a resource within a message"):
        make_endpoints(_service("nested", field), Servicer(), [], [require_model])


def _service(name: str, field: descriptor_pb2.FieldDescriptorProto) -> ServiceDescriptor:
    """A service with one method whose request has one field, in a package of this name."""
    file = descriptor_pb2.FileDescriptorProto(name=f"{name}.proto", package=name, syntax="proto3")
    file.dependency.append(pb.DESCRIPTOR.name)
    request = file.message_type.add(name="Request")
    request.field.add(
        name="name",
        number=1,
        label=descriptor_pb2.FieldDescriptorProto.LABEL_OPTIONAL,
        type=descriptor_pb2.FieldDescriptorProto.TYPE_STRING,
    ).MergeFrom(field)
    message = f".{name}.Request"
    file.service.add(name="Trial").method.add(name="Do", input_type=message, output_type=message)
    pool = descriptor_pool.Default()
    pool.AddSerializedFile(file.SerializeToString())
    return pool.FindServiceByName(f"{name}.Trial")


@pytest.mark.parametrize("pattern", ["*", "/sax/*", "sax/test/*", "/sax/test/**/x", "/sax/Test/*", ""])
def test_pattern_for_no_model(pattern: str) -> None:
    """A pattern that no model's name can match is refused, rather than lock its owner out."""
    with pytest.raises(InvalidGlob, match="is not a pattern for models"):
        Identity("app", frozenset(), (pattern,))
