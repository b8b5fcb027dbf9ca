"""Numbers, categories, dates and vectors beside the text, and more than two texts: read, learned, exported, asked."""

import csv
import json
import math
import random
import tracemalloc
from datetime import date, datetime, timedelta

import jsonschema
import numpy as np
import pytest
import tensorflow as tf
from letters import TASK, VOCABULARY, make_model
from serving_double import ServingDouble
from test_resume import assert_same_end
from test_training import ROWS, assert_equal_weights, batches, tiny_model
from tiny import FILLER, SUBJECTS, write_config

from export import load
from export.cells import array_of
from export.chunks import ChunkedClassifier
from export.client import Client
from export.client import main as client
from export.examples import cells_of
from export.failures import RequestFailed
from export.fused import FusedClassifier
from export.kit import main as kit
from export.predict import main as predict
from export.request_schema import FILE, request_schema
from pipeline import UserError, read_config, train
from pipeline.classifier import over_chunks, over_columns, serving_copy
from pipeline.command_line import checked
from pipeline.config import DataConfig, TrainingConfig
from pipeline.data import store
from pipeline.data.load import features_of
from pipeline.data.load import load as load_data
from pipeline.evaluation.boosting import column_matrix
from pipeline.features import Features, input_names
from pipeline.features.column_values import all_numbers, spec_of, value_of, words_of
from pipeline.features.columns import Category, Date, FeatureColumn, Number, Vector, column_from, metadata_of
from pipeline.features.rows import RowEncoder
from pipeline.long_texts import LongTexts
from pipeline.training.optimizer import make_optimizer
from pipeline.training.pause import Pause
from pipeline.training.strategy import choose_strategy

PRICES = ["1.5", "", "-20", "3e5", "0"]


def test_cells_are_kept_as_the_shortest_text_that_says_the_same():
    def kept(kind, cell):
        return FeatureColumn("c", kind, "data.c").read(cell)

    assert [kept(Number, cell) for cell in (3, "3.50", 1e10, np.float64(0.1), None, " ", math.nan)] == [
        b"3.0", b"3.5", b"1e+10", b"0.1", b"", b"", b"",
    ]  # fmt: skip
    assert [kept(Category, cell) for cell in (2.0, "2", " a b ", True, None, np.nan)] == [
        b"2", b"2", b"a b", b"True", b"", b"",
    ]  # fmt: skip
    assert [kept(Date, cell) for cell in ("2024-05-31", date(2024, 5, 31), "2024-05-31T12:30:00+02:00", None)] == [
        b"2024-05-31", b"2024-05-31", b"2024-05-31T12:30:00", b"",
    ]  # fmt: skip
    assert [kept(Vector, cell) for cell in ("[1, 2.5]", "1 2.5", [1, 2.5], np.array([1, 2.5]), "")] == [
        *[b"1.0 2.5"] * 4, b"",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "cell", "said"),
    [
        (Number, "much", "has no number in data.c 'price': 'much'"),
        (Number, 1e300, "has no number in data.c"),
        (Date, "31.5.2024", "has no date as ISO writes it"),
        (Vector, "[1, null]", "has no list of numbers"),
        (Vector, "[[1], [2]]", "has no list of numbers"),
    ],
)
def test_a_cell_of_another_kind_is_said(kind, cell, said):
    with pytest.raises(ValueError, match=said.replace("[", r"\[")):
        FeatureColumn("price", kind, "data.c").read(cell)


def numbers_of(column, values):
    return all_numbers([column], [values])


def test_numbers_are_centred_and_scaled_and_a_missing_one_is_told():
    column = Number.fitted("price", [cell.encode() for cell in PRICES])
    known = np.array([float(cell) for cell in PRICES if cell])
    logs = np.sign(known) * np.log1p(np.abs(known))
    found = numbers_of(column, value_of(column, tf.constant(PRICES))).numpy()
    np.testing.assert_allclose(found[[0, 2, 3, 4], 0], (logs - logs.mean()) / logs.std(), atol=1e-6)
    assert found[:, 1].tolist() == [0, 1, 0, 0, 0] and found[1, 0] == 0
    hostile = tf.constant([math.nan, math.inf, -math.inf, 3e38, 1e-45])
    assert np.abs(numbers_of(column, hostile).numpy()).max() <= 10
    # What training never lacked has no value of its own: it is the mean.
    whole = Number.fitted("price", [b"1.0", b"2.0"])
    assert numbers_of(whole, tf.constant([math.nan])).numpy().tolist() == [[0.0]]


