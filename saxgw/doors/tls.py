"""TLS for both doors, with certificates that may change while the gateway runs.

A connection has the certificate, and asks for client certificates of the authorities, that were current when it came;
those that stand are left alone.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import grpc

from saxgw.watched import POLL_S, InvalidFile, Watched, read

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class _Loaded:
    """What the files say, for each door."""

    context: ssl.SSLContext
    configuration: grpc.ServerCertificateConfiguration


class Tls:
    """What the doors need: `async with Tls(certificate, key, client_ca) as tls: tls.context, tls.credentials`.

    While it is entered it follows the files; those that do not fit together leave everything as it was, and are
    complained of in the log. Making one raises InvalidFile.

    Args:
        certificate: The gateway's certificate, followed by those between it and its authority, in PEM.
        key: Its private key, in PEM, without a password.
        client_ca: Certificates of authorities; callers then need a certificate of one of them.
        poll_s: Seconds between two looks at the files.
    """

    def __init__(self, certificate: Path, key: Path, client_ca: Path | None = None, *, poll_s: float = POLL_S) -> None:
        self._files = (certificate, key, client_ca)
        self._watched = Watched([file for file in self._files if file is not None], self._load, poll_s=poll_s)
        self._given = self._watched.value.configuration
        self.context: ssl.SSLContext = _Current.of(self._watched)
        """For HTTP; TLS 1.2 or newer."""
        self.credentials = grpc.dynamic_ssl_server_credentials(
            self._given,
            self._changed,  # type: ignore[arg-type]  # None is for no change, as grpcio's documentation has it
            require_client_authentication=client_ca is not None,
        )
        """For gRPC; TLS 1.2 or newer."""

    async def __aenter__(self) -> Self:
        await self._watched.__aenter__()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._watched.__aexit__(*exception)

    def _load(self) -> _Loaded:
        certificate, key, client_ca = self._files
        authorities = None if client_ca is None else read(client_ca)
        configuration = grpc.ssl_server_certificate_configuration([(read(key), read(certificate))], authorities)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        try:
            context.load_cert_chain(certificate, key, password="")  # or it would ask at the terminal
        except OSError as error:
            raise InvalidFile(f"{certificate} and {key} are no certificate and its key: {_reason(error)}") from error
        if client_ca is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            try:
                context.load_verify_locations(client_ca)
            except OSError as error:
                raise InvalidFile(f"{client_ca} has no certificates of authorities: {_reason(error)}") from error
        return _Loaded(context, configuration)

    def _changed(self) -> grpc.ServerCertificateConfiguration | None:
        """What gRPC asks, in a thread of its own, before each handshake."""
        current = self._watched.value.configuration
        if current is self._given:
            return None
        self._given = current
        return current


class _Current(ssl.SSLContext):
    """Stands for whichever context is current when a connection comes."""

    _watched: Watched[_Loaded]

    @classmethod
    def of(cls, watched: Watched[_Loaded]) -> Self:
        made = cls(ssl.PROTOCOL_TLS_SERVER)
        made._watched = watched
        return made

    def wrap_bio(self, *arguments: Any, **options: Any) -> ssl.SSLObject:  # noqa: ANN401 - those of SSLContext
        return self._watched.value.context.wrap_bio(*arguments, **options)


def _reason(error: OSError) -> str:
    return (error.reason or str(error)) if isinstance(error, ssl.SSLError) else error.strerror or str(error)
