"""The machine that measures: its processor, its load, the versions of packages, the fastest product it makes."""

import os
import platform
import time
from collections.abc import Callable, Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def load() -> float | None:
    """Average of programs that ran or waited in the last minute; None where the system does not count them."""
    return round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None


def processor() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Of the packages that are installed."""
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def matmul_peak(clock: Callable[[], float] = time.perf_counter) -> float:
    """Operations a second of this machine's fastest large matrix product, bfloat16 or float32."""
    import tensorflow as tf

    # Long enough that a GPU's start does not count.
    size, products = (8192, 20) if tf.config.list_physical_devices("GPU") else (2048, 1)
    best = 0.0
    for dtype in (tf.float32, tf.bfloat16):
        a = tf.cast(tf.random.normal([size, size]) / size**0.5, dtype)

        def chain(a=a):
            b = a
            for _ in range(products):
                b = tf.matmul(a, b)
            return tf.reduce_sum(b)

        product = tf.function(chain, autograph=False)
        product()
        for _ in range(10):
            started = clock()
            product().numpy()
            best = max(best, products * 2 * size**3 / (clock() - started))
    return best
