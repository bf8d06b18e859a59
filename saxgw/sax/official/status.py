"""What the module raises, as the statuses of saxgw.sax.status."""

from __future__ import annotations

import re
from typing import Final, Protocol, runtime_checkable

import grpc

from saxgw.sax.status import Status, as_meant, go_code

_LAYER: Final = re.compile(r"retries\(\d+\): |rpc error: code = (?P<code>\w+) desc = ")
"""What the Go library puts before a server's words (Sax protocol §6.3, §7.1)."""


class NotOk(Exception):
    """A call of the module has failed with a status."""

    def __init__(self, status: Status) -> None:
        super().__init__(status)
        self.status = status


class _Code(Protocol):
    @property
    def name(self) -> str: ...


@runtime_checkable
class _Status(Protocol):
    def code(self) -> _Code: ...
    def message(self) -> str: ...


def status_of(error: Exception) -> Status | None:
    """Returns the status that a StatusNotOk holds, as it was meant; None for any other exception.

    Its class is not looked at: where it is found depends on how the module was built.
    """
    status = getattr(error, "status", None)
    if not isinstance(status, _Status):
        return None
    code = getattr(grpc.StatusCode, status.code().name, grpc.StatusCode.UNKNOWN)
    words = status.message()
    while layer := _LAYER.match(words):
        if code is grpc.StatusCode.UNKNOWN and layer["code"]:
            code = go_code(layer["code"])
        words = words[layer.end() :]
    return as_meant(code, words)
