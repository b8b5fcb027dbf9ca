"""Every signature under a server's batching: requests of several clients merged and cut, whatever they hold."""

import numpy as np
import pytest
import tensorflow as tf
from scheduler import serve
from tiny import VOCABULARY
from tiny_export import LABELS, export_tiny, some_typicality, tiny_model

from export.graph import read_graph, signatures
from export.loading import Classifier
from export.savedmodel import ExportSettings, ServedModel
from export.server.ask import ask
from export.server.batching import BatchFails, ServerEnds, joined
from export.signatures import TOKENS, SignatureOptions, build_signatures
from export.warmup import serialized_examples
from pipeline.classifier import over_chunks
from pipeline.features import ONE_TEXT, TWO_TEXTS
from pipeline.long_texts import LongTexts
from pipeline.tasks.guarantees import Guarantees
from pipeline.tasks.multi_label import MultiLabel
from pipeline.tasks.number import Number
from pipeline.tasks.outside import Outside
from pipeline.tasks.sets import Sets
from pipeline.tasks.single_label import SingleLabel
from pipeline.text import TextEncoder

LENGTH = 16
CASES = {
    "labels": (SingleLabel(LABELS, abstain_below=0.5), ONE_TEXT),
    "numbers": (Number(10.0, 2.0), ONE_TEXT),
}
# Beside these, what takes longer.
SLOW = {
    "several labels of pairs": (MultiLabel(LABELS), TWO_TEXTS),
    "chunks": (SingleLabel(LABELS), ONE_TEXT),
    "sets and fit": (
        SingleLabel(LABELS, guarantees=Guarantees(sets=Sets(0.9, (0.3,), 100)), fit=Outside(0.4, "outside")),
        ONE_TEXT,
    ),
}


@pytest.fixture(scope="module", params=[*CASES, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def served(request):
    """The signatures of a model, as functions, and the names of its texts."""
    task, features = (CASES | SLOW)[request.param]
    model, encoder = tiny_model(task.outputs)
    if request.param == "chunks":
        model = over_chunks(model, "attention")
        encoder = TextEncoder(VOCABULARY, True, LENGTH, long=LongTexts.of("chunks", max_chunks=4))
    # The functions hold the model's weights only as long as it lives.
    model = ServedModel(model, encoder, task, typicality=some_typicality(model, encoder) if task.fit else None)
    return model, build_signatures(model, features, SignatureOptions(explain_steps=4)), features.inputs


def test_no_size_but_the_batch_is_open(served):
    model, functions, _ = served
    assert {"serving_default", "embed", "explain"} < set(functions)
    assert ("predict_tokens" in functions) is not model.encoder.long.in_chunks
    for name, function in functions.items():
        found = function.get_concrete_function()
        for key, spec in {**{spec.name: spec for spec in function.input_signature}, **found.structured_outputs}.items():
            sizes = spec.shape.as_list()
            assert sizes[0] is None and None not in sizes[1:], f"{name}: {key} {sizes}"


def random_text(random: np.random.Generator) -> bytes:
    words = [*VOCABULARY, "unknown", "é漢", "\u0301", "Σ."]
    ordinary = " ".join(random.choice(words, random.integers(24))).encode()
    strange = [
        b"", random.bytes(int(random.integers(40))), b"\x00" * 9, b"the \xff\xfe team \xed\xa0\x80", b"a\x00goal",
        b"\xf0\x9f" * 500, b" " * 500 + b"goal", b"x" * 500,
    ]  # fmt: skip
    long = [b"x" * 100_001, b" ".join([b"the unknown"] * 10_000), b" " * 99_000 + b"goal", b"goal\xcc\x81" * 16_000]
    kind = random.choice(3, p=[0.5, 0.45, 0.05])
    return [ordinary, strange[random.integers(len(strange))], long[random.integers(len(long))]][kind]


def random_example(random: np.random.Generator, names) -> bytes:
    whole = serialized_examples({name: np.array([random_text(random)[:300]], object) for name in names})[0]
    numbers = tf.train.Feature(int64_list=tf.train.Int64List(value=[1, 2]))
    several = tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"goal", b"bank"]))
    others = [
        whole[: random.integers(len(whole))], random.bytes(int(random.integers(60))), b"",
        *(tf.train.Example(features=tf.train.Features(feature={names[0]: feature})).SerializeToString()
          for feature in (numbers, several)),
    ]  # fmt: skip
    return whole if random.random() < 0.6 else others[random.integers(len(others))]


def random_tokens(random: np.random.Generator) -> list[np.ndarray]:
    """token_ids, segment_ids and padding_mask of one row: as a client should send them, or any numbers."""
    count = random.integers(2, LENGTH + 1)
    if random.random() < 0.5:
        ids = np.pad(random.integers(5, len(VOCABULARY), count), (0, LENGTH - count))
        return [ids, np.zeros(LENGTH), np.arange(LENGTH) < count]
    limits = [(-3, len(VOCABULARY) + 3), (-2, 4), (-1, 2), (-(2**31), 2**31), (0, 1)]
    return [random.integers(*limits[random.integers(len(limits))], LENGTH) for _ in TOKENS]


