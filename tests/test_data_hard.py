"""Input that is hard to read or to split: what comes out, or the sentence that says why nothing does."""

import gzip
import hashlib
import json
import lzma

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from scoring import counts

from pipeline.config import DataConfig
from pipeline.data.formats import table
from pipeline.data.formats.folder import files_of
from pipeline.data.load import load
from pipeline.data.store import Store
from pipeline.errors import UserError


def load_file(path, **settings):
    settings = {"train": str(path), "validation_fraction": 0, "test_fraction": 0} | settings
    return load(DataConfig(**settings), path.parent / "cache")


def load_text(tmp_path, content, name="rows.csv", **settings):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return load_file(path, **settings)


def named_rows(split, names):
    """(text, label or labels) of every row, by name."""
    every = np.arange(len(split))
    labels = split.targets(every)
    named = (
        [[names[i] for i in np.flatnonzero(row)] for row in labels] if labels.ndim == 2 else [names[i] for i in labels]
    )
    return list(zip([text.decode() for text in split.texts(every)[0]], named, strict=True))


def write_tfrecord(path, rows, compression=""):
    def feature(values):
        if isinstance(values[0], int):
            return tf.train.Feature(int64_list=tf.train.Int64List(value=values))
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[v.encode() for v in values]))

    with tf.io.TFRecordWriter(str(path), tf.io.TFRecordOptions(compression_type=compression)) as writer:
        for row in rows:
            features = {name: feature(values) for name, values in row.items()}
            writer.write(tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString())
    return path


# Labels


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (["x"], "line 1: the row has a list of labels"),
        ({"x": 1}, "line 1: the row has a label that is neither a string nor an integer: a dict"),
        (1.5, "line 1: the row has a label that is neither a string nor an integer: 1.5"),
        (float("nan"), "line 1: the row has no label"),
        (float("inf"), "line 1: the row has a label that is neither a string nor an integer: inf"),
        ("x\0", "line 1: the row has a NUL character in its label"),
        (None, "line 1: the row has no label"),
    ],
)
def test_what_is_no_label_is_never_made_into_one(tmp_path, label, message):
    content = json.dumps({"text": "a", "label": label}) + '\n{"text": "b", "label": "y"}\n'
    with pytest.raises(UserError, match=message):
        load_text(tmp_path, content, "rows.jsonl")


def test_numbers_and_truth_values_are_labels(tmp_path):
    values = [3, 2.0, True, "x"]
    content = "".join(json.dumps({"text": f"t{i}", "label": v}) + "\n" for i, v in enumerate(values))
    splits = load_text(tmp_path, content, "rows.jsonl")
    assert [name for _, name in named_rows(splits.train, splits.task.names)] == ["3", "2", "true", "x"]


def test_integers_stay_integers_beside_missing_ones(tmp_path):
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"text": ["a", "b", "c"], "label": [10, None, 9]}), path)
    with pytest.raises(UserError, match=r"rows.parquet, row 2: the row has no label"):
        load_file(path)
    splits = load_file(path, bad_rows="skip")
    assert splits.task.names == ("9", "10") and len(splits.train) == 2


def test_lists_of_labels_in_jsonl_parquet_and_tfrecord(tmp_path):
    rows = [("a", ["y", "x"]), ("b", []), ("c", ["y"])]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"text": t, "label": v}) + "\n" for t, v in rows))
    pq.write_table(pa.table({"text": [r[0] for r in rows], "label": [r[1] for r in rows]}), tmp_path / "rows.parquet")
    write_tfrecord(tmp_path / "rows.tfrecord", [{"text": [t]} | ({"label": v} if v else {}) for t, v in rows])
    for name in ("rows.jsonl", "rows.parquet", "rows.tfrecord"):
        splits = load_file(tmp_path / name, label_separator="|")
        assert named_rows(splits.train, splits.task.names) == [("a", ["x", "y"]), ("b", []), ("c", ["y"])], name
    with pytest.raises(UserError, match="record 1: the row has a list of labels"):
        load_file(tmp_path / "rows.tfrecord")


