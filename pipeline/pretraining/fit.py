"""The updates of pre-training, in intervals between evaluations on held-out text; resumed where a process stopped."""

import dataclasses
import math
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import tensorflow as tf

from pipeline.config import Config, PhaseConfig, PretrainingConfig
from pipeline.pretraining.examples import ExampleSettings, held_out_batches, pretraining_batches
from pipeline.pretraining.model import PretrainingModel
from pipeline.pretraining.plan import Objective, why_no_pairs
from pipeline.pretraining.tokens import TokenCorpus
from pipeline.text import TextEncoder
from pipeline.training.checkpoint import Checkpoints, Progress
from pipeline.training.watch import Interval, StopRequest, Watch, log
from pipeline.training.workers import Workers


@dataclass
class PretrainingProgress(Progress):
    """Where pre-training stands. An interval ends with an evaluation on held-out text; `step` counts its batches."""

    phase: int = 0
    """Of config.phases."""
    phase_updates: int = 0
    """Of that phase, before this interval."""
    updates: int = 0
    """Of the whole run, before this interval."""
    corpus_pass: int = 0
    """Which pass over the corpus this interval begins in."""
    corpus_batch: int = 0
    """Batches of that pass before this interval."""


def fit(
    model: PretrainingModel,
    train: TokenCorpus,
    held_out: TokenCorpus | None,
    encoder: TextEncoder,
    config: Config,
    checkpoints: Checkpoints[PretrainingProgress],
    logs: Path,
) -> PretrainingProgress:
    """Train a compiled model through all phases, from its newest checkpoint where there is one.

    Args:
        model: compiled.
        train, held_out: prepared corpora; None: no held-out text.
        encoder: whose tokens they are.
        config: its pretraining section, and training's seed (of pairs, masks and order) and checkpoint_seconds.
        checkpoints: of this model.
        logs: folder for TensorBoard.

    Returns:
        The finished progress; its history has one dict an interval.

    Raises:
        UserError: the loss is no longer finite, or the corpus has no examples of this kind.
        Stopped: SIGTERM or Ctrl-C came; the state is saved.
    """
    progress, workers = checkpoints.restore(), checkpoints.workers
    total = sum(phase.steps for phase in config.pretraining.phases)
    if not _announce(progress, total):
        checkpoints.save(progress)
    writer = tf.summary.create_file_writer(str(logs)) if workers.chief else tf.summary.create_noop_writer()
    evaluate = HeldOutScores(model, held_out, encoder, config.pretraining, workers) if held_out else None
    with StopRequest() as stop:
        while not progress.finished:
            phase = config.pretraining.phases[progress.phase]
            updates = min(phase.steps - progress.phase_updates, config.pretraining.evaluate_every)
            batches, end = _interval_batches(train, encoder, config, progress, updates, workers.shard)
            watch = Watch(
                progress,
                checkpoints,
                Interval(f"updates {progress.updates} to {progress.updates + updates}", updates, progress.updates),
                batch_size=phase.batch_size,
                checkpoint_seconds=config.training.checkpoint_seconds,
                writer=writer,
                stop=stop,
            )
            if progress.phase_updates == 0:
                # A graph of each phase's own: one made for the shapes of two phases rounds otherwise, and a run that
                # is resumed in the second phase would not have it.
                model.make_train_function(force=True)
            if batches is not None:
                model.run_updates(batches, updates - progress.step, [watch])
            row = _advance(progress, phase, updates, end, watch.finish(), evaluate(phase) if evaluate else {})
            log(writer, row, progress.updates)
            print("  ".join(f"{name} {value:.4g}" for name, value in row.items()), flush=True)
            progress.finished = progress.updates >= total
            checkpoints.save(progress)
    return progress


def _announce(progress: PretrainingProgress, total: int) -> int:
    """Say where the run stands; returns the updates that are done."""
    done = progress.updates + progress.step
    if progress.finished:
        print("pre-training is already complete")
    elif done:
        print(f"resuming pre-training after {done} of {total} updates")
    return done


def _interval_batches(
    corpus: TokenCorpus,
    encoder: TextEncoder,
    config: Config,
    progress: PretrainingProgress,
    updates: int,
    shard: tuple[int, int],
) -> tuple[tf.data.Dataset | None, tuple[int, int]]:
    """The batches that are left of an interval of `updates`, and the place in the corpus (pass, batch) after it."""
    settings = example_settings(config.pretraining, config.pretraining.phases[progress.phase])
    read = partial(stream, corpus, encoder, settings, seed=config.training.seed, shard=shard)
    _, place = read((progress.corpus_pass, progress.corpus_batch), progress.step)
    return read(place, updates - progress.step)


