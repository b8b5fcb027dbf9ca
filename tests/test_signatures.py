"""What an exported classifier answers beside its label: tokens, best labels, vectors, explanations."""

import io
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from letters import LABELS, TASK, TEXTS, VOCABULARY, ask, checkpoint_bytes, forbidden_operations, live, make_model

from export.expected import Expected
from export.explain import integrated_gradients, quadrature
from export.fused import FusedClassifier
from export.loading import Classifier
from export.savedmodel import ExportSettings, export_model
from export.signatures import SignatureOptions, chosen
from export.verify import ExportDiffers, verify
from export.versions import ModelError
from pipeline.backbone import fresh
from pipeline.classifier import build_classifier, serving_copy
from pipeline.config import ModelConfig
from pipeline.errors import UserError
from pipeline.features import TWO_TEXTS
from pipeline.tasks.multi_label import MultiLabel
from pipeline.tasks.number import Number
from pipeline.tasks.single_label import SingleLabel
from pipeline.text import TextEncoder
from pipeline.tokenizer_rules import SPECIAL_TOKENS


@pytest.fixture(scope="module")
def exported(model, encoder, tmp_path_factory):
    settings = ExportSettings(SignatureOptions(top_k=2, explain_steps=64))
    task = SingleLabel(LABELS, abstain_below=0.6, abstain_label="unsure")
    return export_model(model, encoder, task, tmp_path_factory.mktemp("single"), settings=settings)


def export_with(signatures, model, encoder, folder, **settings):
    return export_model(model, encoder, TASK, folder, settings=ExportSettings(signatures, **settings))


@pytest.fixture(scope="module")
def loaded(exported):
    return tf.saved_model.load(str(exported))


def test_predict_tokens_answers_as_serving_default(loaded, encoder):
    expected = loaded.signatures["serving_default"](text=tf.constant(TEXTS))
    found = loaded.signatures["predict_tokens"](**encoder(tf.constant(TEXTS), fixed_length=True))
    np.testing.assert_allclose(found["probabilities"], expected["probabilities"], atol=1e-6)
    assert found["label"].numpy().tolist() == expected["label"].numpy().tolist()


def test_tokens_that_the_model_does_not_know_are_replaced_and_the_first_counts(loaded, encoder):
    def ask(ids, segments=(0,), mask=(1,)):
        rows = (np.resize(np.array(row), 24) if len(row) == 1 else np.pad(row, (0, 24 - len(row)))
                for row in (ids, segments, mask))  # fmt: skip
        named = zip(("token_ids", "segment_ids", "padding_mask"), rows, strict=True)
        found = loaded.signatures["predict_tokens"](**{name: tf.constant([row], tf.int32) for name, row in named})
        return found["probabilities"].numpy()[0]

    unknown, least, most = encoder.unk_id, -(2**31), 2**31 - 1
    strange = [2, len(VOCABULARY), -1, least, most, 3]
    expected = ask([2, *[unknown] * 4, 3], mask=[1] * 6)
    assert np.isfinite(expected).all()
    np.testing.assert_allclose(ask(strange, mask=[1, most, least, -1, 2, 1]), expected, atol=1e-6)
    np.testing.assert_allclose(ask(strange, [0, 2, -1, most, least, 0], [1] * 6), expected, atol=1e-6)
    assert np.abs(ask(strange, [0, 1, 1, 1, 1, 0], [1] * 6) - expected).max() > 1e-6
    np.testing.assert_allclose(ask(strange, mask=[0]), ask([2], mask=[1, 0]), atol=1e-6)
    # Padding between tokens is padding.
    assert np.abs(ask([2, 5, 6, 3], mask=[1, 1, 0, 1]) - ask([2, 5, 6, 3], mask=[1, 1, 1, 1])).max() > 1e-6
    np.testing.assert_allclose(ask([2, 5, 6, 3], mask=[1, 1, 0, 1]), ask([2, 5, 7, 3], mask=[1, 1, 0, 1]), atol=1e-6)


