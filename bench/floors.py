"""What floors are served by: aiohttp and grpc.aio with nothing around a handler."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeAlias

import grpc.aio
from aiohttp import web
from google.protobuf.message_factory import GetMessageClass

from bench.serving import HOST, serve_forever
from saxgw.v1 import sax_service_pb2

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

Handler: TypeAlias = "Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]"


async def serve(
    method: str, *, by_http: Handler | None = None, by_grpc: Callable[[Any, object], Any] | None = None
) -> None:
    """Answers one method of SaxService until killed; tells the parent process the addresses, that of HTTP first."""
    addresses = []
    if by_http is not None:
        # Without aiohttp's router, which costs more than the gateway's own way of serving.
        server = web.Server(by_http, access_log=None)
        listener = await asyncio.get_running_loop().create_server(server, HOST, 0)
        addresses.append(f"{HOST}:{listener.sockets[0].getsockname()[1]}")
    if by_grpc is not None:
        grpc_server = _grpc_server(method, by_grpc)
        addresses.append(f"{HOST}:{grpc_server.add_insecure_port(f'{HOST}:0')}")
        await grpc_server.start()
    await serve_forever(*addresses)


def _grpc_server(name: str, handler: Callable[[Any, object], Any]) -> grpc.aio.Server:
    service = sax_service_pb2.DESCRIPTOR.services_by_name["SaxService"]
    method = service.methods_by_name[name]
    make: Any = grpc.unary_stream_rpc_method_handler if method.server_streaming else grpc.unary_unary_rpc_method_handler
    handlers = {
        name: make(
            handler,
            GetMessageClass(method.input_type).FromString,
            GetMessageClass(method.output_type).SerializeToString,
        )
    }
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service.full_name, handlers),))
    return server
