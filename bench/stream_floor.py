"""Servers that do nothing but send one stream: `python -m bench.stream_floor MODEL`.

An aiohttp server sends it as an event stream, a grpc.aio server sends its messages; neither is asked while the other is
measured.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import grpc.aio
import orjson
from aiohttp import web

from bench.serving import HOST, run, serve_forever
from bench.streams import STREAMS, Stream
from saxgw.v1 import sax_service_pb2

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

_HEADERS: Final = {"Content-Type": "text/event-stream"}


class _Floor:
    def __init__(self, stream: Stream) -> None:
        self._messages = stream.messages
        self._values = stream.json_values

    async def http(self, request: web.BaseRequest) -> web.StreamResponse:
        orjson.loads(await request.read())
        response = web.StreamResponse(headers=_HEADERS)
        with suppress(ConnectionError):  # the load generator leaves in the middle of streams
            await response.prepare(request)
            for number, value in enumerate(self._values, 1):
                await response.write(b"id: %d\ndata: %b\n\n" % (number, orjson.dumps(value)))
            await response.write(b"event: end\ndata: {}\n\n")
            await response.write_eof()
        return response

    async def grpc(
        self, _request: sax_service_pb2.GenerateStreamRequest, _: object
    ) -> AsyncGenerator[sax_service_pb2.GenerateStreamResponse]:
        for message in self._messages:
            yield message


async def _main(model: str) -> None:
    floor = _Floor(STREAMS[model])
    listener = await asyncio.get_running_loop().create_server(web.Server(floor.http, access_log=None), HOST, 0)
    server = grpc.aio.server()
    handler = grpc.unary_stream_rpc_method_handler(
        floor.grpc,
        sax_service_pb2.GenerateStreamRequest.FromString,
        sax_service_pb2.GenerateStreamResponse.SerializeToString,
    )
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("saxgw.v1.SaxService", {"GenerateStream": handler}),)
    )
    grpc_port = server.add_insecure_port(f"{HOST}:0")
    await server.start()
    await serve_forever(f"{HOST}:{listener.sockets[0].getsockname()[1]}", f"{HOST}:{grpc_port}")


if __name__ == "__main__":
    run(_main(sys.argv[1]))