def test_tfds_class_names_missing_labels_and_lists_of_labels(tmp_path):
    import tensorflow_datasets as tfds

    names = tfds.features.ClassLabel(names=["no", "yes", "maybe"])
    features = {"text": tfds.features.Text(), "one": names, "many": tfds.features.Sequence(names)}
    columns = {
        "text": ["a", "b"],
        "one": np.array([1, -1], np.int64),
        "many": tf.ragged.constant([[2, 0], []], dtype=tf.int64),
    }
    tfds.dataset_builders.store_as_tfds_dataset(
        name="little",
        version="1.0.0",
        features=tfds.features.FeaturesDict(features),
        split_datasets={"train": tf.data.Dataset.from_tensor_slices(columns)},
        data_dir=str(tmp_path / "tfds"),
    )
    settings = {"data_dir": str(tmp_path / "tfds"), "validation_fraction": 0, "test_fraction": 0}
    many = load(
        DataConfig(train="tfds:little", label_column="many", label_separator="|", **settings), tmp_path / "cache"
    )
    assert sorted(named_rows(many.train, many.task.names)) == [("a", ["maybe", "no"]), ("b", [])]
    with pytest.raises(UserError, match=r"train, example \d: the row has no label"):
        load(DataConfig(train="tfds:little/train[:100%]+train", label_column="one", **settings), tmp_path / "cache")


def test_a_tfds_set_that_cannot_be_had(tmp_path):
    with pytest.raises(UserError, match="tfds:no_such_set_at_all cannot be loaded"):
        load(DataConfig(train="tfds:no_such_set_at_all", data_dir=str(tmp_path)), tmp_path / "cache")


@pytest.mark.parametrize(
    ("labels", "message"),
    [(["x", "x", "y"], "data.labels has 'x' 2 times"), (["x"], "all rows have the one label 'x'")],
)
def test_labels_that_cannot_be_used(tmp_path, labels, message):
    with pytest.raises(UserError, match=message):
        load_text(tmp_path, "text,label\na,x\nb,x\n", labels=labels)


def test_several_labels_of_which_no_row_has_any(tmp_path):
    with pytest.raises(UserError, match="no row has a label"):
        load_text(tmp_path, "text,label\na,\nb,\n", label_separator="|")


# Characters


@pytest.mark.parametrize(
    ("content", "encoding", "line", "byte"),
    [
        ('text,label\n"a\nq",x\n"b\nc\xe9",y\n'.encode("latin-1"), "utf-8", 4, "byte 2 of line 5"),
        (b"text,label\n" + (b"b" * 1997 + b",y\n") * 600 + b"\xff,x\n", "utf-8", 602, "byte 1 of line 602"),
        ("text,label\na,x\n".encode("utf-16-le") + b"b\0\x00\xd8a\0", "utf-16-le", 3, "byte 32"),
        ("text,label\na,x\nb,y\nc,x\n".encode("utf-16")[:-1], "utf-16", 4, "byte 46"),
        ("text,label\na,x\n".encode("utf-16"), "utf-8", 1, "mark of UTF-16"),
        ("text,label\na,x\n".encode("utf-16"), "latin-1", 1, "mark of UTF-16"),
    ],
)
def test_bytes_of_another_encoding_are_named_by_line_and_place(tmp_path, content, encoding, line, byte):
    with pytest.raises(UserError, match=rf"rows.csv, line {line}: .*not valid {encoding}.*{byte}.*set data.enc"):
        load_text(tmp_path, content, encoding=encoding)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8", "shift_jis", "U8"])
def test_other_encodings(tmp_path, encoding):
    splits = load_text(tmp_path, "text,label\nテスト,x\nb,y\n".encode(encoding), encoding=encoding)
    assert named_rows(splits.train, splits.task.names) == [("テスト", "x"), ("b", "y")]