def test_top_k_is_sorted_and_is_capped(loaded, model, encoder, tmp_path):
    expected = live(model, encoder, TEXTS)
    found = loaded.signatures["top_k"](text=tf.constant(TEXTS))
    np.testing.assert_allclose(found["top_scores"], -np.sort(-expected)[:, :2], atol=1e-6)
    names = [[LABELS[i] for i in row] for row in np.argsort(-expected)[:, :2]]
    assert [[name.decode() for name in row] for row in found["top_labels"].numpy()] == names
    folder = export_with(SignatureOptions(["top_k"], top_k=99), model, encoder, tmp_path)
    loaded = tf.saved_model.load(str(folder))
    assert sorted(loaded.signatures) == ["classify", "serving_default", "top_k"]
    assert loaded.signatures["top_k"].structured_outputs["top_labels"].shape.as_list() == [None, 3]


def test_embedding_is_what_the_classification_layer_sees(loaded, model, encoder):
    found = loaded.signatures["embed"](text=tf.constant(TEXTS))["embedding"]
    assert found.dtype == tf.float32 and found.shape == (len(TEXTS), 16)
    logits = model.get_layer("logits")(found)
    np.testing.assert_allclose(tf.nn.softmax(logits), live(model, encoder, TEXTS), atol=1e-5)


def test_abstention(exported, model, encoder):
    expected = live(model, encoder, TEXTS)
    answers = Classifier(exported)(TEXTS)
    sure = expected.max(axis=1) >= 0.6
    assert 0 < sure.sum() < len(TEXTS)
    best = [LABELS[i] for i in expected.argmax(axis=1)]
    assert answers.labels == [name if yes else "unsure" for name, yes in zip(best, sure, strict=True)]
    with pytest.raises(UserError, match="'maybe' is the name of a label"):
        SingleLabel(LABELS, abstain_below=0.5, abstain_label="maybe")

    def selective(values, below):
        return SingleLabel(LABELS, abstain_below=below).scores(values, expected)["selective"]

    found = selective(expected.argmax(axis=1), 0.6)
    assert found == {"abstain_below": 0.6, "coverage": sure.mean(), "accuracy": 1.0}
    assert selective(np.zeros(7, int), 1.0) == {
        "abstain_below": 1.0, "coverage": 0.0, "accuracy": None,
    }  # fmt: skip


def test_explain_names_pieces_and_bytes_and_adds_up(exported, loaded, model, encoder):
    found = {name: values.numpy() for name, values in loaded.signatures["explain"](text=tf.constant(TEXTS)).items()}
    expected = live(model, encoder, TEXTS)
    assert [label.decode() for label in found["label"]] == [LABELS[i] for i in expected.argmax(axis=1)]
    np.testing.assert_allclose(found["score"], expected.max(axis=1), atol=1e-6)
    ids = encoder(tf.constant(TEXTS), fixed_length=True)["token_ids"].numpy()
    names = [["" if i == encoder.pad_id else VOCABULARY[i] for i in row] for row in ids]
    assert [[piece.decode() for piece in row] for row in found["pieces"]] == names
    special = np.isin(ids, (encoder.pad_id, encoder.cls_id, encoder.sep_id))
    assert (found["attributions"][special] == 0).all() and (found["attributions"][~special] != 0).all()
    for text, row, begins, ends in zip(TEXTS, names, found["begin"], found["end"], strict=True):
        for piece, begin, end in zip(row, begins.tolist(), ends.tolist(), strict=True):
            surface = text.encode()[begin:end].decode()
            assert surface == {"[CLS]": "", "[SEP]": ""}.get(piece, surface)
            assert piece in ("[CLS]", "[SEP]", "[UNK]", "") or len(surface) == 1
    assert found["completeness_gap"].max() < 0.01

    # The sum is the difference of the live model's log-odds, computed independently of the fused graph.
    row = 1
    inputs = encoder(tf.constant(TEXTS[row : row + 1]))
    masked = {**inputs, "token_ids": tf.where(special[row : row + 1, : inputs["token_ids"].shape[1]],
                                              inputs["token_ids"], encoder.mask_id)}  # fmt: skip
    label = [int(expected[row].argmax())]
    difference = TASK.contribution(model(inputs), label) - TASK.contribution(model(masked), label)
    np.testing.assert_allclose(found["attributions"][row].sum(), difference[0], rtol=0.01)


