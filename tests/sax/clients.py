"""The two implementations of SaxClient, for tests that hold for both."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from saxgw.sax import official
from tests.devcell.harness import until

ROOT = Path(__file__).parent.parent.parent

MODULE = Path(__file__).parent / "official_module"
"""The folder of the stand-in for Google's module."""

PYTHON_PATH = os.pathsep.join(map(str, (MODULE, ROOT)))
"""PYTHONPATH of a process that shall find the stand-in."""

both_clients = pytest.mark.parametrize("sax", ["native", "official"], indirect=True)
both_hasty_clients = pytest.mark.parametrize("hasty", ["native", "official"], indirect=True)


@contextmanager
def giving_up_soon() -> Iterator[None]:
    """Lets an admin be given up at once that is looked for meanwhile, and is not there."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("saxgw.sax.connection._FIND_S", 0.05)
        yield


@contextmanager
def standing_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Lets the module `sax` be found, which is the stand-in, and forgets it at the end."""
    with monkeypatch.context() as patched:
        patched.syspath_prepend(MODULE)
        patched.setenv("SAX_ROOT", "/unset")
        patched.delitem(sys.modules, "sax", raising=False)
        try:
            yield
        finally:
            sys.modules.pop("sax", None)


@asynccontextmanager
async def official_client(root: str, **settings: Any) -> AsyncIterator[official.OfficialClient]:
    """The official client, whose threads have ended at the end."""
    async with official.connect(root, **settings) as client:
        yield client
    await until(lambda: not threads())


def threads() -> list[str]:
    """The threads of official clients."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("sax ")]
