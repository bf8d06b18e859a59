"""How many CPUs there are to use."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Final

_QUOTA: Final = Path("/sys/fs/cgroup/cpu.max")
"""What a container may use, under cgroup v2: microseconds of CPU in a period, or "max", and the period."""


def usable_cpus(quota: Path = _QUOTA) -> int:
    """How many CPUs this process may use: those it may run on, or what its quota of CPU time comes to, rounded up.

    Where there is no file `quota`, there is no quota.
    """
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        time_us, period_us = quota.read_text().split()
    except (OSError, ValueError):
        return cpus
    return cpus if time_us == "max" else min(cpus, math.ceil(int(time_us) / int(period_us)))
