"""How HTTP says that something failed: one JSON shape, with the status and the headers that fit."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import orjson
from aiohttp import web
from google.rpc import status_pb2

from saxgw.rpc.status import Code, RpcError, error_info, invalid_argument, retry_info
from saxgw.transcoding import InvalidInput, encode_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

JSON: Final = "application/json"
"""The type of bodies, both ways."""

COMPRESSIONS: Final = ("gzip", "deflate")
"""What the server undoes, within the limit for bodies."""


class HttpError(RpcError):
    """A failure that only HTTP knows, with its own status and headers."""

    def __init__(self, http_status: int, code: Code, message: str, *, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(code, message)
        self.http_status = http_status
        self.headers = headers or {}


def unknown_encoding(what: str) -> HttpError:
    """415 for a body that is compressed in a way that nothing here undoes."""
    known = " or ".join(COMPRESSIONS)
    message = f"{what} cannot be read; send it as it is, or as {known}"
    return HttpError(415, Code.INVALID_ARGUMENT, message, headers={"Accept-Encoding": ", ".join(COMPRESSIONS)})


_FAILURES: Final[Mapping[int, RpcError]] = {
    400: RpcError(Code.INVALID_ARGUMENT, "this is not a well-formed HTTP/1.1 request"),
    408: HttpError(408, Code.DEADLINE_EXCEEDED, "the request's head did not arrive in time"),
    415: unknown_encoding("a body of this Content-Encoding"),
    431: HttpError(431, Code.INVALID_ARGUMENT, "the request line or a header is too long"),
    503: RpcError(
        Code.UNAVAILABLE,
        "the gateway has as many connections as it takes; try again later",
        [error_info("TOO_MANY_CONNECTIONS"), retry_info(1.0)],
    ),
}

_UNEXPECTED: Final = RpcError(Code.INTERNAL, "the gateway failed unexpectedly; its log tells more")


def other_method(request: web.BaseRequest, path: str, allow: Iterable[str]) -> web.Response:
    """405 with Allow, raised, or what OPTIONS asks for."""
    headers = {"Allow": ", ".join(dict.fromkeys([*allow, "OPTIONS"]))}
    if request.method == "OPTIONS":
        return web.Response(status=204, headers=headers)
    message = f'"{path}" does not take {request.method}; it takes {headers["Allow"]}'
    raise HttpError(405, Code.UNIMPLEMENTED, message, headers=headers)


def json_response(
    http_status: int,
    value: Any,  # noqa: ANN401 - JSON is of any type
    *,
    headers: Mapping[str, str] | None = None,
    pretty: bool = False,
) -> web.Response:
    """An answer with `value` as its JSON body."""
    body = orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE if pretty else None)
    return web.Response(status=http_status, body=body, headers={"Content-Type": JSON, **(headers or {})})


def error_response(error: RpcError, *, pretty: bool = False) -> web.Response:
    """The one shape of every answer that is not a success."""
    headers: dict[str, str] = {}
    http_status = error.code.http_status
    if isinstance(error, HttpError):
        http_status = error.http_status
        headers.update(error.headers)
    if error.retry_delay_s is not None:
        headers["Retry-After"] = str(math.ceil(error.retry_delay_s))
    if error.code is Code.UNAUTHENTICATED:
        headers["WWW-Authenticate"] = "Bearer"  # RFC 9110 §11.6.1 wants it beside a 401
    return json_response(http_status, error_body(error), headers=headers, pretty=pretty)


def failure_response(http_status: int) -> web.Response:
    """What is answered for something that never became a request, or that nobody foresaw."""
    return error_response(_FAILURES.get(http_status, _UNEXPECTED))


def error_body(error: RpcError) -> dict[str, Any]:
    """The body of an answer that is not a success."""
    details = orjson.loads(encode_json(status_pb2.Status(details=error.any_details())))["details"]
    http_status = error.http_status if isinstance(error, HttpError) else error.code.http_status
    return {"error": {"code": http_status, "status": error.code.name, "message": error.message, "details": details}}


def invalid_input(error: InvalidInput) -> RpcError:
    """What callers are told of a request that cannot be decoded."""
    return invalid_argument((violation.field, violation.description) for violation in error.violations)