def test_categories_have_places_for_the_rare_and_the_missing():
    column = Category.fitted("genre", [b"b", b"a", b"b", b"a", b"once", b""])
    assert (column.names, column.rare, column.missing) == (("a", "b"), True, True)
    cells = ["a", "b", "once", "never seen", "", " a ", "\udcff".encode("utf-8", "surrogateescape")]
    found = numbers_of(column, value_of(column, tf.constant(cells))).numpy()
    assert found.argmax(axis=1).tolist() == [0, 1, 2, 2, 3, 0, 2] and (found.sum(axis=1) == 1).all()
    # Where no training row has another name, or none, such a row says nothing.
    plain = Category.fitted("genre", [b"a", b"a", b"b", b"b"])
    assert numbers_of(plain, tf.constant(["c", "", "b"])).numpy().tolist() == [[0, 0], [0, 0], [0, 1]]
    many = Category.fitted("genre", [f"n{i}".encode() for i in range(3000) for _ in range(2)])
    found = numbers_of(many, tf.constant(list(many.names))).numpy()
    assert len(many.names) == 1000 and (found.argmax(axis=1) == np.arange(1000)).all()


def test_columns_together_are_those_alone():
    columns = (
        Number("n", 1.0, 2.0, True), Number("m", 0.5, 3.0), Category("c", ("a", "b"), missing=True),
        Category("d", ("b", "c", "x"), rare=True), Category("none"), Date("when", clock=True), Vector("v", (1.0, 2.0)),
        Number("l", missing=True),
    )  # fmt: skip
    cells = [["1", "", "-7"], ["2", "3", ""], ["b", "", "x"], ["b", "a", ""], ["a", "", "b"],
             ["2024-05-31T10:20", "", "1999-01-01"], ["1 2", "", "3 4"], ["", "5", "6"]]  # fmt: skip
    values = [value_of(*pair) for pair in zip(columns, map(tf.constant, cells), strict=True)]
    alone = [numbers_of(*pair).numpy() for pair in zip(columns, values, strict=True)]
    assert [found.shape[1] for found in alone] == [column.width for column in columns]
    np.testing.assert_array_equal(all_numbers(columns, values), np.concatenate(alone, axis=1))
    assert alone[2].tolist() == [[0, 1, 0], [0, 0, 1], [0, 0, 0]] and alone[3].argmax(axis=1).tolist() == [0, 3, 3]


def test_dates_are_those_of_python():
    chance = random.Random(3)
    moments = [datetime(1, 1, 1) + timedelta(minutes=chance.randrange(9998 * 365 * 24 * 60)) for _ in range(500)]
    moments += [datetime(2024, 2, 29), datetime(2000, 12, 31, 23, 59), datetime(1900, 3, 1)]
    column = Date.fitted("when", [moment.isoformat().encode() for moment in moments])
    found = numbers_of(column, value_of(column, tf.constant([m.isoformat() for m in moments]))).numpy()
    days = np.array([(m.date() - date(1970, 1, 1)).days for m in moments])
    np.testing.assert_allclose(found[:, 0], (days - days.mean()) / days.std(), atol=1e-4)
    week = np.array([m.weekday() for m in moments]) * 2 * math.pi / 7
    np.testing.assert_allclose(found[:, 3:5], np.stack([np.sin(week), np.cos(week)], 1), atol=1e-5)
    clock = np.array([m.hour * 60 + m.minute for m in moments]) * 2 * math.pi / 1440
    np.testing.assert_allclose(found[:, 5:7], np.stack([np.sin(clock), np.cos(clock)], 1), atol=1e-5)
    wrong = ["", "yesterday", "2024-13-01", "2024-05-31x", b"\xff2024-05-31", "20240531"]
    assert not numbers_of(column, tf.constant(wrong)).numpy().any()
    assert numbers_of(column, tf.constant(["2024-05-31 what"])).numpy()[0, 6] == 1


