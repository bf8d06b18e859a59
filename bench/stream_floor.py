"""Servers that do nothing but send one stream: `python -m bench.stream_floor MODEL`.

An aiohttp server sends it as an event stream, a grpc.aio server sends its messages; neither is asked while the other is
measured.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import orjson
from aiohttp import web

from bench.floors import serve
from bench.serving import run
from bench.streams import STREAMS, Stream

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from saxgw.v1 import sax_service_pb2

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


if __name__ == "__main__":
    floor = _Floor(STREAMS[sys.argv[1]])
    run(serve("GenerateStream", by_http=floor.http, by_grpc=floor.grpc))
