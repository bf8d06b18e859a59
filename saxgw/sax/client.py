"""The client for the cells under one SAX_ROOT."""

from __future__ import annotations

import asyncio
import itertools
import warnings
from functools import partial
from typing import TYPE_CHECKING, Final, Self, TypeAlias, TypeVar

import grpc.aio

from saxgw.sax.admin import Admin
from saxgw.sax.api import ExtraInputs, ModelDetail, Sample, SaxClient, ServerStats, ServerType, StreamItem
from saxgw.sax.backoff import pause_s
from saxgw.sax.channels import Channels
from saxgw.sax.errors import AdminUnavailable, Busy, InvalidArgument, ReplicasUnavailable, SaxError
from saxgw.sax.increments import Increments
from saxgw.sax.names import (
    cell_of,
    check_checkpoint,
    check_model_path,
    parse_cell,
    parse_cell_or_model,
    parse_model,
)
from saxgw.sax.replicas import ReplicaSet
from saxgw.sax.root import Root
from saxgw.sax.status import data_error, status_of, stream_error
from saxgw.sax.wire import admin_pb2, common_pb2, lm_pb2, modelet_pb2

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence

    from google.protobuf.descriptor import EnumDescriptor

    from saxgw.sax.status import Status
    from saxgw.sax.wire.lm_pb2_grpc import LMServiceAsyncStub

_Response = TypeVar("_Response")
_Request: TypeAlias = lm_pb2.GenerateRequest | lm_pb2.ScoreRequest | lm_pb2.EmbedRequest
_Stream: TypeAlias = "grpc.aio.UnaryStreamCall[lm_pb2.GenerateRequest, lm_pb2.GenerateStreamResponse]"

_STATUS_TIMEOUT_S: Final = 2.0
"""How long a model server is given to tell whether it has loaded a model."""

_FIRST_LOOK_S: Final = 0.05
_LONGEST_LOOK_S: Final = 2.0
"""Pauses of wait_for_ready after the admin was away, or counted replicas that are not there."""

_MAX_REPLICAS: Final = 2**31 - 1