@pytest.mark.slow
def test_pairs_say_which_text_a_piece_is_of(encoder, tmp_path):
    folder = export_model(make_model("mean"), encoder, TASK, tmp_path, TWO_TEXTS)
    first, second = ["a é", "b " * 30, ""], ["x", "cd", "é z"]
    explanations = Classifier(folder).explain(first, second, batch_size=2)
    for a, b, explanation in zip(first, second, explanations, strict=True):
        surfaces = [(a, b)[text].encode()[begin:end].decode() for text, begin, end in explanation.spans]
        expected = encoder.tokenize([a, b]).to_list()
        room = encoder.sequence_length - 3
        assert surfaces == [*a.split()[: room - len(expected[1])], *b.replace(" ", "")]
        assert len(explanation.pieces) == len(explanation.attributions) == len(surfaces)


@pytest.mark.slow
def test_several_labels_explain_the_likeliest(encoder, tmp_path):
    model = make_model()
    folder = export_model(model, encoder, MultiLabel(LABELS, 0.999999), tmp_path)
    logits = model(encoder(tf.constant(TEXTS)))
    assert [found.label for found in Classifier(folder).explain(TEXTS)] == [
        LABELS[i] for i in np.argmax(logits, axis=1)
    ]


def test_log_odds_and_quadrature():
    logits = tf.constant([[2.0, -1.0, 0.5], [9.0, 30.0, -3.0]])
    p = tf.nn.softmax(tf.cast(logits, tf.float64)).numpy()[[0, 1], [2, 1]]
    np.testing.assert_allclose(TASK.contribution(logits, [2, 1]), np.log(p / (1 - p)), rtol=1e-5)
    assert MultiLabel(LABELS).contribution(logits, [2, 1]).numpy().tolist() == [0.5, 30.0]
    assert Number(10.0, 2.0).contribution(logits[:, :1], [0, 0]).numpy().tolist() == [14.0, 28.0]
    for steps in (8, 9, 40):
        points, weights = quadrature(steps)
        assert len(points) == steps and (np.diff(points) > 0).all() and points[0] > 0 and points[-1] < 1
        np.testing.assert_allclose([weights.sum(), (weights * points).sum()], [1, 0.5], rtol=1e-3)


def test_attributions_of_a_linear_function_are_its_terms(monkeypatch):
    """Where only embeddings are added up, each piece's share is exactly its own."""

    class Sum:
        def words(self, ids):
            return tf.one_hot(ids, 8)

        def __call__(self, inputs, words):
            assert inputs["token_ids"].shape == words.shape[:2]
            return tf.reduce_sum(words, axis=1)[:, :2] * [3.0, 1.0]

    inputs = {
        "token_ids": tf.constant([[0, 1, 0, 5], [0, 0, 1, 0]]),
        "padding_mask": tf.constant([[1, 1, 1, 1], [1, 1, 0, 0]]),
    }
    pieces = tf.constant([[True, True, False, True], [True, True, False, False]])
    quantity = lambda logits, rows: logits[:, 0] * tf.cast(rows + 1, tf.float32)  # noqa: E731
    for tokens in (1, 2, 7, 16, 1000):
        monkeypatch.setattr("export.explain.TOKENS", tokens)
        found, of_columns, gap = integrated_gradients(Sum(), inputs, pieces, quantity, 4, 16)
        np.testing.assert_allclose(found, [[3, 0, 0, 0], [6, 6, 0, 0]], atol=1e-5)
        assert max(gap) < 1e-6 and of_columns.shape == (2, 0)
    none, _, gap = integrated_gradients(Sum(), {k: v[:0] for k, v in inputs.items()}, pieces[:0], quantity, 4, 16)
    assert none.shape == (0, 4) and gap.shape == (0,)


