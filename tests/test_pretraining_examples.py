"""Token stores, pairs, masks and batches of pre-training.

In the corpus of most tests each token occurs once, and its piece tells its place: the spans that rows are made of can
be read off the rows.
"""

import itertools
import random
import sys

import numpy as np
import pytest
import tensorflow as tf
from corpus_reader import two_letters
from placed_corpus import FIRST, MOST, VOCABULARY, make_documents, place_of
from tiny import SPECIAL
from tiny import VOCABULARY as TINY

from pipeline.data.batching import LENGTH_MULTIPLE
from pipeline.errors import UserError
from pipeline.pretraining import masking, tokens
from pipeline.pretraining.examples import ExampleSettings, held_out_batches, pretraining_batches
from pipeline.pretraining.plan import plan
from pipeline.pretraining.tokens import TokenCorpus, TokenStore, word_splitter, write_store
from pipeline.text import TextEncoder

LENGTH = 64
SETTINGS = {"batch_size": 24, "sequence_length": LENGTH, "max_predictions": 12}
SEED, EPOCH = 3, 0


@pytest.fixture(scope="module")
def encoder():
    return TextEncoder(VOCABULARY, sequence_length=8)


@pytest.fixture(scope="module", params=[1, 3], ids=["one store", "three stores"])
def corpus(request, encoder, tmp_path_factory):
    documents, folder = make_documents(), tmp_path_factory.mktemp("corpus")
    bounds = np.linspace(0, len(documents), request.param + 1).astype(int)
    return TokenCorpus([write_store(documents[a:b], encoder, folder / f"{a}") for a, b in itertools.pairwise(bounds)])


@pytest.fixture(scope="module")
def places(corpus):
    """First tokens of all sentences and of all documents of the corpus, with its end."""
    sentences = [store.sentence_starts[:-1] + o for store, o in zip(corpus.stores, corpus.token_offsets, strict=False)]
    documents = [store.document_tokens[:-1] + o for store, o in zip(corpus.stores, corpus.token_offsets, strict=False)]
    return tuple(np.append(np.concatenate(parts), corpus.tokens) for parts in (sentences, documents))


def batches(corpus, encoder, seed=SEED, epoch=EPOCH, skip=0, shard=(0, 1), **settings):
    settings = ExampleSettings(**(SETTINGS | settings))
    dataset = pretraining_batches(corpus, encoder, settings, seed=seed, epoch=epoch, skip=skip, shard=shard)
    return list(dataset.as_numpy_iterator())


def joined(epoch):
    """All rows of an epoch but those that only fill the last batch, as one dict of arrays, with the tokens unmasked."""
    parts = [{**inputs, **targets, **weights} for inputs, targets, weights in epoch]
    rows = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    real = rows["masked_weights"].any(axis=1)
    rows = {name: values[real] for name, values in rows.items()}
    rows["original"] = rows["token_ids"].copy()
    row, slot = np.nonzero(rows["masked_weights"])
    rows["original"][row, rows["masked_positions"][row, slot]] = rows["masked_ids"][row, slot]
    return rows


def same(a, b):
    tf.nest.map_structure(np.testing.assert_array_equal, a, b)


# ---------------------------------------------------------------------------------------------------- the token store


def test_a_store_has_the_encoders_tokens_and_drops_what_is_empty(tmp_path, monkeypatch):
    documents = [["the goal", "  ", "big match."], [], ["\u200b", ""], ["a zzz team"], ["moon"]]
    encoder = TextEncoder(TINY)
    store = write_store(documents, encoder, tmp_path / "whole")
    expected = [encoder.tokenize([s])[0].numpy().tolist() for d in documents for s in d]
    expected = [sentence for sentence in expected if sentence]
    starts = store.sentence_starts
    assert [store.tokens[a:b].tolist() for a, b in itertools.pairwise(starts)] == expected
    assert store.document_starts.tolist() == [0, 2, 3, 4] and store.document_tokens.tolist() == [0, 5, 8, 9]
    assert (store.meta.tokens, store.meta.sentences, store.meta.documents) == (9, 4, 3)
    assert store.tokens.dtype == np.uint16 and encoder.unk_id in store.tokens
    monkeypatch.setattr(tokens, "BATCH_SENTENCES", 1)
    assert write_store(documents, encoder, tmp_path / "pieces").meta.fingerprint == store.meta.fingerprint
    for other in ([["the goal big match."], ["a zzz team"], ["moon"]], [*documents[:-1], ["star"]]):
        assert write_store(other, encoder, tmp_path / "other").meta.fingerprint != store.meta.fingerprint
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "pieces", "whole"]


