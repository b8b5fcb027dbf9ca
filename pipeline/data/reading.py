"""What a text encoder makes of the rows: words that it has no piece for, and texts that are cut at its length."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.data.load import DataSplits
from pipeline.data.split import Split
from pipeline.long_texts import HEAD
from pipeline.tasks.targets import Groups
from pipeline.text import TextEncoder

# A sample, evenly spread, is enough for shares of some percent, and takes some tenths of a second on any data set.
SAMPLE_ROWS = 10_000
SAMPLE_BYTES = 4 << 20
# Share of the words that are [UNK]. Under BERT's English vocabulary, English reviews, questions and text messages have
# less than 0.01 %, comments with emoji 0.14 % (GoEmotions), Chinese reviews 64 % (ChnSentiCorp), Thai all.
UNKNOWN_SHARE = 0.05
# Pieces a word. BERT's English vocabulary has 1.06 to 1.15 for English, 2 for German, 3 for Turkish. Of many scripts it
# has only the letters and spells the words, without an [UNK]: 4.4 pieces for Arabic, 5.1 for Greek and Russian.
SPELLED = 4.0
# Share of the texts that are cut, of all and of one label, from which it is said.
CUT_SHARE = 0.05
CUT_SHARE_OF_LABEL = 0.25
# Rows of a label in the sample below which its share says little.
LABEL_ROWS = 20
KEPT_WHOLE = 0.99
LENGTH_MULTIPLE = 8


@dataclass
class Reading:
    """How an encoder reads a sample of rows.

    Attributes:
        lengths: int64 [n], tokens of each row before it is cut, special ones included.
        lost: int64 [n], tokens that are cut away.
        words, pieces, unknown: of all texts; punctuation marks and ideographs are words, [UNK] is a word and a piece.
        only_unknown: rows without any piece but [UNK].
    """

    lengths: np.ndarray
    lost: np.ndarray
    words: int
    pieces: int
    unknown: int
    only_unknown: int

    @property
    def unknown_share(self) -> float:
        return self.unknown / max(self.words, 1)

    @property
    def pieces_a_word(self) -> float:
        return self.pieces / max(self.words, 1)

    @property
    def cut_share(self) -> float:
        return float((self.lost > 0).mean())

    @property
    def lost_share(self) -> float:
        return float(self.lost.sum() / max(self.lengths.sum(), 1))

    def length_for(self, share: float) -> int:
        """The sequence_length, in tokens, that leaves this share of the rows whole."""
        needed = int(np.quantile(self.lengths, share, method="higher"))
        return -(-needed // LENGTH_MULTIPLE) * LENGTH_MULTIPLE


def read(encoder: TextEncoder, columns: Sequence[Sequence[bytes | str] | np.ndarray]) -> Reading:
    """Tokenize texts, uncut, and count.

    Args:
        encoder: whose `sequence_length` cuts.
        columns: of cells, as the encoder takes them.
    """
    begins_word = np.array([not piece.startswith("##") for piece in encoder.vocabulary])
    rows = [encoder.tokenize(text) for text in encoder.texts(*map(list, columns))]
    ids = np.concatenate([row.values.numpy() for row in rows])
    counts = np.sum([row.row_lengths().numpy() for row in rows], axis=0)
    flags = [(row.values.numpy() != encoder.unk_id, row.row_splits.numpy()) for row in rows]
    known = np.sum([_true_in_rows(*pair) for pair in flags], axis=0)
    lengths = counts + 1 + len(rows)
    if encoder.long.in_chunks:
        chunks = encoder.chunks(rows[0])
        lost = rows[0].row_limits().numpy() - chunks.ends.numpy()[np.cumsum(chunks.counts.numpy()) - 1]
    else:
        lost = np.maximum(lengths - encoder.sequence_length, 0)
    return Reading(
        lengths=lengths,
        lost=lost,
        words=int(begins_word[ids].sum()),
        pieces=len(ids),
        unknown=int((ids == encoder.unk_id).sum()),
        only_unknown=int(((known == 0) & (counts > 0)).sum()),
    )


def read_splits(data: DataSplits, encoder: TextEncoder, positions: int) -> list[str]:
    """Look at a sample of each split; put the numbers into data.summary.

    Args:
        data: all splits.
        encoder: of the model.
        positions: the longest sequence that the model can take, in tokens.

    Returns:
        Sentences that the user should read.
    """
    readings, sampled = {}, {}
    for split in data.splits:
        sampled[split.name], columns = sample(split)
        reading = readings[split.name] = read(encoder, columns)
        data.summary.setdefault(split.name, {}).update(
            tokens={f"{q:.0%}": int(np.quantile(reading.lengths, q)) for q in (0.0, 0.5, 0.9, 0.99, 1.0)},
            share_of_texts_cut=round(reading.cut_share, 4),
            share_of_tokens_cut=round(reading.lost_share, 4),
            share_of_unknown_words=round(reading.unknown_share, 4),
            pieces_a_word=round(reading.pieces_a_word, 2),
        )
    if not readings:
        return []
    first = data.splits[0]
    groups = data.task.groups(first.targets(sampled[first.name]))
    return [
        *vocabulary_warnings(readings),
        *cut_warnings(readings, encoder, positions, groups, data.features.texts_read == 1),
    ]


def token_lengths(encoder: TextEncoder, split: Split) -> np.ndarray:
    """int64 [n], tokens of all rows before any are cut, special ones included."""
    found = [np.zeros(0, np.int64)]
    for start in range(0, len(split), SAMPLE_ROWS):
        texts = encoder.texts(*map(list, split.cells(slice(start, start + SAMPLE_ROWS))))
        counts = [encoder.tokenize(text).row_lengths().numpy() for text in texts]
        found.append(np.sum(counts, axis=0) + 1 + len(texts))
    return np.concatenate(found)


def sample(split: Split) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    """Row numbers, evenly spread, and their columns of cells: at most SAMPLE_ROWS, of about SAMPLE_BYTES."""
    rows = np.linspace(0, len(split) - 1, min(len(split), SAMPLE_ROWS)).astype(np.int64)
    columns = split.cells(rows)
    size = sum(len(text) for column in columns for text in column)
    every = -(-size // SAMPLE_BYTES)
    return rows[::every], tuple(column[::every] for column in columns)


def vocabulary_warnings(readings: dict[str, Reading]) -> list[str]:
    """On a vocabulary that does not know the language of the texts.

    Args:
        readings: by the names of the splits, train first where there are rows to train on.
    """
    unknown = {name: reading.unknown_share for name, reading in readings.items()}
    spelled = {name: reading.pieces_a_word for name, reading in readings.items()}
    remedy = "is it a vocabulary for their language? Set model.backbone to a checkpoint that has learned it."
    if max(unknown.values()) >= UNKNOWN_SHARE:
        name = _first_or_highest(unknown, UNKNOWN_SHARE)
        nothing, rows = readings[name].only_unknown, len(readings[name].lengths)
        only = f" ({nothing} of {rows} texts looked at are nothing but [UNK])" if nothing else ""
        return [
            f"{unknown[name]:.1%} of the words of the {name} texts are [UNK] to the vocabulary{only}: the model cannot "
            f"tell them from each other; {remedy}"
        ]
    if max(spelled.values()) >= SPELLED:
        name = _first_or_highest(spelled, SPELLED)
        return [
            f"the vocabulary cuts the words of the {name} texts into {spelled[name]:.1f} pieces on average; {remedy}"
        ]
    return []


def cut_warnings(
    readings: dict[str, Reading],
    encoder: TextEncoder,
    positions: int,
    groups: Groups,
    single: bool,
) -> list[str]:
    """On texts that are longer than the model reads.

    Args:
        readings: by the names of the splits, train first where there are rows to train on.
        encoder: that has read them.
        positions: the most that the model can take of a sequence, in tokens.
        groups: the labels of the sampled rows of the first split.
        single: whether a row has one text, which alone can be read in chunks.
    """
    sequence_length, long = encoder.sequence_length, encoder.long
    first = next(iter(readings.values()))
    shares = {name: reading.cut_share for name, reading in readings.items()}
    by_label = cut_shares_of_labels(first.lost > 0, groups.counts, groups.members)
    worst = max(by_label, key=by_label.__getitem__, default=None)
    of_worst = 0.0 if worst is None else by_label[worst]
    if max(shares.values()) < CUT_SHARE and of_worst < CUT_SHARE_OF_LABEL:
        return []
    name = _first_or_highest(shares, CUT_SHARE)
    others = ", ".join(f"{other} {share:.1%}" for other, share in shares.items() if other != name)
    setting = f"text.max_chunks {long.max_chunks}" if long.in_chunks else f"text.sequence_length {sequence_length}"
    sentence = (
        f"{setting} cuts {shares[name]:.1%} of the {name} texts"
        f"{f' ({others})' if others else ''} and leaves {readings[name].lost_share:.1%} of their tokens unread"
    )
    best = min(by_label, key=by_label.__getitem__, default=None)
    if worst is not None and best is not None and of_worst - by_label[best] >= 0.1:
        sentence += (
            f", unevenly: of the label {groups.names[worst]!r} {of_worst:.1%} of the texts, of {groups.names[best]!r} "
            f"{by_label[best]:.1%}"
        )
    needed = max(reading.length_for(KEPT_WHOLE) for reading in readings.values())
    if long.in_chunks:
        step = sequence_length - 2 if long.stride is None else long.stride
        return [f"{sentence}; about {-(-needed // step)} would leave {KEPT_WHOLE:.0%} whole."]
    if needed <= positions:
        return [f"{sentence}; {needed} would leave {KEPT_WHOLE:.0%} whole."]
    advice = "text.long chunks reads them to their end" if single else ""
    if not single and long == HEAD:
        advice = "text.long head_tail reads their end too"
    advice = f"; {advice}." if advice else "."
    if sequence_length >= positions:
        said = f"{needed} would leave {KEPT_WHOLE:.0%} whole, but the model has {positions} positions"
        return [f"{sentence}; {said}{advice}"]
    still = float((first.lengths > positions).mean())
    return [f"{sentence}; at {positions}, the most that the model has positions for, it would be {still:.1%}{advice}"]


def cut_shares_of_labels(cut: np.ndarray, counts: np.ndarray, classes: np.ndarray) -> dict[int, float]:
    """The share of the texts of each label that are cut, of labels with LABEL_ROWS or more rows.

    Args:
        cut: bool [n].
        counts, classes: labels of the n rows, as Groups has them.
    """
    if not len(classes):
        return {}
    rows = np.bincount(classes)
    shares = np.bincount(classes, weights=np.repeat(cut, counts)) / np.maximum(rows, 1)
    return {int(i): float(shares[i]) for i in np.flatnonzero(rows >= LABEL_ROWS)}


def _true_in_rows(flags: np.ndarray, splits: np.ndarray) -> np.ndarray:
    sums = np.concatenate([[0], np.cumsum(flags)])
    return sums[splits[1:]] - sums[splits[:-1]]


def _first_or_highest(values: dict[str, float], threshold: float) -> str:
    """The first split, "train", or the one whose value is beyond the threshold where that of the first is not."""
    first = next(iter(values))
    if values[first] >= threshold:
        return first
    return max(values, key=values.__getitem__)