def test_the_graph_that_explains_fits_a_server_and_weights_are_saved_once(exported, model, encoder, tmp_path):
    assert not forbidden_operations(exported)
    plain = export_with(SignatureOptions([]), model, encoder, tmp_path)
    assert checkpoint_bytes(exported) == checkpoint_bytes(plain)
    assert sorted(tf.saved_model.load(str(plain)).signatures) == ["classify", "serving_default"]
    with pytest.raises(ModelError, match="cannot explain"):
        Classifier(plain).explain(TEXTS)
    description = json.loads((plain / "assets.extra" / "metadata.json").read_text(encoding="utf-8"))
    assert description["optional_signatures"] == []


def test_signatures_that_a_model_cannot_have():
    assert chosen(SignatureOptions(), TASK, fused=False) == ["predict_tokens", "top_k"]
    assert chosen(SignatureOptions(), Number(), fused=True) == ["predict_tokens", "embed", "explain"]
    with pytest.raises(UserError, match="top_k: a model of the task number has none"):
        chosen(SignatureOptions(["top_k"]), Number(), fused=True)
    with pytest.raises(UserError, match="embed: the model is not laid out"):
        chosen(SignatureOptions(["embed"]), TASK, fused=False)
    with pytest.raises(UserError, match="there is no 'other'"):
        chosen(SignatureOptions(["other"]), TASK, fused=True)


@pytest.mark.slow
def test_weights_stored_in_bfloat16_answer_as_the_rounded_model(model, encoder, tmp_path):
    served = serving_copy(model, "float32", weights="bfloat16")
    folder = export_with(SignatureOptions(), served, encoder, tmp_path, weights="bfloat16")
    np.testing.assert_allclose(Classifier(folder)(TEXTS).probabilities, live(served, encoder, TEXTS), atol=1e-6)
    whole = export_with(SignatureOptions([]), model, encoder, tmp_path)
    assert checkpoint_bytes(folder) < 0.6 * checkpoint_bytes(whole)


@pytest.fixture(scope="module")
def planted():
    """A model that must find one word in twelve, or none, and texts with such a word."""
    random = np.random.default_rng(0)
    words = ["red", "seven", "monday", None]
    filler = [f"w{i}" for i in range(20)]

    def texts(count, words):
        numbers = random.integers(len(words), size=count)
        rows = [random.choice(filler, 12).tolist() for _ in numbers]
        for row, number in zip(rows, numbers, strict=True):
            if words[number]:
                row[random.integers(12)] = words[number]
        return [" ".join(row) for row in rows], numbers

    vocabulary = [*SPECIAL_TOKENS, *words[:3], *filler]
    sizes = ModelConfig(
        num_layers=1, num_heads=2, hidden_dim=16, intermediate_dim=32, max_sequence_length=16, dropout=0.0
    )
    loaded = fresh.build(sizes, vocabulary, 0, "float32")
    model = build_classifier(loaded, 4, pooling="mean", dropout=0.0, dtype="float32")
    encoder = TextEncoder(vocabulary, sequence_length=16)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-2), loss, jit_compile=False)
    rows, numbers = texts(800, words)
    model.fit(encoder(tf.constant(rows)), numbers, batch_size=40, epochs=6, verbose=0)
    return model, encoder, *texts(40, words[:3])