def test_vectors_keep_their_proportions():
    cells = [b"1.0 10.0", b"", b"3.0 30.0"]
    column = Vector.fitted("image", cells)
    found = numbers_of(column, value_of(column, tf.constant(cells))).numpy()
    np.testing.assert_allclose(found[2, 1] / found[2, 0], 10, rtol=1e-5)
    assert found[1].tolist() == [0, 0, 1]
    sent = array_of([[1, 10], None, "3.0 30.0"], spec_of(column, "image"))
    np.testing.assert_array_equal(numbers_of(column, tf.constant(sent)), found)
    with pytest.raises(UserError, match="no training row has a vector"):
        Vector.fitted("image", [b"", b""])


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_a_vector_of_another_size_is_a_bad_row_of_any_source(tmp_path, split):
    """Where two wrong sizes in a batch add up to the right one, rows would get each other's numbers."""
    sizes = {name: [2, 2, 2] for name in ("train", "validation", "test")}
    sizes[split] = [2, 1, 3] if split == "train" else [1, 3, 2]
    for name, found in sizes.items():
        rows = [f'some text {i},{"ab"[i % 2]},"{[0.5] * size}"' for i, size in enumerate([*found, 2])]
        (tmp_path / f"{name}.csv").write_text("\n".join(["text,label,v", *rows, ""]))
    train, validation, test = (str(tmp_path / f"{name}.csv") for name in sizes)
    config = DataConfig(train=train, validation=validation, test=test, vector_columns=["v"])
    row = 3 if split == "train" else 2
    with pytest.raises(UserError, match=rf"{split}\.csv, line {row}: .* in data\.vector_columns 'v' .* in place of 2"):
        load_data(config, tmp_path / "cache")
    config.bad_rows = "skip"
    loaded = load_data(config, tmp_path / "cache")
    assert {part.name: len(part) for part in loaded.splits} == {name: 2 if name == split else 4 for name in sizes}
    assert any(f"skipped 2 rows of the {split} source: 2 have a list of another length" in w for w in loaded.warnings)


@pytest.mark.parametrize(("sizes", "odd"), [([1, 3, 3, 3, 3], [2]), ([0, 3, 1, 3, 1, 1, 1, 1], [4, 6, 7, 8, 9])])
def test_the_size_of_vectors_is_that_of_most_of_the_first(tmp_path, monkeypatch, sizes, odd):
    """Where the first alone decided, an odd one threw all others away, and they were called odd."""
    monkeypatch.setattr(store, "FIRST_VECTORS", 3)
    cells = [json.dumps([0.5] * size) if size else "" for size in sizes]
    rows = [f'some text {i},{"ab"[i % 2]},"{cell}"' for i, cell in enumerate(cells)]
    (tmp_path / "train.csv").write_text("\n".join(["text,label,v", *rows, ""]))
    config = DataConfig(train=str(tmp_path / "train.csv"), vector_columns=["v"], validation_fraction=0, test_fraction=0)
    with pytest.raises(UserError, match=rf"train\.csv, line {odd[0]}: .* than others: 1 in place of 3"):
        load_data(config, tmp_path / "cache")
    config.bad_rows = "skip"
    loaded = load_data(config, tmp_path / "cache")
    assert len(loaded.train) == len(sizes) - len(odd) and loaded.features.sizes == {"v": 3}


