"""What the HTTP door serves besides RPCs: the greeting, the OpenAPI document, and a page that shows the document."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from typing import TYPE_CHECKING, Any, Final, Protocol

import orjson
from aiohttp import web
from openapi_ui_bundles import swagger_ui

from saxgw.doors.http_errors import HttpError, other_method
from saxgw.rpc.status import Code
from saxgw.transcoding.transcoder import is_pretty
from saxgw.transcoding.url import parse_query

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

GREETING: Final = {"message": "HTTP Server for SAX Client"}
"""What GET / answers; the documented greeting."""

DOCUMENT_PATH: Final = "/openapi.json"

DOCS_PATH: Final = "/docs"

METHODS: Final = ("GET", "HEAD")
"""The HTTP methods that all pages take."""

_JSON: Final = "application/json"

_OWN: Final = {"page.css": "text/css", "start.js": "text/javascript"}
"""The files of our own that the page loads."""

_VIEWER: Final = {
    "swagger-ui.css": "text/css",
    "swagger-ui-bundle.js": "text/javascript",
    "favicon-32x32.png": "image/png",
}
"""The files of Swagger UI that the page loads, from the package openapi-ui-bundles."""

_SECURITY: Final = {
    # Nothing from elsewhere, nothing inline, no frames: a page that can publish models must not be clicked unseen.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


@dataclass(frozen=True, slots=True)
class _File:
    """Something that is sent as it is."""

    body: bytes
    content_type: str
    etag: str

    @classmethod
    def of(cls, body: bytes, content_type: str) -> _File:
        return cls(body, content_type, f'"{hashlib.sha256(body).hexdigest()[:32]}"')


class Pages(Protocol):
    """Answers requests for what is no RPC."""

    def __contains__(self, path: object) -> bool: ...

    async def respond(self, request: web.BaseRequest, path: str, query: str) -> web.Response:
        """The answer to GET or HEAD for a path that is in here. Raises InvalidInput and RpcError."""
        ...


async def respond_with_page(pages: Iterable[Pages], request: web.BaseRequest, path: str, query: str) -> web.Response:
    """The answer of those pages that have the path.

    Raises what they do, HttpError 404 if none has it, and 405 with Allow for methods that pages do not take.
    """
    page = next((each for each in pages if path in each), None)
    if page is None:
        raise HttpError(404, Code.NOT_FOUND, f'there is nothing at "{path}"')
    if request.method not in METHODS:
        return other_method(request, path, METHODS)
    return await page.respond(request, path, query)


class OwnPages:
    """The greeting, the OpenAPI document, and the page that shows it.

    Args:
        describe: Makes the OpenAPI document; called when it is first asked for.
    """

    def __init__(self, describe: Callable[[], Mapping[str, Any]]) -> None:
        self._describe = describe

    def __contains__(self, path: object) -> bool:
        return path in ("/", DOCUMENT_PATH) or path in self._files

    async def respond(self, request: web.BaseRequest, path: str, query: str) -> web.Response:
        """The answer to GET or HEAD for a path that is in here; `?pretty=true` indents the document.

        Raises InvalidInput for a malformed query, and if `pretty` is neither true nor false.
        """
        if path == "/":
            return _greeting(request)
        if path == DOCUMENT_PATH:
            return _send(request, self._pretty_document if _is_pretty(query) else self._document)
        return _send(request, self._files[path])

    @cached_property
    def _document(self) -> _File:
        return _File.of(orjson.dumps(self._describe()), _JSON)

    @cached_property
    def _pretty_document(self) -> _File:
        options = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
        return _File.of(orjson.dumps(orjson.loads(self._document.body), option=options), _JSON)

    @cached_property
    def _files(self) -> Mapping[str, _File]:
        """By path. There is no other way to a file, so no path leads out of here."""
        own = resources.files("saxgw.doors") / "docs"
        page = _File.of((own / "page.html").read_bytes(), "text/html; charset=utf-8")
        files = [(own / name, content_type) for name, content_type in _OWN.items()]
        files += [(swagger_ui.static_path / name, content_type) for name, content_type in _VIEWER.items()]
        return {
            DOCS_PATH: page,
            **{f"{DOCS_PATH}/{file.name}": _File.of(file.read_bytes(), content_type) for file, content_type in files},
        }


def _is_pretty(query: str) -> bool:
    return any([is_pretty(name, value) for name, value in parse_query(query) if name == "pretty"][-1:])


def _greeting(request: web.BaseRequest) -> web.Response:
    headers = {"Vary": "Accept"}
    if "text/html" in request.headers.get("Accept", ""):
        return web.Response(status=307, headers={**headers, "Location": DOCS_PATH.removeprefix("/")})
    return web.Response(body=orjson.dumps(GREETING), headers={**headers, "Content-Type": _JSON})


def _send(request: web.BaseRequest, file: _File) -> web.Response:
    headers = {"ETag": file.etag, "Cache-Control": "no-cache", **_SECURITY}
    known = request.headers.get("If-None-Match", "")
    if known == "*" or file.etag in (tag.strip().removeprefix("W/") for tag in known.split(",")):
        return web.Response(status=304, headers=headers)
    return web.Response(body=file.body, headers={**headers, "Content-Type": file.content_type})