def test_binary_text_that_is_not_utf8_is_a_bad_row(tmp_path):
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"text": [b"a", b"\xff", b"c"], "label": ["x", "x", "y"]}), path)
    with pytest.raises(UserError, match="row 2: the row has bytes in its text that are not UTF-8"):
        load_file(path)


def test_a_file_of_a_folder_is_named(tmp_path):
    for label, data in (("x", b"good"), ("y", "caf\xe9".encode("latin-1")), ("z", b"\xef\xbb\xbfmarked")):
        (tmp_path / "texts" / label).mkdir(parents=True)
        (tmp_path / "texts" / label / "1.txt").write_bytes(data)
    with pytest.raises(UserError, match=r"texts.y.1.txt: the row is not valid utf-8: see byte 3"):
        load_file(tmp_path / "texts")
    splits = load_file(tmp_path / "texts", bad_rows="skip")
    assert named_rows(splits.train, splits.task.names) == [("good", "x"), ("marked", "z")]


def test_half_a_surrogate_pair_is_a_question_mark(tmp_path):
    content = '{"text": "a\\ud800", "label": "x\\ud800"}\n{"text": "b", "label": "y"}\n'
    splits = load_text(tmp_path, content, "rows.jsonl")
    assert named_rows(splits.train, splits.task.names) == [("a?", "x?"), ("b", "y")]


@pytest.mark.parametrize("word", ["NA", "null", "None", "nan", "1e5", "007", "true", '"'])
def test_words_that_other_readers_turn_into_values_stay_text(tmp_path, word):
    cell = '"{}"'.format(word.replace('"', '""'))
    splits = load_text(tmp_path, f"text,label\n{cell},{cell}\nb,other\n")
    assert (word, word) in named_rows(splits.train, splits.task.names)


# Files


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("rows.jsonl", "[" * 100_000 + "\n", "item 1 of its array is not JSON"),
        ("rows.jsonl", "{" + "[" * 100_000 + "\n", "line 1: the row is not JSON"),
        ("rows.jsonl", '{"text": "a", "text": "b", "label": "x"}\n', "the key 'text' stands twice"),
        ("rows.jsonl", '{"text": "a", "label": ' + "1" * 5000 + "}\n", "line 1: the row is not JSON"),
        ("rows.jsonl", '\n{"words": "a", "label": "x"}\n', "has no column 'text'; it has 'words', 'label'"),
        ("rows.csv.gz", gzip.compress(b"text,label\na,x\nb,y\n" * 9, mtime=0)[:-12], "cannot be read"),
        ("rows.csv.gz", gzip.compress(b"", mtime=0), "is empty"),
        ("rows.csv.gz", lzma.compress(b"text,label\n"), "cannot be read"),
        (
            "rows.tfrecord.xz",
            lzma.compress(b"no tfrecord at all"),
            r"record 1: the file is damaged or no TFRecord file",
        ),
        ("rows.parquet.gz", gzip.compress(b"something", mtime=0), r"is not read through .gz"),
        ("rows.csv", 'text,label\na,x\n"b,y\n' + "c,x\n" * 5_000_000, "line 3: field larger than .*never closed"),
    ],
)
def test_broken_files(tmp_path, name, content, message):
    with pytest.raises(UserError, match=message):
        load_text(tmp_path, content, name)


def test_a_parquet_file_damaged_inside(tmp_path):
    path = tmp_path / "rows.parquet"
    texts = [f"text {i}" for i in range(5000)]
    pq.write_table(pa.table({"text": texts, "label": ["x", "y"] * 2500}), path, compression="none")
    data = bytearray(path.read_bytes())
    data[100:3000] = b"\xff" * 2900
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"rows.parquet.*damaged"):
        load_file(path)