def test_a_row_encoder_reads_what_a_signature_takes_and_what_a_run_keeps():
    columns = (
        Number.fitted("price", [b"1.5", b""]),
        Category.fitted("genre", [b"a", b"a"]),
        Vector("image", (0.0, 0.0)),
    )
    encoder = RowEncoder(Features(("text",), columns, "hybrid"), VOCABULARY, sequence_length=24)
    kept = (["a b c", "b"], ["2.5", ""], ["a", "b"], ["1.0 2.0", ""])
    sent = (["a b c", "b"], [2.5, math.nan], ["a", "b"], [[1.0, 2.0], [math.nan] * 2])
    one, other = (encoder(*(tf.constant(cell) for cell in cells)) for cells in (kept, sent))
    assert {name: values.numpy().tolist() for name, values in one.items()} == {
        name: values.numpy().tolist() for name, values in other.items()
    }
    assert encoder.texts(*kept)[0].numpy().tolist() == [b"genre: a, a b c", b"genre: b, b"]
    assert [spec.dtype for spec in encoder.cell_specs] == [tf.string, tf.float32, tf.string, tf.float32]
    words = RowEncoder(Features(("text",), columns[:2], "text"), VOCABULARY, sequence_length=24)
    assert words.texts(*kept[:3])[0].numpy().tolist() == [b"price: 2.5, genre: a, a b c", b"genre: b, b"]
    assert "columns" not in words(*kept[:3]) and encoder.fingerprint != words.fingerprint
    alone = RowEncoder(Features(("text",), columns, "concat"), VOCABULARY, sequence_length=24)
    assert alone.texts(*kept)[0].numpy().tolist() == [b"a b c", b"b"]


def test_more_than_two_texts_are_read_as_one_with_their_names():
    features = Features(("title", "body text", "notes"))
    assert features.inputs == ["title", "body_text", "notes"]
    encoder = RowEncoder(features, VOCABULARY, sequence_length=24)
    found = encoder.texts(["a", ""], ["b", "c"], ["", "d"])[0].numpy().tolist()
    assert found == [b"title: a body text: b ", b"body text: c notes: d "]


def test_names_of_inputs_are_those_that_signatures_can_have():
    assert input_names(["Release Date", "Release-Date", "2nd", "text", "größe"], ["text"]) == [
        "Release_Date", "Release_Date_2", "column_2nd", "text_2", "gr__e",
    ]  # fmt: skip


def test_features_come_back_from_their_metadata():
    columns = (Number("n", 1.0, 2.0, True), Category("c", ("x",)), Date("d", clock=True), Vector("v", (1.0, 2.0)))
    features = Features(("a", "b"), columns, "gated")
    assert Features.from_metadata(json.loads(json.dumps(features.metadata()))) == features
    assert [column_from(json.loads(json.dumps(metadata_of(column)))) for column in columns] == list(columns)


