"""Which texts to label next: those that the labels so far leave open, and of every kind."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from export.texts import Row
from pipeline.config import Config
from pipeline.data.load import DataSplits, load
from pipeline.errors import UserError
from pipeline.evaluation.predict import BatchForward
from pipeline.features import Features
from pipeline.labels.choose import choose, unlike
from pipeline.labels.rows import Source
from pipeline.labels.twins import plain
from pipeline.labels.vectors import frozen, vectors_of_texts
from pipeline.methods.learned import learn
from pipeline.redaction.kinds import Redaction
from pipeline.redaction.rows import redacted_texts
from pipeline.tasks import kind_of
from pipeline.typicality import find_typicality


@dataclass(frozen=True)
class Pool:
    """Texts without labels.

    Attributes:
        columns: of the source.
        text_columns: those of the texts.
        rows: whose texts may be followed by cells of columns, as in export.texts.
    """

    columns: list[str]
    text_columns: list[str]
    rows: list[Row]

    def redacted(self, redaction: Redaction) -> "Pool":
        """The rows that have a text, as they may be written."""
        texts = len(self.text_columns)
        rows = [(row, row.texts) for row in self.rows if row.texts]
        found = redacted_texts([cells[:texts] for _, cells in rows], redaction)
        both = zip(rows, found, strict=True)
        return replace(self, rows=[row._replace(texts=(*own, *cells[texts:])) for (row, cells), own in both])

    def without(self, known: set[str]) -> "Pool":
        """The rows of other texts or cells, each once."""
        kept: dict[str, Row] = {}
        for row in self.rows:
            if row.texts and (text := _plain(row.texts)) not in known:
                kept.setdefault(text, row)
        return replace(self, rows=list(kept.values()))


@dataclass(frozen=True)
class Next:
    """The rows to label, the most useful first.

    Attributes:
        columns, rows: as they are written: of a training file, with empty cells for the labels, and what else the
            pool has.
        pool: how many different texts without a label there were.
        labelled: rows that were learned from; 0: texts were chosen for being unlike each other alone.
    """

    columns: list[str]
    rows: list[list]
    pool: int
    labelled: int


def choose_next(source: Source, pool: Pool, count: int, by_fit: bool = False) -> Next:
    """Choose texts of a pool, which are redacted as a model reads them. A text that has a label, or had one in the pool
    above, is not chosen.

    Args:
        source: of the checkpoint, and of what is labelled so far.
        pool: to choose from.
        count: of texts; where there are fewer, all of them.
        by_fit: those that fit least among what is labelled, in place of those that are least sure.

    Raises:
        UserError: no text is left, or what is labelled cannot be read.
    """
    config = source.config
    data = (
        load(config.data, source.cache, source.begun, evaluation=config.evaluation, redaction=config.kept_redaction)
        if source.labelled
        else None
    )
    pool = pool.redacted(config.text.redaction).without(_known(data, config.text.redaction))
    if not pool.rows:
        raise UserError("there is no text to choose from that has no label yet.")
    # What a column's numbers are worth is known from labelled rows alone.
    features = Features(tuple(config.data.text_columns)) if data is None else data.features
    forward, read = frozen(config, features), len(features.cells)
    refuse_other_sizes(features, pool.rows)
    vectors = vectors_of_texts(forward, [row.texts[:read] for row in pool.rows if row.texts])
    unsure = None if data is None else _open(config, data, forward, vectors, by_fit)
    chosen = choose(vectors, min(count, len(pool.rows)), config.training.seed, unsure)
    columns, rows = _as_training_rows(config, pool, [pool.rows[row] for row in chosen])
    return Next(columns, rows, len(pool.rows), 0 if data is None or data.train is None else len(data.train))


def _open(config: Config, data: DataSplits, forward: BatchForward, vectors: np.ndarray, by_fit: bool) -> np.ndarray:
    """float [n], how unsure what is labelled leaves the texts of these vectors, or how far they lie from it."""
    assert data.train is not None
    known = forward(data.train)
    if by_fit:
        return find_typicality(known, data.task.groups(data.train.targets()), known).squared_distances(vectors)
    learned = learn(data.task, data.train, known, config.training.seed)
    unsure = data.task.uncertainty(learned.predict(vectors))
    return unlike(vectors, known) if unsure is None else unsure


def _known(data: DataSplits | None, redaction: Redaction) -> set[str]:
    """What has labels, in whatever split, redacted as the pool is."""
    known = set()
    for split in [] if data is None else data.splits:
        texts = len(split.texts(slice(0)))
        rows = [tuple(cell.decode() for cell in cells) for cells in zip(*split.cells(slice(None)), strict=True)]
        found = redacted_texts([cells[:texts] for cells in rows], redaction)
        known |= {_plain((*own, *cells[texts:])) for own, cells in zip(found, rows, strict=True)}
    return known


def _plain(texts: tuple[str, ...]) -> str:
    return " \x1f ".join(map(plain, texts))


def refuse_other_sizes(features: Features, rows: Sequence[Row]) -> None:
    """Of vectors beside the texts, whose size only the labelled rows tell."""
    wanted = features.wanted("data.vector_columns")
    for row in rows:
        try:
            for one, cell in zip(wanted, (row.texts or ())[len(features.text_columns) :], strict=False):
                one.read(cell)
        except ValueError as error:
            raise UserError(f"{row.place}: the row {error}; mend it.") from None


def _as_training_rows(config: Config, pool: Pool, chosen: list[Row]) -> tuple[list[str], list[list]]:
    """Columns and cells under the names that the config's training rows have."""
    texts, targets = config.data.text_columns, kind_of(config.data).columns(config.data)
    others = [
        (place, name)
        for place, name in enumerate(pool.columns)
        if name not in (*texts, *targets, *pool.text_columns)
    ]  # fmt: skip
    columns = [*texts, *targets, *(name for _, name in others)]
    rows = []
    for row in chosen:
        cells = [*row.cells, *[None] * (len(pool.columns) - len(row.cells))]
        rows.append([*(row.texts or ())[: len(texts)], *[""] * len(targets), *(cells[place] for place, _ in others)])
    return columns, rows
