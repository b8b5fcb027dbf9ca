"""Several batches answered at once, each by a thread: the operations of one leave cores idle, and so does the Python of
a call."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple

import tensorflow as tf

from export.answers import Answers
from pipeline.cores import cores

# Each holds the activations of a batch in memory; so many texts at once, unless a single batch has more.
MOST, MOST_TEXTS = 8, 256


def calls_at_once(batch_size: int) -> int:
    """How many calls keep the processor busy: one for each thread that an operation may have; for a GPU one."""
    if tf.config.get_visible_devices("GPU"):
        return 1
    named = os.environ.get("TF_NUM_INTRAOP_THREADS", "")
    threads = tf.config.threading.get_intra_op_parallelism_threads() or (int(named) if named.isdigit() else 0)
    return min(threads or cores(), MOST, max(1, MOST_TEXTS // batch_size))


@contextmanager
def threads_for_calls(batch_size: int, calls: int | None = None) -> Iterator[ThreadPoolExecutor]:
    """Threads for so many calls, None: `calls_at_once`; at the end those that have not begun are dropped."""
    pool = ThreadPoolExecutor(calls or calls_at_once(batch_size))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


class Asked(NamedTuple):
    """Answers on their way."""

    answers: Answers
    """Complete when `calls` are done."""
    calls: list[Future]
    """Each gives the number of rows that it has answered."""

    def complete(self, progress: Callable[[int], Any] = lambda rows: None) -> Answers:
        """The answers, when all are there; `progress` is called with the number of rows of each batch.

        Raises:
            whatever a call has raised.
        """
        for call in self.calls:
            progress(call.result())
        return self.answers
