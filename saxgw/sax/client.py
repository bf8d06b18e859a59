"""The client for the cells under one SAX_ROOT."""

from __future__ import annotations

import asyncio
import itertools
import weakref
from typing import TYPE_CHECKING, Final, TypeAlias

import grpc
import grpc.aio

from saxgw.sax.admin import Admin
from saxgw.sax.api import (
    ExtraInputs,
    ModelDetail,
    Sample,
    SaxClient,
    ServerStats,
    ServerType,
    StreamItem,
    warn_unclosed,
)
from saxgw.sax.backoff import pause_s
from saxgw.sax.channels import Channels
from saxgw.sax.definition import check_definition, check_replicas
from saxgw.sax.dispatch import Dispatcher
from saxgw.sax.errors import AdminUnavailable
from saxgw.sax.increments import Increments
from saxgw.sax.limits import Bounds
from saxgw.sax.names import cell_of, parse_cell, parse_cell_or_model, parse_model
from saxgw.sax.observer import NOBODY, Observer
from saxgw.sax.replicas import ReplicaSet
from saxgw.sax.root import Root
from saxgw.sax.samples import to_samples
from saxgw.sax.status import status_of, stream_error
from saxgw.sax.wire import admin_pb2, common_pb2, lm_pb2, modelet_pb2

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping, Sequence

    from google.protobuf.descriptor import EnumDescriptor


_Stream: TypeAlias = "grpc.aio.UnaryStreamCall[lm_pb2.GenerateRequest, lm_pb2.GenerateStreamResponse]"

_STATUS_TIMEOUT_S: Final = 2.0
"""How long a model server is given to tell whether it has loaded a model."""

_FIRST_LOOK_S: Final = 0.05
_LONGEST_LOOK_S: Final = 2.0
"""Pauses of wait_for_ready after the admin was away, or counted replicas that are not there."""


def connect(  # noqa: PLR0913 - settings, by name
    root: str,
    *,
    admin_timeout_s: float = 10.0,
    replica_wait_s: float = 10.0,
    idle_s: float = 300.0,
    max_message_bytes: int = 64 * 2**20,
    max_waiting: int = 1000,
    min_in_flight: int = 1,
    max_in_flight: int = 1000,
    observer: Observer = NOBODY,
) -> CellClient:
    """Returns a client for the cells under `root`. Nothing is contacted before its first call.

        async with connect("/srv/sax-root") as sax:
            for sample in await sax.generate("/sax/test/lm2b", "Once upon a time"):
                print(sample.score, sample.text)

    Args:
        root: SAX_ROOT, the folder or bucket where the cells are: a path, or a URL such as gs://bucket/path, s3://,
            az:// or file://.
        admin_timeout_s: time limit of publish, update, unpublish, list_models, describe and stats, in seconds.
        replica_wait_s: how long generate, score and embed wait for a replica that takes the request, in seconds. It
            does not bound the time that a replica then works.
        idle_s: seconds after which an unused model is no longer watched and its channels are closed.
        max_message_bytes: size limit of answers.
        max_waiting: how many requests for one model may wait for a model server with room for them; more are Busy.
        min_in_flight: how many requests of one method a model server is always sent at a time.
        max_in_flight: how many it is never sent more than. In between the client finds out by itself what it takes.
        observer: is told what becomes of requests to models, and of the replicas.

    Raises:
        InvalidName: `root` cannot be a SAX_ROOT.
    """
    return CellClient(
        Root(root),
        admin_timeout_s=admin_timeout_s,
        replica_wait_s=replica_wait_s,
        idle_s=idle_s,
        max_message_bytes=max_message_bytes,
        max_waiting=max_waiting,
        bounds=Bounds(least=min_in_flight, most=max_in_flight),
        observer=observer,
    )


