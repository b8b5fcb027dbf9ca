"""A process of the local engine: it answers the parts that it is given, one after another."""

import contextlib
import multiprocessing
import os
import signal
from collections import Counter
from multiprocessing.connection import Connection

from export.answered import warn
from export.batch.answer import answer_in_worker
from export.batch.job import Job
from export.batch.parts import Part
from pipeline.errors import UserError

# Processes that may die of one part.
DEATHS = 3


class Worker:
    """The process, as the one that gives it parts sees it.

    Args:
        job: of the parts.
        threads: of TensorFlow.

    Attributes:
        part: what it works on; None: it has nothing to do.
        rows: of it, those that are answered.
        connection: to wait for what it says.
    """

    def __init__(self, job: Job, threads: int):
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self._process = context.Process(target=_work, args=(theirs, job, threads), daemon=True)
        self._process.start()
        # Only the process holds this end: when it dies, the connection is at its end.
        theirs.close()
        self.part: Part | None = None
        self.rows = 0

    def give(self, part: Part) -> None:
        """Let it answer a part."""
        self.part, self.rows = part, 0
        # Where it has died, that is heard next.
        with contextlib.suppress(OSError):
            self.connection.send(part)

    def hear(self) -> int:
        """What it says next: how many rows more are answered. After the last of its part, `part` is None.

        Raises:
            EOFError: it has died.
            UserError: the part cannot be answered.
        """
        try:
            said = self.connection.recv()
        except OSError as error:
            raise EOFError from error
        if isinstance(said, str):
            raise UserError(said)
        if said is None:
            self.part = None
        self.rows += said or 0
        return said or 0

    def end(self) -> int | None:
        """End it, whatever it does; its exit status, negative for a signal."""
        self._process.kill()
        self._process.join()
        self.connection.close()
        return self._process.exitcode


def taken_back(worker: Worker, deaths: Counter) -> Part:
    """The part of a process that has died, to be answered again.

    Raises:
        UserError: `deaths`, where they are counted by part, are too many.
    """
    part, status = worker.part, worker.end()
    assert part is not None, "it had one, or nobody would have waited for it"
    place = f"part {part.number} of {part.source.path}"
    deaths[place] += 1
    if deaths[place] == DEATHS:
        raise UserError(f"{place}: {DEATHS} processes died of it, the last with status {status}; is memory short?")
    warn([f"a process died with status {status}: {place} is answered again."])
    return part


def _work(connection: Connection, job: Job, threads: int) -> None:
    # Before TensorFlow is imported.
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", str(threads))
    # Ctrl-C is the parent's to handle.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        while True:
            try:
                answer_in_worker(job, connection.recv(), connection.send, None)
                said = None
            except (BrokenPipeError, ConnectionResetError):
                raise
            except (ValueError, OSError) as error:
                said = str(error)
            connection.send(said)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # the parent has ended
