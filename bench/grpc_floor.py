"""A grpc.aio server that answers saxgw.v1 Generate with one message: `python -m bench.grpc_floor`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.example import RESPONSE
from bench.floors import serve
from bench.serving import run

if TYPE_CHECKING:
    from saxgw.v1 import sax_service_pb2


async def _generate(_request: sax_service_pb2.GenerateRequest, _: object) -> sax_service_pb2.GenerateResponse:
    return RESPONSE


if __name__ == "__main__":
    run(serve("Generate", by_grpc=_generate))
