"""Several gateways on the same ports: a supervisor, and a process for each of its workers.

The supervisor imports no servers. Workers are started anew and not forked, since gRPC does not outlive a fork.
"""

from saxgw.cli.workers.cpus import usable_cpus
from saxgw.cli.workers.supervisor import supervise

__all__ = ["supervise", "usable_cpus"]
