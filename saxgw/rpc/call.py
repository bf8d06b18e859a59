"""One call, as handlers and interceptors see it."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from saxgw.rpc.deadline import Deadline


@dataclass(eq=False)
class Call:
    """What is known of a call besides its request."""

    door: Literal["grpc", "http"]
    """Where it came in."""

    deadline: Deadline | None
    """When the caller stops waiting, if it said so."""

    @cached_property
    def request_id(self) -> str:
        """Names this call in a log line and in the answer, so that people can match the two."""
        return secrets.token_hex(8)