def test_lines_of_jsonl_that_are_no_rows_can_be_skipped(tmp_path):
    content = '{"text": "a", "label": 1}\nnonsense\n[1]\n{"label": 1}\n{"text": "b", "label": 0}\n'
    splits = load_text(tmp_path, content, "rows.jsonl", bad_rows="skip")
    assert named_rows(splits.train, splits.task.names) == [("a", "1"), ("b", "0")]
    assert splits.warnings[0].startswith("skipped 3 rows of the train source")


def test_blank_lines_before_the_header(tmp_path):
    with pytest.raises(UserError, match="line 5: the row has no label"):
        load_text(tmp_path, "\n\ntext,label\na,x\nb,\n")


def test_a_file_whose_name_looks_like_a_pattern(tmp_path):
    assert len(load_text(tmp_path, "text,label\na,x\nb,y\n", "rows[1].csv").train) == 2


def test_the_file_is_named_among_shards(tmp_path):
    (tmp_path / "a.csv").write_text("text,label\na,x\nb,y\n")
    (tmp_path / "b.csv").write_text("text,label\n\nc,x\nd,z\n")
    with pytest.raises(UserError, match=r"b.csv, line 4: the label 'z' is not among"):
        load_file(tmp_path / "a.csv", train=str(tmp_path / "*.csv"), labels=["x", "y"])


def test_what_a_killed_run_left_is_removed_and_a_store_is_read_once(tmp_path, monkeypatch):
    content = "text,label\na,x\nb,y\n"
    load_text(tmp_path, content)
    (store,) = (tmp_path / "cache").glob("train-*")
    store.rename(tmp_path / "cache" / f".{store.name}-1")
    load_file(tmp_path / "rows.csv")
    assert sorted(path.name for path in (tmp_path / "cache").iterdir()) == ["manifest.json", store.name]
    monkeypatch.setattr("pipeline.data.sources.read", lambda *_, **__: pytest.fail("read again"))
    assert isinstance(load_file(tmp_path / "rows.csv").train.store, Store)


# Splitting off


def as_csv(rows):
    return "text,label\n" + "".join(f"{text},{label}\n" for text, label in rows)


@pytest.mark.parametrize("classes", [2, 50, 77])
def test_both_fractions_are_shares_of_all_rows(tmp_path, classes):
    rows = [(f"text {i}", f"l{i % classes}") for i in range(1000)]
    splits = load_text(tmp_path, as_csv(rows), validation_fraction=0.1, test_fraction=0.5)
    assert abs(len(splits.test) - 500) <= 1 and abs(len(splits.validation) - 100) <= 1
    assert counts(splits, splits.train).min() > 0
    for split in (splits.test, splits.validation):
        expected = len(split) / classes
        assert np.abs(counts(splits, split) - expected).max() <= 1.5


def test_many_rare_labels_still_add_up_to_the_fraction(tmp_path):
    rows = [(f"text {i}", f"l{i % 50}") for i in range(100)]
    splits = load_text(tmp_path, as_csv(rows), validation_fraction=0.1)
    assert len(splits.validation) == 10 and counts(splits, splits.train).min() == 1


def test_labels_with_one_row_each_do_not_empty_a_large_one(tmp_path):
    rows = [(f"single {i}", f"a{i}") for i in range(100)] + [(f"text {i}", "z") for i in range(100)]
    splits = load_text(tmp_path, as_csv(rows), validation_fraction=0.1)
    assert 10 <= len(splits.validation) <= 11 and set(splits.validation.targets(np.arange(10))) == {100}


