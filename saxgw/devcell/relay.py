"""A TCP relay in front of a server: it does to connections what a process cannot do to its own.

To a client, a server whose relay is frozen is a process that was stopped by SIGSTOP, and one whose relay is cut off is
a process that was killed. The server behind it notices nothing.
"""

from __future__ import annotations

import asyncio
import socket
from functools import partial
from typing import TYPE_CHECKING, Final

from saxgw.devcell.background import Background
from saxgw.devcell.relayed import Relayed

if TYPE_CHECKING:
    from collections.abc import Iterable

_HOST: Final = "127.0.0.1"

_BACKLOG: Final = 4096
"""Connections that wait to be accepted, those to a frozen server included; the system may allow fewer."""

_LAST_WORDS_S: Final = 1.0
"""How long a server that has stopped has to send what it still had to say."""


class Relay:
    """Relays connections on loopback, until it is told otherwise.

    Its port is its own from `bind` to `close`. In between, while it is cut off, nobody else can get the port, though
    connecting to it is refused: on a busy machine another socket would soon have it.
    """

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        self._port = 0
        self._target = 0
        self._accepting = False
        self._frozen = False
        self._open: set[Relayed] = set()
        self._background = Background()

    @property
    def frozen(self) -> bool:
        """Whether it stands still."""
        return self._frozen

    def bind(self, port: int) -> int:
        """Takes a port, 0 for a free one, and returns it. Who connects waits for `open`.

        Raises:
            OSError: The port is in use.
        """
        if self._socket is None or port != self._port:
            bound = _bound(port)
            self._release()
            self._socket = bound
            self._port = bound.getsockname()[1]
        self._frozen = False
        self._socket.listen(_BACKLOG)
        return self._port

    def open(self, target: int) -> None:
        """Relays to this port from now on."""
        self._target = target
        self._accept()

    def freeze(self) -> None:
        """Stands still: connections stay, new ones are made by the system alone, and no byte passes."""
        self._frozen = True
        self._pause_accepting()
        for relayed in self._open:
            relayed.hold()

    def thaw(self) -> None:
        """Goes on, with all that has come meanwhile. Does nothing if it is not frozen."""
        self._frozen = False
        for relayed in self._open:
            relayed.go_on()
        self._accept()

    def reset(self, client_port: int | None = None) -> None:
        """Resets all connections; or that one by which the server behind is connected with this port of the relay."""
        for relayed in self._chosen(client_port):
            relayed.reset()

    def cut(self, after_bytes: int, client_port: int | None = None) -> None:
        """Ends connections, as `reset` chooses them, when they have brought so many further bytes of the server's.

        With 0 that is when the server sends the next byte, which does not arrive.
        """
        for relayed in self._chosen(client_port):
            relayed.cut(after_bytes)

    async def cut_off(self) -> None:
        """Closes the port to all who connect and resets all connections. `bind` and `open` undo it."""
        self._pause_accepting()
        self._target = 0
        self._frozen = False
        if self._socket is not None:
            self._socket.close()
            # Bound but not listening: connecting is refused, and the port is not given to anybody else.
            self._socket = _bound(self._port)
        await self._end()

    async def close(self) -> None:
        """Lets a server that has stopped have its last words, ends what is left, and gives the port back."""
        self._pause_accepting()
        self._target = 0
        if self._open and not self._frozen:
            await asyncio.wait([relayed.ended for relayed in self._open], timeout=_LAST_WORDS_S)
        self._frozen = False
        self._release()
        await self._end()

    def _accept(self) -> None:
        if self._socket and self._target and not self._frozen and not self._accepting:
            self._accepting = True
            asyncio.get_running_loop().add_reader(self._socket, self._accept_all)

    def _pause_accepting(self) -> None:
        if self._socket and self._accepting:
            self._accepting = False
            asyncio.get_running_loop().remove_reader(self._socket)

    def _accept_all(self) -> None:
        # Someone else may have been faster, or the caller may be gone again: then there is nothing to accept.
        while self._socket:
            try:
                client, _ = self._socket.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            client.settimeout(0)
            relaying = self._background.start(self._relay(client), f"relaying to port {self._target}")
            relaying.add_done_callback(partial(_close_if_cancelled, client))

    async def _relay(self, client: socket.socket) -> None:
        relayed = Relayed()
        try:
            await relayed.connect(client, _HOST, self._target)
        except (OSError, asyncio.CancelledError):
            # The server is gone, or the relay was told to end.
            client.close()
            relayed.reset()
        self._open.add(relayed)
        relayed.ended.add_done_callback(lambda _: self._open.discard(relayed))
        if self._frozen:
            relayed.hold()
        else:
            relayed.go_on()

    def _chosen(self, client_port: int | None) -> Iterable[Relayed]:
        return [relayed for relayed in self._open if client_port in (None, relayed.port)]

    async def _end(self) -> None:
        await self._background.cancel()
        self.reset()
        if self._open:
            await asyncio.wait([relayed.ended for relayed in self._open])

    def _release(self) -> None:
        if self._socket is not None:
            self._pause_accepting()
            self._socket.close()
            self._socket = None


def _close_if_cancelled(client: socket.socket, relaying: asyncio.Task[None]) -> None:
    """Closes a connection that nobody has begun to relay."""
    if relaying.cancelled():
        client.close()


def _bound(port: int) -> socket.socket:
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        bound.settimeout(0)
        # Connections of a server that was here before do not keep it from coming back.
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((_HOST, port))
    except OSError:
        bound.close()
        raise
    return bound