class CellClient(SaxClient):
    """A SaxClient that speaks the Sax protocol itself, on grpc.aio. Made by connect().

    It belongs to the event loop of its first call, and is closed by `async with` or aclose().
    """

    def __init__(  # noqa: PLR0913 - those of connect()
        self,
        root: Root,
        *,
        admin_timeout_s: float,
        replica_wait_s: float,
        idle_s: float,
        max_message_bytes: int,
        max_waiting: int,
        bounds: Bounds,
        observer: Observer,
    ) -> None:
        self._root = root
        self._admin_timeout_s = admin_timeout_s
        self._idle_s = idle_s
        self._channels = Channels(max_message_bytes)
        self._admins: dict[str, Admin] = {}
        # Not by a reference of its own: a cycle would keep a client that was dropped open from telling so.
        self._dispatcher = Dispatcher(weakref.proxy(self), replica_wait_s, observer)
        self._bounds = bounds
        self._max_waiting = max_waiting
        self._observer = observer
        self._closed = False

    def __del__(self) -> None:
        if self._admins and not self._closed:
            warn_unclosed(self)

    async def publish(
        self, model: str, model_path: str, checkpoint: str, replicas: int, overrides: Mapping[str, str] | None = None
    ) -> None:
        model = check_definition(model, model_path, checkpoint, replicas)
        await self._admin(cell_of(model)).publish(
            admin_pb2.Model(
                model_id=model,
                model_path=model_path,
                checkpoint_path=checkpoint,
                requested_num_replicas=replicas,
                overrides=overrides,
            )
        )

    async def update(
        self, model: str, model_path: str, checkpoint: str, replicas: int, overrides: Mapping[str, str] | None = None
    ) -> None:
        model = check_definition(model, model_path, checkpoint, replicas)
        await self._admin(cell_of(model)).update(model, model_path, checkpoint, replicas, overrides)

    async def unpublish(self, model: str) -> None:
        model = parse_model(model)
        await self._admin(cell_of(model)).unpublish(model)

    async def list_models(self, cell: str) -> list[str]:
        published = await self._admin(parse_cell(cell)).all_published()
        return sorted(entry.model.model_id for entry in published)

    async def describe(self, model: str) -> ModelDetail:
        model = parse_model(model)
        published = await self._admin(cell_of(model)).published(model)
        # Assigned servers are named before they have loaded the model, so each is asked (Sax protocol §9.1.16).
        loaded = await asyncio.gather(
            *(self._is_loaded(model, address) for address in set(published.modelet_addresses))
        )
        return ModelDetail(
            model=model,
            model_path=published.model.model_path,
            checkpoint=published.model.checkpoint_path,
            max_replicas=published.model.requested_num_replicas,
            active_replicas=sum(loaded),
            overrides=dict(published.model.overrides),
            methods=tuple(sorted(published.model.method_names)),
        )

    async def wait_for_ready(self, model: str, replicas: int = 1) -> None:
        model = parse_model(model)
        check_replicas(replicas)
        await self._admin(cell_of(model)).published(model)
        for looks in itertools.count(1):
            try:
                if await self._admin(cell_of(model)).wait_for_ready(model, replicas):
                    detail = await self.describe(model)
                    if detail.active_replicas >= replicas:
                        return
            except AdminUnavailable:
                pass  # it was there, so it restarts
            await asyncio.sleep(pause_s(looks, _FIRST_LOOK_S, _LONGEST_LOOK_S))

    async def stats(self, name: str) -> ServerStats:
        cell, model = parse_cell_or_model(name)
        response = await self._admin(cell).stats(model)
        by_type = {
            ServerType(
                _enum_name(admin_pb2.ModelServer.ChipType.DESCRIPTOR, stat.chip_type),
                _enum_name(admin_pb2.ModelServer.ChipTopology.DESCRIPTOR, stat.chip_topology),
            ): stat.num_replicas
            for stat in response.model_server_type_stats
        }
        by_model_path = response.num_servers_by_servable_model_path
        return ServerStats(by_type=dict(sorted(by_type.items())), by_model_path=dict(sorted(by_model_path.items())))

    async def list_cells(self) -> list[str]:
        self._check_open()
        return await self._root.cells()

    async def generate(self, model: str, text: str, extra_inputs: ExtraInputs | None = None) -> list[Sample]:
        request = self._generate_request(model, text, extra_inputs)
        response = await self._dispatcher.ask(
            "lm.generate", request, lambda lm, metadata: lm.Generate(request, metadata=metadata)
        )
        return to_samples((entry.text, entry.score) for entry in response.texts[:])  # half the time of iterating

    async def generate_stream(
        self, model: str, text: str, extra_inputs: ExtraInputs | None = None, *, increments: bool = False
    ) -> AsyncGenerator[list[StreamItem]]:
        request = self._generate_request(model, text, extra_inputs)
        only_adds = Increments() if increments else None
        (call, response), taken = await self._dispatcher.take(
            "lm.generate_stream", request, lambda lm, metadata: _begin(lm.GenerateStream(request, metadata=metadata))
        )
        code = grpc.StatusCode.CANCELLED  # what it stays if the caller leaves
        try:
            while response is not None:
                items = [
                    StreamItem(item.text, item.prefix_len, item.scores or (item.score,))
                    for item in response.items[:]  # as in generate()
                ]
                yield items if only_adds is None else only_adds.add(items)
                try:
                    response = await _read(call)
                except grpc.aio.AioRpcError as error:
                    code = error.code()
                    raise stream_error(status_of(error), request.model_key) from error
            code = grpc.StatusCode.OK
            if only_adds is not None and (rest := only_adds.rest()):
                yield rest
        finally:
            call.cancel()
            taken.done(code)

    async def score(
        self, model: str, prefix: str, suffixes: Sequence[str], extra_inputs: ExtraInputs | None = None
    ) -> list[float]:
        if isinstance(suffixes, str):
            raise TypeError("suffixes must be a sequence of texts, not one text")
        request = lm_pb2.ScoreRequest(model_key=self._known(model), prefix=prefix, suffix=suffixes)
        if extra_inputs:
            _fill(request.extra_inputs, extra_inputs)
        response = await self._dispatcher.ask(
            "lm.score", request, lambda lm, metadata: lm.Score(request, metadata=metadata)
        )
        return list(response.logp)

    async def embed(self, model: str, text: str, extra_inputs: ExtraInputs | None = None) -> list[float]:
        request = lm_pb2.EmbedRequest(model_key=self._known(model), text=text)
        if extra_inputs:
            _fill(request.extra_inputs, extra_inputs)
        response = await self._dispatcher.ask(
            "lm.embed", request, lambda lm, metadata: lm.Embed(request, metadata=metadata)
        )
        return list(response.embedding)

    async def aclose(self) -> None:
        self._closed = True
        await self._dispatcher.aclose()
        for admin in self._admins.values():
            await admin.aclose()
        await self._channels.aclose()

    def _generate_request(self, model: str, text: str, extra_inputs: ExtraInputs | None) -> lm_pb2.GenerateRequest:
        request = lm_pb2.GenerateRequest(model_key=self._known(model), text=text)
        if extra_inputs:
            _fill(request.extra_inputs, extra_inputs)
        return request

    def _known(self, model: str) -> str:
        """The full name of a model, which need not be looked at again if it is in use."""
        return model if self._dispatcher.knows(model) else parse_model(model)

    async def _is_loaded(self, model: str, address: str) -> bool:
        server = self._channels.open(address)
        try:
            status = await server.modelet.GetStatus(modelet_pb2.GetStatusRequest(), timeout=_STATUS_TIMEOUT_S)
        except grpc.aio.AioRpcError:
            return False
        finally:
            self._channels.release(server)
        return any(entry.model_key == model and entry.model_status == common_pb2.LOADED for entry in status.models)

    def follow(self, model: str, forget: Callable[[str], object]) -> ReplicaSet:
        """Follows the replicas of a model, until `forget` is called with its name. For the dispatcher."""
        return ReplicaSet(
            model,
            self._admin(cell_of(model)),
            self._channels,
            idle_s=self._idle_s,
            forget=forget,
            bounds=self._bounds,
            max_waiting=self._max_waiting,
            observer=self._observer,
        )

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError("this Sax client is closed")

    def _admin(self, cell: str) -> Admin:
        self._check_open()
        admin = self._admins.get(cell)
        if admin is None:
            admin = self._admins[cell] = Admin(
                cell, self._root, self._channels, timeout_s=self._admin_timeout_s, known=self._admins
            )
        return admin


async def _begin(call: _Stream) -> tuple[_Stream, lm_pb2.GenerateStreamResponse | None]:
    """Waits for the first message of a stream, up to which all errors are as good as those of a unary call."""
    try:
        return call, await _read(call)
    except asyncio.CancelledError:
        call.cancel()
        raise


async def _read(call: _Stream) -> lm_pb2.GenerateStreamResponse | None:
    """The next message of a stream, or None at its end."""
    message = await call.read()
    return message if isinstance(message, lm_pb2.GenerateStreamResponse) else None


def _enum_name(enum: EnumDescriptor, number: int) -> str:
    value = enum.values_by_number.get(number)
    return str(number) if value is None else value.name


def _fill(message: common_pb2.ExtraInputs, extra_inputs: ExtraInputs) -> None:
    items = message.items
    for name, value in extra_inputs.items():
        if isinstance(value, float):  # as most are
            items[name] = value
        elif isinstance(value, str):
            message.strings[name] = value
        elif isinstance(value, int):
            items[name] = value
        else:
            message.tensors[name].values.extend(value)
