"""The updates of pre-training: from one look at held-out text to the next, and on from wherever a process stopped."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf

from pipeline.config import PhaseConfig, PretrainingConfig
from pipeline.pretraining.examples import held_out_batches, pretraining_batches
from pipeline.pretraining.model import PretrainingModel
from pipeline.pretraining.tokens import TokenCorpus
from pipeline.text import TextEncoder
from pipeline.training.checkpoint import Checkpoints, Progress
from pipeline.training.watch import StopRequest, Watch, log
from pipeline.training.workers import Workers


@dataclass
class PretrainingProgress(Progress):
    """Where pre-training stands. A leg is what lies between two looks at held-out text; `step` counts its batches."""

    phase: int = 0
    """Of config.phases."""
    phase_updates: int = 0
    """Of that phase, before this leg."""
    updates: int = 0
    """Of the whole run, before this leg."""
    corpus_pass: int = 0
    """Which pass over the corpus this leg begins in."""
    corpus_batch: int = 0
    """Batches of that pass before this leg."""


def fit(
    model: PretrainingModel,
    train: TokenCorpus,
    held_out: TokenCorpus | None,
    encoder: TextEncoder,
    config: PretrainingConfig,
    seed: int,
    checkpoint_seconds: float,
    checkpoints: Checkpoints,
    logs: Path,
) -> PretrainingProgress:
    """Train a compiled model through all phases, from its newest checkpoint where there is one.

    Args:
        model: compiled.
        train, held_out: prepared corpora; None: no held-out text.
        encoder: whose tokens they are.
        config: the pretraining section.
        seed: of pairs, masks and order.
        checkpoint_seconds: longest time without a checkpoint.
        checkpoints: of this model, with PretrainingProgress.
        logs: folder for TensorBoard.

    Returns:
        The finished progress; its history has one dict a leg.

    Raises:
        UserError: the loss is not finite any more, or the corpus has no examples of this kind.
        Stopped: SIGTERM or Ctrl-C came; the state is saved.
    """
    progress = checkpoints.restore()
    total = sum(phase.steps for phase in config.phases)
    if progress.finished:
        print("pre-training is already complete")
    elif progress.updates or progress.step:
        print(f"resuming pre-training after {progress.updates + progress.step} of {total} updates")
    else:
        checkpoints.save(progress)
    workers = checkpoints.workers
    writer = tf.summary.create_file_writer(str(logs)) if workers.chief else tf.summary.create_noop_writer()
    evaluate = HeldOutScores(model, held_out, encoder, config, workers) if held_out else None
    with StopRequest() as stop:
        while not progress.finished:
            phase = config.phases[progress.phase]
            leg = min(phase.steps - progress.phase_updates, config.evaluate_every)
            settings = {"seed": seed, "batch_size": phase.batch_size, "shard": workers.shard}
            settings |= example_settings(config, phase)
            start = progress.corpus_pass, progress.corpus_batch
            _, *place = stream(train, encoder, *start, progress.step, **settings)
            batches, *end = stream(train, encoder, *place, leg - progress.step, **settings)
            watch = Watch(
                progress,
                checkpoints,
                batch_size=phase.batch_size,
                steps=leg,
                steps_before=progress.updates,
                checkpoint_seconds=checkpoint_seconds,
                title=f"updates {progress.updates} to {progress.updates + leg}",
                writer=writer,
                stop=stop,
            )
            if progress.phase_updates == 0:
                # A graph of each phase's own: one made for the shapes of two phases rounds otherwise, and a run that
                # is taken up in the second phase would not have it.
                model.make_train_function(force=True)
            if batches is not None:
                model.run_updates(batches, leg - progress.step, [watch])
            progress.updates += leg
            row = {"updates": progress.updates, "phase": progress.phase + 1, **watch.finish()}
            row["examples_per_second"] = leg * phase.batch_size / row["seconds"]
            if evaluate:
                row |= {f"validation_{name}": value for name, value in evaluate(phase).items()}
            log(writer, row, progress.updates)
            progress.history.append(row)
            print("  ".join(f"{name} {value:.4g}" for name, value in row.items()), flush=True)
            progress.phase_updates += leg
            if progress.phase_updates >= phase.steps:
                progress.phase, progress.phase_updates = progress.phase + 1, 0
                # Another batch size has other numbers.
                end = [end[0] + 1, 0]
            progress.corpus_pass, progress.corpus_batch = end
            progress.epoch, progress.step, progress.sums, progress.seconds = progress.epoch + 1, 0, {}, 0.0
            progress.finished = progress.updates >= total
            checkpoints.save(progress)
    return progress


def example_settings(config: PretrainingConfig, phase: PhaseConfig) -> dict:
    """What `pretraining_batches` is to make in a phase."""
    return {
        "sequence_length": phase.sequence_length,
        "max_predictions": config.max_predictions or math.ceil(config.masked_share * phase.sequence_length),
        "objective": config.objective,
        "masked_share": config.masked_share,
        "whole_words": config.whole_words,
        "short_share": config.short_share,
    }


def stream(
    corpus: TokenCorpus, encoder: TextEncoder, corpus_pass: int, batch: int, count: int, **settings
) -> tuple[tf.data.Dataset | None, int, int]:
    """The next `count` batches from a place in the passes over a corpus, and the place after them.

    Returns:
        (dataset, or None for no batches; pass; batch of that pass)
    """
    joined = None
    while count > 0:
        rest = pretraining_batches(corpus, encoder, epoch=corpus_pass, skip=batch, **settings)
        taken = min(len(rest), count)
        part = rest.take(taken)
        joined = part if joined is None else joined.concatenate(part)
        count -= taken
        corpus_pass, batch = (corpus_pass + 1, 0) if taken == len(rest) else (corpus_pass, batch + taken)
    return joined, corpus_pass, batch


class HeldOutScores:
    """Scores of the current weights on the same held-out examples each time.

    Args:
        model: scored as it is.
        corpus: held-out text.
        encoder: whose tokens it holds.
        config: the pretraining section.
        workers: who divide the batches among them, and all get the scores.
    """

    def __init__(
        self,
        model: PretrainingModel,
        corpus: TokenCorpus,
        encoder: TextEncoder,
        config: PretrainingConfig,
        workers: Workers,
    ):
        self.corpus, self.encoder, self.config, self.workers = corpus, encoder, config, workers

        @tf.function(autograph=False)
        def sums(data):
            weights = model.weight_sums(data)
            return model.losses_of(data, [tf.ones([])] * len(weights), training=False), weights

        self._sums = sums

    def __call__(self, phase: PhaseConfig) -> dict[str, float]:
        """masked_loss (nats a token), perplexity, masked_accuracy and, with pairs, next_sentence_accuracy."""
        size = self.config.evaluation_batch_size
        settings = example_settings(self.config, phase)
        batches = held_out_batches(self.corpus, self.encoder, batch_size=size, **settings)
        batches = batches.take(math.ceil(self.config.evaluation_examples / size))
        index, count = self.workers.shard
        names = ["loss", "masked_loss", "masked_accuracy", "next_sentence_accuracy"]
        # One row a batch, added up in their order by all workers alike: the scores are those of one process.
        rows = np.zeros((len(batches), len(names) + 2))
        for number, data in enumerate(batches.shard(count, index)):
            losses, weights = self._sums(data)
            row = rows[index + number * count]
            row[: len(names)] = [float(losses.get(name, 0.0)) for name in names]
            row[len(names) : len(names) + len(weights)] = [float(weight) for weight in weights]
        *sums, tokens, pairs = self.workers.sum(rows).sum(axis=0).tolist()
        totals, counts = dict(zip(names, sums, strict=True)), (tokens, pairs)
        loss = totals["masked_loss"] / counts[0]
        scores = {
            "masked_loss": loss,
            "perplexity": math.exp(min(loss, 700.0)),
            "masked_accuracy": totals["masked_accuracy"] / counts[0],
        }
        if pairs:
            scores["next_sentence_accuracy"] = totals["next_sentence_accuracy"] / counts[1]
        return scores


def unigram_entropy(corpus: TokenCorpus, vocabulary_size: int) -> float:
    """Entropy of the pieces' frequencies in nats: the loss of a model that knows nothing but them."""
    counts = np.zeros(vocabulary_size, np.int64)
    for store in corpus.stores:
        for first in range(0, len(store.tokens), 1 << 24):
            counts += np.bincount(store.tokens[first : first + (1 << 24)], minlength=vocabulary_size)
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())
