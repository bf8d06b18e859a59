"""How commands speak to a gateway that does not take everybody: the options for it, and what they come to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from saxgw.cli.command import Failed

if TYPE_CHECKING:
    from collections.abc import Callable

    import grpc


@dataclass(frozen=True, kw_only=True)
class Security:
    """Each field is an option of every command that may call a gateway. Raises UsageError."""

    api_key: str | None
    tls: bool
    tls_ca: Path | None
    client_certificate: Path | None
    client_key: Path | None

    def __post_init__(self) -> None:
        if self.api_key is not None and not (self.api_key.isascii() and self.api_key.isprintable()):
            raise click.UsageError("--api-key has characters that no key has", click.get_current_context())
        if (self.client_certificate is None) != (self.client_key is None):
            raise click.UsageError("--client-certificate and --client-key go together", click.get_current_context())

    def credentials(self) -> grpc.ChannelCredentials | None:
        """What gRPC needs for TLS; None if it is not wanted. Raises Failed if a file cannot be read."""
        import grpc  # noqa: PLC0415 - takes a while, which --help and completion can do without

        files = (self.tls_ca, self.client_key, self.client_certificate)
        if not self.tls and not any(files):
            return None
        return grpc.ssl_channel_credentials(*(None if file is None else _read(file) for file in files))


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise Failed(f"{file} cannot be read: {error.strerror}") from error


def _file(name: str, help_text: str) -> Callable[[Any], Any]:
    return click.option(
        f"--{name}",
        type=click.Path(dir_okay=False, path_type=Path),
        metavar="FILE",
        envvar=f"SAXGW_{name.replace('-', '_').upper()}",
        show_envvar=True,
        help=help_text,
    )


OPTIONS: Final = (
    click.option(
        "--api-key",
        metavar="KEY",
        envvar="SAXGW_API_KEY",
        show_envvar=True,
        help="An API key, or a token, for the gateway. Use the variable: others can see command lines.",
    ),
    click.option("--tls", is_flag=True, envvar="SAXGW_TLS", show_envvar=True, help="Speak TLS to the gateway."),
    _file("tls-ca", "Believe these authorities, in PEM, and no others; implies --tls."),
    _file("client-certificate", "What to show the gateway of ourselves, in PEM; implies --tls."),
    _file("client-key", "The private key of that certificate."),
)
"""The options, one for each field."""
