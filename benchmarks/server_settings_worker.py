"""A SavedModel under TensorFlow's C API alone, with the threads of one setting, as server_settings.py asks it.

Standard input: pickles, first the arguments of `Model`, then (name of a function below, its arguments).
Standard output: for each a pickle of what it returned, after one of True when the model is loaded.
"""

import copy
import pickle
import queue
import random
import sys
import threading
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from export.server.c_api import Library, Session


class Model:
    """`answer` may be called from several threads: each has a status of its own."""

    def __init__(self, tensorflow: str, op_libraries: list[str], model: str, feed: str, fetch: str, config: bytes):
        self._session, self._feed, self._fetch = Session(Library(tensorflow, op_libraries), model, config), feed, fetch
        self._threads = threading.local()

    def answer(self, texts: list[str]) -> None:
        if not hasattr(self._threads, "session"):
            session = copy.copy(self._session)
            session._library = copy.copy(session._library)
            session._library.status = session._c.TF_NewStatus()
            self._threads.session = session
        self._threads.session.run({self._feed: np.array([text.encode() for text in texts], object)}, [self._fetch])


def one_by_one(model: Model, batches: list[list[str]]) -> tuple[list[float], float]:
    """Seconds of each batch, and processor seconds of all."""
    seconds, begin = [], time.process_time()
    for batch in batches:
        start = time.perf_counter()
        model.answer(batch)
        seconds.append(time.perf_counter() - start)
    return seconds, time.process_time() - begin


def saturated(model: Model, batches: list[list[str]], threads: int) -> tuple[float, float]:
    """Seconds and processor seconds for all batches, `threads` at a time, as a server whose queue is never empty."""
    waiting = queue.SimpleQueue()
    for batch in batches:
        waiting.put(batch)

    def work() -> None:
        while True:
            try:
                model.answer(waiting.get_nowait())
            except queue.Empty:
                return

    workers = [threading.Thread(target=work) for _ in range(threads)]
    start, begin = time.perf_counter(), time.process_time()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return time.perf_counter() - start, time.process_time() - begin


def arrivals(model: Model, texts: list[str], rate: float, threads: int, wait: float, limit: int) -> list[float]:
    """Seconds from each text's arrival to its answer, texts arriving at random, `rate` a second.

    A batch starts when it is full or when its first text has waited for `wait` seconds, and a thread is free, as in
    TensorFlow's BasicBatchScheduler.
    """
    pending, done, closed = [], [], threading.Event()
    changed = threading.Condition()

    def work() -> None:
        while True:
            with changed:
                while not pending or (len(pending) < limit and pending[0][0] + wait > time.perf_counter()):
                    if closed.is_set() and not pending:
                        return
                    changed.wait(max(pending[0][0] + wait - time.perf_counter(), 0) if pending else 0.05)
                batch, pending[:] = pending[:limit], pending[limit:]
            model.answer([text for _, text in batch])
            end = time.perf_counter()
            done.extend(end - arrival for arrival, _ in batch)

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    clock, intervals = time.perf_counter(), random.Random(0)
    for text in texts:
        clock += intervals.expovariate(rate)
        time.sleep(max(0.0, clock - time.perf_counter()))
        with changed:
            pending.append((clock, text))
            changed.notify()
    closed.set()
    for worker in workers:
        worker.join()
    return done


def main() -> None:
    source, target = sys.stdin.buffer, sys.stdout.buffer
    model, reply = Model(*pickle.load(source)), True
    while True:
        pickle.dump(reply, target)
        target.flush()
        try:
            name, arguments = pickle.load(source)
        except EOFError:
            return
        reply = {"one_by_one": one_by_one, "saturated": saturated, "arrivals": arrivals}[name](model, *arguments)


if __name__ == "__main__":
    main()