def test_the_split_is_the_same_on_every_machine_and_in_any_row_order(tmp_path):
    rows = [(f"text {i}", "xy"[i % 2]) for i in range(40)]
    forward = load_text(tmp_path, as_csv(rows), test_fraction=0.1, split_seed=3)
    backward = load_text(tmp_path, as_csv(rows[::-1]), test_fraction=0.1, split_seed=3)
    texts = [sorted(s.test.texts(np.arange(len(s.test)))[0].tolist()) for s in (forward, backward)]
    assert texts[0] == texts[1]

    def mix(value):  # splitmix64, in whole numbers
        value = (value + 0x9E3779B97F4A7C15) % 2**64
        value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        value = (value ^ value >> 27) * 0x94D049BB133111EB % 2**64
        return value ^ value >> 31

    def draw(row):
        return mix(int.from_bytes(hashlib.blake2b(row[0].encode(), digest_size=8).digest(), "little") ^ mix(3 + 1))

    expected = [text for label in "xy" for text, _ in sorted((r for r in rows if r[1] == label), key=draw)[:2]]
    assert texts[0] == sorted(text.encode() for text in expected)


def test_several_labels_are_split_off_by_the_first(tmp_path):
    rows = [(f"text {i}", "a|b" if i % 4 == 0 else "" if i % 4 == 1 else "b") for i in range(400)]
    splits = load_text(tmp_path, as_csv(rows), label_separator="|", test_fraction=0.25)
    assert counts(splits, splits.test).tolist() == [25, 75] and counts(splits, splits.train).tolist() == [75, 225]
    by_row = dict(named_rows(splits.test, splits.task.names))
    assert all(by_row[text] == [part for part in label.split("|") if part] for text, label in rows if text in by_row)


@pytest.mark.parametrize("rows", [[("a", "x"), ("b", "y"), ("c", "x")], [("a", "x")] * 30 + [("a", "y")] * 30])
def test_too_few_texts_to_split(tmp_path, rows):
    with pytest.raises(UserError, match=r"training rows with \d different texts are too few .*data.validation"):
        load_text(tmp_path, as_csv(rows), validation_fraction=0.1)


def test_any_seed_will_do(tmp_path):
    rows = [(f"text {i}", "xy"[i % 2]) for i in range(40)]
    sizes = {
        len(load_text(tmp_path, as_csv(rows), test_fraction=0.2, split_seed=seed).test) for seed in (-5, 0, 2**64 - 1)
    }
    assert sizes == {8}


def test_the_summary_is_json_and_counts(tmp_path):
    (tmp_path / "test.csv").write_text("text,label\n a ,x\nq,y\nq,y\n")
    splits = load_text(tmp_path, "text,label\na,x\nb,y\n,x\n", test=str(tmp_path / "test.csv"), bad_rows="skip")
    summary = json.loads(json.dumps(splits.summary))
    assert summary["train"]["rows"] == 2 and summary["train"]["skipped"] == {"has no text": 1}
    assert summary["test"] | {"characters": 0, "sources": 0} == {
        "rows": 3, "labels": {"x": 1, "y": 2}, "characters": 0, "sources": 0, "repeated_texts": 1, "also_in_train": 1,
    }  # fmt: skip


def test_a_folder_is_listed_once_however_many_rows_are_named(tmp_path, monkeypatch):
    (tmp_path / "folder" / "pos").mkdir(parents=True)
    for i in range(9):
        (tmp_path / "folder" / "pos" / f"{i}.txt").write_text(f"cafÃ© {i}")
    (tmp_path / "folder" / "neg").mkdir()
    (tmp_path / "folder" / "neg" / "0.txt").write_text("bad")
    listed = []
    monkeypatch.setattr(table, "files_of", lambda folder: listed.append(folder) or files_of(folder))
    config = DataConfig(train=str(tmp_path / "folder"), validation_fraction=0, test_fraction=0)
    splits = load(config, tmp_path / "data")
    assert splits.train is not None and "decoded wrongly (Â£, â€™, Ã©): 9" in splits.warnings[0]
    assert len(listed) == 1
    named = {splits.train.store.where(row) for row in range(10)}
    assert named == set(map(str, files_of(str(tmp_path / "folder")))) and len(listed) == 2
