"""The client of a gateway."""

from __future__ import annotations

import asyncio
import itertools
import re
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar

import grpc
import grpc.aio
from google.protobuf import struct_pb2

from saxgw.remote.errors import GatewayError, GatewayUnavailable, error_of
from saxgw.sax import (
    AdminUnavailable,
    InvalidName,
    ModelDetail,
    Sample,
    SaxClient,
    ServerStats,
    ServerType,
    StreamBroken,
    StreamItem,
)
from saxgw.sax.api import warn_unclosed
from saxgw.sax.backoff import pause_s
from saxgw.sax.definition import check_definition, check_replicas
from saxgw.sax.names import parse_cell, parse_cell_or_model, parse_model
from saxgw.v1 import sax_service_pb2 as pb
from saxgw.v1.sax_service_pb2_grpc import SaxServiceStub

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping, Sequence

    from saxgw.sax import ExtraInputs
    from saxgw.v1.sax_service_pb2_grpc import SaxServiceAsyncStub

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")
_Rpc: TypeAlias = "Callable[[SaxServiceAsyncStub], grpc.aio.UnaryUnaryMultiCallable[_Request, _Response]]"

_ADDRESS: Final = re.compile(r"(?:\[[0-9a-fA-F:.]+\]|[\w.-]+):(?P<port>\d{1,5})", re.ASCII)

_KEY: Final = re.compile(r"[!-~]+")

_MAX_PORT: Final = 65535

_CONNECT_TIMEOUT_S: Final = 5.0
"""How long one attempt to connect may take."""

_FIRST_PAUSE_S: Final = 0.05
_LONGEST_PAUSE_S: Final = 2.0
"""Pauses of wait_for_ready while the admin is away."""


def connect(  # noqa: PLR0913 - all but the first by name
    address: str,
    *,
    admin_timeout_s: float = 12.0,
    data_timeout_s: float | None = None,
    max_message_bytes: int = 64 * 2**20,
    api_key: str | None = None,
    credentials: grpc.ChannelCredentials | None = None,
) -> GatewayClient:
    """Returns a client for the cells of the gateway at `address`. Nothing is contacted before its first call.

        async with connect("localhost:50051") as sax:
            for sample in await sax.generate("/sax/test/lm2b", "Once upon a time"):
                print(sample.score, sample.text)

    Args:
        address: host and port of the gateway's gRPC door; an IPv6 address in brackets.
        admin_timeout_s: time limit of publish, update, unpublish, list_models, describe, stats and list_cells, in
            seconds. The gateway's own, which is 10 unless it was set otherwise, should come first: it tells more.
        data_timeout_s: time limit that the gateway is told for each generate, score and embed, in seconds. None is the
            gateway's own, which is 600 unless it was set otherwise; it also has a maximum.
        max_message_bytes: size limit of answers.
        api_key: an API key, or a token, if the gateway asks who calls.
        credentials: what gRPC has for TLS, such as grpc.ssl_channel_credentials(ca), if the gateway speaks it. None is
            plaintext, in which a key can be read on its way.

    Raises:
        InvalidName: `address` is not a host and a port.
        ValueError: `api_key` has characters that no key has.
    """
    match = _ADDRESS.fullmatch(address)
    if not match or not 0 < int(match["port"]) <= _MAX_PORT:
        raise InvalidName(f'"{address}" is not the address of a gateway; write HOST:PORT, such as localhost:50051')
    if api_key is not None and not _KEY.fullmatch(api_key):
        raise ValueError("an API key has no spaces, and no other characters than those of ASCII")
    return GatewayClient(
        address,
        admin_timeout_s=admin_timeout_s,
        data_timeout_s=data_timeout_s,
        max_message_bytes=max_message_bytes,
        api_key=api_key,
        credentials=credentials,
    )