def test_statistics_of_columns_do_not_read_the_texts(tmp_path):
    rows = [{"text": f"{i} " + "word " * 20_000, "price": i, "label": i % 2} for i in range(100)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = DataConfig(train=str(tmp_path / "rows.jsonl"), numeric_columns=["price"])
    splits = load_data(data, tmp_path / "cache")
    assert splits.train is not None
    tracemalloc.start()
    try:
        (column,) = features_of(data, splits.train).columns
        matrix = column_matrix(splits.train, (column,))(splits.train)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(matrix) == len(splits.train) and most < 2e6  # of 10 MB of texts


def test_statistics_are_of_the_training_rows_alone(tmp_path):
    for name, price in (("train", 1), ("validation", 1000)):
        rows = [f"a text {i},{label},{price + i},g{name}" for i in range(4) for label in ("yes", "no")]
        (tmp_path / f"{name}.csv").write_text("\n".join(["text,label,price,genre", *rows]))
    config = DataConfig(
        str(tmp_path / "train.csv"), str(tmp_path / "validation.csv"), test_fraction=0,
        numeric_columns=["price"], categorical_columns=["genre"],
    )  # fmt: skip
    price, genre = load_data(config, tmp_path / "cache").features.columns
    assert genre.names == ("gtrain",) and math.expm1(price.mean) < 4


@pytest.mark.parametrize("kind", ["concat", "gated"])
@pytest.mark.parametrize("policy", ["float32", "bfloat16"])
def test_the_served_form_computes_what_is_trained(kind, policy):
    texts, columns = ["a b c", "d", "e f g h i"], tf.constant(np.random.default_rng(1).normal(size=(3, 5)), tf.float32)
    model = over_columns(make_model("mean"), 5, kind, 0 if kind == "gated" else 6)
    encoder = RowEncoder(Features(("text",)), VOCABULARY, sequence_length=24)
    inputs = encoder(texts) | {"columns": columns}
    copy = serving_copy(model, policy)
    served = FusedClassifier(copy)(inputs)
    tolerance = 1e-5 if policy == "float32" else 0.05
    np.testing.assert_allclose(served, copy(inputs, training=False), atol=tolerance)
    if policy == "float32":
        np.testing.assert_allclose(served, model(inputs, training=False), atol=tolerance)
    other = FusedClassifier(copy)(inputs | {"columns": columns + 1})
    assert np.abs(served - other).max() > 0.01


def test_chunks_and_columns_go_together():
    features = Features(("text",), (Number("price"), Category("genre", ("a", "b"))), "concat")
    long = LongTexts.of("chunks", max_chunks=4)
    encoder = RowEncoder(features, VOCABULARY, True, 12, long=long)
    chunked = over_chunks(make_model("mean"), "mean")
    model = over_columns(chunked, 3, units=3)
    inputs = encoder(["a b " * 20, "c"], ["1.0", "2.0"], ["a", "b"])
    served = ChunkedClassifier(FusedClassifier(model))
    np.testing.assert_allclose(served.logits(served.pooled(inputs)), model(inputs, training=False), atol=1e-5)
    assert TASK.outputs == model.output_shape[-1]


def _example(**features) -> bytes:
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


def _floats(*values):
    return tf.train.Feature(float_list=tf.train.FloatList(value=values))


def _integers(*values):
    return tf.train.Feature(int64_list=tf.train.Int64List(value=values))


def test_numbers_in_examples_are_read_as_tensorflow_reads_them():
    specs = [tf.TensorSpec([None], tf.float32, "n"), tf.TensorSpec([None, 3], tf.float32, "v")]
    # Not packed: each number behind a tag of its own.
    unpacked = b"".join(b"\x0d" + np.float32(x).tobytes() for x in (1, 2, 3))
    entry = b"\x0a\x01v\x12" + bytes([len(unpacked) + 2]) + b"\x12" + bytes([len(unpacked)]) + unpacked
    entry = b"\x0a" + bytes([len(entry)]) + entry
    rows = [
        _example(n=_floats(2.5), v=_floats(1, 2, 3)),
        _example(n=_integers(-7), v=_floats(1, 2)),
        _example(n=_integers(2**40)),
        _example(n=_floats(1, 2), v=_integers(1, 2, 3)),
        _example(n=tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"3"]))),
        b"\xff nonsense",
        b"",
        b"\x0a" + bytes([len(entry)]) + entry,
        _example(n=_integers(0), v=_floats(math.nan, math.inf, -1)),
    ]
    numbers, vectors = (found.numpy() for found in cells_of(tf.constant(rows), specs))
    nan = math.nan
    np.testing.assert_array_equal(numbers, np.float32([2.5, -7, 2**40, nan, nan, nan, nan, nan, 0]))
    np.testing.assert_array_equal(
        vectors, [[1, 2, 3], *[[nan] * 3] * 6, [1, 2, 3], [nan, math.inf, -1]]
    )  # fmt: skip


def write_interaction(path, rows=900):
    """Rows of which neither text nor columns tell the label, but both together."""
    chance = random.Random(5)
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label", "genre", "price", "Release Date", "image"])
        for i in range(rows):
            subject, genre = chance.choice(["sport", "money"]), chance.choice(["drama", "comedy"])
            words = [chance.choice(SUBJECTS[subject]), *(chance.choice(FILLER) for _ in range(2 + i % 5))]
            label = "yes" if (subject == "sport") == (genre == "drama") else "no"
            price = "" if i % 10 == 0 else round(chance.uniform(1, 100), 2)
            moment = date(2020, 1, 1) + timedelta(days=i)
            vector = "" if i % 9 == 0 else json.dumps([round(chance.random(), 3) for _ in range(3)])
            writer.writerow([" ".join(words), label, genre, price, moment, vector])
    return path


