"""The `saxgw` command, also as `python -m saxgw`."""

from __future__ import annotations

import os


def main() -> None:
    """Runs the command line."""
    # What the gRPC core logs is for its own developers, and what matters of it we say ourselves. It reads this
    # variable when it is imported.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from saxgw.cli import main as cli  # noqa: PLC0415 - only now, see above

    cli(prog_name="saxgw")


if __name__ == "__main__":
    main()
