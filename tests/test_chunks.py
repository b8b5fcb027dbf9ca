"""Texts that are read in chunks: as tokens, in training, in the exported model."""

import json
from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf
from letters import TASK, VOCABULARY, make_model
from reference_tokenizer import full_tokenize
from tiny import write_long_config

from export import chunks as served_chunks
from export import load
from export.chunks import ChunkedClassifier
from export.chunks_explained import explain_in_chunks
from export.fused import FusedClassifier
from pipeline import UserError, read_config, train
from pipeline.chunk_pooling import pooled
from pipeline.classifier import over_chunks, serving_copy, with_hidden_states
from pipeline.command_line import checked
from pipeline.data.documents import parts_within, share, take, token_counts, within
from pipeline.data.reading import cut_warnings, read
from pipeline.evaluation.lengths import bands, scores_by_length
from pipeline.long_texts import LongTexts
from pipeline.tasks.targets import Groups
from pipeline.text import TextEncoder

KINDS = ("mean", "token_mean", "max", "attention")
MODES = [LongTexts.of("chunks", stride=stride, max_chunks=most) for stride, most in ((None, 5), (None, 1), (4, 6))]
TEXTS = [
    " ".join(chr(ord("a") + (7 * i + n) % 26) + ("! " if i % 9 == 5 else "") for i in range(n))
    for n in (3, 0, 1, 9, 10, 11, 12, 25, 44, 90)
]