SETTINGS = {
    "data": {
        "categorical_columns": ["genre"], "numeric_columns": ["price"], "date_columns": ["Release Date"],
        "vector_columns": ["image"], "test_fraction": 0.1, "validation_fraction": 0.1,
    },
    "model": {"fusion": "concat"},
    "training": {"epochs": 7, "columns_learning_rate": 0.003},
    "export": {"signatures": ["explain"], "warmup_batch_sizes": [2], "verify_examples": 8},
}  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("columns")
    path = write_config(folder, **SETTINGS)
    config = read_config(str(path))
    config.data.train, config.run_dir = str(write_interaction(folder / "rows.csv")), str(folder / "run")
    return train(config)


def test_text_and_column_decide_together(run):
    scores = run.metrics
    assert scores["test"]["accuracy"] > 0.95
    assert scores["baseline"]["scores"]["test"]["accuracy"] < 0.7
    alone, together = scores["boosted_baselines"]
    assert alone["name"] == "gradient boosting on the columns" and alone["scores"]["test"]["accuracy"] < 0.7
    assert together["name"].endswith("TF-IDF")


def test_the_export_takes_a_named_input_a_column_and_is_never_at_a_loss(run):
    classifier = load(run.saved_model)
    assert classifier.inputs == ["text", "price", "genre", "Release_Date", "image"]
    specs = {name: spec.dtype for name, spec in classifier._serve.structured_input_signature[1].items()}
    assert specs["price"] == specs["image"] == tf.float32 and specs["genre"] == specs["Release_Date"] == tf.string
    text = "goal the of a"
    whole = classifier(text, 3.5, "drama", "2021-03-04", [0.1, 0.2, 0.3])
    other = classifier(text, 3.5, "comedy", "2021-03-04", "0.1 0.2 0.3")
    assert (whole["label"], other["label"]) == ("yes", "no")
    hostile = [
        (text, None, None, None, None),
        (text, -1e38, "never seen", "9999-12-31", [1e30, -1e30, 0]),
        {"text": text, "price": "", "genre": "drama", "Release Date": date(2021, 3, 4), "image": None},
    ]
    for row in hostile:
        (found,) = classifier.stream([row])
        assert np.isfinite(found["score"])
    with pytest.raises(ValueError, match=r"has no number in the column 'price': 'dear'"):
        list(classifier.stream([(text, "dear", "drama", None, None)]))


def test_contributions_of_columns_and_pieces_add_up(run):
    classifier = load(run.saved_model)
    found = classifier.explain("goal the of a", 3.5, "drama", "2021-03-04", [0.1, 0.2, 0.3])
    assert list(found.columns) == ["price", "genre", "Release Date", "image"]
    assert found.completeness_gap < 0.05
    assert max(found.columns, key=lambda name: abs(found.columns[name])) == "genre"


def test_files_with_the_columns_are_answered(run, tmp_path, capsys):
    rows = write_interaction(tmp_path / "new.csv", 40)
    assert predict([str(run.saved_model), "--input", str(rows), "--format", "jsonl"]) == 0
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    right = sum(answer["label"] == answer["predicted_label"] for answer in answers)
    assert len(answers) == 40 and right > 36
    assert predict([str(run.saved_model), "goal the of"]) == 0
    assert "texts without price, genre, Release Date, image, which count as missing" in capsys.readouterr().err
    (tmp_path / "wrong.csv").write_text("text,genre\ngoal,drama\n")
    assert predict([str(run.saved_model), "--input", str(tmp_path / "wrong.csv")]) == 2
    assert "price" in capsys.readouterr().err


