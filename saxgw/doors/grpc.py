"""The gRPC door: a grpc.aio server made from the table of endpoints, with reflection and health."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import unquote

import grpc
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

from saxgw.doors.grpc_requests import STATUS_CODES, in_time, parsed, read
from saxgw.doors.health import HealthService
from saxgw.rpc.call import REQUEST_ID_HEADER, Call, request_id
from saxgw.rpc.deadline import Deadline
from saxgw.rpc.endpoint import StreamEndpoint
from saxgw.rpc.health import Health
from saxgw.rpc.status import Code, RpcError, invalid_argument

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from types import TracebackType

    from google.protobuf.message import Message

    from saxgw.rpc.endpoint import Endpoint

_LINGER_S: Final = 1.0
"""How long calls that are on their way when draining begins may take to arrive."""

_QUIET_S: Final = 0.05
"""How long no call may have arrived before it is taken that none is on its way."""

_NEVER_S: Final = 1e6
"""Longer than any drain."""

_HANDSHAKE_MS: Final = 10_000
"""How long a client may take to agree on TLS and HTTP/2; as long as at the HTTP door."""

_DETAILS_KEY: Final = "grpc-status-details-bin"

_HEALTH: Final = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name

_REQUEST_ID_KEY: Final = REQUEST_ID_HEADER.lower()


class GrpcDoor:
    """Serves endpoints over gRPC until closed: `async with GrpcDoor(endpoints, "127.0.0.1", 50051, …) as door`.

    Args:
        endpoints: What is served.
        host: Address to listen on.
        port: Port to listen on; 0 picks a free one.
        credentials: For TLS; None is plaintext.
        reuse_port: Whether other processes may listen there as well, if all say so.
        health: What grpc.health.v1 tells; None is a server that is ready until it drains.
        max_request_bytes: Largest request.
        max_metadata_bytes: Most metadata that a call may have.
        body_timeout_s: Seconds that a request may take to arrive.
        max_connections: Connections that are open at once.

    Raises OSError on entering if the address cannot be bound.
    """

    def __init__(  # noqa: PLR0913 - settings, by name only
        self,
        endpoints: Iterable[Endpoint],
        host: str,
        port: int,
        *,
        credentials: grpc.ServerCredentials | None = None,
        reuse_port: bool = False,
        health: Health | None = None,
        max_request_bytes: int = 4 * 2**20,
        max_metadata_bytes: int = 16 * 2**10,
        body_timeout_s: float = 60.0,
        max_connections: int = 10_000,
    ) -> None:
        self._host = host
        self._body_timeout_s = body_timeout_s
        self._credentials = credentials
        self._requested_port = port
        self._server = grpc.aio.server(
            options=[
                # By default a port in use would be shared silently.
                ("grpc.so_reuseport", int(reuse_port)),
                ("grpc.max_receive_message_length", max_request_bytes),
                ("grpc.max_send_message_length", -1),
                ("grpc.max_allowed_incoming_connections", max_connections),
                ("grpc.server_handshake_timeout_ms", _HANDSHAKE_MS),
                # Above the first limit gRPC refuses some calls, and all above the second.
                ("grpc.max_metadata_size", max_metadata_bytes),
                ("grpc.absolute_max_metadata_size", max_metadata_bytes),
                # grpcio otherwise sheds calls as CANCELLED once about 1,000 wait for Python.
                ("grpc.server.max_pending_requests", 100_000),
                ("grpc.server.max_pending_requests_hard_limit", 200_000),
            ]
        )
        self._begun = 0
        self._running = 0
        self._go_on = asyncio.Event()
        self._go_on.set()
        self._idle = asyncio.Event()
        self._idle.set()
        services: dict[str, dict[str, Any]] = {}
        for endpoint in endpoints:
            service, method = endpoint.method.containing_service.full_name, endpoint.method.name
            # As if requests were streams, which is the same on the wire: of others grpcio reads the message, however
            # long that takes, before anybody has looked at who calls.
            kind = (
                grpc.stream_stream_rpc_method_handler
                if isinstance(endpoint, StreamEndpoint)
                else grpc.stream_unary_rpc_method_handler
            )
            services.setdefault(service, {})[method] = kind(
                self._behaviour(endpoint),
                # _behaviour() reads the request: what cannot be read is the caller's mistake, not an UNKNOWN one.
                response_serializer=endpoint.response_class.SerializeToString,
            )
        self._server.add_generic_rpc_handlers(
            [grpc.method_handlers_generic_handler(name, methods) for name, methods in services.items()]
        )
        self._health = health or Health(aliases=services)
        beside = {
            _HEALTH: HealthService(self._health).handlers(body_timeout_s),
            reflection.SERVICE_NAME: _reflection([*services, _HEALTH, reflection.SERVICE_NAME], body_timeout_s),
        }
        self._server.add_generic_rpc_handlers(
            [grpc.method_handlers_generic_handler(name, methods) for name, methods in beside.items()]
        )
        self._server.add_generic_rpc_handlers([_UnknownMethods()])  # last, since the first one that has a method wins
        self.port = port
        """The port that is served; the real one, once entered, where 0 was asked for."""

    async def __aenter__(self) -> Self:
        try:
            address = f"{_bracketed(self._host)}:{self._requested_port}"
            self.port = (
                self._server.add_insecure_port(address)
                if self._credentials is None
                else self._server.add_secure_port(address, self._credentials)
            )
        except RuntimeError as error:
            raise OSError(
                f"the gRPC door cannot listen on {self._host}:{self._requested_port}: is another process using it?"
            ) from error
        await self._server.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.drain(0)

    async def drain(self, timeout_s: float) -> None:
        """Takes no new calls, gives running ones `timeout_s` seconds to finish, cancels what is left then."""
        self._health.leave()
        if timeout_s > 0:
            await self._quiet(min(_LINGER_S, timeout_s))
        # The second stop() below and no timeout of grpcio's own ends what is left: grpcio crashes if a timeout passes
        # while another stop() is done already.
        stopping = asyncio.ensure_future(self._server.stop(_NEVER_S if timeout_s > 0 else None))
        await asyncio.sleep(0)  # stop() sends GOAWAY first of all
        self._go_on.set()
        if timeout_s > 0:
            end = time.monotonic() + timeout_s
            await asyncio.wait((stopping,), timeout=min(_LINGER_S, timeout_s))
            # Watches of health and reflection streams never end by themselves; only calls are waited for.
            idle = asyncio.ensure_future(self._idle.wait())
            left_s = max(0, end - time.monotonic())
            await asyncio.wait((stopping, idle), timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
            idle.cancel()
            if not stopping.done():
                await self._server.stop(None)
        await stopping

    async def _quiet(self, timeout_s: float) -> None:
        """Holds answers back until no more calls arrive, for `timeout_s` seconds at most.

        grpcio cancels calls that have arrived but wait for Python when it stops. Callers who wait for an answer send
        nothing meanwhile, and are told not to send here again, by GOAWAY, before they get it.
        """
        self._go_on.clear()
        looked_at = time.monotonic()
        end = looked_at + timeout_s
        begun = -1
        while begun != self._begun and looked_at < end:
            begun = self._begun
            await asyncio.sleep(_QUIET_S)
            slept_s, looked_at = time.monotonic() - looked_at, time.monotonic()
            if slept_s > 2 * _QUIET_S:  # on a machine so busy, calls that have arrived have not got here yet either
                begun = -1

    def _behaviour(self, endpoint: Endpoint) -> Callable[[object, Any], Awaitable[Message | None]]:
        handler: Callable[..., Awaitable[Message | None]] = endpoint.handler
        request_class = endpoint.request_class
        streams = isinstance(endpoint, StreamEndpoint)

        async def behave(_: object, context: grpc.aio.ServicerContext[bytes, Message]) -> Message | None:
            async def receive() -> Message:
                data = await read(context, self._body_timeout_s)
                if data is None:
                    raise invalid_argument([("", "the request is missing")])
                call.take(len(data))
                return parsed(request_class, data)

            timeout_s = context.time_remaining()
            headers = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
            call = Call(
                "grpc",
                None if timeout_s is None else Deadline.after(timeout_s),
                headers,
                request_id(headers.get(_REQUEST_ID_KEY)),
                partial(_peer, context),
            )
            trailer = ((_REQUEST_ID_KEY, call.request_id),)
            context.set_trailing_metadata(trailer)
            self._begun += 1
            self._running += 1
            self._idle.clear()
            try:
                try:
                    if streams:
                        return await handler(call, receive, context.write)
                    return await handler(call, receive)
                except RpcError as error:
                    status = error.to_proto()
                finally:
                    if not self._go_on.is_set():
                        await self._go_on.wait()
                # Here and not above: as long as there is the error, its traceback holds the request.
                await context.abort(
                    STATUS_CODES[status.code],
                    status.message,
                    (*trailer, (_DETAILS_KEY, status.SerializeToString())) if status.details else trailer,
                )
            finally:
                self._running -= 1
                if not self._running:
                    self._idle.set()

        return behave


class _UnknownMethods(grpc.GenericRpcHandler):
    """Refuses methods that nobody else has, as gRPC would do, but with a request id."""

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any]:
        method = handler_call_details.method

        async def refuse(_: object, context: grpc.aio.ServicerContext[Any, Any]) -> None:
            error = RpcError(Code.UNIMPLEMENTED, f'there is no method "{method}"')
            headers = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
            trailer = ((_REQUEST_ID_KEY, request_id(headers.get(_REQUEST_ID_KEY))),)
            await context.abort(STATUS_CODES[error.code], error.message, trailer)

        return grpc.stream_stream_rpc_method_handler(refuse)  # whatever it is, nothing of it is read


def _reflection(services: Iterable[str], timeout_s: float) -> dict[str, grpc.RpcMethodHandler[Any, Any]]:
    answer: Any = reflection.aio.ReflectionServicer(services).ServerReflectionInfo  # its types know no generators
    request, response = reflection_pb2.ServerReflectionRequest, reflection_pb2.ServerReflectionResponse
    return {"ServerReflectionInfo": in_time(answer, request, response, timeout_s)}


def _peer(context: grpc.aio.ServicerContext[Any, Any]) -> str:
    """The IP address in what gRPC calls a peer: `ipv4:127.0.0.1:2000` or `ipv6:%5B::1%5D:2000`."""
    kind, _, address = unquote(context.peer()).partition(":")
    return address.rpartition(":")[0].strip("[]") if kind in ("ipv4", "ipv6") else ""


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
