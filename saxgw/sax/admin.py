"""What the admin of a cell is asked, and which of it may be asked again."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING, Final
from weakref import WeakValueDictionary

import grpc
import grpc.aio

from saxgw.sax.backoff import pause_s
from saxgw.sax.connection import AdminConnection
from saxgw.sax.definition import refuse_other_overrides
from saxgw.sax.errors import AdminUnavailable, CellNotFound, ModelExists, ModelNotFound
from saxgw.sax.status import admin_error, status_of
from saxgw.sax.wire import admin_pb2

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from saxgw.sax.channels import Channels
    from saxgw.sax.connection import Request, Response, Rpc
    from saxgw.sax.root import Root
    from saxgw.sax.status import Status

_FIRST_PAUSE_S: Final = 0.05
_LONGEST_PAUSE_S: Final = 1.0
"""Pauses between tries to publish under a name that is not free yet."""

_SHARE_TO_ASK: Final = 0.4
"""How much of the time that is left after a write in doubt is kept to ask what has become of it."""

_ASKS: Final = 3
"""How often a question that changes nothing is asked at most, as long as the connection breaks."""

_WATCH_S: Final = 300.0
"""Time limit of one WatchLoc. An admin whose host has vanished is noticed after it; a short one would cost the admin
memory each time (Sax protocol §9.1.13)."""

_WAIT_S: Final = 300.0
"""The same for one WaitForReady."""


class Admin:
    """The admin server of one cell. Connects when first asked, and again when the connection breaks.

    All methods raise AdminUnavailable if the admin is out of reach, CellNotFound if there is no such cell, and
    CellError for answers that have no class of their own.
    """

    def __init__(self, cell: str, root: Root, channels: Channels, *, timeout_s: float, known: dict[str, Admin]) -> None:
        """Stands for the admin of `cell`, whose operations may take `timeout_s` each.

        It is in `known` under its cell, and takes itself out if there is no such cell: callers make up names.
        """
        self._cell = cell
        self._timeout_s = timeout_s
        self._known = known
        self._loop = asyncio.get_running_loop()
        self._connection = AdminConnection(cell, root, channels)
        self._writing: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def publish(self, model: admin_pb2.Model) -> None:
        """Publishes a model. Raises ModelExists or InvalidArgument if the admin refuses it."""

        def is_done(published: admin_pb2.Model | None) -> bool:
            if published is not None and not _is_like(published, model):
                raise ModelExists(f"{model.model_id} is published already; update it, or unpublish it first")
            return published is not None

        async with self._writes_to(model.model_id):
            request = admin_pb2.PublishRequest(model=model)
            await self._write(lambda admin: admin.Publish, request, model.model_id, is_done)

    async def update(
        self, model: str, model_path: str, checkpoint: str, replicas: int, overrides: Mapping[str, str] | None
    ) -> None:
        """Changes checkpoint and number of replicas, and nothing else, of a published model.

        An Update replaces all that is stored of a model, so it starts from what is listed (Sax protocol §9.1.17).
        """

        def is_done(published: admin_pb2.Model | None) -> bool:
            if published is None:
                raise ModelNotFound(f"{model} is not published; publish it first")
            return _is_like(published, updated)

        async with self._writes_to(model):
            updated = admin_pb2.Model()
            updated.CopyFrom((await self.published(model)).model)
            refuse_other_overrides(model, updated.overrides, overrides)
            updated.ClearField("uuid")  # this and the next are the admin's to fill in
            updated.ClearField("method_names")
            updated.model_path = model_path
            updated.checkpoint_path = checkpoint
            updated.requested_num_replicas = replicas
            await self._write(lambda admin: admin.Update, admin_pb2.UpdateRequest(model=updated), model, is_done)

    async def unpublish(self, model: str) -> None:
        """Unpublishes a model. Raises ModelNotFound if it is not published."""
        async with self._writes_to(model):
            request = admin_pb2.UnpublishRequest(model_id=model)
            await self._write(lambda admin: admin.Unpublish, request, model, lambda published: published is None)

    async def all_published(self) -> list[admin_pb2.PublishedModel]:
        """Returns all published models in no order."""
        response = await self._read(lambda admin: admin.List, admin_pb2.ListRequest(), None)
        return list(response.published_models)

    async def published(self, model: str) -> admin_pb2.PublishedModel:
        """Returns one published model. Raises ModelNotFound if it is not published."""
        response = await self._read(lambda admin: admin.List, admin_pb2.ListRequest(model_id=model), model)
        for published in response.published_models:
            if published.model.model_id == model:
                return published
        raise ModelNotFound(f"{model} is not published; publish it first")

    async def watch(self, request: admin_pb2.WatchLocRequest) -> admin_pb2.WatchLocResponse | None:
        """Waits for news about a model's addresses; None if there are none for minutes. Raises ModelNotFound."""
        try:
            return await self._ask(lambda admin: admin.WatchLoc, request, _WATCH_S)
        except grpc.aio.AioRpcError as error:
            status = status_of(error)
            if status.code is grpc.StatusCode.DEADLINE_EXCEEDED:
                self._connection.drop()  # the admin's host may have vanished
                return None
            raise admin_error(status, self._cell, request.model_id) from error

    async def stats(self, model: str | None) -> admin_pb2.StatsResponse:
        """Counts the model servers of a model, or of the cell. Raises ModelNotFound if the model is not published."""
        return await self._read(lambda admin: admin.Stats, admin_pb2.StatsRequest(model_id=model or ""), model)

    async def wait_for_ready(self, model: str, replicas: int) -> bool:
        """Waits until the admin counts so many replicas as loaded; False if the wait ended for another reason.

        That is so if the connection breaks, if the model is unpublished or if some minutes pass: ask again, and the
        admin says what has become of it. Raises ModelNotFound if the model is not published.
        """
        request = admin_pb2.WaitForReadyRequest(model_id=model, num_replicas=replicas)
        try:
            await self._call(lambda admin: admin.WaitForReady, request, self._loop.time() + _WAIT_S)
        except grpc.aio.AioRpcError as error:
            status = status_of(error)
            match status.code:
                case grpc.StatusCode.DEADLINE_EXCEEDED:
                    self._connection.drop()  # the admin's host may have vanished
                case grpc.StatusCode.CANCELLED | grpc.StatusCode.UNAVAILABLE:
                    pass
                case _:
                    raise admin_error(status, self._cell, model) from error
            return False
        return True

    async def aclose(self) -> None:
        """Ends a search for the admin. Its channel is closed with Channels."""
        await self._connection.aclose()

    def _writes_to(self, model: str) -> asyncio.Lock:
        """One write at a time to each model: an update is a read and a write."""
        return self._writing.setdefault(model, asyncio.Lock())

    async def _read(self, rpc: Rpc[Request, Response], request: Request, model: str | None) -> Response:
        """Asks something that is told within the time limit of all operations."""
        try:
            return await self._ask(rpc, request, self._timeout_s)
        except grpc.aio.AioRpcError as error:
            raise admin_error(status_of(error), self._cell, model) from error

    async def _write(
        self,
        rpc: Rpc[Request, Response],
        request: Request,
        model: str,
        is_done: Callable[[admin_pb2.Model | None], bool],
    ) -> None:
        """Asks for a change.

        What may have reached the admin is not sent again blindly: the admin is asked what is published, and `is_done`
        says whether that is the change; it may raise an error that says what is there instead. Only what has not
        happened is sent again.
        """
        until = self._loop.time() + self._timeout_s
        in_doubt: Status | None = None
        for writes in itertools.count(1):
            try:
                await self._call(rpc, request, until - (until - self._loop.time()) * _SHARE_TO_ASK)
            except grpc.aio.AioRpcError as error:
                status = status_of(error)
                pause = pause_s(writes, _FIRST_PAUSE_S, _LONGEST_PAUSE_S)
                late = self._loop.time() + pause >= until
                if status.may_have_happened or (in_doubt is not None and not status.being_unpublished):
                    in_doubt = status
                    if await self._has_happened(model, is_done, until, status):
                        return
                elif not status.being_unpublished:
                    raise admin_error(status, self._cell, model, wrote=True) from error
                if late:
                    raise admin_error(status, self._cell, model, wrote=True) from error
                await asyncio.sleep(pause)
            except AdminUnavailable as error:
                if in_doubt is None:
                    raise
                raise admin_error(in_doubt, self._cell, model, wrote=True) from error
            else:
                return

    async def _has_happened(
        self, model: str, is_done: Callable[[admin_pb2.Model | None], bool], until: float, status: Status
    ) -> bool:
        """Asks the admin whether a change was made; raises AdminUnavailable if it cannot be told."""
        if status.code is grpc.StatusCode.DEADLINE_EXCEEDED:
            self._connection.drop()  # the admin's host may have vanished
        request = admin_pb2.ListRequest(model_id=model)
        try:
            response = await self._ask(lambda admin: admin.List, request, until - self._loop.time())
        except grpc.aio.AioRpcError as error:
            if status_of(error).code is not grpc.StatusCode.NOT_FOUND:
                raise admin_error(status, self._cell, model, wrote=True) from error
            return is_done(None)
        except AdminUnavailable as error:
            raise admin_error(status, self._cell, model, wrote=True) from error
        return is_done(response.published_models[0].model if response.published_models else None)

    async def _ask(self, rpc: Rpc[Request, Response], request: Request, timeout_s: float) -> Response:
        """Asks a question that changes nothing, again if the connection breaks meanwhile."""
        until = self._loop.time() + timeout_s
        for _ in range(_ASKS - 1):
            try:
                return await self._call(rpc, request, until)
            except grpc.aio.AioRpcError as error:
                if status_of(error).code is not grpc.StatusCode.UNAVAILABLE:
                    raise
        return await self._call(rpc, request, until)

    async def _call(self, rpc: Rpc[Request, Response], request: Request, until: float) -> Response:
        try:
            return await self._connection.call(rpc, request, until)
        except CellNotFound:
            if self._known.get(self._cell) is self:
                del self._known[self._cell]
            raise


def _is_like(published: admin_pb2.Model, asked: admin_pb2.Model) -> bool:
    """Whether a model is published as it was asked for."""
    return (
        published.model_path == asked.model_path
        and published.checkpoint_path == asked.checkpoint_path
        and published.requested_num_replicas == asked.requested_num_replicas
        and dict(published.overrides) == dict(asked.overrides)
    )
