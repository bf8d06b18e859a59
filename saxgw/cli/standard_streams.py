"""Standard error as servers use it: whoever does not read it must not keep them from serving, nor from ending."""

from __future__ import annotations

import contextlib
import os
import select
import sys
from typing import Final

_PATIENCE_S: Final = 0.1
"""How long what is said may wait for a reader before it is left unsaid."""


def say(what: str) -> None:
    """Tells people something on standard error, unless nobody reads it."""
    with contextlib.suppress(OSError):
        fd = sys.stderr.fileno()
        # A pipe that can be written to has room for more than a line.
        if select.select([], [fd], [], _PATIENCE_S)[1]:
            # Not by way of sys.stderr, which would keep what it cannot write, and try once more when the process ends.
            os.write(fd, f"saxgw: {what}\n".encode(errors="replace"))


def open_standard_streams() -> None:
    """Opens those that the process was started without; or a connection would get the number of one of them."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            fd = os.open(os.devnull, os.O_RDWR)  # the lowest number that is free, which is that of the stream
            os.set_inheritable(fd, True)  # noqa: FBT003 - the function takes it so
            setattr(sys, name, os.fdopen(fd, "r" if name == "stdin" else "w"))