@pytest.mark.parametrize("protocol", ["grpc", "rest"])
def test_the_client_asks_with_the_columns(run, tmp_path, capsys, protocol):
    rows = write_interaction(tmp_path / "new.csv", 20)
    # A server names the inputs, and a file has their names.
    text = rows.read_text().replace("Release Date", "Release_Date")
    rows.write_text(text)
    expected = load(run.saved_model)(*zip(*_rows(rows), strict=True))
    with ServingDouble(run.run_dir / "saved_model", "films") as double:
        target = getattr(double, protocol)
        options = ["--target", target, "--protocol", protocol, "--model", "films", "--format", "jsonl"]
        assert client([*options, "--input", str(rows)]) == 0
        answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [answer["predicted_label"] for answer in answers] == expected.labels
        with Client(target, protocol=protocol, model="films") as asked:
            *cells, image = next(iter(_rows(rows)))
            found = asked.held_to(run.saved_model / FILE)(*([cell] for cell in cells), [image and json.loads(image)])
            np.testing.assert_allclose(found.scores, expected.scores[:1], atol=1e-4)
            with pytest.raises(RequestFailed, match="in an order that its server does not tell"):
                asked(*([cell] for cell in cells), [None])


def test_the_client_holds_rows_against_the_schema_of_the_export(run, tmp_path, capsys):
    schema = run.saved_model / "assets.extra" / "request.schema.json"
    names = json.loads(schema.read_text())["$defs"]["row"]["required"]
    assert names == ["text", "price", "genre", "Release_Date", "image"]
    good = [["a"], [None], ["new"], [""], [[0.5] * 3]]
    with ServingDouble(run.run_dir / "saved_model", "films") as double:
        with Client(double.rest, protocol="rest", model="films") as plain:
            asked = plain.held_to(schema)
            asked.predict(dict(zip(names, good, strict=True)))
            for place, value, message in (
                (3, "31.5.2024", r"row 2, column 'Release_Date': '31\.5\.2024' is not a date as ISO writes it"),
                (4, [0.5] * 2, r"row 2, column 'image': \[0\.5, 0\.5\] is not a list of 3 numbers"),
                (1, "cheap", r"row 2, column 'price': 'cheap' is not a number, NaN where"),
                (0, 7, r"row 2, column 'text': 7 is not a text"),
            ):
                rows = [[*column, value if i == place else column[0]] for i, column in enumerate(good)]
                with pytest.raises(RequestFailed, match=message):
                    asked.predict(dict(zip(names, rows, strict=True)))
        path = write_interaction(tmp_path / "new.csv", 20)
        lines = path.read_text().replace("Release Date", "Release_Date").splitlines()
        path.write_text("\n".join([*lines[:7], lines[7].replace("2020-01-07", "soon"), *lines[8:]]))
        options = ["--target", double.rest, "--protocol", "rest", "--model", "films", "--schema"]
        assert client([*options, str(schema), "--input", str(path)]) == 2
        error = capsys.readouterr().err
        assert "new.csv, line 8: column 'Release_Date': 'soon' is not a date" in error and error.count("\n") == 1
        assert client([*options, str(path), "--input", str(path)]) == 2
        assert "new.csv is no request.schema.json of an export" in capsys.readouterr().err


def test_the_schema_is_one_and_takes_what_the_warm_up_of_a_text_model_sends():
    one = request_schema(Features())
    validator = jsonschema.Draft202012Validator(one)
    validator.check_schema(one)
    assert validator.is_valid({"instances": ["a", {"text": "b"}, {"text": {"b64": "/w=="}}]})
    assert not validator.is_valid({"instances": [3]}) and not validator.is_valid({"instances": [{"body": "a"}]})


def _rows(path):
    """Cells in the order of the model's inputs."""
    with open(path, newline="") as file:
        return [[row[n] for n in ("text", "price", "genre", "Release_Date", "image")] for row in csv.DictReader(file)]


