"""A Sax cell of one model and one model server that answers at once: `python -m bench.cell SAX_ROOT`.

It registers itself under SAX_ROOT, and says where its admin and its model server are.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import grpc.aio

from bench.example import CELL, MODEL, MODEL_SERVER_RESPONSE
from bench.instant import InstantServer
from bench.serving import HOST, run, serve_forever
from saxgw.sax.wire import admin_pb2


class _Admin:
    """As much of sax.Admin as a client needs to generate, and to list before it."""

    def __init__(self, model_server: str) -> None:
        self._model_server = model_server

    def handler(self) -> grpc.GenericRpcHandler:
        return grpc.method_handlers_generic_handler(
            "sax.Admin",
            {
                "WatchLoc": grpc.unary_unary_rpc_method_handler(
                    self.watch_loc,
                    admin_pb2.WatchLocRequest.FromString,
                    admin_pb2.WatchLocResponse.SerializeToString,
                ),
                "List": grpc.unary_unary_rpc_method_handler(
                    self.list, admin_pb2.ListRequest.FromString, admin_pb2.ListResponse.SerializeToString
                ),
            },
        )

    async def watch_loc(self, request: admin_pb2.WatchLocRequest, _: object) -> admin_pb2.WatchLocResponse:
        """Names the model server when first asked; there is never any other news."""
        if request.admin_server_id:
            await asyncio.Event().wait()
        return admin_pb2.WatchLocResponse(
            admin_server_id="bench",
            result=admin_pb2.WatchResult(has_fullset=True, values=[self._model_server], next_seqno=1),
        )

    async def list(self, _request: admin_pb2.ListRequest, _: object) -> admin_pb2.ListResponse:
        return admin_pb2.ListResponse(
            published_models=[
                admin_pb2.PublishedModel(
                    model=admin_pb2.Model(
                        model_id=MODEL, model_path="bench.Instant", checkpoint_path="None", requested_num_replicas=1
                    ),
                    modelet_addresses=[self._model_server],
                )
            ]
        )


async def _main(sax_root: Path) -> None:
    message = MODEL_SERVER_RESPONSE.SerializeToString()
    listener = await asyncio.get_running_loop().create_server(lambda: InstantServer(message), HOST, 0)
    model_server = f"{HOST}:{listener.sockets[0].getsockname()[1]}"

    server = grpc.aio.server()
    server.add_generic_rpc_handlers((_Admin(model_server).handler(),))
    admin = f"{HOST}:{server.add_insecure_port(f'{HOST}:0')}"
    await server.start()

    folder = sax_root / CELL.lstrip("/")
    folder.mkdir(parents=True)
    (folder / "location.proto").write_bytes(admin_pb2.Location(location=admin).SerializeToString())
    await serve_forever(admin, model_server)


if __name__ == "__main__":
    run(_main(Path(sys.argv[1])))
