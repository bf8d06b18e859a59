"""A gRPC server on loopback that can be stopped and started again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import grpc
from grpc_reflection.v1alpha import reflection

from saxgw.devcell.errors import DevCellError
from saxgw.sax.wire import POOL

if TYPE_CHECKING:
    from collections.abc import Sequence

HOST: Final = "127.0.0.1"
"""Dev cells have neither authentication nor encryption, so they listen on loopback and nowhere else."""

_OPTIONS: Final = (
    # A second server on the same port is an error, not a partner.
    ("grpc.so_reuseport", 0),
    # Without these the server sheds calls as CANCELLED once some 1,000 wait to be accepted.
    ("grpc.server.max_pending_requests", 100_000),
    ("grpc.server.max_pending_requests_hard_limit", 200_000),
    # Kept although they are gRPC's defaults, because clients can tell (Sax protocol §5.2): what may be received is
    # limited, what is sent is not.
    ("grpc.max_receive_message_length", 4 * 1024 * 1024),
    ("grpc.max_send_message_length", -1),
)


def new_server(port: int, services: Sequence[str]) -> tuple[grpc.aio.Server, int]:
    """Makes a server and binds it, so that connections wait until it is started.

    Args:
        port: Where to listen; 0 picks a free port.
        services: Full names of the services that reflection lists.

    Returns:
        The server, and the port it listens on.

    Raises:
        DevCellError: The port is in use.
    """
    server = grpc.aio.server(options=_OPTIONS)
    reflection.enable_server_reflection((*services, reflection.SERVICE_NAME), server, pool=POOL)
    try:
        return server, server.add_insecure_port(f"{HOST}:{port}")
    except RuntimeError:
        raise DevCellError(f"cannot listen on {HOST}:{port}; is the port in use?") from None


def new_channel(address: str) -> grpc.aio.Channel:
    """Opens a channel to another server of the cell; one that comes back is found again within a second."""
    return grpc.aio.insecure_channel(
        address,
        options=(
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.min_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 1000),
            # Channels that share a connection would share its death and its backoff.
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.enable_http_proxy", 0),
        ),
    )
