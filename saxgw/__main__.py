"""The `saxgw` command, also as `python -m saxgw`."""

from __future__ import annotations

import os
import signal
import sys


def main() -> None:
    """Runs the command line."""
    # Commands have handlers of their own once they run. Until then there is no default for a process that is PID 1.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    # What the gRPC core logs is for its own developers, and what matters of it we say ourselves. It reads this
    # variable when it is imported.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    try:
        from saxgw.cli import run  # noqa: PLC0415 - only now, see above

        run()
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)


if __name__ == "__main__":
    main()
