"""How many cores this process may use."""

import os


def cores() -> int:
    """Of the processor: fewer than it has where a container or taskset gives fewer."""
    # Not every system can say which it gives.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
