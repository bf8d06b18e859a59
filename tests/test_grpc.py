"""The gRPC door's own manners: reflection, health, generated stubs, details, sizes."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from google.protobuf import struct_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from saxgw.devcell import DevCell
from saxgw.gateway import SERVICE, Gateway
from saxgw.v1 import sax_service_pb2 as pb
from saxgw.v1 import sax_service_pb2_grpc
from tests.callers import GrpcCaller
from tests.conftest import LM2B, settings


async def test_generated_stub(channel: grpc.aio.Channel, model: str) -> None:
    """A client of the generated stub publishes and generates."""
    stub = sax_service_pb2_grpc.SaxServiceStub(channel)
    await stub.Publish(pb.PublishRequest(model=model, model_path=LM2B, checkpoint="None", replicas=1))
    extra_inputs = struct_pb2.Struct()
    extra_inputs.update({"temperature": 0, "per_example_max_decode_steps": 4})
    response = await stub.Generate(pb.GenerateRequest(model=model, query="Q: ", extra_inputs=extra_inputs))
    assert response.results[0].text
    assert response.results[0].score < 0


async def test_reflection(channel: grpc.aio.Channel) -> None:
    """Reflection lists the service and gives its descriptor."""
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)  # type: ignore[arg-type]  # any kind of channel
    requests = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol=SERVICE.full_name),
    ]
    listed, described = [answer async for answer in stub.ServerReflectionInfo(iter(requests))]
    assert {SERVICE.full_name, "grpc.health.v1.Health"} <= {s.name for s in listed.list_services_response.service}
    assert SERVICE.file.serialized_pb in described.file_descriptor_response.file_descriptor_proto


async def test_error_details(channel: grpc.aio.Channel) -> None:
    """The whole status travels in grpc-status-details-bin."""
    stub = sax_service_pb2_grpc.SaxServiceStub(channel)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.ListCell(pb.ListCellRequest())
    trailers = dict(caught.value.trailing_metadata() or ())
    status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
    assert (status.code, status.message) == (caught.value.code().value[0], caught.value.details())
    detail = error_details_pb2.BadRequest()
    assert status.details[0].Unpack(detail)
    assert [violation.field for violation in detail.field_violations] == ["model"]


async def test_request_too_large(channel: grpc.aio.Channel) -> None:
    """A request over the limit is refused."""
    stub = sax_service_pb2_grpc.SaxServiceStub(channel)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Generate(pb.GenerateRequest(model="/sax/test/none", query="x" * 5 * 2**20))
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_malformed_request(channel: grpc.aio.Channel) -> None:
    """Bytes that are not the request are the caller's mistake."""
    call: Any = channel.unary_unary(f"/{SERVICE.full_name}/ListAll")
    for data in (b"\xff", b"\x0a\x02\xff\xff"):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(data)
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert caught.value.details() == "the request is not a valid ListAllRequest"


async def test_no_request(channel: grpc.aio.Channel) -> None:
    """A call that ends before its request has come is told so."""
    call: Any = channel.stream_unary(f"/{SERVICE.full_name}/ListAll")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(iter(()))
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.details() == "the request is missing"


async def test_unknown_method(channel: grpc.aio.Channel) -> None:
    """A method that does not exist is UNIMPLEMENTED."""
    call: Any = channel.unary_unary(f"/{SERVICE.full_name}/NoSuchMethod")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(b"")
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED


async def test_closing_many_doors(cell: DevCell) -> None:
    """Doors are closed one after the other, whatever comes first of all that has to end; grpcio used to crash here."""
    for _ in range(20):
        async with (
            Gateway(settings(cell.root, drain_timeout=0)) as gateway,
            grpc.aio.insecure_channel(gateway.grpc_address) as channel,
        ):
            await GrpcCaller(channel)("ListAll", {"sax_cell": "/sax/test"})
