"""The gateway: builds everything from the settings, starts it, drains it, stops it."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from google.protobuf.descriptor_pb2 import FileDescriptorSet

from saxgw import __version__, sax
from saxgw.access.gate import Access, access
from saxgw.doors.browsers import Browsers
from saxgw.doors.grpc import GrpcDoor
from saxgw.doors.http import HttpDoor
from saxgw.doors.openapi import describe
from saxgw.doors.pages import Pages
from saxgw.doors.tls import Tls
from saxgw.rpc.endpoint import make_endpoints
from saxgw.rpc.expiry import Timeouts, enforce_deadline
from saxgw.rpc.interceptors import (
    limit_concurrency,
    report_unexpected,
    require_fields,
    translate,
)
from saxgw.sax import official
from saxgw.service import SaxService, status_of
from saxgw.v1 import sax_service_pb2

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType

    from saxgw.rpc.endpoint import Endpoint
    from saxgw.settings import Settings

SERVICE: Final = sax_service_pb2.DESCRIPTOR.services_by_name["SaxService"]
"""What the gateway serves."""

_LONG_METHODS: Final = frozenset(
    {"Generate", "GenerateStream", "BatchGenerate", "Score", "BatchScore", "Embed", "WaitForReady"}
)
"""Methods that wait for model servers, which takes long; the admin answers all others."""

_GRACE_S: Final = 1.0

_ANYBODY: Final = Access()

_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})

_DESCRIPTION: Final = (
    "A gateway in front of a Saxml cell, which publishes, lists and queries models. It serves the same over gRPC."
)


def endpoints(settings: Settings, client: sax.SaxClient, allowed: Access = _ANYBODY) -> tuple[Endpoint, ...]:
    """The service's methods over a Sax client, with everything around them that is true of every call."""
    # The client gives up first, because it can tell what was going on.
    admin = Timeouts(settings.admin_timeout + _GRACE_S, settings.max_timeout)
    long = Timeouts(settings.generate_timeout, settings.max_timeout)
    timeouts = {method.name: long if method.name in _LONG_METHODS else admin for method in SERVICE.methods}
    return make_endpoints(
        SERVICE,
        SaxService(client),
        [
            report_unexpected,
            limit_concurrency(settings.max_calls),
            enforce_deadline(timeouts),
            *allowed.interceptors,
            translate(sax.SaxError, status_of),
        ],
        [require_fields, *allowed.inspectors],
    )


def _client(settings: Settings) -> AbstractAsyncContextManager[sax.SaxClient]:
    if settings.sax_client == "official":
        return official.connect(
            settings.sax_root,
            admin_timeout_s=settings.admin_timeout,
            call_timeout_s=settings.generate_timeout,
            replica_wait_s=settings.replica_wait,
            threads=settings.sax_threads,
        )
    return sax.connect(
        settings.sax_root,
        admin_timeout_s=settings.admin_timeout,
        replica_wait_s=settings.replica_wait,
        max_message_bytes=settings.max_response_bytes,
        max_waiting=settings.max_queue,
        min_in_flight=settings.min_in_flight,
        max_in_flight=settings.max_in_flight,
    )


def _tls(settings: Settings) -> Tls:
    client_ca = Path(settings.tls_client_ca) if settings.tls_client_ca else None
    return Tls(Path(settings.tls_certificate), Path(settings.tls_key), client_ca)


def _browsers(settings: Settings) -> Browsers:
    # Keys, tokens and certificates are not at hand for a page that has its own name lead here.
    guarded = settings.authenticates or settings.tls_certificate
    return Browsers(frozenset(settings.cors_origin), None if guarded else frozenset(settings.allowed_host))


def openapi() -> dict[str, Any]:
    """The OpenAPI document of the HTTP door, as plain dicts."""
    packed = resources.files("saxgw") / "descriptors.binpb"
    return describe(
        SERVICE.methods,
        title="saxgw",
        version=__version__,
        description=_DESCRIPTION,
        files=FileDescriptorSet.FromString(packed.read_bytes()),
    )


class Gateway:
    """Both doors in front of a cell, from entering to leaving.

        async with Gateway(Settings(sax_root="/srv/sax")) as gateway:
            print(gateway.http_port, gateway.grpc_port)
            await stop.wait()

    Leaving drains: no new calls are taken, running ones have `settings.drain_timeout` seconds to finish. Entering
    raises OSError if an address cannot be bound, saxgw.watched.InvalidFile if a file that the settings name makes no
    sense, and saxgw.sax.official.ModuleMissing if there is no official client where that is set; it leaves nothing
    running then.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        settings = self._settings
        async with AsyncExitStack() as stack:
            client = await stack.enter_async_context(_client(settings))
            table = endpoints(settings, client, await stack.enter_async_context(access(settings)))
            tls = await stack.enter_async_context(_tls(settings)) if settings.tls_certificate else None
            self._http = await stack.enter_async_context(
                HttpDoor(
                    table,
                    settings.host,
                    settings.http_port,
                    pages=Pages(openapi),
                    tls=None if tls is None else tls.context,
                    browsers=_browsers(settings),
                    max_request_bytes=settings.max_request_bytes,
                    ignore_unknown_fields=settings.ignore_unknown_fields,
                )
            )
            self._grpc = await stack.enter_async_context(
                GrpcDoor(
                    table,
                    settings.host,
                    settings.grpc_port,
                    max_request_bytes=settings.max_request_bytes,
                    credentials=None if tls is None else tls.credentials,
                )
            )
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        async with self._stack:
            await asyncio.gather(
                self._http.drain(self._settings.drain_timeout), self._grpc.drain(self._settings.drain_timeout)
            )

    @property
    def http_address(self) -> str:
        """Host and port of the HTTP door."""
        return _address(self._settings.host, self._http.port)

    @property
    def http_url(self) -> str:
        """The URL of the HTTP door."""
        return f"{'https' if self._settings.tls_certificate else 'http'}://{self.http_address}"

    @property
    def grpc_address(self) -> str:
        """Host and port of the gRPC door."""
        return _address(self._settings.host, self._grpc.port)

    @property
    def warning(self) -> str | None:
        """What whoever starts the gateway should know about who may call it."""
        settings = self._settings
        asked = settings.authenticates or (settings.tls_client_ca and not settings.allow_anonymous_admin)
        if asked or (settings.host in _LOOPBACK and not settings.allow_anonymous_admin):
            return None
        admin = (
            "generate, publish and unpublish"
            if settings.allow_anonymous_admin
            else "generate, and whoever is on this machine publish and unpublish"
        )
        return (
            f"nobody is asked who they are: whoever reaches {settings.host} may {admin}; see --api-keys and --jwt-jwks"
        )


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