def random_rows(random: np.random.Generator, inputs, count: int) -> dict[str, np.ndarray]:
    names = [spec.name for spec in inputs]
    if names == list(TOKENS):
        columns = zip(*(random_tokens(random) for _ in range(count)), strict=True)
        return {name: np.array(column).astype(np.int32) for name, column in zip(names, columns, strict=True)}
    if names == ["inputs"]:
        texts = ["text"] if random.random() < 0.5 else ["text_a", "text_b"]
        return {"inputs": np.array([random_example(random, texts) for _ in range(count)], object)}
    return {name: np.array([random_text(random) for _ in range(count)], object) for name in names}


def check_requests(function, random: np.random.Generator, rows: int, requests: int, most: int) -> None:
    """Rows, each asked alone, then in random requests, batched: the answers must be the same."""

    def run(inputs):
        return {name: values.numpy() for name, values in function(**inputs).items()}

    inputs = [tf.TensorSpec(spec.shape, spec.dtype, spec.name) for spec in function.input_signature]
    known = random_rows(random, inputs, rows)
    alone = [run({name: values[[row]] for name, values in known.items()}) for row in range(rows)]
    alone = {name: np.concatenate([answer[name] for answer in alone]) for name in alone[0]}
    chosen = [random.integers(rows, size=random.integers(1, 2 * most + 1)) for _ in range(requests)]
    answers = serve(run, [{name: values[own] for name, values in known.items()} for own in chosen], most)
    for own, answer in zip(chosen, answers, strict=True):
        for name, values in answer.items():
            expected = alone[name][own]
            if values.dtype == object:
                assert values.tolist() == expected.tolist(), name
            else:
                assert np.isfinite(values).all() and values.shape == expected.shape, name
                np.testing.assert_allclose(values, expected, rtol=1e-4, atol=1e-5, err_msg=name)


def test_each_row_is_answered_as_alone(served):
    _, functions, _ = served
    for number, function in enumerate(functions.values()):
        check_requests(function, np.random.default_rng(number), rows=24, requests=16, most=8)


@pytest.mark.slow
def test_ten_thousand_requests_are_answered_as_alone(served):
    _, functions, _ = served
    for number, function in enumerate(functions.values()):
        random = np.random.default_rng(100 + number)
        check_requests(function, random, rows=150, requests=10_000 // len(CASES) // len(functions) + 1, most=32)


def test_what_the_emulated_server_does_to_outputs_of_other_sizes():
    """As explain's were: an abort where a longer part follows a shorter one, and else shifted rows."""

    def ragged(inputs):
        length = max(map(len, inputs["text"]))
        return {"letters": np.array([list(text.ljust(length, b"_")) for text in inputs["text"]])}

    short, long = {"text": np.array([b"a"] * 3, object)}, {"text": np.array([b"abcd"] * 3, object)}
    both = {name: np.concatenate([short[name], long[name]]) for name in short}
    assert [answer["letters"].shape for answer in serve(ragged, [short, long], 3)] == [(3, 1), (3, 4)]
    with pytest.raises(ServerEnds):
        serve(ragged, [both], 3)
    turned = {name: values[::-1] for name, values in both.items()}
    assert serve(ragged, [turned], 3)[0]["letters"].tolist()[3:] == [[97, 97, 97, 0], [0] * 4, [0] * 4]
    with pytest.raises(BatchFails, match="different shapes"):
        serve(ragged, [{"text": np.zeros((1, 2))}, {"text": np.zeros((1, 3))}], 8)
    with pytest.raises(BatchFails, match="0th dimension"):
        serve(lambda inputs: {"one": np.zeros(1)}, [short], 8)
    assert joined([np.ones([1, 2]), np.ones([2, 2])]).tolist() == [[1, 1]] * 3


def test_tokens_of_another_width_do_not_change_their_neighbours(tmp_path):
    """A server with pad_variable_length_inputs widens all rows to the widest, with the first number of each tensor."""
    folder = export_tiny(tmp_path, settings=ExportSettings(SignatureOptions(["predict_tokens"])))
    signature = signatures(read_graph(folder))["predict_tokens"]
    random = np.random.default_rng(0)
    rows = random_rows(random, [tf.TensorSpec([], name=name) for name in TOKENS], 12)
    wide = {name: np.pad(values, [(0, 0), (0, 5)], constant_values=1) for name, values in rows.items()}
    narrow = {name: values[:, :5] for name, values in rows.items()}
    feeds = [{signature.inputs[name].name: values for name, values in fed.items()} for fed in (rows, wide, narrow)]
    answers = ask(folder, [(feed, [signature.outputs["probabilities"].name]) for feed in feeds]).answers
    (expected,), (found,), (cut,) = answers
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert cut.shape == expected.shape and np.isfinite(cut).all()


@pytest.mark.slow
def test_python_gives_explanations_without_padding(tmp_path):
    folder = export_tiny(tmp_path, settings=ExportSettings(SignatureOptions(["explain"], explain_steps=4)))
    texts = ["the team", "", "a bank in orbit", "the " * 40]
    together, alone = Classifier(folder).explain(texts), [Classifier(folder).explain(text) for text in texts]
    assert [explanation.pieces for explanation in together] == [
        ["the", "team"], [], ["a", "bank", "in", "orbit"], ["the"] * (LENGTH - 2),
    ]  # fmt: skip
    for one, other in zip(together, alone, strict=True):
        assert one.pieces == other.pieces and one.spans == other.spans and one.label == other.label
        np.testing.assert_allclose(one.attributions, other.attributions, rtol=1e-5, atol=1e-6)