def spans(tokens: list[str], room: int, long: LongTexts) -> list[tuple[int, int]]:
    """The reference."""
    found, start = [], 0
    while len(found) < long.max_chunks:
        end = min(start + room, len(tokens))
        if long.stride is None and end < len(tokens):
            ends = [i + 1 for i in range(end - room // 10, end) if tokens[i] in ".!?"]
            end = ends[-1] if ends else end
        found.append((start, end))
        if end == len(tokens):
            break
        start = end if long.stride is None else start + long.stride
    return found


@pytest.mark.parametrize("length", [12, 32])
@pytest.mark.parametrize("long", MODES, ids=str)
def test_chunks_are_those_of_the_reference(long, length):
    encoder = TextEncoder(VOCABULARY, sequence_length=length, long=long)
    texts = [*TEXTS, "a " * 18 + "b! " + "c " * 60, "! " * 70, "a " * 26 + "? b ! " * 40]
    for batch in (texts, *([text] for text in texts)):
        found = {name: values.numpy() for name, values in encoder(batch).items()}
        rows = iter(zip(found["token_ids"], found["padding_mask"], strict=True))
        for text, count in zip(batch, found["chunks"], strict=True):
            tokens = full_tokenize(text, set(VOCABULARY))
            expected = spans(tokens, length - 2, long)
            assert count == len(expected)
            for begin, end in expected:
                ids, mask = next(rows)
                assert [VOCABULARY[i] for i in ids[: mask.sum()]] == ["[CLS]", *tokens[begin:end], "[SEP]"]
        assert next(rows, None) is None and not found["segment_ids"].any()
    assert {values.shape[0] for values in encoder([]).values()} == {0}


def test_chunks_end_with_a_sentence_in_their_last_tenth_and_very_long_texts_are_cut_before_wordpiece():
    encoder = TextEncoder(VOCABULARY, sequence_length=32, long=LongTexts.of("chunks", max_chunks=3))
    ends = encoder(["a " * 27 + "! " + "b " * 999])["padding_mask"].numpy().sum(axis=1) - 2
    assert ends.tolist() == [28, 30, 30]
    whole = encoder.tokenize(["a " * 27 + "! " + "b " * 9999])
    assert np.diff(encoder.chunks(whole)[:2], axis=0)[0].tolist() == [28, 30, 30]


def test_texts_of_a_batch_are_taken_counted_and_shared_with_their_chunks():
    inputs = TextEncoder(VOCABULARY, sequence_length=12, long=MODES[0])(TEXTS)
    counts = inputs["chunks"].numpy()
    alone = [TextEncoder(VOCABULARY, sequence_length=12, long=MODES[0])([text], fixed_length=True) for text in TEXTS]
    taken = take(inputs, tf.constant([8, 0, 8]))
    expected = np.concatenate([alone[i]["token_ids"] for i in (8, 0, 8)])
    np.testing.assert_array_equal(taken["token_ids"], expected)
    np.testing.assert_array_equal(token_counts(inputs), [one["padding_mask"].numpy().sum() for one in alone])
    second, numbers = share((inputs, tf.range(10)), 1, 5)
    assert numbers.numpy().tolist() == [2, 3] and second["chunks"].numpy().tolist() == counts[2:4].tolist()
    np.testing.assert_array_equal(second["token_ids"], take(inputs, [2, 3])["token_ids"])
    assert within([3, 1, 1, 2, 9, 1, 1], 4) == [slice(0, 2), slice(2, 4), slice(4, 5), slice(5, 7)]
    chunks = tf.constant([3, 1, 1, 1, 2, 2])
    assert [int(parts_within(chunks, budget, 6, 1)) for budget in (99, 6, 5, 4, 3, 1)] == [1, 2, 2, 3, 6, 6]
    assert int(parts_within(chunks, 99, 6, 2)) == 2


def made(kind: str, encoder_mode=MODES[0]) -> tuple[keras.Model, TextEncoder]:
    return over_chunks(make_model("mean"), kind), TextEncoder(VOCABULARY, sequence_length=12, long=encoder_mode)


def test_the_vectors_of_chunks_become_one_as_in_numpy():
    vectors = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    mask = (np.arange(5) < np.array([5, 2, 5, 5, 3, 2])[:, None]).astype(np.int32)
    scores = vectors[:, :1]
    parts = [vectors[:2], vectors[2:5], vectors[5:]]
    sizes = np.split(mask.sum(axis=1), [2, 5])
    expected = {
        "mean": [part.mean(axis=0) for part in parts],
        "max": [part.max(axis=0) for part in parts],
        "token_mean": [np.average(part, axis=0, weights=size) for part, size in zip(parts, sizes, strict=True)],
        "attention": [np.average(part, axis=0, weights=np.exp(part[:, 0])) for part in parts],
    }
    for kind, rows in expected.items():
        found = pooled(kind, tf.constant(vectors), tf.constant(mask), tf.constant([2, 3, 1]), tf.constant(scores))
        np.testing.assert_allclose(found, rows, atol=1e-6)


@pytest.mark.parametrize("kind", ["attention", *(pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS[:3])])
def test_served_answers_are_the_trained_models_alone_or_together(kind, monkeypatch):
    monkeypatch.setattr(served_chunks, "CHUNKS_AT_ONCE", 3)
    model, encoder = made(kind)
    inputs = encoder(TEXTS)
    expected = model(inputs).numpy()
    served = ChunkedClassifier(FusedClassifier(model))
    answer = tf.function(lambda inputs: served.logits(served.pooled(inputs)), [encoder.specs], autograph=False)
    np.testing.assert_allclose(answer(inputs), expected, atol=1e-5)
    for text, row in zip(TEXTS, expected, strict=True):
        np.testing.assert_allclose(answer(encoder([text]))[0], row, atol=1e-5)
    assert answer(encoder([])).shape[0] == 0
    np.testing.assert_allclose(serving_copy(model, "float32")(inputs), expected, atol=1e-6)
    np.testing.assert_allclose(with_hidden_states(model)(inputs)["logits"], expected, atol=1e-6)


class Served:
    """As much of a ServedModel as explanations ask for."""

    def __init__(self, kind, long):
        model, self.encoder = made(kind, long)
        self.task, self.forward = TASK, ChunkedClassifier(FusedClassifier(model))

    def predictions_of_tokens(self, inputs):
        return self.task.activation(self.forward.logits(self.forward.pooled(inputs)))

    def log_odds(self, text, label):
        p = self.predictions_of_tokens(self.encoder([text])).numpy()[0][label]
        return np.log(p / (1 - p))


@pytest.mark.parametrize(
    ("kind", "long"), [("attention", MODES[2]), pytest.param("mean", MODES[0], marks=pytest.mark.slow)]
)
def test_explanations_add_up_over_all_chunks_and_name_the_bytes_of_the_whole_text(kind, long):
    served = Served(kind, long)
    texts = ["café a b! c " * 4, "", "x y"]
    found = explain_in_chunks(served, [tf.constant(texts)], 30)[0]
    found = {name: values.numpy() for name, values in found.items()}
    width = {found[name].shape for name in ("pieces", "begin", "end", "attributions")}
    assert width == {(3, long.room(10) + 2)}
    for row, text in enumerate(texts):
        tokens = full_tokenize(text, set(VOCABULARY))
        tokens = tokens[: spans(tokens, 10, long)[-1][1]]
        label = TASK.names.index(found["label"][row].decode())
        whole = served.log_odds(text, label)
        # [MASK] in place of every token.
        inputs = served.encoder([text])
        special = np.isin(inputs["token_ids"], [VOCABULARY.index(t) for t in ("[CLS]", "[SEP]", "[PAD]")])
        inputs = inputs | {"token_ids": tf.where(special, inputs["token_ids"], VOCABULARY.index("[MASK]"))}
        p = served.predictions_of_tokens(inputs).numpy()[0][label]
        assert found["attributions"][row].sum() == pytest.approx(whole - np.log(p / (1 - p)), abs=0.02)
        assert found["completeness_gap"][row] < 0.05
        kept = found["end"][row] > found["begin"][row]
        assert [piece.decode() for piece in found["pieces"][row][kept]] == tokens
        spans_of = zip(found["begin"][row][kept], found["end"][row][kept], strict=True)
        surfaces = [full_tokenize(text.encode()[b:e].decode(), set(VOCABULARY))[0] for b, e in spans_of]
        assert [surface.removeprefix("##") for surface in surfaces] == [token.removeprefix("##") for token in tokens]
        assert not found["attributions"][row][~kept].any()


# What is said of lengths.


@pytest.mark.parametrize("long", MODES, ids=str)
def test_what_is_said_to_be_cut_is_what_lies_behind_the_last_chunk(long):
    reading = read(TextEncoder(VOCABULARY, sequence_length=12, long=long), [TEXTS])
    tokens = [full_tokenize(text, set(VOCABULARY)) for text in TEXTS]
    assert reading.lost.tolist() == [len(row) - spans(row, 10, long)[-1][1] for row in tokens]


def test_the_setting_that_would_read_more_is_named():
    encoder = TextEncoder(VOCABULARY, sequence_length=12)
    nothing = Groups(np.zeros(0, int), np.zeros(0, int), [])

    def said(encoder, positions, single=True):
        reading = read(encoder, [["a " * 40, "b", "c", "d"] * 5])
        return cut_warnings({"train": reading}, encoder, positions, nothing, single)

    assert (
        "cuts 25.0% of the train texts" in said(encoder, 512)[0]
        and "48 would leave 99% whole." in said(encoder, 512)[0]
    )
    for positions in (12, 24):
        assert said(encoder, positions)[0].endswith("; text.long chunks reads them to their end.")
        assert said(encoder, positions, single=False)[0].endswith("; text.long head_tail reads their end too.")
    some = TextEncoder(VOCABULARY, sequence_length=12, long=LongTexts.of("chunks", max_chunks=3))
    assert said(some, 512)[0].startswith("text.max_chunks 3 cuts 25.0%") and "about 5 would leave" in said(some, 512)[0]
    assert said(TextEncoder(VOCABULARY, sequence_length=12, long=LongTexts.of("chunks", max_chunks=4)), 512) == []


def test_scores_by_length_have_few_bands_of_many_rows():
    lengths = np.array([10] * 40 + [100] * 5 + [300] * 50 + [9000] * 31)
    assert bands(lengths) == [64, 512] and bands(lengths[:60]) == [] and bands(np.zeros(0, int)) == []
    values = np.zeros(len(lengths), int)
    predictions = np.eye(3, dtype=np.float32)[np.where(lengths > 512, 1, 0)]
    (found,) = scores_by_length(TASK, values, predictions, lengths).values()
    assert {name: (band["rows"], band["accuracy"]) for name, band in found["groups"].items()} == {
        "up to 64": (40, 1.0), "65 to 512": (55, 1.0), "over 512": (31, 0.0)
    }  # fmt: skip
    assert found["groups"]["over 512"]["interval"][1] < 0.2 and found["groups"]["over 512"]["p_value"] < 1e-9
    assert scores_by_length(TASK, values[:60], predictions[:60], lengths[:60]) == {}


def test_a_run_is_scored_exported_and_asked(tmp_path):
    settings = {"model": {"num_layers": 1, "pooling": "mean"}, "training": {"method": "head"}}
    config = read_config(write_long_config(tmp_path, **settings, export={"signatures": ["top_k"]}))
    run = train(replace(config, run_dir=str(tmp_path / "run")))
    identity = json.loads((tmp_path / "run" / "identity.json").read_text())
    long = {"read": "chunks", "stride": None, "max_chunks": 6}
    assert identity["long"] == long | {"pooling": "mean"}
    # The words that tell the label are behind the first chunk in half of the rows.
    assert run.metrics["test"]["accuracy"] > 0.6
    model = load(run.saved_model)
    assert model.metadata["long"] == long and model.metadata["model"] == identity
    # The last words of the last chunk that is read count, those behind it do not.
    filler = "the a of in " * 20
    texts = [filler + "goal team", filler + "bank market", filler + "the " * 9 + "goal team", filler + "the " * 9]
    scores = model(texts).probabilities
    assert np.abs(scores[0] - scores[1]).max() > 1e-3
    np.testing.assert_allclose(scores[2], scores[3], atol=1e-6)
    for text, score in zip(texts, scores, strict=True):
        np.testing.assert_allclose(model(text)["probabilities"], score, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"data.text_columns": ["a", "b"]}, r"text\.long chunks reads one text a row"),
        ({"training.tokens_per_batch": 512}, r"training\.tokens_per_batch 512 is for one sequence a text"),
        ({"export.onnx": "float32"}, r"export\.onnx float32 is for one sequence a text"),
        ({"training.xla": True}, r"text\.long chunks has too many"),
        ({"export.signatures": ["predict_tokens"]}, r"predict_tokens has one sequence a row"),
        ({"text.stride": 15}, r"text\.stride 15 skips tokens: .* has 14 of its text"),
        ({"text.long": "tail", "text.stride": 5}, r"text\.stride 5 is of text\.long chunks"),
        ({"training.epochs": 0, "model.backbone": "x", "text.vocabulary": None, "model.num_layers": None},
         r"which text\.long chunks would change"),
    ],
)  # fmt: skip
def test_what_does_not_go_with_chunks_is_refused_in_a_sentence(settings, message, tmp_path):
    config = read_config(write_long_config(tmp_path, export={"signatures": ["top_k"]}))
    config.run_dir = str(tmp_path / "run")
    for key, value in settings.items():
        section, name = key.split(".")
        setattr(getattr(config, section), name, value)
    with pytest.raises(UserError, match=message):
        checked(config)
