"""The RPCs of sax.Modelet, by which the admin server rules a model server (Sax protocol §5.3–5.5)."""
# ruff: noqa: N802 (the methods have the names of the RPCs)

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc

from saxgw.devcell.errors import Context, Refusal, sends_refusals
from saxgw.sax.wire import modelet_pb2
from saxgw.sax.wire.modelet_pb2 import GetStatusResponse
from saxgw.sax.wire.modelet_pb2_grpc import ModeletServicer

if TYPE_CHECKING:
    from saxgw.devcell.loaded import LoadedModels


class ModeletService(ModeletServicer):
    """The service of one model server.

    Args:
        models: What it rules over.
    """

    def __init__(self, models: LoadedModels) -> None:
        self._models = models

    @sends_refusals
    async def Load(self, request: modelet_pb2.LoadRequest, _context: Context) -> modelet_pb2.LoadResponse:
        """Loads a model; answers when it is loaded or has failed."""
        await self._models.load(request)
        return modelet_pb2.LoadResponse()

    @sends_refusals
    async def UpdateLoaded(
        self, request: modelet_pb2.UpdateLoadedRequest, _context: Context
    ) -> modelet_pb2.UpdateLoadedResponse:
        """Changes access lists, and the checkpoint if it is another one."""
        await self._models.update(request.model_key, request.checkpoint_path, request.acls.items)
        return modelet_pb2.UpdateLoadedResponse()

    @sends_refusals
    async def Unload(self, request: modelet_pb2.UnloadRequest, _context: Context) -> modelet_pb2.UnloadResponse:
        """Unloads a model."""
        await self._models.unload(request.model_key)
        return modelet_pb2.UnloadResponse()

    @sends_refusals
    async def GetStatus(
        self, request: modelet_pb2.GetStatusRequest, _context: Context
    ) -> modelet_pb2.GetStatusResponse:
        """Tells how the server and its models are. Never fails."""
        return GetStatusResponse(
            models=self._models.status(
                failure_reasons=request.include_failure_reasons, method_stats=request.include_method_stats
            ),
            server_status=GetStatusResponse.ServerStatus(state=GetStatusResponse.ServerStatus.ACTIVE),
        )

    @sends_refusals
    async def Export(self, _request: modelet_pb2.ExportRequest, _context: Context) -> modelet_pb2.ExportResponse:
        """No model here can be exported."""
        raise Refusal(grpc.StatusCode.UNIMPLEMENTED, "Exporting error: no model of this server can be exported")

    @sends_refusals
    async def Save(self, request: modelet_pb2.SaveRequest, _context: Context) -> modelet_pb2.SaveResponse:
        """No model here can be saved."""
        raise Refusal(grpc.StatusCode.INTERNAL, f"Saving checkpoint error: {request.model_key} cannot be saved")

    @sends_refusals
    async def WakeUp(self, _request: modelet_pb2.WakeUpRequest, _context: Context) -> modelet_pb2.WakeUpResponse:
        """The server never sleeps."""
        return modelet_pb2.WakeUpResponse()
