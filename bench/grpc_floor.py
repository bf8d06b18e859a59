"""A grpc.aio server that answers saxgw.v1 Generate with one message: `python -m bench.grpc_floor`."""

from __future__ import annotations

import grpc.aio

from bench.example import RESPONSE
from bench.serving import HOST, run, serve_forever
from saxgw.v1 import sax_service_pb2


async def _generate(_request: sax_service_pb2.GenerateRequest, _: object) -> sax_service_pb2.GenerateResponse:
    return RESPONSE


async def _main() -> None:
    server = grpc.aio.server()
    handler = grpc.unary_unary_rpc_method_handler(
        _generate,
        sax_service_pb2.GenerateRequest.FromString,
        sax_service_pb2.GenerateResponse.SerializeToString,
    )
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("saxgw.v1.SaxService", {"Generate": handler}),)
    )
    address = f"{HOST}:{server.add_insecure_port(f'{HOST}:0')}"
    await server.start()
    await serve_forever(address)


if __name__ == "__main__":
    run(_main())
