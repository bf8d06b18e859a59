"""The RPCs of sax.Admin: check the request, ask the registry, answer (Sax protocol §4.2)."""
# ruff: noqa: N802 (the methods have the names of the RPCs)

from __future__ import annotations

from typing import TYPE_CHECKING

from saxgw.devcell import validation
from saxgw.devcell.errors import Context, sends_refusals
from saxgw.sax.wire import admin_pb2
from saxgw.sax.wire.admin_pb2_grpc import AdminServicer

if TYPE_CHECKING:
    from saxgw.devcell.catalogue import AnyCatalogue


class AdminService(AdminServicer):
    """The service of one admin server.

    Args:
        registry: What it serves from.
        cell: The cell's short name.
        server_id: Tells this run of the admin from every other one; watchers start over when it changes.
        like_google: Whether refusals are sent as Google's admin sends them.
    """

    def __init__(self, registry: AnyCatalogue, cell: str, server_id: str, *, like_google: bool = False) -> None:
        self.like_google = like_google
        self._registry = registry
        self._cell = cell
        self._server_id = server_id

    @sends_refusals
    async def Publish(self, request: admin_pb2.PublishRequest, _context: Context) -> admin_pb2.PublishResponse:
        """Publishes a model; the answer does not wait for it to be loaded."""
        name = validation.check_model(request.model, self._cell)
        self._registry.publish(name, request.model)
        return admin_pb2.PublishResponse()

    @sends_refusals
    async def Update(self, request: admin_pb2.UpdateRequest, _context: Context) -> admin_pb2.UpdateResponse:
        """Replaces the definition of a model."""
        name = validation.check_model(request.model, self._cell)
        self._registry.update(name, request.model)
        return admin_pb2.UpdateResponse()

    @sends_refusals
    async def Unpublish(self, request: admin_pb2.UnpublishRequest, _context: Context) -> admin_pb2.UnpublishResponse:
        """Takes a model back; its name is free again a little later."""
        name = validation.check_model_id(request.model_id, self._cell)
        self._registry.unpublish(name, request.model_id)
        return admin_pb2.UnpublishResponse()

    @sends_refusals
    async def List(self, request: admin_pb2.ListRequest, _context: Context) -> admin_pb2.ListResponse:
        """Lists one model, or all."""
        if not request.model_id:
            return admin_pb2.ListResponse(published_models=self._registry.list_all())
        name = validation.check_model_id(request.model_id, self._cell)
        return admin_pb2.ListResponse(published_models=[self._registry.list_one(name, request.model_id)])

    @sends_refusals
    async def Stats(self, request: admin_pb2.StatsRequest, _context: Context) -> admin_pb2.StatsResponse:
        """Counts the servers of one model, or all."""
        if not request.model_id:
            return self._registry.stats_all()
        name = validation.check_model_id(request.model_id, self._cell)
        return self._registry.stats_one(name, request.model_id)

    @sends_refusals
    async def WatchLoc(self, request: admin_pb2.WatchLocRequest, _context: Context) -> admin_pb2.WatchLocResponse:
        """Tells what changed about a model's addresses; waits until something has."""
        validation.check_watch(request)
        watch = self._registry.watch(request.model_id)
        result = await watch.read(request.seqno, from_scratch=request.admin_server_id != self._server_id)
        return admin_pb2.WatchLocResponse(result=result, admin_server_id=self._server_id)

    @sends_refusals
    async def WaitForReady(
        self, request: admin_pb2.WaitForReadyRequest, _context: Context
    ) -> admin_pb2.WaitForReadyResponse:
        """Waits until so many servers have loaded a model; CANCELLED if it is unpublished meanwhile."""
        name = validation.check_model_id(request.model_id, self._cell)
        await self._registry.wait_for_ready(name, request.model_id, request.num_replicas)
        return admin_pb2.WaitForReadyResponse()

    @sends_refusals
    async def Join(self, request: admin_pb2.JoinRequest, _context: Context) -> admin_pb2.JoinResponse:
        """Takes a model server in after calling it back."""
        validation.check_join(request)
        await self._registry.join(request)
        return admin_pb2.JoinResponse()
