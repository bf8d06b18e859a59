"""A Sax cell whose model servers answer at once: `python -m bench.cell SAX_ROOT`.

There is one for each of MODELS. The cell registers itself under SAX_ROOT, and says where its admin and the model
servers, in the order of MODELS, are.
"""

from __future__ import annotations

import asyncio
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import grpc.aio

from bench.example import CELL, MODEL, MODEL_SERVER_RESPONSE
from bench.instant import Answer, InstantServer
from bench.serving import HOST, run, serve_forever
from bench.streams import STREAMS
from saxgw.sax.wire import admin_pb2

if TYPE_CHECKING:
    from collections.abc import Mapping

MODELS: Final = {
    MODEL: Answer([MODEL_SERVER_RESPONSE.SerializeToString()]),
    **{model: stream.answer for model, stream in STREAMS.items()},
}
"""What the model server of each model answers."""


class _Admin:
    """As much of sax.Admin as a client needs to generate, and to list before it."""

    def __init__(self, model_servers: Mapping[str, str]) -> None:
        """`model_servers` are the addresses by model."""
        self._model_servers = model_servers

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
            result=admin_pb2.WatchResult(
                has_fullset=True, values=[self._model_servers[request.model_id]], next_seqno=1
            ),
        )

    async def list(self, _request: admin_pb2.ListRequest, _: object) -> admin_pb2.ListResponse:
        return admin_pb2.ListResponse(
            published_models=[
                admin_pb2.PublishedModel(
                    model=admin_pb2.Model(
                        model_id=model, model_path="bench.Instant", checkpoint_path="None", requested_num_replicas=1
                    ),
                    modelet_addresses=[address],
                )
                for model, address in self._model_servers.items()
            ]
        )


async def _main(sax_root: Path) -> None:
    model_servers: dict[str, str] = {}
    listeners: list[asyncio.Server] = []
    for model, answer in MODELS.items():
        listener = await asyncio.get_running_loop().create_server(partial(InstantServer, answer), HOST, 0)
        listeners.append(listener)
        model_servers[model] = f"{HOST}:{listener.sockets[0].getsockname()[1]}"

    server = grpc.aio.server()
    server.add_generic_rpc_handlers((_Admin(model_servers).handler(),))
    admin = f"{HOST}:{server.add_insecure_port(f'{HOST}:0')}"
    await server.start()

    folder = sax_root / CELL.lstrip("/")
    folder.mkdir(parents=True)
    (folder / "location.proto").write_bytes(admin_pb2.Location(location=admin).SerializeToString())
    await serve_forever(admin, *model_servers.values())


if __name__ == "__main__":
    run(_main(Path(sys.argv[1])))
