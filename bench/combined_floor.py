"""A gateway by hand with nothing around it: `python -m bench.combined_floor MODEL_SERVER`.

An aiohttp handler and a grpc.aio handler that call the model server and map its answer with what the libraries have:
no checks, no deadlines, no errors, one replica. It shows what the floors cost together in one process, where each
wakes the other's threads, which is more than the sum of what they cost alone.
"""

from __future__ import annotations

import sys
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
    from saxgw.sax.wire.lm_pb2_grpc import LMServiceAsyncStub

_HEADERS: Final = {"Content-Type": "application/json"}


class _ByHand:
    def __init__(self, lm: LMServiceAsyncStub) -> None:
        self._lm = lm

    async def http(self, request: web.BaseRequest) -> web.Response:
        body = orjson.loads(await request.read())
        question = lm_pb2.GenerateRequest(model_key=body["model"], text=body["query"])
        for name, value in body["extra_inputs"].items():
            question.extra_inputs.items[name] = value
        answer = await self._lm.Generate(question)
        return web.Response(body=orjson.dumps([[text.text, text.score] for text in answer.texts]), headers=_HEADERS)

    async def grpc(self, request: sax_service_pb2.GenerateRequest, _: object) -> sax_service_pb2.GenerateResponse:
        question = lm_pb2.GenerateRequest(model_key=request.model, text=request.query)
        for name, value in request.extra_inputs.fields.items():
            question.extra_inputs.items[name] = value.number_value
        answer = await self._lm.Generate(question)
        return sax_service_pb2.GenerateResponse(
            results=[sax_service_pb2.Result(text=text.text, score=text.score) for text in answer.texts]
        )


async def _main(model_server: str) -> None:
    by_hand = _ByHand(LMServiceStub(grpc.aio.insecure_channel(model_server)))
    await serve("Generate", by_http=by_hand.http, by_grpc=by_hand.grpc)


if __name__ == "__main__":
    run(_main(sys.argv[1]))
