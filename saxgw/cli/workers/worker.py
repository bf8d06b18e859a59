"""A worker: one of several gateways that share their ports, each in a process of its own, under a supervisor.

`python -m saxgw.cli.workers.worker FD`, where FD is the worker's end of a connection. The supervisor sends Settings.
The worker sends the line that says that it is ready, or the ClickException that tells why it cannot be. SIGTERM has it
finish what is running and leave; when the connection breaks, the supervisor is gone, and the worker ends at once.
"""

from __future__ import annotations

import os
import sys
import threading
from multiprocessing.connection import Connection

import click


def main(supervisor: Connection) -> None:
    """Runs a worker to its end."""
    settings = supervisor.recv()
    # Not in the event loop: what keeps that from running must not keep a worker alive that nobody watches.
    threading.Thread(target=_end_with, args=(supervisor,), daemon=True).start()
    from saxgw.cli import serving  # noqa: PLC0415 - takes half a second, in which the supervisor may end

    try:
        serving.run(serving.serve(settings, supervisor.send), settings)
    except click.ClickException as error:
        supervisor.send(error)
        sys.exit(error.exit_code)


def _end_with(supervisor: Connection) -> None:
    try:
        supervisor.recv()  # there is nothing more to come
    except (EOFError, OSError):
        os._exit(1)


if __name__ == "__main__":
    main(Connection(int(sys.argv[1])))