def test_a_store_that_was_not_finished_is_none(tmp_path):
    def broken():
        yield ["the goal"]
        raise UserError("the file is broken")

    with pytest.raises(UserError, match="the file is broken"):
        write_store(broken(), TextEncoder(TINY), tmp_path / "store")
    assert not list(tmp_path.iterdir())
    with pytest.raises(UserError, match=r"store holds no prepared tokens: run python -m"):
        TokenStore(tmp_path / "store")
    with pytest.raises(UserError, match="holds no completely prepared corpus"):
        TokenCorpus.open(tmp_path)


def test_a_vocabulary_of_more_than_65536_pieces(tmp_path):
    vocabulary = [*SPECIAL, *(f"w{i}" for i in range(70_000))]
    encoder = TextEncoder(vocabulary)
    store = write_store(
        [[f"w{i} w{i + 1}", f"w{i + 2} w{i + 3}"] for i in range(0, 70_000, 4)], encoder, tmp_path / "s"
    )
    assert store.tokens.dtype == np.int32 and store.tokens.tolist() == list(range(5, 70_005))
    rows = joined(batches(TokenCorpus([store]), encoder, objective="none", sequence_length=128))
    assert rows["original"].max() == 70_004


def test_reading_spans_over_stores(corpus):
    chance = np.random.default_rng(0)
    where = chance.integers(0, len(corpus.stores), 50)
    sizes = np.diff(corpus.token_offsets)[where]
    lengths = chance.integers(0, 40, 50)
    starts = corpus.token_offsets[where] + (chance.random(50) * (sizes - lengths)).astype(int)
    expected = [place for start, n in zip(starts, lengths, strict=True) for place in range(start, start + n)]
    assert place_of(corpus.read(starts, lengths)).tolist() == expected


# ------------------------------------------------------------------------------------------------- pairs and packing


def span_documents(starts, lengths, documents):
    """The document of each span, which must not reach over its end."""
    found = np.searchsorted(documents, starts, side="right") - 1
    assert (starts + lengths <= documents[found + 1]).all()
    return found


@pytest.fixture(scope="module", params=["nsp", "sop"])
def pairs(request, corpus):
    return request.param, plan(corpus, LENGTH, request.param, seed=1, epoch=0)


def columns(examples):
    names = ("a_starts", "a_lengths", "b_starts", "b_lengths", "labels")
    return [getattr(examples, name).astype(np.int64) for name in names]


def test_next_follows_in_its_document_and_others_are_of_other_documents(pairs, places):
    objective, examples = pairs
    sentences, documents = places
    a, a_length, b, b_length, label = columns(examples)
    paired = label != 2
    assert paired.all() if objective == "nsp" else 0.8 < paired.mean() < 1
    assert (b_length[~paired] == 0).all() and (b_length[paired] > 0).all() and (a_length > 0).all()
    assert (a_length + b_length <= LENGTH - 3).all()
    a, a_length, b, b_length, label = (column[paired] for column in (a, a_length, b, b_length, label))
    a_document, b_document = (span_documents(*span, documents) for span in ((a, a_length), (b, b_length)))
    follows = label == 0
    if objective == "nsp":
        assert (a_document[~follows] != b_document[~follows]).all()
    else:  # swapped back, all follow
        a, b = np.where(follows, a, b), np.where(follows, b, a)
        a_length = np.where(follows, a_length, b_length)
        follows[:] = True
    assert follows.sum() > 100 and (a_document == b_document)[follows].all()
    a_end, b = (a + a_length)[follows], b[follows]
    # The boundary of two sentences is between A and B, with nothing else between that truncation did not take.
    assert (np.searchsorted(sentences, b, side="right") > np.searchsorted(sentences, a_end)).all()
    full = (examples.a_lengths + examples.b_lengths == LENGTH - 3)[paired][follows]
    assert (a_end == b)[~full].all() and (a_end != b).any()


