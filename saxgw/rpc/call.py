"""One call, as handlers and interceptors see it."""

from __future__ import annotations

import ipaddress
import re
import secrets
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from google.protobuf.message import Message

    from saxgw.rpc.deadline import Deadline
    from saxgw.rpc.held import HeldBytes
    from saxgw.rpc.identity import Identity

REQUEST_ID_HEADER: Final = "X-Request-Id"
"""The header, or in lower case the gRPC metadata, by which callers name a call and answers tell its name."""

_SANE_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9_.:/+=@~-]{1,128}")


def request_id(proposed: str | None) -> str:
    """The caller's name for its call if it is one that logs and headers can hold, or else a new one.

    Sane are 1 to 128 letters, digits and `_.:/+=@~-`; new ones are 16 hexadecimal digits.
    """
    if proposed is not None and _SANE_REQUEST_ID.fullmatch(proposed):
        return proposed
    return secrets.token_hex(8)


@lru_cache(maxsize=1024)
def is_loopback(peer: str) -> bool:
    """Whether an IP address is one of this machine's own; an empty one is not."""
    try:
        address = ipaddress.ip_address(peer)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


@dataclass(eq=False)
class Call:
    """What is known of a call besides its request."""

    door: Literal["grpc", "http"]
    """Where it came in."""

    deadline: Deadline | None
    """When the caller stops waiting, if it said so."""

    headers: Mapping[str, str] = field(default_factory=dict)
    """HTTP headers, or gRPC metadata that is text. Ask for names in lower case."""

    request_id: str = field(default_factory=lambda: request_id(None))
    """Names this call in a log line and in the answer, so that people can match the two."""

    find_peer: Callable[[], str] = str
    """Tells `peer`."""

    identity: Identity | None = None
    """Who calls; None until that is known, and for ever where nobody need tell (saxgw/access)."""

    request: Message | None = None
    """What is asked; None until it has been read."""

    request_bytes: int = 0
    """Size of the request as it came, without headers; as much of it as was kept, if that was not all."""

    held: HeldBytes | None = None
    """What the request's bytes are counted in while the call runs, if anybody counts."""

    response: Message | None = None
    """The answer; None as long as there is none. Of a stream it is the latest message that was sent."""

    when_sent: Callable[[], object] | None = None
    """Is called after each message of a stream, once that was sent."""

    _peer: str | None = field(default=None, init=False, repr=False)

    def expect(self, size: int) -> None:
        """Raises RpcError if there is no room for so many bytes of the request, which have not come yet."""
        if self.held is not None:
            self.held.check(size)

    def take(self, size: int) -> None:
        """Notes that so many more bytes of the request are here. Raises RpcError if they may not be kept."""
        if self.held is not None:
            self.held.take(size)
        self.request_bytes += size

    @property
    def peer(self) -> str:
        """IP address that the call comes from, that of a proxy if there is one; empty if it is not known."""
        # Not a cached_property, which has a lock before Python 3.12.
        if self._peer is None:
            self._peer = self.find_peer()
        return self._peer
