"""What web pages may do: those of other origins nothing, unless they are on a list (CORS, Fetch standard §3.2).

Loopback and private networks do not keep out what browsers there show, so the HTTP door looks at what browsers say of
the pages that call it. Programs that are no browsers say nothing of the kind, and are not concerned.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from saxgw.rpc.status import Code, RpcError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from aiohttp import web

ANY_ORIGIN: Final = "*"

_EXPOSED: Final = "X-Request-Id, Retry-After"
"""What pages may read of an answer's head, beside what all pages may."""

_ALLOWED_HEADERS: Final = (
    "Authorization, Content-Type, X-Request-Id, X-Request-Timeout, Grpc-Timeout, Last-Event-ID, traceparent, tracestate"
)

_MAX_AGE_S: Final = 600
"""How long browsers may remember what pages of an origin may send."""


@dataclass(frozen=True)
class Browsers:
    """Which pages may call."""

    origins: frozenset[str] = frozenset()
    """Origins whose pages may, as browsers write them, such as `https://app.example`; `*` is all of them."""

    hosts: frozenset[str] | None = None
    """Names by which the gateway may be called from its own machine, beside `localhost`, names without a dot, and
    addresses; None is any name. This is against pages that have their own site's name lead here (DNS rebinding), which
    are of the gateway's origin to the browser."""

    def check(self, headers: Mapping[str, str], is_local: Callable[[], bool]) -> None:
        """Refuses, with PERMISSION_DENIED, what a browser sends for a page that may not call.

        `is_local` tells whether it comes from loopback.
        """
        host = headers.get("Host", "").lower()
        if self.hosts is not None and not _no_page_has(host) and _name(host) not in self.hosts and is_local():
            raise RpcError(
                Code.PERMISSION_DENIED,
                f'this gateway does not know itself as "{host}"; call it by its address, or start it with '
                "--allowed-host and that name",
            )
        origin, site = headers.get("Origin"), headers.get("Sec-Fetch-Site")
        if (origin is None and site is None) or site in ("same-origin", "none") or self.allows(origin):
            return
        # Browsers tell the site to loopback and over TLS alone; otherwise the origin has to tell.
        if site == "cross-site" or (origin is not None and origin.lower().partition("://")[2] != host):
            raise RpcError(
                Code.PERMISSION_DENIED,
                "web pages of other sites may not call this gateway unless --cors-origin says so",
            )

    def allows(self, origin: str | None) -> bool:
        """Whether pages of an origin may call."""
        return origin is not None and (origin in self.origins or ANY_ORIGIN in self.origins)

    def headers(self, request: web.BaseRequest, allow: str | None) -> dict[str, str]:
        """What an answer says to browsers; `allow` is what it says of the methods that its path takes."""
        if not self.origins:
            return {}
        origin = request.headers.get("Origin")
        if ANY_ORIGIN in self.origins:
            said = {"Access-Control-Allow-Origin": ANY_ORIGIN}
        elif origin is not None and self.allows(origin):
            said = {"Access-Control-Allow-Origin": origin, "Vary": "Origin"}
        else:
            return {"Vary": "Origin"}
        if request.method == "OPTIONS" and allow and "Access-Control-Request-Method" in request.headers:
            return {
                **said,
                "Access-Control-Allow-Methods": allow,
                "Access-Control-Allow-Headers": _ALLOWED_HEADERS,
                "Access-Control-Max-Age": str(_MAX_AGE_S),
            }
        return {**said, "Access-Control-Expose-Headers": _EXPOSED}


@lru_cache(maxsize=256)
def _no_page_has(host: str) -> bool:
    """Whether no web page can have this host for its own: the world's DNS has no names without a dot, nor addresses."""
    name = _name(host)
    if "." not in name or name.endswith(".localhost"):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _name(host: str) -> str:
    """The name in a Host header, without its port."""
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return host