def _advance(
    progress: PretrainingProgress,
    phase: PhaseConfig,
    updates: int,
    end: tuple[int, int],
    means: dict[str, float],
    scores: dict[str, float],
) -> dict[str, float]:
    """Enter an interval of `updates` in the progress and return its row; the next begins at `end` of the corpus."""
    row = {"updates": progress.updates + updates, "phase": progress.phase + 1, **means}
    row["examples_per_second"] = updates * phase.batch_size / row["seconds"]
    row |= {f"validation_{name}": value for name, value in scores.items()}
    progress.history.append(row)
    progress.updates += updates
    progress.phase_updates += updates
    if progress.phase_updates >= phase.steps:
        progress.phase, progress.phase_updates = progress.phase + 1, 0
        # With another batch size the numbers of batches mean other examples: the next phase begins a new pass.
        end = end[0] + 1, 0
    progress.corpus_pass, progress.corpus_batch = end
    progress.epoch, progress.step, progress.sums, progress.seconds = progress.epoch + 1, 0, {}, 0.0
    return row


def example_settings(config: PretrainingConfig, phase: PhaseConfig) -> ExampleSettings:
    """What `pretraining_batches` is to make in a phase."""
    return ExampleSettings(
        batch_size=phase.batch_size,
        sequence_length=phase.sequence_length,
        max_predictions=config.max_predictions or math.ceil(config.masked_share * phase.sequence_length),
        objective=config.objective,
        masked_share=config.masked_share,
        whole_words=config.whole_words,
        short_share=config.short_share,
    )


def stream(
    corpus: TokenCorpus,
    encoder: TextEncoder,
    settings: ExampleSettings,
    place: tuple[int, int],
    count: int,
    *,
    seed: int,
    shard: tuple[int, int],
) -> tuple[tf.data.Dataset | None, tuple[int, int]]:
    """The next `count` batches from a place (pass over the corpus, batch of that pass), and the place after them.

    Returns:
        (dataset, or None for no batches; place)
    """
    joined, (corpus_pass, batch) = None, place
    while count > 0:
        rest = pretraining_batches(corpus, encoder, settings, seed=seed, epoch=corpus_pass, skip=batch, shard=shard)
        taken = min(len(rest), count)
        part = rest.take(taken)
        joined = part if joined is None else joined.concatenate(part)
        count -= taken
        corpus_pass, batch = (corpus_pass + 1, 0) if taken == len(rest) else (corpus_pass, batch + taken)
    return joined, (corpus_pass, batch)


class HeldOutScores:
    """Scores of the current weights on the same held-out examples each time.

    Args:
        model: scored as it is.
        corpus: held-out text; where it has no pairs for the objective, masked tokens alone are scored.
        encoder: whose tokens it holds.
        config: the pretraining section.
        workers: they divide the batches among them, and all get the scores.
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
        self._objective: Objective = "none" if why_no_pairs(corpus, config.objective) else config.objective

        @tf.function(autograph=False)
        def sums(data):
            weights = model.weight_sums(data)
            return model.losses_of(data, [tf.ones([])] * len(weights), training=False), weights

        self._sums = sums

    def __call__(self, phase: PhaseConfig) -> dict[str, float]:
        """masked_loss (nats a token), perplexity, masked_accuracy and, with pairs, next_sentence_accuracy; nothing
        where no token can be predicted, as all are of unknown words."""
        size = self.config.evaluation_batch_size
        settings = example_settings(self.config, phase)
        settings = dataclasses.replace(settings, batch_size=size, objective=self._objective)
        batches = held_out_batches(self.corpus, self.encoder, settings)
        batches = batches.take(math.ceil(self.config.evaluation_examples / size))
        index, count = self.workers.shard
        names = ["loss", "masked_loss", "masked_accuracy", "next_sentence_accuracy"]
        # One row a batch, added up in the same order by all workers: the scores are those of one process.
        rows = np.zeros((len(batches), len(names) + 2))
        for number, data in enumerate(batches.shard(count, index)):
            losses, weights = self._sums(data)
            row = rows[index + number * count]
            row[: len(names)] = [float(losses.get(name, 0.0)) for name in names]
            row[len(names) : len(names) + len(weights)] = [float(weight) for weight in weights]
        *sums, tokens, pairs = self.workers.sum(rows).sum(axis=0).tolist()
        if not tokens:
            if self.workers.chief:
                print("warning: no token of the held-out text can be predicted: it is not scored.", file=sys.stderr)
            return {}
        totals = dict(zip(names, sums, strict=True))
        loss = totals["masked_loss"] / tokens
        scores = {
            "masked_loss": loss,
            "perplexity": math.exp(min(loss, 700.0)),
            "masked_accuracy": totals["masked_accuracy"] / tokens,
        }
        if pairs:
            scores["next_sentence_accuracy"] = totals["next_sentence_accuracy"] / pairs
        return scores


def unigram_entropy(corpus: TokenCorpus, vocabulary_size: int) -> float:
    """Entropy of the tokens' frequencies in nats: the loss of a model that knows nothing but them."""
    counts = np.zeros(vocabulary_size, np.int64)
    for store in corpus.stores:
        for first in range(0, len(store.tokens), 1 << 24):
            counts += np.bincount(store.tokens[first : first + (1 << 24)], minlength=vocabulary_size)
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())