def test_a_planted_decisive_word_ranks_first(planted):
    model, encoder, texts, numbers = planted
    inputs = encoder(tf.constant(texts))
    assert (np.argmax(model(inputs), axis=1) == numbers).all(), "the model must have learned its words"
    ids = inputs["token_ids"]
    pieces = ~tf.reduce_any(ids[..., tf.newaxis] == [encoder.pad_id, encoder.cls_id, encoder.sep_id], axis=-1)
    fused, label = FusedClassifier(model), tf.constant(numbers, tf.int32)
    explain = tf.function(
        lambda: integrated_gradients(
            fused,
            inputs,
            pieces,
            lambda logits, rows: TASK.contribution(logits, tf.gather(label, rows)),
            encoder.mask_id,
            32,
        ),
        autograph=False,
    )
    attributions, *_ = explain()
    first = ids.numpy()[np.arange(len(texts)), np.argmax(attributions, axis=1)]
    assert np.mean(first == numbers + len(SPECIAL_TOKENS)) >= 0.95


@pytest.mark.parametrize(
    ("name", "key", "value", "message"),
    [
        ("top_k", "top_scores", [0.9, 0.8], r"top_k"),
        ("explain", "label", "other", r"other: .*\(explain\)"),
        ("explain", "end", [0, 999] + [0] * 22, "bytes 0 to 999 of 'a b c'"),
        ("explain", "attributions", [np.nan] * 24, "attributions are not all finite"),
        ("embed", "embedding", [np.inf] * 16, "embedding are not all finite"),
        ("predict_tokens", "label", "other", r"names 'other' .*\(predict_tokens\)"),
    ],
)
def test_verify_refuses_signatures_that_differ(name, key, value, message, model, encoder, monkeypatch):
    rows = live(model, encoder, TEXTS)
    best = [LABELS[i] for i in rows.argmax(axis=1)]
    common = {"probabilities": rows, "label": best, "score": rows.max(axis=1)}
    answers = {
        "serving_default": common,
        "predict_tokens": {**common, "label": list(best)},
        "top_k": {"top_scores": [row[:2] for row in -np.sort(-rows)],
                  "top_labels": [[LABELS[i] for i in row[:2]] for row in np.argsort(-rows)]},
        "embed": {"embedding": [[0.0] * 16 for _ in TEXTS]},
        "explain": {"label": best[:4], "score": rows.max(axis=1)[:4], "attributions": [[0.0] * 24] * 4,
                    "begin": [[0] * 24] * 4, "end": [[0] * 24] * 4},
    }  # fmt: skip
    monkeypatch.setattr("export.verify._answers", lambda *_: {way: (way, found) for way, found in answers.items()})
    assert verify("", {"text": TEXTS}, Expected(rows, 1e-5), TASK, encoder) == 0
    answers[name][key] = [value, *answers[name][key][1:]]
    with pytest.raises(ExportDiffers, match=message):
        verify("", {"text": TEXTS}, Expected(rows, 1e-5), TASK, encoder)


@pytest.mark.slow
def test_command_line_explains(exported, capsys, monkeypatch):
    status, output, _ = ask(capsys, exported, "--explain", "ça b", "--top_k", 1)
    head, *lines = output.splitlines()
    assert status == 0 and head.endswith("\tça b") and head.startswith(Classifier(exported).explain(["ça b"])[0].label)
    assert [line.split()[1:] for line in lines] == [["ç", "c"], ["a", "##a"], ["b"]]
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("ça b\n".encode())))
    status, output, _ = ask(capsys, exported, "--explain", "--format", "jsonl")
    record = json.loads(output)
    assert [record["text"].encode()[p["begin"] : p["end"]].decode() for p in record["pieces"]] == ["ç", "a", "b"]
    assert [f"{p['attribution']:+.3f}" for p in record["pieces"]] == [line.split()[0] for line in lines]
    status, _, error = ask(capsys, exported, "--explain", "a", "--format", "csv")
    assert status == 2 and "--explain" in error and error.count("\n") == 1
