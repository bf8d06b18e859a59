"""Ports that can be had again."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def kept_port() -> Iterator[int]:
    """A free port that nobody else is given, also while no server of ours listens there."""
    with socket.socket() as keeper:
        # Bound and not listening, which is no obstacle for a server that sets the same option, as all of ours do.
        keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        keeper.bind(("127.0.0.1", 0))
        yield keeper.getsockname()[1]
