"""Which spans of the corpus make a sequence.

`plan` decides all examples of an epoch by index arithmetic alone: it reads where sentences begin, and no token. An
example is its two spans of tokens and its label, so that any batch of the epoch can be made at once, by its number.
Pairs, cuts and order follow from (seed, epoch) and are new each epoch.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from pipeline.errors import UserError
from pipeline.pretraining.tokens import TokenCorpus, TokenStore

Objective = Literal["nsp", "sop", "none"]
# Labels of next_sentence; 0 and 1 as in google-research/bert's next_sentence_labels.
IS_NEXT, OTHER, NO_PAIR = 0, 1, 2
# Sentences planned at once: bounds memory, and fixes which random number belongs to which sentence.
BLOCK = 1 << 18
# Top words of Philox' counter; masking.DRAWS_STREAM is 1.
PLAN_STREAM, ORDER_STREAM = 2, 3


@dataclass
class Examples:
    """All examples of an epoch, in the order they are trained on.

    Attributes:
        a_starts, b_starts: uint32 [n] (int64 in a corpus of 2^32 tokens and more), places of first tokens.
        a_lengths, b_lengths: uint16 [n], tokens.
        labels: uint8 [n]: IS_NEXT (with "sop": in their order); OTHER (with "sop": swapped); NO_PAIR: b is empty.
    """

    a_starts: np.ndarray
    a_lengths: np.ndarray
    b_starts: np.ndarray
    b_lengths: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


def plan(
    corpus: TokenCorpus,
    sequence_length: int,
    objective: Objective,
    seed: int,
    epoch: int,
    short_share: float = 0.1,
) -> Examples:
    """The examples of one epoch.

    "nsp" is `create_instances_from_document` of google-research/bert's create_pretraining_data.py: sentences of a
    document are taken until the target length is reached, and divided at random into A and B. With probability 1/2,
    and always where there was only one sentence, B comes from a random place of another document, and the sentences
    it takes the place of are used for the next example. What is too long then loses tokens of the longer segment, at
    random from its front or end. Two things differ: the target is drawn for each example, not once a document, so
    that `short_share` holds for corpora of few long documents too; and the other document is never the same one.

    "sop" is ALBERT's sentence order: B is the true continuation, and half of the pairs are swapped. A sentence that
    stands alone in what is left of its document has no B, and no label (there, ALBERT takes a random B).

    "none" is RoBERTa's FULL-SENTENCES: whole sentences, one after the other, as many as fit, going on into the next
    document after a [SEP]; there is no B. A sentence longer than a sequence continues in the next one, so that every
    token of the corpus is seen once an epoch. Sequences do not cross from one store of a corpus into the next.

    Args:
        corpus: prepared.
        sequence_length: longest sequence, with [CLS] and [SEP].
        objective: as above.
        seed, epoch: decide everything that is random.
        short_share: share of examples whose target is uniform between 2 tokens and the most there is room for.

    Raises:
        UserError: a corpus without tokens, without a second document or sentence to make pairs of; no room for text.
    """
    room = sequence_length - (2 if objective == "none" else 3)
    if room < 2:
        raise UserError(f"A sequence_length of {sequence_length} leaves no room for two tokens: give more.")
    if not corpus.tokens:
        raise UserError("The corpus has no tokens: there is nothing to train on.")
    if why := why_no_pairs(corpus, objective):
        advice = "mark where documents begin, or use" if corpus.documents < 2 else "use"
        others = "sop or none" if corpus.sentences > corpus.documents else "none"
        raise UserError(
            f"The corpus has no pairs for the objective {objective}: {why}; {advice} the objective {others}."
        )
    random = np.random.Generator(_philox(seed, epoch, PLAN_STREAM))
    blocks = list(_blocks(corpus, room, objective, random, short_share))
    joined = [np.concatenate(parts) for parts in zip(*blocks, strict=True)]
    order = np.random.Generator(_philox(seed, epoch, ORDER_STREAM)).permutation(len(joined[0]))
    return Examples(*(column[order] for column in joined))


def why_no_pairs(corpus: TokenCorpus, objective: Objective) -> str | None:
    """Why an objective finds no pairs of sentences in a corpus; None: it does, or looks for none."""
    if objective == "nsp" and corpus.documents < 2:
        return "it is one document, so there is no other to take a random next sentence from"
    if objective != "none" and corpus.sentences == corpus.documents:
        return "no document has two sentences"
    return None


def _blocks(
    corpus: TokenCorpus, room: int, objective: Objective, random: np.random.Generator, short_share: float
) -> Iterator[list[np.ndarray]]:
    """The columns of Examples, in the order of the corpus, for BLOCK sentences at a time."""
    place = np.uint32 if corpus.tokens < 1 << 32 else np.int64
    kinds = (place, np.uint16, place, np.uint16, np.uint8)
    for number, store in enumerate(corpus.stores):
        begin = 0  # the sentence at which the next example begins, from the start of the block
        for first in range(0, store.meta.sentences, BLOCK):
            last = min(first + BLOCK, store.meta.sentences)
            draws = random.random((last - first, 4), dtype=np.float32)
            if objective == "none":
                columns, begin = _full_sentences(store, first, last, begin, room, draws, short_share)
            else:
                columns, begin = _pairs(store, first, last, begin, room, draws, short_share, objective)
            columns["a_start"] += corpus.token_offsets[number]
            columns["b_start"] += corpus.token_offsets[number]
            if objective == "nsp":
                columns["document"] += corpus.document_offsets[number]
                _random_next(corpus, columns, random)
            a_start, a_length = columns["a_start"], columns["a_length"]
            b_start, b_length, label = columns["b_start"], columns["b_length"], columns["label"]
            if objective == "sop":
                swapped = label == OTHER
                a_start, b_start = np.where(swapped, b_start, a_start), np.where(swapped, a_start, b_start)
                a_length, b_length = np.where(swapped, b_length, a_length), np.where(swapped, a_length, b_length)
            if objective != "none":
                a_start, a_length, b_start, b_length = _truncate(a_start, a_length, b_start, b_length, room, random)
            found = (a_start, a_length, b_start, b_length, label)
            yield [column.astype(kind) for column, kind in zip(found, kinds, strict=True)]


def _philox(seed: int, epoch: int, stream: int) -> np.random.Philox:
    return np.random.Philox(key=np.array([seed, epoch], np.uint64), counter=np.array([0, 0, 0, stream], np.uint64))


def _targets(draws: np.ndarray, room: int, short_share: float) -> np.ndarray:
    """How many tokens an example beginning at each sentence should have: int64 [sentences]."""
    short = draws[:, 0] < short_share
    return np.where(short, 2 + (draws[:, 1] * (room - 1)).astype(np.int64), room)


def _follow(hops: np.ndarray, begin: int) -> tuple[np.ndarray, int]:
    """begin, begin + hops[begin], ...: those inside hops, and how far beyond its end the next one is.

    Where an example ends decides where the next begins; this loop is all that is sequential in packing. It works as
    everything random is drawn for each sentence beforehand, as if an example began there.
    """
    found, size, hops = [], len(hops), hops.tolist()
    while begin < size:
        found.append(begin)
        begin += hops[begin]
    return np.array(found, np.int64), begin - size


def _pairs(
    store: TokenStore,
    first: int,
    last: int,
    begin: int,
    room: int,
    draws: np.ndarray,
    short_share: float,
    objective: str,
) -> tuple[dict[str, np.ndarray], int]:
    """Examples that begin at sentences first to last, places counted in the store; and where the next block begins."""
    starts = store.sentence_starts
    sentences = np.arange(first, last)
    document = np.searchsorted(store.document_starts, sentences, side="right") - 1
    document_end = store.document_starts[document + 1]
    target = _targets(draws, room, short_share)
    end = np.searchsorted(starts, starts[first:last] + target)
    if objective == "sop":
        end = np.maximum(end, sentences + 2)  # a long sentence must not stand alone, there would be nothing to swap
    end = np.minimum(end, document_end)
    more = end - sentences - 1  # sentences besides the first
    a_end = np.where(more > 0, sentences + 1 + (draws[:, 2] * more).astype(np.int64), end)
    other = draws[:, 3] < 0.5
    if objective == "nsp":
        other |= more == 0
    after = np.where(other, a_end, end) if objective == "nsp" else end
    picked, begin = _follow(after - sentences, begin)
    sentences, a_end, end, other = sentences[picked], a_end[picked], end[picked], other[picked]
    a_start, b_start = starts[sentences], starts[a_end]
    alone = (a_end == end) & (objective == "sop")
    return {
        "a_start": a_start,
        "a_length": b_start - a_start,
        "b_start": np.where(alone, a_start, b_start),  # not beyond the last token
        "b_length": starts[end] - b_start,
        "label": np.where(alone, NO_PAIR, np.where(other, OTHER, IS_NEXT)),
        "target": target[picked],
        "document": document[picked],
    }, begin


def _random_next(corpus: TokenCorpus, columns: dict[str, np.ndarray], random: np.random.Generator) -> None:
    """Put a random span of another document in place of each B that is not the next, as long as the target asks."""
    rows = np.flatnonzero(columns["label"] == OTHER)
    own = columns["document"][rows]
    document = random.integers(0, corpus.documents - 1, len(rows))
    document += document >= own
    draw = random.random(len(rows))
    wanted = np.maximum(columns["target"][rows] - columns["a_length"][rows], 1)
    where = np.searchsorted(corpus.document_offsets, document, side="right") - 1
    for number in np.unique(where):
        store, here = corpus.stores[number], where == number
        local = document[here] - corpus.document_offsets[number]
        low, high = store.document_starts[local], store.document_starts[local + 1]
        start = store.sentence_starts[low + (draw[here] * (high - low)).astype(np.int64)]
        end = np.searchsorted(store.sentence_starts, start + wanted[here])
        end = store.sentence_starts[np.minimum(end, high)]
        columns["b_start"][rows[here]] = start + corpus.token_offsets[number]
        columns["b_length"][rows[here]] = end - start


def _truncate(
    a_start: np.ndarray,
    a_length: np.ndarray,
    b_start: np.ndarray,
    b_length: np.ndarray,
    room: int,
    random: np.random.Generator,
) -> list[np.ndarray]:
    """`truncate_seq_pair` of create_pretraining_data.py: the longer loses tokens, of B where they are equal."""
    # Each token goes from the front or the end as a coin falls, so that the front loses a binomial share.
    kept_a = np.minimum(a_length, np.maximum(room - b_length, room - room // 2))
    kept_b = np.minimum(b_length, np.maximum(room - a_length, room // 2))
    a_start = a_start + random.binomial(a_length - kept_a, 0.5)
    b_start = b_start + random.binomial(b_length - kept_b, 0.5)
    return [a_start, kept_a, b_start, kept_b]


def _full_sentences(
    store: TokenStore, first: int, last: int, begin: int, room: int, draws: np.ndarray, short_share: float
) -> tuple[dict[str, np.ndarray], int]:
    """As `_pairs`, for sequences of whole sentences; `begin` counts units, that is sentences or parts of long ones."""
    ahead = min(last + room + 1, store.meta.sentences)  # no sequence has more units than tokens
    bounds = np.asarray(store.sentence_starts[first : ahead + 1])
    document = np.searchsorted(store.document_starts, np.arange(first, ahead), side="right") - 1
    parts = -(-np.diff(bounds) // room)
    units = int(parts[: last - first].sum())
    within = np.arange(parts.sum()) - np.repeat(np.cumsum(parts) - parts, parts)
    starts = np.append(np.repeat(bounds[:-1], parts) + within * room, bounds[-1])
    document = np.repeat(document, parts)
    # A sequence of units i to j has starts[j] - starts[i] tokens and a [SEP] more for each new document.
    reach = starts[1:] + document
    target = np.repeat(_targets(draws, room, short_share), parts[: last - first])
    end = np.searchsorted(reach, starts[:units] + document[:units] + target, side="right")
    end = np.maximum(end, np.arange(units) + 1)
    picked, begin = _follow(end - np.arange(units), begin)
    a_start = starts[picked]
    nothing = np.zeros_like(a_start)
    return {
        "a_start": a_start,
        "a_length": starts[end[picked]] - a_start,
        "b_start": nothing,
        "b_length": nothing.copy(),
        "label": np.full(len(picked), NO_PAIR),
    }, begin
