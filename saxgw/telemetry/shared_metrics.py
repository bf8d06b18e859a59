"""The folder by which workers share their metrics, so that any of them tells those of all."""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

FILES_VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"
"""The environment variable that names the folder; prometheus_client's. Workers inherit it."""


class SharedMetrics:
    """The files that workers write, from the first worker's start to the last one's end."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def forget(self, pid: int, *, served: bool) -> None:
        """Has a worker that is dead not count as living; what it has counted stays, if it has served at all."""
        if served:
            # Only now: this imports what the supervisor does without as long as all goes well.
            from saxgw.telemetry.metrics import forget_worker  # noqa: PLC0415 - see above

            forget_worker(pid)
        else:
            for file in self._folder.glob(f"*_{pid}.db"):
                file.unlink()


@contextmanager
def shared_metrics() -> Iterator[SharedMetrics]:
    """Makes a folder, which is deleted in the end. Raises OSError if there is no place for it."""
    try:
        temporary = tempfile.TemporaryDirectory(prefix="saxgw-metrics-")
    except OSError as error:
        raise OSError(
            f"workers share their metrics in files, for which there is no place: {error.strerror}; "
            "set TMPDIR to a folder that can be written to, or do without --admin-port"
        ) from error
    with temporary as folder:
        os.environ[FILES_VARIABLE] = folder
        try:
            yield SharedMetrics(Path(folder))
        finally:
            del os.environ[FILES_VARIABLE]
