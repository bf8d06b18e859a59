"""One connection that a relay has between a client and a server."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Final, cast

_NO_LINGERING: Final = struct.pack("ii", 1, 0)
"""For SO_LINGER: the socket is closed with a reset, and what it still had to send is dropped."""


class Relayed:
    """A connection in two parts, at first held up. It must be made and used within one event loop."""

    def __init__(self) -> None:
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when both parts are closed."""
        self.port = 0
        """The port of the part that leads to the server: the server's name for the client."""
        self._client = _Part(self)
        self._server = _Part(self)
        self._parts = (self._client, self._server)
        self._left: int | None = None

    async def connect(self, client: socket.socket, host: str, port: int) -> None:
        """Connects an accepted socket with a server; raises OSError if the server is not there."""
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_connection(lambda: self._server, host, port)
        self.port = transport.get_extra_info("sockname")[1]
        await loop.connect_accepted_socket(lambda: self._client, client)
        # One may have gone while the other came.
        if any(part.closed for part in self._parts):
            self.reset()

    def hold(self) -> None:
        """Takes nothing more from either side; neither can tell that from slowness."""
        for part in self._parts:
            part.read(held=True)

    def go_on(self) -> None:
        """Undoes `hold`."""
        for part in self._parts:
            part.read(held=False)

    def reset(self) -> None:
        """Ends both parts at once; whatever was on the way is lost."""
        for part in self._parts:
            part.reset()
        self.note_end()

    def cut(self, after_bytes: int) -> None:
        """Ends the connection when so many further bytes of the server's have passed; with 0, in place of the next."""
        self._left = after_bytes

    def forward(self, source: _Part, data: bytes) -> None:
        """Passes on what one part has received."""
        if source is self._client:
            self._server.write(data)
        elif self._left is None or len(data) < self._left:
            self._client.write(data)
            if self._left is not None:
                self._left -= len(data)
        else:
            # Closed in good order, so that the first half of the answer does arrive.
            self._client.write(data[: self._left])
            self._client.close()
            self._server.reset()

    def other(self, part: _Part) -> _Part:
        """Returns the part at the other end."""
        return self._server if part is self._client else self._client

    def note_end(self) -> None:
        """Notes that the connection has ended, if it has."""
        if all(part.closed for part in self._parts) and not self.ended.done():
            self.ended.set_result(None)


class _Part(asyncio.Protocol):
    """The connection with one of the two."""

    def __init__(self, relayed: Relayed) -> None:
        self._relayed = relayed
        self._transport: asyncio.Transport | None = None
        self._lost = False
        self._held = True
        self._full = False
        # Not all event loops let a transport be paused before it has begun to read.
        self._early: list[bytes] = []

    @property
    def closed(self) -> bool:
        """Whether it has been closed, or was never opened."""
        return self._lost or self._transport is None

    def read(self, *, held: bool | None = None, full: bool | None = None) -> None:
        """Goes on reading, unless it is held or the other part has more than enough to send."""
        self._held = self._held if held is None else held
        self._full = self._full if full is None else full
        if not self._held:
            early, self._early = self._early, []
            for data in early:
                self._relayed.forward(self, data)
        if self._transport is None or self._transport.is_closing():
            return
        if self._held or self._full:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def reset(self) -> None:
        if self._transport is not None and not self._lost:
            self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGERING)
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self.read()

    def data_received(self, data: bytes) -> None:
        if self._held:
            self._early.append(data)
        else:
            self._relayed.forward(self, data)

    def pause_writing(self) -> None:
        self._relayed.other(self).read(full=True)

    def resume_writing(self) -> None:
        self._relayed.other(self).read(full=False)

    def connection_lost(self, error: Exception | None) -> None:
        self._lost = True
        other = self._relayed.other(self)
        if error is None:
            other.close()
        else:
            other.reset()
        self._relayed.note_end()
