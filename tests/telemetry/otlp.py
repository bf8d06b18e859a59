"""An OTLP receiver, as a collector is one, which keeps the spans that it gets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span


class Receiver:
    """What has come in so far."""

    def __init__(self, port: int) -> None:
        self.endpoint = f"http://127.0.0.1:{port}"
        self.spans: list[Span] = []
        self.resource: dict[str, Any] = {}

    def named(self, name: str) -> list[Span]:
        """Spans of a name."""
        return [span for span in self.spans if span.name == name]

    async def export(self, request: ExportTraceServiceRequest, _: object) -> ExportTraceServiceResponse:
        for of_resource in request.resource_spans:
            self.resource = values(of_resource.resource.attributes)
            for of_scope in of_resource.scope_spans:
                assert of_scope.scope.name == "saxgw"
                self.spans += of_scope.spans
        return ExportTraceServiceResponse()


@asynccontextmanager
async def receiver() -> AsyncIterator[Receiver]:
    """A receiver on a free port."""
    server = grpc.aio.server()
    received = Receiver(server.add_insecure_port("127.0.0.1:0"))
    handler = grpc.unary_unary_rpc_method_handler(
        received.export, ExportTraceServiceRequest.FromString, ExportTraceServiceResponse.SerializeToString
    )
    service = "opentelemetry.proto.collector.trace.v1.TraceService"
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {"Export": handler}),))
    await server.start()
    try:
        yield received
    finally:
        await server.stop(None)
        await asyncio.sleep(0)


def values(attributes: Any) -> dict[str, Any]:
    """Attributes as plain values."""
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}
