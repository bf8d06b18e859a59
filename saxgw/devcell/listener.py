"""A gRPC server on loopback that can be stopped and started again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import grpc
from grpc_reflection.v1alpha import reflection

from saxgw.devcell.errors import DevCellError
from saxgw.sax.wire import POOL

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AsyncExitStack

    from saxgw.devcell.faults import Faults

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


class Listener:
    """Where a server listens, again and again: on the same port unless told otherwise.

    Args:
        port: Where to listen; 0 picks a free port at the first start and keeps it.
        services: Full names of the services that reflection lists.
        faults: What the server can do wrong; it stands behind a relay then. None is nothing.
    """

    def __init__(self, port: int, services: Sequence[str], faults: Faults | None = None) -> None:
        self._port = port
        self._services = services
        self._faults = faults
        self._inner_port = 0

    @property
    def address(self) -> str:
        """Where it listens, or did last: `127.0.0.1:port`. The port is 0 until the first time."""
        return f"{HOST}:{self._port}"

    def new_server(self, port: int | None, stack: AsyncExitStack) -> grpc.aio.Server:
        """Makes a server and binds it, so that connections wait until it is started.

        Args:
            port: Where to listen; 0 picks a free port, None is the port of the last time.
            stack: What stops it.

        Raises:
            DevCellError: The port is in use.
        """
        port = self._port if port is None else port
        server = grpc.aio.server(options=_OPTIONS, interceptors=[self._faults.interceptor] if self._faults else None)
        reflection.enable_server_reflection((*self._services, reflection.SERVICE_NAME), server, pool=POOL)
        try:
            if self._faults:
                self._port = self._faults.relay.bind(port)
                stack.push_async_exit(self._close_if_failed)
                self._inner_port = server.add_insecure_port(f"{HOST}:0")
            else:
                self._port = server.add_insecure_port(f"{HOST}:{port}")
        except (OSError, RuntimeError):
            raise DevCellError(f"cannot listen on {HOST}:{port}; is the port in use?") from None
        stack.push_async_callback(server.stop, None)
        return server

    async def start(self, server: grpc.aio.Server) -> None:
        """Lets a server answer."""
        await server.start()
        if self._faults:
            self._faults.awake.set()
            self._faults.relay.open(self._inner_port)

    async def close(self) -> None:
        """Gives the port back; the server has been stopped, or could not be started."""
        if self._faults:
            self._faults.awake.clear()
            await self._faults.relay.close()

    async def _close_if_failed(self, kind: type[BaseException] | None, *_exc: object) -> None:
        if kind is not None:
            await self.close()


def new_channel(address: str) -> grpc.aio.Channel:
    """Opens a channel to another server of the cell; one that comes back is found again within a second."""
    return grpc.aio.insecure_channel(
        address,
        options=(
            ("grpc.initial_reconnect_backoff_ms", 100),
            # Despite its name this is the time limit of one attempt.
            ("grpc.min_reconnect_backoff_ms", 1000),
            ("grpc.max_reconnect_backoff_ms", 1000),
            # Channels that share a connection would share its death and its backoff.
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.enable_http_proxy", 0),
        ),
    )
