"""Health through both doors: pages for probes over HTTP, and grpc.health.v1. Both tell what `Health` knows.

- `/livez`: the process runs its event loop. Nothing behind it is looked at, so that a broken cell restarts no gateway.
- `/readyz`: callers may be sent here; `?model=/sax/cell/model` asks about one model.
- `/healthz`: the same, for tools that look there.
"""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final

import orjson
from aiohttp import web
from grpc_health.v1 import health_pb2

from saxgw.doors.grpc_requests import in_time
from saxgw.rpc.condition import Condition, Readiness
from saxgw.rpc.health import Health, TooManySubjects
from saxgw.rpc.status import Code, RpcError, retry_info
from saxgw.transcoding import InvalidInput, Violation
from saxgw.transcoding.errors import listed, shorten
from saxgw.transcoding.url import parse_query

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence

    import grpc

    from saxgw.doors.grpc_requests import Context

LIVE_PATH: Final = "/livez"

READY_PATH: Final = "/readyz"

HEALTH_PATH: Final = "/healthz"

_PARAMETERS: Final[Mapping[str, Sequence[str]]] = {LIVE_PATH: (), READY_PATH: ("model",), HEALTH_PATH: ("model",)}
"""The paths, and the query parameters of each."""

_RETRY_S: Final = 1.0

_STATUSES: Final = {
    Readiness.READY: health_pb2.HealthCheckResponse.SERVING,
    Readiness.NOT_READY: health_pb2.HealthCheckResponse.NOT_SERVING,
    Readiness.UNKNOWN: health_pb2.HealthCheckResponse.SERVICE_UNKNOWN,
}

_HEADERS: Final = {"Content-Type": "application/json", "Cache-Control": "no-store"}


class HealthPages:
    """Answers probes over HTTP: 200, or an error that says what is wrong.

    Args:
        health: What they are told.
        ignore_unknown: Pass over unknown query parameters instead of refusing them.
    """

    def __init__(self, health: Health, *, ignore_unknown: bool = False) -> None:
        self._health = health
        self._ignore_unknown = ignore_unknown

    def __contains__(self, path: object) -> bool:
        return path in _PARAMETERS

    async def respond(self, request: web.BaseRequest, path: str, query: str) -> web.Response:  # noqa: ARG002 - as all pages
        """The answer to GET or HEAD.

        Raises InvalidInput for a malformed query or an unknown parameter, and RpcError: UNAVAILABLE if it is not ready,
        NOT_FOUND if there is no such model, RESOURCE_EXHAUSTED if too many models are being asked about.
        """
        given = dict(parse_query(query))
        if not self._ignore_unknown:
            _check_known(path, given)
        if path == LIVE_PATH:
            return _answer("live")
        try:
            condition = await self._health.condition(given.get("model", ""))
        except TooManySubjects as error:
            raise _exhausted(error) from None
        if condition.readiness is Readiness.READY:
            return _answer("ready")
        code = Code.UNAVAILABLE if condition.readiness is Readiness.NOT_READY else Code.NOT_FOUND
        raise RpcError(code, condition.reason, [retry_info(_RETRY_S)] if code is Code.UNAVAILABLE else ())


class HealthService:
    """grpc.health.v1: the server, its services, and each model by its name."""

    def __init__(self, health: Health) -> None:
        self._health = health

    def handlers(self, timeout_s: float) -> dict[str, grpc.RpcMethodHandler[Any, Any]]:
        """By the methods' names; a request has so many seconds to arrive."""
        request, response = health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse
        methods = {"Check": self._check, "Watch": self._watch}
        return {name: in_time(method, request, response, timeout_s) for name, method in methods.items()}

    async def _check(
        self, requests: AsyncIterator[health_pb2.HealthCheckRequest], _: Context
    ) -> AsyncGenerator[health_pb2.HealthCheckResponse]:
        async for request in requests:
            try:
                condition = await self._health.condition(request.service)
            except TooManySubjects as error:
                raise _exhausted(error) from None
            if condition.readiness is Readiness.UNKNOWN:
                raise RpcError(Code.NOT_FOUND, condition.reason)
            yield _response(condition)
            return

    async def _watch(
        self, requests: AsyncIterator[health_pb2.HealthCheckRequest], _: Context
    ) -> AsyncGenerator[health_pb2.HealthCheckResponse]:
        async for request in requests:
            try:
                async with aclosing(self._health.watch(request.service)) as conditions:
                    async for condition in conditions:
                        yield _response(condition)
            except TooManySubjects as error:
                raise _exhausted(error) from None


def _response(condition: Condition) -> health_pb2.HealthCheckResponse:
    return health_pb2.HealthCheckResponse(status=_STATUSES[condition.readiness])


def _check_known(path: str, given: Iterable[str]) -> None:
    known = _PARAMETERS[path]
    for name in given:
        if name not in known:
            takes = listed(known) or "none"
            raise InvalidInput(Violation(shorten(name) or '""', f"unknown query parameter; {path} takes {takes}"))


def _answer(status: str) -> web.Response:
    return web.Response(body=orjson.dumps({"status": status}), headers=_HEADERS)


def _exhausted(error: TooManySubjects) -> RpcError:
    return RpcError(Code.RESOURCE_EXHAUSTED, str(error), [retry_info(_RETRY_S)])