class GatewayClient(SaxClient):
    """A SaxClient that asks a gateway. Made by connect().

    Beside the errors that every SaxClient raises, each method raises GatewayUnavailable if the gateway is out of reach
    or goes away, and GatewayError for what else it answers. A stream that it leaves unfinished is StreamBroken.

    It belongs to the event loop of its first call, and is closed by `async with` or aclose().
    """

    def __init__(  # noqa: PLR0913 - those of connect()
        self,
        address: str,
        *,
        admin_timeout_s: float,
        data_timeout_s: float | None,
        max_message_bytes: int,
        api_key: str | None,
        credentials: grpc.ChannelCredentials | None,
    ) -> None:
        self._address = address
        self._admin_timeout_s = admin_timeout_s
        self._data_timeout_s = data_timeout_s
        self._options = (
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 1600),
            # Despite its name this is the time limit of one attempt.
            ("grpc.min_reconnect_backoff_ms", round(_CONNECT_TIMEOUT_S * 1000)),
            # Gateways are on a private network; a proxy for the web is no way into it.
            ("grpc.enable_http_proxy", 0),
            ("grpc.max_receive_message_length", max_message_bytes),
        )
        self._metadata = () if api_key is None else (("authorization", f"Bearer {api_key}"),)
        self._credentials = credentials
        self._channel: grpc.aio.Channel | None = None
        self._closed = False

    def __del__(self) -> None:
        if self._channel is not None and not self._closed:
            warn_unclosed(self)

    async def publish(
        self, model: str, model_path: str, checkpoint: str, replicas: int, overrides: Mapping[str, str] | None = None
    ) -> None:
        model = check_definition(model, model_path, checkpoint, replicas)
        request = pb.PublishRequest(
            model=model, model_path=model_path, checkpoint=checkpoint, replicas=replicas, overrides=overrides
        )
        await self._administer(lambda gateway: gateway.Publish, request, changes=model)

    async def update(
        self, model: str, model_path: str, checkpoint: str, replicas: int, overrides: Mapping[str, str] | None = None
    ) -> None:
        model = check_definition(model, model_path, checkpoint, replicas)
        request = pb.UpdateRequest(
            model=model, model_path=model_path, checkpoint=checkpoint, replicas=replicas, overrides=overrides
        )
        await self._administer(lambda gateway: gateway.Update, request, changes=model)

    async def unpublish(self, model: str) -> None:
        model = parse_model(model)
        await self._administer(lambda gateway: gateway.Unpublish, pb.UnpublishRequest(model=model), changes=model)

    async def list_models(self, cell: str) -> list[str]:
        request = pb.ListAllRequest(sax_cell=parse_cell(cell))
        return list((await self._administer(lambda gateway: gateway.ListAll, request)).models)

    async def describe(self, model: str) -> ModelDetail:
        request = pb.ListCellRequest(model=parse_model(model), details=True)
        response = await self._administer(lambda gateway: gateway.ListCell, request)
        return ModelDetail(
            model=response.model,
            model_path=response.model_path,
            checkpoint=response.checkpoint,
            max_replicas=response.max_replicas,
            active_replicas=response.active_replicas,
            overrides=dict(response.details.overrides),
            methods=tuple(response.details.methods),
        )

    async def wait_for_ready(self, model: str, replicas: int = 1) -> None:
        check_replicas(replicas)
        request = pb.WaitForReadyRequest(model=parse_model(model), replicas=replicas)
        for asked in itertools.count(1):
            try:
                await self._ask(lambda gateway: gateway.WaitForReady, request, None)
            except GatewayError as error:
                if error.code is not grpc.StatusCode.DEADLINE_EXCEEDED:  # the gateway's, which is no reason to stop
                    raise
            except AdminUnavailable:
                if asked == 1:
                    raise
                await asyncio.sleep(pause_s(asked, _FIRST_PAUSE_S, _LONGEST_PAUSE_S))
            else:
                return

    async def stats(self, name: str) -> ServerStats:
        parse_cell_or_model(name)
        response = await self._administer(lambda gateway: gateway.Stats, pb.StatsRequest(name=name))
        return ServerStats(
            by_type={ServerType(kind.chip_type, kind.chip_topology): kind.count for kind in response.servers},
            by_model_path=dict(sorted(response.servers_by_model_path.items())),
        )

    async def list_cells(self) -> list[str]:
        return list((await self._administer(lambda gateway: gateway.ListCells, pb.ListCellsRequest())).cells)

    async def generate(self, model: str, text: str, extra_inputs: ExtraInputs | None = None) -> list[Sample]:
        request = pb.GenerateRequest(model=parse_model(model), query=text, extra_inputs=_struct(extra_inputs))
        response = await self._ask(lambda gateway: gateway.Generate, request, self._data_timeout_s)
        return [Sample(result.text, result.score) for result in response.results]

    async def generate_stream(
        self, model: str, text: str, extra_inputs: ExtraInputs | None = None, *, increments: bool = False
    ) -> AsyncGenerator[list[StreamItem]]:
        request = pb.GenerateStreamRequest(
            model=parse_model(model), query=text, extra_inputs=_struct(extra_inputs), increments=increments
        )
        gateway = await self._connected()
        call = gateway.GenerateStream(request, timeout=self._data_timeout_s, metadata=self._metadata)
        begun = False
        try:
            async for response in call:
                begun = True
                yield [StreamItem(result.text, result.prefix_len, result.scores) for result in response.results]
        except grpc.aio.AioRpcError as error:
            told = error_of(error, self._address)
            if begun and isinstance(told, GatewayUnavailable):
                told = StreamBroken(f"the gateway at {self._address} went away in the middle of its answer; ask again")
            raise told from error
        finally:
            call.cancel()

    async def score(
        self, model: str, prefix: str, suffixes: Sequence[str], extra_inputs: ExtraInputs | None = None
    ) -> list[float]:
        if isinstance(suffixes, str):
            raise TypeError("suffixes must be a sequence of texts, not one text")
        request = pb.ScoreRequest(
            model=parse_model(model),
            prefix=prefix,
            suffixes=suffixes or [""],  # the gateway would take none for a field that was forgotten
            extra_inputs=_struct(extra_inputs),
        )
        return list((await self._ask(lambda gateway: gateway.Score, request, self._data_timeout_s)).scores)

    async def embed(self, model: str, text: str, extra_inputs: ExtraInputs | None = None) -> list[float]:
        request = pb.EmbedRequest(model=parse_model(model), text=text, extra_inputs=_struct(extra_inputs))
        return list((await self._ask(lambda gateway: gateway.Embed, request, self._data_timeout_s)).embedding)

    async def aclose(self) -> None:
        self._closed = True
        if self._channel is not None:
            await self._channel.close()

    async def _administer(
        self, rpc: _Rpc[_Request, _Response], request: _Request, *, changes: str | None = None
    ) -> _Response:
        return await self._ask(rpc, request, self._admin_timeout_s, changes=changes)

    async def _ask(
        self,
        rpc: _Rpc[_Request, _Response],
        request: _Request,
        timeout_s: float | None,
        *,
        changes: str | None = None,
    ) -> _Response:
        gateway = await self._connected()
        try:
            return await rpc(gateway)(request, timeout=timeout_s, metadata=self._metadata)
        except grpc.aio.AioRpcError as error:
            raise error_of(error, self._address, changes=changes) from error

    async def _connected(self) -> SaxServiceAsyncStub:
        """The gateway with a standing connection, so that what goes wrong later may be about a call that arrived."""
        if self._closed:
            raise RuntimeError("this Sax client is closed")
        if self._channel is None:
            self._channel = (
                grpc.aio.insecure_channel(self._address, self._options)
                if self._credentials is None
                else grpc.aio.secure_channel(self._address, self._credentials, self._options)
            )
            self._gateway: SaxServiceAsyncStub = SaxServiceStub(self._channel)
        while (state := self._channel.get_state(try_to_connect=True)) is not grpc.ChannelConnectivity.READY:
            if state in (grpc.ChannelConnectivity.TRANSIENT_FAILURE, grpc.ChannelConnectivity.SHUTDOWN):
                tls = (
                    "takes calls without TLS"
                    if self._credentials is None
                    else "speaks TLS, and that each side believes the other's certificate"
                )
                raise GatewayUnavailable(
                    f"no gateway could be reached at {self._address}; check that it runs, that this is the address of "
                    f"its gRPC door, and that it {tls}"
                )
            await self._channel.wait_for_state_change(state)
        return self._gateway


def _struct(extra_inputs: ExtraInputs | None) -> struct_pb2.Struct | None:
    if not extra_inputs:
        return None
    struct = struct_pb2.Struct()
    for name, value in extra_inputs.items():
        if isinstance(value, str):
            struct.fields[name].string_value = value
        elif isinstance(value, int | float):
            struct.fields[name].number_value = value
        else:
            struct.fields[name].list_value.extend(value)
    return struct