@pytest.mark.slow
def test_a_kit_asks_with_a_cell_for_each_input(run, tmp_path):
    assert kit([str(run.run_dir), "--out", str(tmp_path / "kit")]) == 0
    said = (tmp_path / "kit" / "deploy.md").read_text()
    (body,) = [line for line in said.splitlines() if '"instances"' in line][:1]
    assert all(f'"{name}"' in body for name in ("text", "price", "genre", "Release_Date", "image"))


def test_what_is_recorded_and_described_has_the_columns(run):
    extra = run.saved_model / "assets.extra"
    recorded, metadata = (json.loads((extra / f"{name}.json").read_text()) for name in ("recorded", "metadata"))
    assert recorded["inputs"] == metadata["inputs"] == ["text", "price", "genre", "Release_Date", "image"]
    assert [column["kind"] for column in metadata["columns"]] == ["number", "category", "date", "vector"]
    assert metadata["fusion"] == "concat" and metadata["model"]["fusion"]["width"] == 2 + 2 + 5 + 4


@pytest.mark.slow
def test_a_stopped_run_of_columns_ends_as_if_it_had_not(tmp_path):
    def made(name):
        config = read_config(
            str(write_config(tmp_path / name, **SETTINGS | {"export": {"enabled": False, "signatures": []}}))
        )
        config.data.train, config.training.epochs = str(write_interaction(tmp_path / "rows.csv", 200)), 2
        config.model.fusion, config.run_dir = "auto", str(tmp_path / name / "run")
        return config

    train(made("whole"))
    train(made("parts"), Pause(epochs=1))
    train(made("parts"))
    assert_same_end(tmp_path / "parts" / "run", tmp_path / "whole" / "run")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"data": {"numeric_columns": ["text"]}}, r"data\.numeric_columns 'text' is also in data\.text_columns"),
        ({"data": {"numeric_columns": ["a"], "categorical_columns": ["a"]}}, r"'a' is also in data\.numeric_columns"),
        ({"data": {"numeric_columns": ["label"]}}, r"data\.label_column 'label' is also in data\.numeric_columns"),
        ({"model": {"fusion": "hybrid"}}, r"model\.fusion hybrid is of columns beside the text, and there are none"),
        ({"data": {"vector_columns": ["v"]}, "model": {"fusion": "text"}}, r"has no words for data\.vector_columns"),
        ({"data": {"numeric_columns": ["n"]}, "export": {"onnx": "int8"}}, r"export\.onnx int8 takes tokens alone"),
        (
            {"data": {"numeric_columns": ["n"]}, "export": {"signatures": ["predict_tokens"]}},
            r"predict_tokens takes tokens alone",
        ),
    ],
)
def test_settings_that_do_not_go_together(tmp_path, settings, said):
    settings = {"export": {"signatures": ["top_k"]}} | settings
    config = read_config(str(write_config(tmp_path, rows=10, **settings)))
    with pytest.raises(UserError, match=said):
        checked(config)


def test_words_of_numbers_are_short():
    column = Number("price")
    assert words_of(column, tf.constant([3.5, 1e6, math.nan])).numpy().tolist() == [
        b"price: 3.5, ",
        b"price: 1e+06, ",
        b"",
    ]


def trained(strategy, accumulation=1):
    with strategy.scope():
        model = over_columns(tiny_model(layers=1), 3, units=4)
        model.accumulation = accumulation
        optimizer = make_optimizer(TrainingConfig(learning_rate=0.01, clip_norm=0.05), model, total_steps=8)
        model.compile(optimizer=optimizer, loss=TASK.loss(0.1), jit_compile=False)
    columns = tf.constant(np.random.default_rng(2).normal(size=(4, ROWS, 3)), tf.float32)
    with_columns = tf.data.Dataset.zip((batches(), tf.data.Dataset.from_tensor_slices(columns)))
    made = with_columns.map(lambda batch, numbers: (batch[0] | {"columns": numbers}, *batch[1:]))
    model.run_updates(made, 4, [])
    return model.get_weights()


def test_two_devices_and_parts_give_the_weights_of_one():
    assert_equal_weights(trained(tf.distribute.get_strategy()), trained(choose_strategy("mirrored"), accumulation=2))