def test_the_other_document_is_any_but_the_same_one_in_any_store(encoder, tmp_path):
    documents = [[f"w{10 * d + i}" for i in range(10)] for d in range(4)]
    corpus = TokenCorpus([write_store(documents[i : i + 1], encoder, tmp_path / f"{i}") for i in range(4)])
    found = np.concatenate([np.stack(columns(plan(corpus, 8, "nsp", 0, e)), axis=1) for e in range(40)])
    a, b = (found[found[:, 4] == 1][:, column] // 10 for column in (0, 2))
    counts = np.zeros((4, 4))
    np.add.at(counts, (a, b), 1)
    assert (np.diag(counts) == 0).all()
    others = counts[~np.eye(4, dtype=bool)]
    assert abs(others / others.mean() - 1).max() < 5 / others.mean() ** 0.5


def test_pairs_are_half_and_half(corpus):
    for objective in ("nsp", "sop"):
        found = [plan(corpus, LENGTH, objective, seed=1, epoch=epoch).labels for epoch in range(20)]
        labels = np.concatenate(found)
        share = (labels == 1).sum() / (labels != 2).sum()
        # Five deviations; in nsp, examples of one sentence always get another document.
        spread = 5 * 0.5 / len(labels) ** 0.5
        assert abs(share - 0.5) < spread if objective == "sop" else 0.5 < share < 0.62


def test_sentences_that_a_random_next_replaced_begin_the_next_example(corpus, places):
    a, a_length, b, b_length, label = columns(plan(corpus, LENGTH, "nsp", seed=1, epoch=0))
    order = np.argsort(a)
    a, a_length, b, b_length, label = (column[order] for column in (a, a_length, b, b_length, label))
    whole = a_length + b_length < LENGTH - 3
    known = whole[:-1] & whole[1:]  # neither this nor the next lost tokens
    after = np.where(label == 0, b + b_length, a + a_length)
    assert known.sum() > 50 and set(label[:-1][known]) == {0, 1}
    assert (after[:-1] == a[1:])[known].all()
    assert set(a[whole]) | set(b[whole]) <= set(places[0])


def reference_lengths(documents, length, chance, short_share=0.1):
    """create_instances_from_document of google-research/bert in plain Python; sentences are their lengths.

    Yields (A's tokens, B's tokens, label); the target is drawn anew for each example.
    """
    room = length - 3

    def new_target():
        return chance.randint(2, room) if chance.random() < short_share else room

    for number, document in enumerate(documents):
        chunk, i, target = [], 0, new_target()
        while i < len(document):
            chunk.append(document[i])
            if i == len(document) - 1 or sum(chunk) >= target:
                a_end = chance.randint(1, len(chunk) - 1) if len(chunk) >= 2 else 1
                a, b, label = sum(chunk[:a_end]), 0, 0
                if len(chunk) == 1 or chance.random() < 0.5:
                    label, wanted = 1, target - a
                    other = chance.choice([n for n in range(len(documents)) if n != number])
                    for sentence in documents[other][chance.randint(0, len(documents[other]) - 1) :]:
                        b += sentence
                        if b >= wanted:
                            break
                    i -= len(chunk) - a_end
                else:
                    b = sum(chunk[a_end:])
                while a + b > room:
                    a, b = (a - 1, b) if a > b else (a, b - 1)
                yield a, b, label
                chunk, target = [], new_target()
            i += 1


def test_statistics_are_those_of_create_pretraining_data(corpus, places):
    sentences, documents = places
    lengths = np.diff(sentences)
    bounds = np.searchsorted(sentences, documents)
    as_lists = [lengths[a:b].tolist() for a, b in itertools.pairwise(bounds)]
    chance = random.Random(0)
    expected = [np.array(list(reference_lengths(as_lists, LENGTH, chance))) for _ in range(20)]
    found = [np.stack(columns(plan(corpus, LENGTH, "nsp", seed=5, epoch=e)), axis=1)[:, [1, 3, 4]] for e in range(20)]
    counts = np.mean([len(e) for e in expected]), np.mean([len(e) for e in found])
    assert abs(counts[1] / counts[0] - 1) < 0.02
    expected, found = np.concatenate(expected), np.concatenate(found)
    for statistic in (
        lambda x: x[:, 0].mean(),
        lambda x: x[:, 1].mean(),
        lambda x: x[:, 0].std(),
        lambda x: x[:, 1].std(),
        lambda x: x[:, 2].mean(),
        lambda x: (x[:, 0] + x[:, 1] == LENGTH - 3).mean(),
    ):
        assert abs(statistic(found) / statistic(expected) - 1) < 0.04


def test_truncation_takes_from_front_and_end(encoder, tmp_path):
    """Of a sentence alone in its document the middle stays, moved by as many coins as tokens are lost."""
    documents = [[" ".join(f"w{200 * d + i}" for i in range(200))] for d in range(140)]
    documents[0] = [documents[0][0][: 100 * 5], "w199"]  # pairs must be possible somewhere
    store = write_store(documents, encoder, tmp_path / "s")
    a, a_length, _, b_length, label = columns(plan(TokenCorpus([store]), 43, "nsp", seed=0, epoch=0))
    long = (a >= 200) & (label == 1) & (a_length == 20)
    front = (a - store.document_tokens[np.searchsorted(store.document_tokens, a, side="right") - 1])[long]
    assert long.sum() > 100 and abs(front.mean() - 90) < 3
    assert abs(front.std() - (180 * 0.25) ** 0.5) < 1.5
    assert (a_length + b_length <= 40).all() and (b_length >= 1).all()


def test_short_share(encoder, tmp_path):
    # Sentences of one token, so that targets are met exactly.
    store = write_store([[f"w{400 * d + i}" for i in range(400)] for d in range(70)], encoder, tmp_path / "s")
    for objective, room in (("nsp", LENGTH - 3), ("sop", LENGTH - 3), ("none", LENGTH - 2)):
        found = [plan(TokenCorpus([store]), LENGTH, objective, 0, epoch) for epoch in range(8)]
        ends = store.document_tokens[1:]
        sizes = []
        for examples in found:
            a, a_length, b, b_length, _ = columns(examples)
            last = np.maximum(np.isin(a + a_length, ends), np.isin(b + b_length, ends) & (b_length > 0))
            within = np.searchsorted(ends, a + a_length) - np.searchsorted(ends, a, side="right")  # [SEP] inside A
            sizes.append((a_length + b_length + within)[~last])
        sizes = np.concatenate(sizes)
        share = (sizes < room).mean()
        # Five deviations around 0.1; targets of `room` are not short.
        assert abs(share - 0.1 * (room - 2) / (room - 1)) < 5 * (0.09 / len(sizes)) ** 0.5, objective
        short = sizes[sizes < room]
        assert short.min() <= 4 and abs(short.mean() - (2 + room - 1) / 2) < 5 * room / 12**0.5 / len(short) ** 0.5
        sizes = plan(TokenCorpus([store]), LENGTH, objective, 0, 0, short_share=0.0)
        assert (sizes.a_lengths.astype(int) + sizes.b_lengths < room).mean() < 0.15  # ends of documents, other's ends


def test_full_sentences_see_every_token_once_and_break_only_at_sentences(corpus, places):
    sentences, documents = places
    examples = plan(corpus, LENGTH, "none", seed=1, epoch=0)
    a, a_length, _, b_length, label = columns(examples)
    assert (b_length == 0).all() and (label == 2).all()
    order = np.argsort(a)
    a, a_length = a[order], a_length[order]
    assert a[0] == 0 and (a + a_length).tolist() == [*a[1:], corpus.tokens]
    begins = a[~np.isin(a, sentences)]
    longest = np.diff(sentences)[np.searchsorted(sentences, begins, side="right") - 1]
    assert len(begins) and (longest > LENGTH - 2).all(), "only sentences longer than a sequence are cut"
    crossing = np.searchsorted(documents, a, side="right") < np.searchsorted(documents, a + a_length)
    assert crossing.mean() > 0.2
    packed = plan(corpus, LENGTH, "none", seed=1, epoch=0, short_share=0.0)
    assert packed.a_lengths.mean() > 0.8 * LENGTH


def test_blocks_of_sentences_do_not_show(corpus, places, monkeypatch):
    """What comes out of small blocks obeys the same rules: examples go on from one block into the next."""
    monkeypatch.setattr("pipeline.pretraining.plan.BLOCK", 7)
    a, a_length, *_ = columns(plan(corpus, LENGTH, "none", seed=1, epoch=0))
    order = np.argsort(a)
    assert (a + a_length)[order].tolist() == [*a[order][1:], corpus.tokens]
    test_sentences_that_a_random_next_replaced_begin_the_next_example(corpus, places)


def test_a_plan_is_small(corpus):
    examples = plan(corpus, LENGTH, "nsp", seed=1, epoch=0)
    arrays = (examples.a_starts, examples.a_lengths, examples.b_starts, examples.b_lengths, examples.labels)
    assert sum(array.nbytes for array in arrays) == 13 * len(examples)


def test_corpora_that_cannot_be_paired(encoder, tmp_path):
    one = TokenCorpus([write_store([["w1 w2", "w3", "w4"]], encoder, tmp_path / "one")])
    with pytest.raises(UserError, match="is one document, so there is no other"):
        plan(one, LENGTH, "nsp", 0, 0)
    assert len(plan(one, LENGTH, "sop", 0, 0)) and len(plan(one, LENGTH, "none", 0, 0)) == 1
    single = TokenCorpus([write_store([["w1 w2"], ["w3"], ["w4"]], encoder, tmp_path / "single")])
    for objective in ("nsp", "sop"):
        with pytest.raises(UserError, match="no document has two sentences"):
            plan(single, LENGTH, objective, 0, 0)
    empty = TokenCorpus([write_store([[], [""]], encoder, tmp_path / "empty")])
    with pytest.raises(UserError, match="has no tokens"):
        plan(empty, LENGTH, "none", 0, 0)
    with pytest.raises(UserError, match="sequence_length of 4 leaves no room"):
        plan(one, 4, "sop", 0, 0)
    # A store without tokens among others is none to complain of.
    both = TokenCorpus([*empty.stores, *one.stores, *empty.stores, *single.stores])
    assert sum(plan(both, LENGTH, "none", 0, 0).a_lengths) == 8
    assert sum(part["padding_mask"].sum() for part, *_ in batches(both, encoder, batch_size=2)) > 0


# ------------------------------------------------------------------------------------------------------------ batches


@pytest.mark.parametrize("objective", ["nsp", "sop", "none"])
def test_rows_are_the_planned_spans_between_special_tokens(corpus, places, encoder, objective):
    rows = joined(batches(corpus, encoder, objective=objective))
    examples = plan(corpus, LENGTH, objective, SEED, EPOCH)
    documents = set(places[1].tolist())
    assert len(rows["original"]) == len(examples)
    for i, (a, a_length, b, b_length, label) in enumerate(zip(*columns(examples), strict=True)):
        expected = [encoder.cls_id]
        for place in range(a, a + a_length):
            if objective == "none" and place in documents and place > a:
                expected.append(encoder.sep_id)
            expected.append(place)
        segments = [0] * (len(expected) + 1)
        expected.append(encoder.sep_id)
        if b_length:
            expected += [*range(b, b + b_length), encoder.sep_id]
            segments += [1] * (b_length + 1)
        ids, mask = rows["original"][i], rows["padding_mask"][i]
        found = np.where(place_of(ids) >= 0, place_of(ids), ids)[: mask.sum()]
        assert found.tolist() == expected
        assert mask.tolist() == [1] * len(expected) + [0] * (LENGTH - len(expected))
        assert rows["segment_ids"][i].tolist() == segments + [0] * (LENGTH - len(segments))
        assert (ids[len(expected) :] == encoder.pad_id).all()
        assert rows["next_sentence"][i] == (label == 1) and rows["next_sentence_weights"][i] == (label != 2)


def test_structure_and_static_shapes(corpus, encoder):
    dataset = pretraining_batches(corpus, encoder, ExampleSettings(**SETTINGS), seed=SEED, epoch=EPOCH, shard=(1, 2))
    assert dataset.options().autotune.enabled is False
    wide, slots = tf.TensorSpec([12, LENGTH], tf.int32), tf.TensorSpec([12, 12], tf.int32)
    assert dataset.element_spec == (
        {"token_ids": wide, "segment_ids": wide, "padding_mask": wide, "masked_positions": slots},
        {"masked_ids": slots, "next_sentence": tf.TensorSpec([12], tf.int32)},
        {
            "masked_weights": tf.TensorSpec([12, 12], tf.float32),
            "next_sentence_weights": tf.TensorSpec([12], tf.float32),
        },
    )
    assert len(dataset) == -(-len(plan(corpus, LENGTH, "nsp", 3, 0)) // 24)
    lengths = set()
    for (inputs, *_), (full, *_) in zip(
        batches(corpus, encoder, batch_size=2, fixed_length=False), batches(corpus, encoder, batch_size=2), strict=True
    ):
        width = inputs["token_ids"].shape[1]
        lengths.add(width)
        longest = full["padding_mask"].sum(axis=1).max()
        assert width == -(-longest // LENGTH_MULTIPLE) * LENGTH_MULTIPLE
        same(inputs["token_ids"], full["token_ids"][:, :width])
    assert len(lengths) > 2


def test_the_last_batch_is_filled_with_rows_of_weight_0(corpus, encoder):
    count = len(plan(corpus, LENGTH, "nsp", 3, 0))
    size = next(n for n in range(20, 60) if count % n)
    *_, (inputs, _, weights) = batches(corpus, encoder, batch_size=size)
    filler = np.arange(size) >= count % size
    assert filler.any() and inputs["token_ids"].shape == (size, LENGTH)
    assert (weights["next_sentence_weights"] == ~filler).all()
    assert (weights["masked_weights"].any(axis=1) == ~filler).all()


def test_same_examples_and_masks_whatever_the_batch_size_new_ones_each_epoch(corpus, encoder):
    first = joined(batches(corpus, encoder, batch_size=24))
    same(first, joined(batches(corpus, encoder, batch_size=7)))
    for settings in ({"epoch": 1}, {"seed": 4}):
        other = joined(batches(corpus, encoder, **settings))
        assert other["token_ids"].tolist() != first["token_ids"].tolist()
    # Masks are new too, not only the pairs: the same example has other masks at another epoch.
    one, two = (masking.draws(3, epoch, 5, 1, LENGTH) for epoch in (0, 1))
    assert (one != two).all()
    held_out = held_out_batches(corpus, encoder, ExampleSettings(**SETTINGS))
    same(list(held_out), [tuple(batch) for batch in batches(corpus, encoder, seed=0)])


def test_draws_are_addressed_by_example():
    whole = masking.draws(1, 2, 0, 40, 30)
    assert len(np.unique(whole)) == whole.size
    same(whole[13:20], masking.draws(1, 2, 13, 7, 30))
    assert not np.isin(whole, masking.draws(1, 2, 40, 40, 30)).any()
    assert abs(whole.astype(float).mean() / 2**63 - 1) < 0.05


@pytest.mark.parametrize("skip", [1, 5, 10_000])
def test_skipping_batches_is_as_if_they_had_been_drawn(corpus, encoder, skip):
    same(batches(corpus, encoder)[skip:], batches(corpus, encoder, skip=skip))


@pytest.mark.parametrize("count", [2, 3])
def test_workers_share_each_batch(corpus, encoder, count):
    whole = batches(corpus, encoder)
    parts = [batches(corpus, encoder, shard=(index, count)) for index in range(count)]
    for batch, *slices in zip(whole, *parts, strict=True):
        same(batch, tf.nest.map_structure(lambda *x: np.concatenate(x), *slices))


def test_settings_that_cannot_be(corpus, encoder):
    for settings, message in (
        ({"shard": (0, 5)}, "A batch of 24 rows has no 0-th of 5 equal slices"),
        ({"shard": (2, 2)}, "no 2-th of 2"),
        ({"masked_share": 0.0}, "masked_share 0.0 must be"),
        ({"max_predictions": 0}, "max_predictions 0"),
    ):
        with pytest.raises(UserError, match=message):
            batches(corpus, encoder, **settings)
    with pytest.raises(UserError, match="prepared with another vocabulary"):
        batches(corpus, TextEncoder(VOCABULARY, lowercase=False))


# ------------------------------------------------------------------------------------------------------------ masking


def many_rows(corpus, encoder, epochs=6, **settings):
    rows = [joined(batches(corpus, encoder, epoch=epoch, **settings)) for epoch in range(epochs)]
    return {name: np.concatenate([part[name] for part in rows]) for name in rows[0]}


def five_deviations(share, count):
    return 5 * (share * (1 - share) / count) ** 0.5


@pytest.mark.parametrize("whole_words", [False, True])
def test_what_is_masked(corpus, encoder, whole_words):
    rows = many_rows(corpus, encoder, whole_words=whole_words)
    row, slot = np.nonzero(rows["masked_weights"])
    column = rows["masked_positions"][row, slot]
    text = place_of(rows["original"]) >= 0
    assert text[row, column].all(), "special tokens and padding are never predicted"
    assert len({*zip(row.tolist(), column.tolist(), strict=True)}) == len(row)
    assert (rows["masked_weights"][:, 0] == 1).all()
    used = rows["masked_weights"].astype(bool)
    assert (used[:, :-1] >= used[:, 1:]).all() and not rows["masked_ids"][~used].any()
    assert not rows["masked_positions"][~used].any() and set(np.unique(rows["masked_weights"])) == {0, 1}
    ascending = np.diff(rows["masked_positions"], axis=1) > 0
    assert ascending[used[:, 1:]].all()
    # How many.
    counts, budget = used.sum(axis=1), np.clip(np.rint(0.15 * text.sum(axis=1)), 1, 12)
    assert (counts <= budget).all() and (counts > 0).all()
    assert (counts == budget).all() if not whole_words else counts.sum() > 0.98 * budget.sum()
    # What stands there: 80 % [MASK], 10 % another piece, 10 % the same.
    now, was = rows["token_ids"][row, column], rows["masked_ids"][row, slot]
    masked, kept = (now == encoder.mask_id).mean(), (now == was).mean()
    assert abs(masked - 0.8) < five_deviations(0.8, len(row)) and abs(kept - 0.1) < five_deviations(0.1, len(row))
    other = now[(now != was) & (now != encoder.mask_id)]
    assert other.min() >= FIRST, "neither special nor unused"
    assert abs((other >= FIRST + MOST).mean() - 0.5) < five_deviations(0.5, len(other)), "uniform over pieces"
    assert abs(other.mean() - FIRST - MOST) < 5 * 2 * MOST / 12**0.5 / len(other) ** 0.5
    untouched = np.ones(text.shape, bool)
    untouched[row, column] = False
    same(rows["token_ids"][untouched], rows["original"][untouched])
    # Where: every column of text alike, but for whole words, of which long ones do not always fit.
    chosen = ~untouched
    wide = text.sum(axis=1) >= LENGTH - 3
    for part in (slice(1, 16), slice(16, 32), slice(32, 48), slice(48, 63)):
        share = chosen[wide, part][text[wide, part]]
        assert abs(share.mean() - chosen[wide].sum() / text[wide].sum()) < five_deviations(0.15, len(share)) * 1.5
    if whole_words:
        check_whole_words(rows["original"], text, chosen)
    else:
        with pytest.raises(AssertionError):
            check_whole_words(rows["original"], text, chosen)


def check_whole_words(original, text, chosen):
    """All pieces of a word in its segment, or none."""
    goes_on = (original >= FIRST + MOST) & text
    goes_on[:, 1:] &= text[:, :-1]
    goes_on[:, 0] = False
    assert (chosen[:, 1:] == chosen[:, :-1])[goes_on[:, 1:]].all()
    assert (chosen & goes_on).any()


def test_words_are_taken_greedily_as_bert_does():
    """Against create_masked_lm_predictions written out: words in random order, each that still fits."""
    chance = np.random.default_rng(0)
    rows, length, pieces = 200, 40, masking.VocabularyMasks.of(VOCABULARY)
    ids = np.where(chance.random((rows, length)) < 0.6, FIRST + MOST, FIRST) + chance.integers(0, MOST, (rows, length))
    text = np.ones(ids.shape, bool)
    text[:, [0, 20, 39]] = False
    ids[~text] = 3
    ids[:, 30] = 1  # [UNK] is a word, and not predicted
    draws = masking.draws(0, 0, 0, rows, length)
    _, positions, _, weights = masking.mask(ids, text, pieces.begins_word[ids], draws, pieces, 0.3, 9)
    for row in range(rows):
        words = []
        for column in range(length):
            if text[row, column]:
                if column and text[row, column - 1] and not pieces.begins_word[ids[row, column]]:
                    words[-1].append(column)
                else:
                    words.append([column])
        priority = {word[0]: draws[row, word[0]] >> 32 for word in words}
        words = sorted(words, key=lambda word: priority[word[0]])
        budget, taken = min(9, max(1, round(0.3 * 36))), []
        for word in ([c for c in word if c != 30] for word in words):
            if len(taken) + len(word) <= budget:
                taken += word
        assert positions[row][weights[row] > 0].tolist() == sorted(taken)


def test_max_predictions_and_share(corpus, encoder):
    rows = joined(batches(corpus, encoder, max_predictions=3))
    assert rows["masked_positions"].shape[1] == 3 and rows["masked_weights"].sum(axis=1).max() == 3
    rows = joined(batches(corpus, encoder, max_predictions=200, masked_share=0.4))
    text = (place_of(rows["original"]) >= 0).sum(axis=1)
    same(rows["masked_weights"].sum(axis=1), np.maximum(np.rint(0.4 * text), 1).astype(np.float32))


def test_a_row_of_nothing_but_unknown_words(tmp_path):
    encoder = TextEncoder(TINY)
    store = write_store([["zzz yyy", "xxx"], ["goal", "zzz"]], encoder, tmp_path / "s")
    for whole_words in (False, True):
        (_, targets, weights), *_ = batches(
            TokenCorpus([store]), encoder, objective="none", batch_size=1, whole_words=whole_words
        )
        assert targets["masked_ids"][0, 0] == TINY.index("goal") and weights["masked_weights"].sum() == 1


# --------------------------------------------------------------------------------------------- words of a splitter


CHINESE = "中国人民银行今天宣布上海天气很好我们去北京大学"


@pytest.fixture(scope="module")
def chinese():
    return TextEncoder([*SPECIAL, *dict.fromkeys(CHINESE), "play", "##ing", "iphone", ",", "the"])


def test_word_bits_follow_the_splitter(chinese, tmp_path, monkeypatch):
    sentences = [CHINESE, "the 中国 playing", "中囍人民", "上海", " 天 气"]
    # The last splits "playing" where WordPiece does not; 囍 is unknown.
    splits = {s: two_letters(s.replace(" ", "")) for s in sentences}
    splits["the 中国 playing"] = ["the", " ", "中国", " ", "play", "ing"]
    for size in (1, 100):
        monkeypatch.setattr(tokens, "BATCH_SENTENCES", size)
        store = write_store([sentences], chinese, tmp_path / "s", splitter=splits.get)
        corpus = TokenCorpus([store])
        assert corpus.has_words
        found = corpus.read_word_starts(store.sentence_starts[:-1], np.diff(store.sentence_starts))
        expected = [i % 2 == 0 for i in range(len(CHINESE))]
        expected += [True, True, False, True, False]  # the 中 国 play ##ing
        expected += [True, False] * 4
        assert found.tolist() == expected
        assert store.word_bits.nbytes == -(-store.meta.tokens // 8)
    without = write_store([sentences], chinese, tmp_path / "without")
    assert without.word_bits is None and not TokenCorpus([without]).has_words


def test_whole_chinese_words_are_masked(chinese, tmp_path):
    documents = [[CHINESE[: 2 * (3 + (d + s) % 9)] for s in range(8)] for d in range(40)]
    halves = [documents[:13], documents[13:]]
    stores = [write_store(d, chinese, tmp_path / f"{i}", two_letters) for i, d in enumerate(halves)]
    for objective in ("sop", "none"):  # two-letter words are never cut, as no sentence is longer than a sequence
        settings = {"objective": objective, "whole_words": True, "sequence_length": 128, "max_predictions": 20}
        rows = joined(batches(TokenCorpus(stores), chinese, **settings))
        chosen = np.zeros(rows["original"].shape, bool)
        row, slot = np.nonzero(rows["masked_weights"])
        chosen[row, rows["masked_positions"][row, slot]] = True
        text = rows["original"] > 4
        pair = 0
        for i in range(len(chosen)):
            # Tokens of a row's segments stand in sentences of whole words: they pair off, unless truncation cut one.
            if objective == "sop" and text[i].sum() == 125:
                continue
            assert chosen[i][text[i]][0::2].tolist() == chosen[i][text[i]][1::2].tolist()
            pair += chosen[i].sum() // 2
        assert pair > 100


def test_word_splitters_by_name(monkeypatch):
    assert word_splitter(None) is None and word_splitter("corpus_reader:two_letters") is two_letters
    monkeypatch.setitem(sys.modules, "jieba", None)
    with pytest.raises(UserError, match="'jieba' is not installed: pip install jieba"):
        word_splitter("jieba")
    for name in ("corpus_reader:nothing", "corpus_reader"):
        with pytest.raises(UserError, match="neither jieba nor a module:function"):
            word_splitter(name)
