"""What the servers of a dev cell can be made to do wrong, so that clients can be tried with it.

    async with DevCell(model_servers=3, faults=True) as cell:
        first, second, third = cell.model_servers
        first.faults.freeze()
        await second.faults.kill()
        third.faults.refuse(grpc.StatusCode.UNAVAILABLE, "going away", "Generate", calls=2)
        cell.admin.faults.drop_answers("Publish", calls=1)
        …
        first.faults.thaw()
        await second.start()

What only model servers and only the admin can do is in modelet_faults.py and admin_faults.py.

Servers of such a cell stand behind relays (relay.py), and what the cell and its clients know are the relays' addresses.
Faults outlast a restart of their server. `clear` ends them all.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from saxgw.devcell.call_faults import Dropping, Refusing, Slowness
from saxgw.devcell.errors import DevCellError
from saxgw.devcell.interception import Interceptor
from saxgw.devcell.relay import Relay

if TYPE_CHECKING:
    from collections.abc import Iterable

    import grpc

    from saxgw.devcell.fault import Fault


AnyFaults = TypeVar("AnyFaults", bound="Faults")


class Server(Protocol):
    """What faults need of the server that they are of."""

    @property
    def address(self) -> str: ...

    async def start(self, port: int | None = None) -> None: ...

    async def drop(self) -> None: ...


class Faults:
    """What any server can do wrong: one object for each, `server.faults`.

    Methods that make a Fault take names of RPCs, such as "Generate". Without any, all are meant that clients call; what
    the servers of the cell say to each other is not touched then.

    Args:
        server: The server.
        methods: Names of the RPCs that clients call.
        internal_methods: Names of those that only servers of the cell call.
    """

    def __init__(self, server: Server, methods: Iterable[str], internal_methods: Iterable[str]) -> None:
        self._server = server
        self._methods = frozenset(methods)
        self._known = self._methods | frozenset(internal_methods)
        self._active: list[Fault] = []
        self.relay: Final = Relay()
        """What stands in front of the server."""
        self.awake: Final = asyncio.Event()
        """Not set while the server is frozen or dead: it does nothing of its own accord then."""
        self.interceptor: Final = Interceptor(self._active)
        """What stands around the server's handlers."""

    @property
    def active(self) -> tuple[Fault, ...]:
        """The faults that have not ended, in the order in which they strike."""
        return tuple(self._active)

    async def kill(self) -> None:
        """Ends the server like SIGKILL: its port is closed, its connections are reset, and nothing is finished.

        The server's `start` brings it back. Until then its port is kept from others. Threads in which a model still
        computes are left to themselves; `stop` waits for them.
        """
        self.awake.clear()
        await self.relay.cut_off()
        await self._server.drop()

    async def restart(self, port: int | None = None) -> None:
        """Kills the server and starts it again: on its port, or on another one; 0 picks a free one."""
        await self.kill()
        await self._server.start(port)

    def freeze(self) -> None:
        """Stands still, like a process that was stopped by SIGSTOP.

        Connections stay open and the system accepts new ones, but nobody is answered: no call, no ping, no handshake.
        Nor does the server call others. Calls that it has begun go on inside, and their answers arrive after `thaw`.
        """
        self.relay.freeze()
        self.awake.clear()

    def thaw(self) -> None:
        """Ends a freeze. Does nothing if there is none."""
        if self.relay.frozen:
            self.awake.set()
        self.relay.thaw()

    def reset(self) -> None:
        """Resets all connections, calls and streams in the middle of their answers included; new ones are welcome."""
        self.relay.reset()

    def slow(self, seconds: float, *methods: str, calls: int | None = None) -> Fault:
        """Sends each answer so much later than it is there; of a stream, each message."""
        return self._begin(Slowness(self._checked(methods), calls, seconds))

    def refuse(self, code: grpc.StatusCode, text: str, *methods: str, calls: int | None = None) -> Fault:
        """Answers with this status, and does nothing."""
        return self._begin(Refusing(self._checked(methods), calls, code, text))

    def drop_answers(self, *methods: str, calls: int | None = None, after_bytes: int = 0) -> Fault:
        """Carries calls out, and breaks the connection before the answer; of a stream, before its first message.

        Args:
            methods: Names of the RPCs.
            calls: How many calls; None is no end.
            after_bytes: 0 resets the connection. More lets so many bytes of the answer through, HTTP/2's own included,
                before it closes: half an answer.
        """
        drop = partial(self.relay.cut, after_bytes) if after_bytes else self.relay.reset
        return self._begin(Dropping(self._checked(methods), calls, drop))

    def clear(self) -> None:
        """Ends all faults, a freeze included. A server that was killed stays so until it is started."""
        for fault in self.active:
            fault.end()
        self.thaw()

    def _begin(self, fault: Fault) -> Fault:
        self._active.append(fault)
        fault.when_over(lambda: self._active.remove(fault))
        return fault

    def _checked(self, methods: tuple[str, ...]) -> frozenset[str]:
        for method in methods:
            if method not in self._known:
                raise ValueError(f'there is no method "{method}"; there are {", ".join(sorted(self._known))}')
        return frozenset(methods) or self._methods


def permitted(faults: AnyFaults | None) -> AnyFaults:
    """Returns the faults of a server, if it was made to have any."""
    if faults is None:
        raise DevCellError("servers of this cell do nothing wrong; make it with DevCell(faults=True)")
    return faults
