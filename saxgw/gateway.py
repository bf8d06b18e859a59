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
from saxgw.doors.admin import AdminServer
from saxgw.doors.browsers import Browsers
from saxgw.doors.grpc import GrpcDoor
from saxgw.doors.health import HealthPages
from saxgw.doors.http import HttpDoor
from saxgw.doors.http_server import HttpLimits
from saxgw.doors.openapi import describe
from saxgw.doors.pages import OwnPages
from saxgw.doors.tls import Tls
from saxgw.rpc.endpoint import make_endpoints
from saxgw.rpc.expiry import Timeouts, enforce_deadline
from saxgw.rpc.health import Health, note_answers
from saxgw.rpc.held import HeldBytes
from saxgw.rpc.interceptors import (
    limit_concurrency,
    report_unexpected,
    require_fields,
    translate,
)
from saxgw.rpc.quotas import Quota, enforce_quota
from saxgw.rpc.running import Running
from saxgw.sax import official
from saxgw.service import SaxService, canonical, model_of, readiness_of, status_of
from saxgw.telemetry.telemetry import Telemetry
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

_FAREWELL_S: Final = 0.5
"""How long calls that have run for too long may take to be told so."""

_ANYBODY: Final = Access()

_DESCRIPTION: Final = (
    "A gateway in front of a Saxml cell, which publishes, lists and queries models. It serves the same over gRPC."
)


def endpoints(  # noqa: PLR0913 - one for each part of the gateway that calls concern
    settings: Settings,
    client: sax.SaxClient,
    *,
    allowed: Access = _ANYBODY,
    telemetry: Telemetry | None = None,
    running: Running | None = None,
    health: Health | None = None,
) -> tuple[Endpoint, ...]:
    """The service's methods over a Sax client, with everything around them that is true of every call."""
    # The client gives up first, because it can tell what was going on.
    admin = Timeouts(settings.admin_timeout + _GRACE_S, settings.max_timeout)
    long = Timeouts(settings.generate_timeout, settings.max_timeout)
    timeouts = {method.name: long if method.name in _LONG_METHODS else admin for method in SERVICE.methods}
    metrics = None if telemetry is None else telemetry.metrics
    held = HeldBytes(settings.max_held_request_bytes, None if metrics is None else metrics.held.set)
    return make_endpoints(
        SERVICE,
        SaxService(client),
        [
            held.intercept,
            *([] if telemetry is None else telemetry.interceptors),
            report_unexpected,
            (Running() if running is None else running).intercept,
            limit_concurrency(settings.max_calls),
            enforce_deadline(timeouts),
            *allowed.interceptors,
            enforce_quota(
                Quota(max_calls=settings.max_calls_per_key or None, calls_per_s=settings.max_rate_per_key or None)
            ),
            note_answers(health or Health(), _LONG_METHODS, model_of),
            translate(sax.SaxError, status_of),
        ],
        [require_fields, *allowed.inspectors],
    )


def _client(settings: Settings, observer: sax.Observer) -> AbstractAsyncContextManager[sax.SaxClient]:
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
        observer=observer,
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

    Leaving makes it not ready, goes on for `settings.shutdown_delay` seconds, and drains: no new calls are taken,
    running ones have `settings.drain_timeout` seconds to finish, and are then ended with UNAVAILABLE. Entering
    raises OSError if an address cannot be bound, saxgw.watched.InvalidFile if a file that the settings name makes no
    sense, saxgw.settings.InvalidSetting if the variables of OpenTelemetry's SDK make none, and
    saxgw.sax.official.ModuleMissing if there is no official client where that is set; it leaves nothing running then.
    With `reuse_port` other processes may listen on the same ports.
    """

    def __init__(self, settings: Settings, *, reuse_port: bool = False) -> None:
        self._settings = settings
        self._reuse_port = reuse_port
        self._running = Running()
        self._stack = AsyncExitStack()
        self._admin: AdminServer | None = None

    async def __aenter__(self) -> Self:
        settings = self._settings
        async with AsyncExitStack() as stack:
            telemetry = await stack.enter_async_context(Telemetry(settings, __version__))
            client = await stack.enter_async_context(_client(settings, telemetry.observer))
            self._health = await stack.enter_async_context(
                Health(readiness_of(client), aliases=[SERVICE.full_name], canonical=canonical)
            )
            table = endpoints(
                settings,
                client,
                allowed=await stack.enter_async_context(access(settings)),
                telemetry=telemetry,
                running=self._running,
                health=self._health,
            )
            health_pages = HealthPages(self._health, ignore_unknown=settings.ignore_unknown_fields)
            tls = await stack.enter_async_context(_tls(settings)) if settings.tls_certificate else None
            if settings.admin_port is not None:
                host = settings.admin_host or settings.host
                self._admin = await stack.enter_async_context(
                    AdminServer(
                        [telemetry.page, health_pages],
                        host,
                        settings.admin_port,
                        reuse_port=self._reuse_port,
                    )
                )
            self._http = await stack.enter_async_context(
                HttpDoor(
                    table,
                    settings.host,
                    settings.http_port,
                    tls=None if tls is None else tls.context,
                    reuse_port=self._reuse_port,
                    pages=[health_pages, OwnPages(openapi)],
                    browsers=_browsers(settings),
                    limits=HttpLimits(
                        max_body_bytes=settings.max_request_bytes,
                        max_header_bytes=settings.max_header_bytes,
                        max_connections=settings.max_connections,
                        header_timeout_s=settings.header_timeout,
                        body_timeout_s=settings.body_timeout,
                    ),
                    max_json_depth=settings.max_json_depth,
                    ignore_unknown_fields=settings.ignore_unknown_fields,
                    count=None if telemetry.metrics is None else telemetry.metrics.count_http_response,
                )
            )
            self._grpc = await stack.enter_async_context(
                GrpcDoor(
                    table,
                    settings.host,
                    settings.grpc_port,
                    credentials=None if tls is None else tls.credentials,
                    reuse_port=self._reuse_port,
                    health=self._health,
                    max_request_bytes=settings.max_request_bytes,
                    max_metadata_bytes=settings.max_header_bytes,
                    body_timeout_s=settings.body_timeout,
                    max_connections=settings.max_connections,
                )
            )
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        async with self._stack:
            self._health.leave()
            await asyncio.sleep(self._settings.shutdown_delay)
            ending = asyncio.get_running_loop().call_later(self._settings.drain_timeout, self._running.end)
            timeout_s = self._settings.drain_timeout + _FAREWELL_S
            await asyncio.gather(self._http.drain(timeout_s), self._grpc.drain(timeout_s))
            ending.cancel()

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
    def admin_address(self) -> str | None:
        """Host and port of the admin server; None if there is none."""
        if self._admin is None:
            return None
        return _address(self._settings.admin_host or self._settings.host, self._admin.port)


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
