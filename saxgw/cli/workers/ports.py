"""Ports on which several processes are to listen."""

from __future__ import annotations

import socket
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def held(host: str, port: int) -> Iterator[int]:
    """Holds a port, whose number it yields, for processes of this user that set SO_REUSEPORT, and nobody else.

    Nothing listens here: the kernel gives connections to those who do.

    Args:
        host: Where they listen: a name, whose addresses are all held, or an address.
        port: 0 picks a free one.

    Raises:
        OSError: The port is in use, be it by processes that share it among themselves, or there is no such host.
    """
    with ExitStack() as sockets:
        for family, kind, protocol, _, (address, _, *rest) in socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        ):
            holder = sockets.enter_context(socket.socket(family, kind, protocol))
            if family == socket.AF_INET6:
                holder.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            # Sharing is allowed only once the port is ours, or it might be shared with those who have it already. Until
            # then connections that linger in TIME_WAIT do not count, as they do not for servers.
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            holder.bind((address, port, *rest))
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            port = holder.getsockname()[1]
        yield port
