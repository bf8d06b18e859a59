"""The gateway's settings: one frozen object, complete and checked before any socket opens.

Each field is a flag and an environment variable of the command line (saxgw/cli/serve.py makes both from here):
`http_port` is `--http-port` and `SAXGW_HTTP_PORT`. Of a tuple the flag may be repeated, and the variable has its items
with spaces or commas between them.
"""

from __future__ import annotations

import dataclasses
import math
import re
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Final
from urllib.parse import urlsplit

from saxgw.globs import Globs, InvalidGlob

LOG_LEVELS: Final = ("debug", "info", "warning", "error")

LOG_FORMATS: Final = ("auto", "json", "text")

_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})

SAX_CLIENTS: Final = ("native", "official")
"""Saxgw's own client, and Google's Python module `sax`."""


_ORIGIN: Final = re.compile(r"[a-z][a-z0-9+.-]*://(?!.*:(?:80|443)$)[^/A-Z\s@]+")
"""As browsers write it: in lower case, without a default port or a slash at the end."""


class InvalidSetting(ValueError):
    """A setting has a value that makes no sense; the message quotes the flag and the value."""


def _setting(  # noqa: PLR0913 - by name
    default: Any,  # noqa: ANN401 - as dataclasses.field
    help_text: str,
    *,
    low: float | None = None,
    high: float | None = None,
    kind: type | None = None,
    known_as: str | None = None,
) -> Any:  # noqa: ANN401 - as dataclasses.field
    """A field with what the command line and the documentation say of it, and its range, bounds included.

    `kind` is the type of one that is None by default. `known_as` is an environment variable by which others know it.
    """
    return dataclasses.field(
        default=default,
        metadata={
            "help": help_text,
            "low": low,
            "high": high,
            "kind": kind or type(default),
            "known_as": known_as,
        },
    )


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that can be set. Sizes are in bytes, times in seconds. Raises InvalidSetting."""

    # What is served, and where.

    sax_root: str = dataclasses.field(
        metadata={
            "help": "Where cells are registered: a directory, or a URL such as gs://bucket/dir.",
            "kind": str,
            "known_as": "SAX_ROOT",  # by Sax's own tools
        }
    )

    host: str = _setting(
        "127.0.0.1",
        "Address to listen on, for both doors. Whoever reaches it may generate, unless callers need keys or tokens.",
    )

    http_port: int = _setting(8888, "Port of the HTTP door; 0 picks a free one.", low=0, high=65535)

    grpc_port: int = _setting(50051, "Port of the gRPC door; 0 picks a free one.", low=0, high=65535)

    admin_port: int | None = _setting(
        None,
        "Port of the admin server, which has /metrics and health; 0 picks a free one, without it there is none.",
        low=0,
        high=65535,
        kind=int,
    )

    admin_host: str | None = _setting(None, "Address for the admin server; that of the doors if not set.", kind=str)

    workers: int = _setting(
        1,
        "How many processes serve, all on the same ports; 0 for as many as there are CPUs to use. Limits such as "
        "--max-calls hold for each.",
        low=0,
    )

    # Time, in seconds.

    generate_timeout: float = _setting(
        600.0, "Seconds after which generating gives up, unless the caller gives it another time.", low=0.001
    )

    admin_timeout: float = _setting(
        10.0, "Seconds after which every other method gives up, unless the caller gives it less.", low=0.001
    )

    max_timeout: float = _setting(3600.0, "Seconds that a caller may give a call at the most.", low=0.001)

    replica_wait: float = _setting(
        10.0, "Seconds that Generate waits for a model server that is ready for a published model.", low=0
    )

    shutdown_delay: float = _setting(
        0.0,
        "Seconds to go on serving after SIGTERM or SIGINT while health says that this gateway is not ready, so that "
        "load balancers send callers elsewhere first.",
        low=0,
    )

    drain_timeout: float = _setting(
        30.0, "Seconds that running calls may take to finish after SIGTERM or SIGINT.", low=0
    )

    # What callers may ask for.

    max_calls: int = _setting(
        10_000, "How many calls run at once, both doors together; more are refused as RESOURCE_EXHAUSTED.", low=1
    )

    max_calls_per_key: int = _setting(
        0, "How many calls of one API key, or of one token's subject, run at once; 0 is as many as it likes.", low=0
    )

    max_rate_per_key: float = _setting(
        0.0, "How many calls per second one API key, or one token's subject, may make; 0 is as many as it likes.", low=0
    )

    max_request_bytes: int = _setting(
        4 * 2**20, "Largest request on either door. Google's model servers take no more than 4 MiB.", low=1
    )

    max_held_request_bytes: int = _setting(
        64 * 2**20,
        "How many bytes of requests are held at a time, of all calls of both doors together; what comes beyond is "
        "refused as RESOURCE_EXHAUSTED.",
        low=1,
    )

    max_header_bytes: int = _setting(
        16 * 2**10, "Longest HTTP request line or header, and most metadata of a gRPC call.", low=1024
    )

    max_json_depth: int = _setting(100, "How deep arrays and objects of a JSON body may be nested.", low=1, high=100)

    max_connections: int = _setting(10_000, "How many connections each door has open; more are refused.", low=1)

    header_timeout: float = _setting(10.0, "Seconds that the head of an HTTP request may take to arrive.", low=0.001)

    body_timeout: float = _setting(
        60.0, "Seconds that the body of a request may take to arrive, on either door.", low=0.001
    )

    ignore_unknown_fields: bool = _setting(
        False,  # noqa: FBT003 - a default, not a call's argument
        "Ignore unknown JSON fields and query parameters instead of refusing them.",
    )

    # How the cell is spoken to.

    sax_client: str = _setting(
        "native", "What speaks to cells: native, or official for Google's own module sax, which must have been built."
    )

    sax_threads: int = _setting(
        64, "With --sax-client=official: calls to models that run at once. A thousand more may wait.", low=1
    )

    max_response_bytes: int = _setting(64 * 2**20, "Largest answer taken from a model server.", low=1)

    max_queue: int = _setting(
        1000,
        "How many requests for one model wait for model servers with room for them; more are refused as "
        "RESOURCE_EXHAUSTED.",
        low=1,
    )

    min_in_flight: int = _setting(1, "How many requests of one method a model server is always sent at a time.", low=1)

    max_in_flight: int = _setting(
        1000,
        "How many requests of one method a model server is sent at a time at the most. In between the gateway finds "
        "out what it takes.",
        low=1,
    )

    # Who may call, and what (docs/security.md).

    api_keys: str = _setting(
        "", "File of API keys, made by `saxgw keys add`; whoever calls must then have one, or a token."
    )

    jwt_jwks: str = _setting(
        "",
        "File or https URL of the JWK set of an issuer of tokens; whoever calls must then have one, or a key.",
    )

    jwt_issuer: str = _setting("", "What the claim `iss` of tokens must be.")

    jwt_audience: str = _setting("", "What the claim `aud` of tokens must be, or have among others.")

    jwt_leeway: float = _setting(30.0, "Seconds by which the issuer's clock may differ.", low=0, high=600)

    allow_anonymous_admin: bool = _setting(
        False,  # noqa: FBT003 - as above
        "Without keys and tokens: take publish, update and unpublish from other machines, too.",
    )

    allow_model_path: tuple[str, ...] = _setting(
        (), "Pattern for the model_path of what may be published, such as saxml.server.*; may be repeated."
    )

    allow_checkpoint: tuple[str, ...] = _setting(
        (), "Pattern for the checkpoint of what may be published, such as gs://bucket/** or None; may be repeated."
    )

    cors_origin: tuple[str, ...] = _setting(
        (), "Origin of web pages that may call, such as https://app.example, or * with keys or tokens; may be repeated."
    )

    allowed_host: tuple[str, ...] = _setting(
        (),
        "Without keys, tokens and TLS: name by which this machine may call, beside localhost; may be repeated.",
    )

    tls_certificate: str = _setting(
        "", "File of the certificate that both doors show, with those between it and its authority, in PEM."
    )

    tls_key: str = _setting("", "File of that certificate's private key, in PEM.")

    tls_client_ca: str = _setting(
        "", "File of authorities, in PEM; whoever connects must then show a certificate of one of them."
    )

    # What is told of calls (docs/observability.md).

    log_level: str = _setting("info", f"What to log: {', '.join(LOG_LEVELS)}.")

    otlp_endpoint: str | None = _setting(
        None,
        "Where traces are sent, by OTLP over gRPC, such as http://localhost:4317. It needs the extra saxgw[otel].",
        kind=str,
        known_as="OTEL_EXPORTER_OTLP_ENDPOINT",  # by everything that traces
    )

    log_calls: bool = _setting(
        True,  # noqa: FBT003 - a default, not a call's argument
        "Log a line for each call, at level info. It tells nothing of what was asked or answered.",
    )

    log_format: str = _setting("auto", "How to log: json, text, or auto, which is text on a terminal and else json.")

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            low, high = field.metadata.get("low"), field.metadata.get("high")
            if value is None or low is None:
                continue
            if not (low <= value <= (math.inf if high is None else high) and math.isfinite(value)):
                bounds = f"at least {low}" if high is None else f"between {low} and {high}"
                raise InvalidSetting(f"{flag(field.name)} must be {bounds}, got {value}")
        if not self.sax_root:
            raise InvalidSetting(f"{flag('sax_root')} is empty; name a directory or a URL such as gs://bucket/dir")
        for name in ("host", "admin_host"):
            if getattr(self, name) == "":
                raise InvalidSetting(f"{flag(name)} is empty; name an address to listen on, such as 127.0.0.1")
        self._check_limits()
        self._check_tokens()
        self._check_doors()
        for name, choices in (("log_level", LOG_LEVELS), ("log_format", LOG_FORMATS), ("sax_client", SAX_CLIENTS)):
            if (value := getattr(self, name)) not in choices:
                raise InvalidSetting(f"{flag(name)} must be one of {', '.join(choices)}, got {value}")

    @property
    def authenticates(self) -> bool:
        """Whether callers have to say who they are."""
        return bool(self.api_keys or self.jwt_jwks)

    @property
    def warning(self) -> str | None:
        """What whoever starts the gateway should know about who may call it."""
        asked = self.authenticates or (self.tls_client_ca and not self.allow_anonymous_admin)
        if asked or (self.host in _LOOPBACK and not self.allow_anonymous_admin):
            return None
        admin = (
            "generate, publish and unpublish"
            if self.allow_anonymous_admin
            else "generate, and whoever is on this machine publish and unpublish"
        )
        return f"nobody is asked who they are: whoever reaches {self.host} may {admin}; see --api-keys and --jwt-jwks"

    def _check_limits(self) -> None:
        for name, least in (("max_in_flight", "min_in_flight"), ("max_held_request_bytes", "max_request_bytes")):
            if getattr(self, name) < getattr(self, least):
                raise InvalidSetting(
                    f"{flag(name)} must be at least {flag(least)}, which is {getattr(self, least)}, "
                    f"got {getattr(self, name)}"
                )

    def _check_tokens(self) -> None:
        if self.jwt_jwks:
            if not (self.jwt_issuer and self.jwt_audience):
                raise InvalidSetting(
                    f"{flag('jwt_jwks')} needs {flag('jwt_issuer')} and {flag('jwt_audience')}: a token of another "
                    "issuer, or for somebody else, must not open this gateway"
                )
            if "://" in self.jwt_jwks and not self.jwt_jwks.startswith("https://"):
                raise InvalidSetting(f"{flag('jwt_jwks')} must be a file or an https URL, got {self.jwt_jwks}")
            if find_spec("jwt") is None or find_spec("cryptography") is None:
                raise InvalidSetting(f'{flag("jwt_jwks")} needs PyJWT: pip install "saxgw[jwt]"')
        elif self.jwt_issuer or self.jwt_audience:
            raise InvalidSetting(f"{flag('jwt_issuer')} and {flag('jwt_audience')} need {flag('jwt_jwks')}")

    def _check_doors(self) -> None:
        for origin in self.cors_origin:
            if origin == "*" and not self.authenticates:
                raise InvalidSetting(f"{flag('cors_origin')}=* needs {flag('api_keys')} or {flag('jwt_jwks')}")
            if origin != "*" and not _ORIGIN.fullmatch(origin):
                raise InvalidSetting(f"{flag('cors_origin')} must be such as https://app.example:8080, got {origin}")
        if bool(self.tls_certificate) != bool(self.tls_key):
            raise InvalidSetting(f"{flag('tls_certificate')} and {flag('tls_key')} go together")
        if self.tls_client_ca and not self.tls_certificate:
            raise InvalidSetting(f"{flag('tls_client_ca')} needs {flag('tls_certificate')} and {flag('tls_key')}")
        for name in ("allow_model_path", "allow_checkpoint"):
            try:
                Globs(getattr(self, name))
            except InvalidGlob as error:
                raise InvalidSetting(f"{flag(name)}: {error}") from error


def flag(name: str) -> str:
    """The command-line flag of a field of Settings."""
    return "--" + name.replace("_", "-")


def environment_variable(name: str) -> str:
    """The environment variable of a field of Settings."""
    return "SAXGW_" + name.upper()


def may_be_secret(value: object) -> bool:
    """Whether a value is a URL with a user, a password or a query, where tokens are."""
    if not isinstance(value, str) or "://" not in value:
        return False
    try:
        url = urlsplit(value)
    except ValueError:
        return True  # who knows what it is
    return bool(url.username or url.password or url.query)
