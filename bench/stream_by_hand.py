"""A streaming gateway by hand with nothing around it: `python -m bench.stream_by_hand MODEL_SERVER`.

An aiohttp handler and a grpc.aio handler that read the model server's stream and send it on with what the libraries
have, as bench.combined_floor does for one message.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import grpc.aio
import orjson
from aiohttp import web

from bench.floors import serve
from bench.serving import run
from saxgw.sax.wire import lm_pb2
from saxgw.sax.wire.lm_pb2_grpc import LMServiceStub
from saxgw.v1 import sax_service_pb2

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from saxgw.sax.wire.lm_pb2_grpc import LMServiceAsyncStub

_HEADERS: Final = {"Content-Type": "text/event-stream"}


class _ByHand:
    def __init__(self, lm: LMServiceAsyncStub) -> None:
        self._lm = lm

    async def http(self, request: web.BaseRequest) -> web.StreamResponse:
        body = orjson.loads(await request.read())
        question = lm_pb2.GenerateRequest(model_key=body["model"], text=body["query"])
        response = web.StreamResponse(headers=_HEADERS)
        with suppress(ConnectionError):  # the load generator leaves in the middle of streams
            await response.prepare(request)
            number = 0
            async for step in self._lm.GenerateStream(question):
                number += 1
                results = [
                    {"text": item.text, "prefix_len": item.prefix_len, "scores": list(item.scores)}
                    for item in step.items
                ]
                await response.write(b"id: %d\ndata: %b\n\n" % (number, orjson.dumps({"results": results})))
            await response.write(b"event: end\ndata: {}\n\n")
            await response.write_eof()
        return response

    async def grpc(
        self, request: sax_service_pb2.GenerateStreamRequest, _: object
    ) -> AsyncGenerator[sax_service_pb2.GenerateStreamResponse]:
        async for step in self._lm.GenerateStream(lm_pb2.GenerateRequest(model_key=request.model, text=request.query)):
            yield sax_service_pb2.GenerateStreamResponse(
                results=[
                    sax_service_pb2.StreamedResult(text=item.text, prefix_len=item.prefix_len, scores=item.scores)
                    for item in step.items
                ]
            )


async def _main(model_server: str) -> None:
    by_hand = _ByHand(LMServiceStub(grpc.aio.insecure_channel(model_server)))
    await serve("GenerateStream", by_http=by_hand.http, by_grpc=by_hand.grpc)


if __name__ == "__main__":
    run(_main(sys.argv[1]))