def connect(
    root: str,
    *,
    admin_timeout_s: float = 10.0,
    replica_wait_s: float = 10.0,
    idle_s: float = 300.0,
    max_message_bytes: int = 64 * 2**20,
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

    Raises:
        InvalidName: `root` cannot be a SAX_ROOT.
    """
    return CellClient(
        Root(root),
        admin_timeout_s=admin_timeout_s,
        replica_wait_s=replica_wait_s,
        idle_s=idle_s,
        max_message_bytes=max_message_bytes,
    )


class CellClient(SaxClient):
    """A SaxClient that speaks the Sax protocol itself, on grpc.aio. Made by connect().

    It belongs to the event loop of its first call, and is closed by `async with` or aclose().
    """

    def __init__(
        self, root: Root, *, admin_timeout_s: float, replica_wait_s: float, idle_s: float, max_message_bytes: int
    ) -> None:
        self._root = root
        self._admin_timeout_s = admin_timeout_s
        self._replica_wait_s = replica_wait_s
        self._idle_s = idle_s
        self._channels = Channels(max_message_bytes)
        self._admins: dict[str, Admin] = {}
        self._replicas: dict[str, ReplicaSet] = {}
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __del__(self) -> None:
        if self._admins and not self._closed:
            warnings.warn(
                "a Sax client was not closed; call aclose() or use async with",
                ResourceWarning,
                stacklevel=1,
                source=self,
            )

    async def publish(
        self, model: str, model_path: str, checkpoint: str, replicas: int, overrides: Mapping[str, str] | None = None
    ) -> None:
        model = _check_definition(model, model_path, checkpoint, replicas)
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
        model = _check_definition(model, model_path, checkpoint, replicas)
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
        _check_replicas(replicas)
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
        response = await self._ask(request, lambda lm: lm.Generate(request))
        samples = [Sample(entry.text, entry.score) for entry in response.texts]
        # Servers of vLLM models add one empty entry to what they generated (Sax protocol §5.6).
        if len(samples) > 1 and samples[-1] == ("", 0.0):
            samples.pop()
        return samples

    async def generate_stream(
        self, model: str, text: str, extra_inputs: ExtraInputs | None = None, *, increments: bool = False
    ) -> AsyncGenerator[list[StreamItem]]:
        request = self._generate_request(model, text, extra_inputs)
        only_adds = Increments() if increments else None
        (call, response), free = await self._take(request, lambda lm: _begin(lm.GenerateStream(request)))
        try:
            while response is not None:
                items = [
                    StreamItem(item.text, item.prefix_len, item.scores or (item.score,)) for item in response.items
                ]
                yield items if only_adds is None else only_adds.add(items)
                try:
                    response = await _read(call)
                except grpc.aio.AioRpcError as error:
                    raise stream_error(status_of(error), request.model_key) from error
            if only_adds is not None and (rest := only_adds.rest()):
                yield rest
        finally:
            call.cancel()
            free()

    async def score(
        self, model: str, prefix: str, suffixes: Sequence[str], extra_inputs: ExtraInputs | None = None
    ) -> list[float]:
        if isinstance(suffixes, str):
            raise TypeError("suffixes must be a sequence of texts, not one text")
        request = lm_pb2.ScoreRequest(model_key=self._known(model), prefix=prefix, suffix=suffixes)
        if extra_inputs:
            _fill(request.extra_inputs, extra_inputs)
        response = await self._ask(request, lambda lm: lm.Score(request))
        return list(response.logp)

    async def embed(self, model: str, text: str, extra_inputs: ExtraInputs | None = None) -> list[float]:
        request = lm_pb2.EmbedRequest(model_key=self._known(model), text=text)
        if extra_inputs:
            _fill(request.extra_inputs, extra_inputs)
        response = await self._ask(request, lambda lm: lm.Embed(request))
        return list(response.embedding)

    async def aclose(self) -> None:
        self._closed = True
        for replicas in list(self._replicas.values()):
            await replicas.aclose()
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
        return model if model in self._replicas else parse_model(model)

    async def _ask(self, request: _Request, rpc: Callable[[LMServiceAsyncStub], Awaitable[_Response]]) -> _Response:
        """Sends a request as _take() does, and returns the answer once it is complete."""
        response, free = await self._take(request, rpc)
        free()
        return response

    async def _take(
        self, request: _Request, rpc: Callable[[LMServiceAsyncStub], Awaitable[_Response]]
    ) -> tuple[_Response, Callable[[], None]]:
        """Sends a request to one replica after another until one takes it, for as long as replica_wait_s allows.

        Returns what `rpc` returned, and what to call when the replica is done with the request.

        The time runs from the first obstacle, so that a request whose replica dies under it is sent to another,
        however long it had been there. No deadline goes with it: one that passes in a model server's queue costs the
        server a slot for ever (Sax protocol §5.7).
        """
        model = request.model_key
        until: float | None = None
        status: Status | None = None
        while True:
            replicas = self._replicas.get(model) or self._watch(model)
            if until is not None and asyncio.get_running_loop().time() >= until:
                raise await self._why_none(model, status, known=replicas.known)
            replica = replicas.pick()
            if replica is None:
                until = until or self._give_up_time()
                await replicas.wait(until)
                continue
            try:
                response = await rpc(replica.server.lm)
            except grpc.aio.AioRpcError as error:
                status = status_of(error)
                if not status.retry_elsewhere:
                    replicas.answered(replica)  # whatever it said: it is there and takes requests
                    replicas.done(replica)
                    raise data_error(status, model, request.ByteSize()) from error
                replicas.failed(replica, busy=status.busy)
                replicas.done(replica)
                until = until or self._give_up_time()
            except BaseException:  # the caller has left
                replicas.abandoned(replica)
                replicas.done(replica)
                raise
            else:
                replicas.answered(replica)
                return response, partial(replicas.done, replica)

    def _give_up_time(self) -> float:
        return asyncio.get_running_loop().time() + self._replica_wait_s

    async def _why_none(self, model: str, status: Status | None, *, known: bool) -> SaxError:
        """Returns what to tell when no replica took a request in time; `status` is the last answer, if any."""
        if status is not None and status.busy:
            return Busy(f"the model servers of {model} have as many requests as they take; try again later")
        try:
            detail = await self.describe(model)
        except AdminUnavailable as error:
            if not known:
                return error
            return ReplicasUnavailable(
                f"no model server of {model} could be reached, and neither could the admin of {cell_of(model)}; "
                "try again later, or check that they run"
            )
        except SaxError as error:
            return error
        if detail.max_replicas == 0:
            return ReplicasUnavailable(f"{model} is published with 0 replicas; update it to have 1 or more")
        return ReplicasUnavailable(
            f"no model server took the request for {model} within {self._replica_wait_s:g} s "
            f"(replicas asked for: {detail.max_replicas}, ready: {detail.active_replicas}); try again later"
        )

    async def _is_loaded(self, model: str, address: str) -> bool:
        server = self._channels.open(address)
        try:
            status = await server.modelet.GetStatus(modelet_pb2.GetStatusRequest(), timeout=_STATUS_TIMEOUT_S)
        except grpc.aio.AioRpcError:
            return False
        finally:
            self._channels.release(server)
        return any(entry.model_key == model and entry.model_status == common_pb2.LOADED for entry in status.models)

    def _watch(self, model: str) -> ReplicaSet:
        replicas = self._replicas[model] = ReplicaSet(
            model, self._admin(cell_of(model)), self._channels, idle_s=self._idle_s, forget=self._replicas.pop
        )
        return replicas

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


def _check_definition(model: str, model_path: str, checkpoint: str, replicas: int) -> str:
    """Returns the full name of a model after a look at all that publish and update take."""
    model = parse_model(model)
    check_model_path(model_path)
    check_checkpoint(checkpoint)
    _check_replicas(replicas)
    return model


def _check_replicas(replicas: int) -> None:
    if not 0 <= replicas <= _MAX_REPLICAS:
        raise InvalidArgument(f"the number of replicas must be between 0 and {_MAX_REPLICAS}, got {replicas}")


def _enum_name(enum: EnumDescriptor, number: int) -> str:
    value = enum.values_by_number.get(number)
    return str(number) if value is None else value.name


def _fill(message: common_pb2.ExtraInputs, extra_inputs: ExtraInputs) -> None:
    for name, value in extra_inputs.items():
        if isinstance(value, str):
            message.strings[name] = value
        elif isinstance(value, int | float):
            message.items[name] = value
        else:
            message.tensors[name].values.extend(value)
