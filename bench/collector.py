"""An OTLP receiver that takes spans and forgets them: `python -m bench.collector`."""

from __future__ import annotations

import grpc.aio

from bench.serving import HOST, run, serve_forever

_SERVICE = "opentelemetry.proto.collector.trace.v1.TraceService"


async def _export(_request: bytes, _context: object) -> bytes:
    return b""  # an empty ExportTraceServiceResponse


async def _main() -> None:
    server = grpc.aio.server()
    handler = grpc.method_handlers_generic_handler(_SERVICE, {"Export": grpc.unary_unary_rpc_method_handler(_export)})
    server.add_generic_rpc_handlers((handler,))
    address = f"{HOST}:{server.add_insecure_port(f'{HOST}:0')}"
    await server.start()
    await serve_forever(address)


if __name__ == "__main__":
    run(_main())
