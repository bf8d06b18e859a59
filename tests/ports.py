"""Ports that stay free: the system picks those that it gives away by itself from others."""

from __future__ import annotations

import itertools
import os
import socket
from pathlib import Path

_ALONE = 1000
"""How many ports each of pytest's processes has for itself."""

_numbers = itertools.count()


def lasting_port() -> int:
    """A port that nobody listens on, and that nobody is given who asks for any port or connects to somewhere.

    On another one somebody else may be by the time that it is listened on again, be it with an end of a connection.
    """
    first_given = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    process = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    ports = range(max(first_given - _ALONE * (process + 1), 1024), first_given - _ALONE * process)
    if not ports:  # where the system gives away all there are, one is as good as another
        ports = range(1)
    while True:
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", ports[next(_numbers) % len(ports)]))
            except OSError:
                continue
            return int(probe.getsockname()[1])
