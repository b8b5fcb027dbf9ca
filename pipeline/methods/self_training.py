"""data.unlabelled: a model of the labelled rows labels further texts, and the next one learns from the surest of them.

Self-training (Scudder, 1965; for text and few labels see Mukherjee and Awadallah, 2020, arXiv:2006.15315): each round
begins with the weights that the run begins with, so that no round keeps the mistakes of the one before in its weights.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import cast

import numpy as np
import tensorflow as tf

from pipeline.assemble import assemble, seed_all
from pipeline.config import Config, DataConfig
from pipeline.data import sources
from pipeline.data.formats import whole_file
from pipeline.data.load import DataSplits
from pipeline.data.rows import clean_texts
from pipeline.data.split import Split
from pipeline.data.store import COLUMN_SETTINGS, convert
from pipeline.errors import UserError
from pipeline.evaluation.formatting import quoted
from pipeline.features.columns import wanted_features
from pipeline.files import write_text
from pipeline.methods.auto import chosen_method
from pipeline.redaction.rows import redacted_rows
from pipeline.tasks.label_task import LabelTask
from pipeline.training.pause import Pause
from pipeline.training.workers import Workers

FOLDER = "self_training"
# Of the texts that a model gives one answer, those that it is surest of.
SHARE = 0.6
# Labels in a line of the terminal.
SHOWN = 8


Line = tuple[list[str], str]
"""What is read of a row, its texts and then its columns, and its label as it is written."""


@dataclass(frozen=True)
class Place:
    """Where a run trains: its strategy, its workers, and when it pauses."""

    strategy: tf.distribute.Strategy
    workers: Workers
    pause: Pause


def self_trained(config: Config, data: DataSplits, place: Place) -> DataSplits:
    """The rounds before the last: the data with `learned`.

    A killed run goes on in the round that it was in; what it has kept of other rows or texts does not count. Texts that
    are also validation or test rows are left out.

    Args:
        config: of the run; without data.unlabelled nothing happens.
        data: its labelled rows.
        place: where it trains.

    Raises:
        UserError: there are no such texts, a round has begun with other rows, or what training raises.
        Stopped: see `train`.
    """
    if not config.data.unlabelled or data.train is None:
        return data
    folder = Path(str(config.run_dir)) / FOLDER
    rows = _Rows(config, data, folder)
    with place.workers.chief_first():
        if place.workers.chief:
            rows.keep_pool()
        pool = rows.read(rows.pool_file)
    print(f"self-training on {len(pool)} texts of {config.data.unlabelled}", flush=True)
    for number in range(1, config.training.self_training + 1):
        target = folder / f"rows-{number}.jsonl"
        answers = _round(config, data, pool, folder / f"{number}", place)
        with place.workers.chief_first():
            if place.workers.chief:
                rows.write(target, [*rows.labelled(), *rows.chosen(pool, answers)])
            learned = rows.read(target)
        data = rows.with_learned(learned)
        print(f"self-training {number}: {rows.summary(learned)}", flush=True)
    # What follows begins as a run does that finds the rounds done.
    seed_all(config.training)
    return data


def _round(config: Config, data: DataSplits, pool: Split, folder: Path, place: Place) -> np.ndarray:
    """Of the model of one round its predictions for the pool, float32 [m, K]."""
    kept, asked = folder / "answers.npz", f"{data.fingerprint} about:{pool.store.meta.fingerprint}"
    with place.workers.chief_first():
        done = kept.is_file()
    if done:
        with np.load(kept) as found:
            if "asked" in found and str(found["asked"]) == asked:
                return found["answers"]
    seed_all(config.training)
    run = assemble(config, data, place.strategy)
    # It ends, wherever the run itself is to pause; but not after its deadline.
    run.pause = replace(place.pause, epochs=None)
    assert data.train is not None
    # Kept in the run's own folder, where all rounds and the run find it; auto still, for its many updates.
    method = chosen_method(run, data.train, place.workers)
    run.config = replace(config, run_dir=str(folder), training=replace(config.training, method=method))
    run.fit(data.task, place.workers)
    answers = data.task.activation(tf.constant(run.forward("logits", place.workers)(pool))).numpy()
    if place.workers.chief:
        with whole_file(kept) as file:
            np.savez(file, answers=answers, asked=asked)
    place.workers.barrier()
    return answers


class _Rows:
    """Files of labelled rows and of texts without labels, which are read as any source is.

    Args:
        config: of the run.
        data: the labelled rows.
        folder: of the files.
    """

    def __init__(self, config: Config, data: DataSplits, folder: Path):
        assert data.train is not None
        self.config, self.data, self.train, self.folder = config.data, data, data.train, folder
        self.redaction = config.kept_redaction
        # Others are refused before the run begins.
        self.task = cast(LabelTask, data.task)
        self.columns, self.pool_file = data.features.cells, folder / "texts.jsonl"

    def keep_pool(self) -> None:
        """Write the texts of the source, unless they are those of these files beside these rows; where the files cannot
        be found any more, what was written of them holds."""
        about = self.pool_file.with_suffix(".json")
        known = json.loads(about.read_text(encoding="utf-8")) if about.is_file() else {}
        try:
            files = sources.expand(self.config.unlabelled or "")
        except UserError:
            if known.get("rows") != self.data.fingerprint:
                raise
            return
        identity = {"rows": self.data.fingerprint, "files": [[*sources.identity(file, self.config)] for file in files]}
        if known != identity:
            about.unlink(missing_ok=True)
            self.write(self.pool_file, self.texts_of_source())
            write_text(about, json.dumps(identity))

    def texts_of_source(self) -> Iterator[Line]:
        """Its texts, each once, with a stand-in for the label."""
        splits = [split for split in (self.train, self.data.validation, self.data.test) if split is not None]
        seen = {row for split in splits for row in zip(*split.cells(slice(None)), strict=True)}
        stand_in, known = self.task.written(self.train.targets(np.array([0])))[0], len(seen)
        for cells in self._of_source():
            if cells not in seen:
                seen.add(cells)
                yield [cell.decode() for cell in cells], stand_in
        if len(seen) == known:
            raise UserError(
                f"data.unlabelled {self.config.unlabelled} has no text that is not among the labelled rows."
            )

    def _of_source(self) -> Iterator[tuple[bytes, ...]]:
        skipped, texts = 0, len(self.config.text_columns)
        beside = wanted_features(self.config, self.data.features.sizes)
        for source in sources.expand(self.config.unlabelled or ""):
            rows = redacted_rows(sources.read(source, self.config, self.columns, "train"), texts, self.redaction)
            for number, cells in islice(rows, self.config.max_examples):
                try:
                    if isinstance(cells, str):
                        raise ValueError(cells)
                    others = (one.read(cell) for one, cell in zip(beside, cells[texts:], strict=True))
                    yield *clean_texts(cells[:texts]), *others
                except ValueError as error:
                    if self.config.bad_rows == "error":
                        raise sources.bad_row(source, number, self.config, error) from None
                    skipped += 1
        if skipped:
            print(f"warning: skipped {skipped} rows of data.unlabelled, which cannot be used.")

    def labelled(self) -> Iterator[Line]:
        """The training rows."""
        return self._written(self.train, self.task.written(self.train.targets()))

    def chosen(self, pool: Split, answers: np.ndarray) -> Iterator[Line]:
        """The texts that the model is surest of, of each answer the same share, with that answer."""
        names = np.array(self.task.written(self.task.decide(answers)), object)
        unsure = self.task.uncertainty(answers)
        assert unsure is not None
        kept = []
        for name in sorted(set(names)):
            those = np.flatnonzero(names == name)
            kept.append(those[np.argsort(unsure[those], kind="stable")[: int(np.ceil(SHARE * len(those)))]])
        rows = np.sort(np.concatenate(kept))
        return self._written(replace(pool, rows=pool.rows[rows]), names[rows].tolist())

    def write(self, path: Path, rows: Iterable[Line]) -> None:
        """As JSON lines; a file that holds them stays as it is, as `convert` takes one of another time for another."""
        keys = [*self.columns, self.config.label_column]
        lines = (json.dumps(dict(zip(keys, [*cells, label], strict=True)), ensure_ascii=False) for cells, label in rows)
        text = "".join(f"{line}\n" for line in lines)
        if not path.is_file() or path.read_bytes() != text.encode():
            write_text(path, text)

    def read(self, path: Path) -> Split:
        """The rows of a file that `write` has written."""
        plain = DataConfig(
            train=str(path),
            text_columns=self.config.text_columns,
            task=self.task.name,
            label_column=self.config.label_column,
            # Of tasks with any number of labels a row.
            label_separator=getattr(self.task, "separator", None),
            **{name: getattr(self.config, name) for name in COLUMN_SETTINGS},
        )
        store = convert(str(path), plain, self.folder / "data", "train")
        return Split("train", store, np.arange(store.meta.rows), self.task.targets(store, "the training rows"))

    def summary(self, learned: Split) -> str:
        """How many texts were given which label."""
        given = Counter(self.task.written(learned.targets())[len(self.train) :])
        most = ", ".join(f"{quoted(name)} {count}" for name, count in given.most_common(SHOWN))
        more = f" and {len(given) - SHOWN} labels more" if len(given) > SHOWN else ""
        return f"{given.total()} texts are given a label: {most}{more}"

    def with_learned(self, learned: Split) -> DataSplits:
        """The data of the next round, or of the run."""
        digest = hashlib.sha256(learned.store.meta.fingerprint.encode()).hexdigest()[:16]
        labelled = self.data.fingerprint
        return replace(
            self.data, learned=learned, fingerprint=f"{labelled} and:{digest}", labelled_fingerprint=labelled
        )

    def _written(self, split: Split, labels: list[str]) -> Iterator[Line]:
        rows = zip(*split.cells(slice(None)), strict=True)
        return (([cell.decode() for cell in row], label) for row, label in zip(rows, labels, strict=True))
