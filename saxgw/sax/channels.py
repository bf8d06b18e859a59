"""Channels to the servers of cells: one for each address, shared, and closed with their last user."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import grpc.aio

from saxgw.sax.wire.admin_pb2_grpc import AdminStub
from saxgw.sax.wire.lm_pb2_grpc import LMServiceStub
from saxgw.sax.wire.modelet_pb2_grpc import ModeletStub

if TYPE_CHECKING:
    from saxgw.sax.wire.admin_pb2_grpc import AdminAsyncStub
    from saxgw.sax.wire.lm_pb2_grpc import LMServiceAsyncStub
    from saxgw.sax.wire.modelet_pb2_grpc import ModeletAsyncStub

CONNECT_TIMEOUT_S: Final = 2.0
"""How long one attempt to connect may take; what the official client gives it (Sax protocol §6.5)."""

_OPTIONS: Final = (
    # A server that comes back is used within two seconds, not two minutes: this long until it is found again (gRPC adds
    # up to a fifth at random), and about as long until the next request tries it (replicas.py).
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 800),
    # Despite its name this is the time limit of one attempt.
    ("grpc.min_reconnect_backoff_ms", round(CONNECT_TIMEOUT_S * 1000)),
    # Cells live on a private network, plaintext; a proxy for the web is no way into it.
    ("grpc.enable_http_proxy", 0),
    # A status whose text is larger than this arrives as RESOURCE_EXHAUSTED, which would be taken for a busy server;
    # model servers send tracebacks (Sax protocol §5.6).
    ("grpc.max_metadata_size", 2**20),
    ("grpc.absolute_max_metadata_size", 2**20),
    # A host that has vanished is noticed while calls wait for it. Both kinds of servers hang up on clients that ping
    # more often than every five minutes, or while no call is open (Sax protocol §9.1.15).
    ("grpc.keepalive_time_ms", 330_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.ping_timeout_ms", 20_000),  # without which grpcio does not heed the line above
    ("grpc.keepalive_permit_without_calls", 0),
)


class Server:
    """An admin or a model server at one address, with stubs for all that it may be asked. Made by Channels."""

    __slots__ = ("address", "admin", "channel", "lm", "modelet", "users")

    def __init__(self, address: str, channel: grpc.aio.Channel) -> None:
        self.address: Final = address
        self.channel: Final = channel
        self.admin: Final[AdminAsyncStub] = AdminStub(channel)
        self.lm: Final[LMServiceAsyncStub] = LMServiceStub(channel)
        self.modelet: Final[ModeletAsyncStub] = ModeletStub(channel)
        self.users = 0
        """How many open() calls are not followed by their release() yet."""

    @property
    def is_connected(self) -> bool:
        """Whether a connection stands, as far as is known."""
        return self.channel.get_state() is grpc.ChannelConnectivity.READY

    async def connect(self) -> bool:
        """Connects unless that is done; returns whether the server could be reached. Sends nothing."""
        while (state := self.channel.get_state(try_to_connect=True)) is not grpc.ChannelConnectivity.READY:
            if state in (grpc.ChannelConnectivity.TRANSIENT_FAILURE, grpc.ChannelConnectivity.SHUTDOWN):
                return False
            await self.channel.wait_for_state_change(state)
        return True


class Channels:
    """The servers that somebody uses, by address."""

    def __init__(self, max_message_bytes: int) -> None:
        self._options = (*_OPTIONS, ("grpc.max_receive_message_length", max_message_bytes))
        self._shared: dict[str, Server] = {}
        self._open: set[Server] = set()
        self._closing: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        """How many channels are open."""
        return len(self._open)

    def open(self, address: str, *, fresh: bool = False) -> Server:
        """Returns the server at `address`; each call must be followed by one of release().

        Nothing is contacted yet. `fresh` asks for a new channel, which connects at once however often earlier ones
        have failed; who has the old one keeps it.
        """
        server = self._shared.get(address)
        if server is None or fresh:
            server = self._shared[address] = Server(address, grpc.aio.insecure_channel(address, self._options))
            self._open.add(server)
        return self.share(server)

    def share(self, server: Server) -> Server:
        """Returns a server that is in use to one more user, who must release() it too."""
        server.users += 1
        return server

    def release(self, server: Server) -> None:
        """Gives a server back; the last user, whose calls must be over, closes its channel."""
        server.users -= 1
        if server.users or server not in self._open:
            return
        self._open.discard(server)
        if self._shared.get(server.address) is server:
            del self._shared[server.address]
        closing = asyncio.create_task(server.channel.close(), name=f"sax: close {server.address}")
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    async def aclose(self) -> None:
        """Closes all channels, used or not."""
        servers, self._open = self._open, set()
        self._shared.clear()
        await asyncio.gather(*self._closing, *(server.channel.close() for server in servers))
