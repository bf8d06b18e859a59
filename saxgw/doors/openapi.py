"""The HTTP door described as OpenAPI: the routes of its methods, and what it adds to them and answers by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from saxgw.access.scopes import scope_of
from saxgw.doors.health import HEALTH_PATH, LIVE_PATH, READY_PATH
from saxgw.doors.pages import DOCS_PATH, DOCUMENT_PATH, GREETING
from saxgw.rpc.status import Code
from saxgw.transcoding.openapi import Failure, Failures, Security, document, responses
from saxgw.transcoding.route import read_routes

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from google.protobuf.descriptor import MethodDescriptor
    from google.protobuf.descriptor_pb2 import FileDescriptorSet

_TAG: Final = "HTTP door"

_ERROR: Final = {
    "type": "object",
    "description": "What every answer is that is not a success.",
    "properties": {
        "error": {
            "type": "object",
            "properties": {
                "code": {"type": "integer", "description": "The HTTP status."},
                "status": {"enum": [code.name for code in Code if code], "description": "The canonical gRPC code."},
                "message": {"type": "string", "description": "What is wrong and what to do, for people."},
                "details": {
                    "type": "array",
                    "description": "Messages of google/rpc/error_details.proto, for programs.",
                    "items": {
                        "type": "object",
                        "properties": {"@type": {"type": "string"}},
                        "required": ["@type"],
                        "additionalProperties": True,
                    },
                },
            },
            "required": ["code", "status", "message", "details"],
        }
    },
    "required": ["error"],
}

_RETRY_AFTER: Final = {
    "Retry-After": {
        "description": "Seconds after which the same call may succeed.",
        "schema": {"type": "integer", "minimum": 0},
    }
}

_MEANINGS: Final[Mapping[Code, str]] = {
    Code.CANCELLED: "the call was cancelled",
    Code.UNKNOWN: "a server behind the gateway failed and did not say how",
    Code.INVALID_ARGUMENT: "malformed JSON, or a malformed, missing, mistyped or unknown field, which is named",
    Code.DEADLINE_EXCEEDED: "the deadline has passed",
    Code.NOT_FOUND: "there is nothing of that name",
    Code.ALREADY_EXISTS: "there is something of that name already",
    Code.PERMISSION_DENIED: "the caller may not do this, or not with this model",
    Code.RESOURCE_EXHAUSTED: "the gateway, or a server behind it, has as much to do as it takes",
    Code.FAILED_PRECONDITION: "things are not in the state that this needs",
    Code.ABORTED: "another call came between",
    Code.OUT_OF_RANGE: "a value beyond what there is",
    Code.UNIMPLEMENTED: "this is not supported",
    Code.INTERNAL: "the gateway failed unexpectedly; its log tells more",
    Code.UNAVAILABLE: "a server behind the gateway is not there, or not ready",
    Code.DATA_LOSS: "data was lost",
    Code.UNAUTHENTICATED: "there is no key or token, or none that is valid now",
}

_PASSING: Final = frozenset({Code.RESOURCE_EXHAUSTED, Code.UNAVAILABLE})
"""What may be over soon, so that answers may have Retry-After."""

_CHALLENGE: Final = {
    "WWW-Authenticate": {"description": "How to say who calls.", "schema": {"const": "Bearer"}},
}

_SECURITY: Final = Security(
    schemes={
        "bearer": {
            "type": "http",
            "scheme": "bearer",
            "description": "An API key, or a token (JWT), where the gateway asks who calls.",
        }
    },
    of_method=lambda method: [{"bearer": [scope_of(method)]}, {}],
)

_PARAMETERS: Final = {
    "X-Request-Timeout": {
        "name": "X-Request-Timeout",
        "in": "header",
        "description": "How many seconds the caller waits. The server's own limit holds if it is shorter.",
        "schema": {"type": "number", "minimum": 0},
    },
    "Grpc-Timeout": {
        "name": "Grpc-Timeout",
        "in": "header",
        "description": "The same as gRPC writes it: `500m` is half a second. The shorter of both holds.",
        "schema": {"type": "string", "pattern": "^[0-9]{1,8}[HMSmun]$"},
    },
}


def describe(
    methods: Iterable[MethodDescriptor], *, title: str, version: str, description: str, files: FileDescriptorSet
) -> dict[str, Any]:
    """The OpenAPI document of a door that serves these methods, each of which says a scope.

    `files` has their .proto files with comments, `description` is Markdown.
    """
    described = document(
        (route for method in methods for route in read_routes(method)),
        title=title,
        version=version,
        description=description,
        files=files,
        failures=_FAILURES,
        parameters=_PARAMETERS,
        security=_SECURITY,
    )
    described["tags"].append({"name": _TAG, "description": "What the HTTP door answers by itself."})
    described["paths"].update(_own_paths())
    return described


def _failure(code: Code, meaning: str = "", *, http_status: int | None = None) -> Failure:
    status = http_status or code.http_status
    meaning = meaning or _MEANINGS[code]
    body = {"error": {"code": status, "status": code.name, "message": meaning, "details": []}}
    headers = _RETRY_AFTER if code in _PASSING else _CHALLENGE if code is Code.UNAUTHENTICATED else {}
    return Failure(status, f"`{code.name}`: {meaning}.", body, headers)


_MALFORMED: Final = _failure(Code.INVALID_ARGUMENT)
_TOO_LONG: Final = _failure(Code.INVALID_ARGUMENT, "the request line or a header is too long", http_status=431)

_FAILURES: Final = Failures(
    schema=_ERROR,
    always=[
        _MALFORMED,
        _failure(Code.PERMISSION_DENIED, "web pages of other sites may not call this gateway"),
        _failure(Code.INVALID_ARGUMENT, "the body is larger than the limit", http_status=413),
        _failure(Code.INVALID_ARGUMENT, "the body is of another type than JSON", http_status=415),
        _TOO_LONG,
        _failure(Code.INTERNAL),
    ],
    by_code={code: _failure(code) for code in _MEANINGS},
    other="Any other error of a server behind the gateway, passed on with its own code.",
)

_NOT_READY: Final = _failure(Code.UNAVAILABLE, "the cell does not answer, or no model server has the model")
_NO_SUCH_MODEL: Final = _failure(Code.NOT_FOUND, "no such model is published")
_TOO_MANY_NAMES: Final = _failure(Code.RESOURCE_EXHAUSTED, "too many models are being watched")

_MODEL: Final = {
    "name": "model",
    "in": "query",
    "description": "Asks whether this model has a model server that is ready, instead of whether the cell answers.",
    "schema": {"type": "string"},
    "example": "/sax/test/lm2b",
}


def _own_paths() -> dict[str, Any]:
    greeting = {"application/json": {"schema": {"const": GREETING}, "example": GREETING}}
    pretty = {"$ref": "#/components/parameters/pretty"}
    unready = dict(responses([_NOT_READY, _NO_SUCH_MODEL, _TOO_MANY_NAMES]))
    docs = f"The page at {DOCS_PATH}, for browsers, which send `Accept: text/html`."
    return {
        "/": _get("Root", "Says that the gateway is there", greeting, {"307": {"description": docs}}),
        DOCUMENT_PATH: _get(
            "OpenApi", "This document", {"application/json": {"schema": {"type": "object"}}}, parameters=[pretty]
        ),
        DOCS_PATH: _get("Docs", "A page that shows this document", {"text/html": {"schema": {"type": "string"}}}),
        LIVE_PATH: _get("Livez", "Says that the gateway runs, whatever becomes of the cell", _status("live")),
        READY_PATH: _get("Readyz", "Says whether callers may be sent here", _status("ready"), unready, [_MODEL]),
        HEALTH_PATH: _get("Healthz", "The same, for tools that look here", _status("ready"), unready, [_MODEL]),
    }


def _status(status: str) -> dict[str, Any]:
    value = {"status": status}
    return {"application/json": {"schema": {"const": value}, "example": value}}


def _get(
    operation_id: str,
    summary: str,
    content: dict[str, Any],
    more: Mapping[str, Any] | None = None,
    parameters: Iterable[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    given = list(parameters)
    return {
        "get": {
            "operationId": operation_id,
            "tags": [_TAG],
            "summary": summary,
            **({"parameters": given} if given else {}),
            "responses": {
                "200": {"description": "Success.", "content": content},
                **(more or {}),
                **dict(responses([_MALFORMED, _TOO_LONG])),
            },
        }
    }
