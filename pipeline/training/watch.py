"""What happens between the batches of model.fit: losses are looked at, the state is saved, signals are obeyed."""

import math
import signal
import sys
import threading
import time
from dataclasses import dataclass

import keras
import tensorflow as tf
from tensorflow.core.framework.summary_pb2 import SummaryMetadata

from pipeline.errors import Diverged, Paused, Stopped
from pipeline.training.checkpoint import Checkpoints, Progress
from pipeline.training.pause import Pause

# Losses are looked at this often: each look waits for the device.
LOSS_EVERY = 50


class StopRequest:
    """A context in which SIGTERM, which a machine that is taken away sends, and Ctrl-C only ask to stop; a Watch obeys.

    Args:
        pause: its deadline asks to stop too.

    Attributes:
        signalled: whether one of the signals came.
        overdue: tells whether the deadline has passed.

    Raises (at the end):
        Stopped: one came, and all that there was to do is done and saved.
        KeyboardInterrupt (at once): a second Ctrl-C.
    """

    def __init__(self, pause: Pause | None = None):
        self.signalled = self._interrupted = False
        self.overdue = (pause or Pause()).overdue

    @property
    def asked(self) -> bool:
        """Whether to stop."""
        return self.signalled or self.overdue()

    def __enter__(self):
        # Python hands signals to the main thread alone; elsewhere nobody can send one to us.
        self._listening = threading.current_thread() is threading.main_thread()
        if self._listening:
            numbers = [signal.SIGTERM]
            # A job that a script starts in the background ignores Ctrl-C, which is meant for others.
            if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
                numbers.append(signal.SIGINT)
            self._before = {number: signal.signal(number, self._ask) for number in numbers}
        return self

    def __exit__(self, kind, error, traceback):
        if self._listening:
            for number, handler in self._before.items():
                signal.signal(number, handler)
            if self.signalled and kind is None:
                # It came after the last batch: no Watch saw it.
                raise Stopped("stopped as asked; the state is saved: start again to go on.")

    def _ask(self, number, frame):
        if number == signal.SIGINT and self._interrupted:
            raise KeyboardInterrupt
        self._interrupted |= number == signal.SIGINT
        self.signalled = True


@dataclass(frozen=True)
class Interval:
    """A stretch of training between two looks at held-out rows: an epoch, or updates of a pre-training phase."""

    title: str
    """For the lines that are printed."""
    steps: int
    """Its batches, with those that an earlier process did."""
    steps_before: int
    """Batches of the run before it."""


class Watch(keras.callbacks.Callback):
    """Counts batches in `progress`, adds up what train_step returns, and saves the state when it is time.

    Args:
        progress: of the run; its `step`, `sums` and `seconds` are kept up to date.
        checkpoints: where the state goes.
        interval: of which the batches are.
        batch_size: examples a batch, on average.
        checkpoint_seconds: longest time without a checkpoint.
        writer: for TensorBoard.
        stop: in whose context model.fit runs.

    Raises (out of model.fit):
        Diverged: the loss is not finite any more.
        Stopped: SIGTERM or Ctrl-C came, to this worker or another; the state is saved.
        Paused: the deadline of `stop` came; the state is saved.
    """

    def __init__(
        self,
        progress: Progress,
        checkpoints: Checkpoints,
        interval: Interval,
        *,
        batch_size: float,
        checkpoint_seconds: float,
        writer: tf.summary.SummaryWriter,
        stop: StopRequest,
    ):
        super().__init__()
        self.progress, self.checkpoints = progress, checkpoints
        self.steps, self.steps_before, self.title = interval.steps, interval.steps_before, interval.title
        self.batch_size, self.checkpoint_seconds, self.writer, self.stop = batch_size, checkpoint_seconds, writer, stop
        self.first_step = progress.step
        self.pending: list[tuple[int, dict]] = []
        self.leaving: list[tf.Tensor] = []
        self.started = self.saved = time.monotonic()
        self.spent_before = progress.seconds

    def on_train_batch_begin(self, batch, logs=None):
        self.model.leaving = self.stop.asked

    def on_train_batch_end(self, batch, logs=None):
        assert logs is not None, "Keras gives what train_step returns"
        stopping = self._stopping(logs)
        self.progress.step += self.model.updates_done
        self.pending.append((self.model.updates_done, dict(logs)))
        logs["examples/s"] = self._speed()
        if len(self.pending) >= LOSS_EVERY:
            self._take_losses()
        due = time.monotonic() - self.saved > self.checkpoint_seconds and self.progress.step < self.steps
        # The workers' clocks differ; the chief's is the one that counts, as it alone writes.
        if (due and self.checkpoints.workers.chief) or stopping:
            self._take_losses()
            self.progress.seconds = self._seconds()
            self.checkpoints.save(self.progress)
            self.saved = time.monotonic()
        if stopping:
            kind = Paused if self.stop.overdue() and not self.stop.signalled else Stopped
            raise kind(f"stopped as asked; the state is saved in {self.checkpoints.folder}: start again to go on.")

    def _stopping(self, logs: dict) -> bool:
        """Whether to stop here: all workers get the same answer at the same batch."""
        if self.checkpoints.workers.count == 1:
            return self.stop.asked
        self.leaving.append(logs.pop("leaving"))
        # One batch late, so that the device need not be waited for.
        return len(self.leaving) > 1 and float(self.leaving.pop(0)) > 0

    def finish(self) -> dict[str, float]:
        """Means over the batches of the finished interval, by the names that train_step gives, and its seconds."""
        self._take_losses()
        means = {name: value / max(self.steps, 1) for name, value in self.progress.sums.items()}
        return means | {"seconds": self._seconds()}

    def _seconds(self) -> float:
        return self.spent_before + time.monotonic() - self.started

    def _speed(self) -> float:
        return (self.progress.step - self.first_step) * self.batch_size / (time.monotonic() - self.started)

    def _take_losses(self) -> None:
        if not self.pending:
            return
        counts = [count for count, _ in self.pending]
        taken = {name: [float(row[name]) for _, row in self.pending] for name in self.pending[0][1]}
        self.pending.clear()
        # A private training tells no loss.
        if not all(map(math.isfinite, taken.get("loss", ()))):
            raise Diverged(
                f"the loss is not finite any more in {self.title}, before batch {self.progress.step}; lower the "
                f"learning rate (the last good state: {self.checkpoints.folder})."
            )
        for name, values in taken.items():
            added = sum(value * count for value, count in zip(values, counts, strict=True))
            self.progress.sums[name] = self.progress.sums.get(name, 0.0) + added
        means = {f"batch_{name}": sum(values) / len(values) for name, values in taken.items()}
        rate = float(self.model.optimizer.learning_rate)
        log(self.writer, {**means, "learning_rate": rate}, self.steps_before + self.progress.step)
        if not sys.stdout.isatty():
            loss = f"  loss {means['batch_loss']:.4f}" if means else ""
            place = f"{self.title}  batch {self.progress.step}/{self.steps}"
            print(f"{place}{loss}  {self._speed():.1f} examples/s", flush=True)


def log(writer: tf.summary.SummaryWriter, row: dict[str, float], step: int) -> None:
    """Write numbers for TensorBoard, as tf.summary.scalar does, which needs the package tensorboard to be installed."""
    metadata = SummaryMetadata()
    metadata.plugin_data.plugin_name = "scalars"
    with writer.as_default():
        for name, value in row.items():
            tf.summary.write(name, tf.cast(value, tf.float32), step, metadata)
    writer.flush()
