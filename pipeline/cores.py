"""How many cores this process may use."""

import os
from pathlib import Path

# A container's share of the processor's time (cgroup v2): microseconds of a period, and the period.
QUOTA = Path("/sys/fs/cgroup/cpu.max")


def cores() -> int:
    """Of the processor: fewer than it has where taskset or a container gives fewer."""
    # Not every system can say which it gives.
    given = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        share, period = map(int, QUOTA.read_text("ascii").split())
    except (OSError, ValueError):  # no such file, or "max"
        return given
    return min(given, max(1, -(-share // period)))
