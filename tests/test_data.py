"""Sources of every format, bad rows, labels, splits and batches."""

import bz2
import gzip
import json
import lzma
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from scoring import counts
from tiny import VOCABULARY, write_rows

from export.batch.inputs import sources_of
from pipeline.config import DataConfig
from pipeline.data import sources
from pipeline.data.batching import BatchOptions, batch_lengths, prediction_batches, training_batches
from pipeline.data.corpus import files_of
from pipeline.data.load import load
from pipeline.errors import UserError
from pipeline.tasks.single_label import SingleLabel
from pipeline.text import TextEncoder

ROWS = [("a goal", "sport"), ('say "NA", or\nnull', "money"), ("中国 é", "sport"), ("None", "money")]


def load_text(tmp_path, content, name="rows.csv", **settings):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    settings = {"validation_fraction": 0, "test_fraction": 0} | settings
    return load(DataConfig(train=str(path), **settings), tmp_path / "cache")


def rows_of(splits):
    every = np.arange(len(splits.train))
    names = [splits.task.names[i] for i in splits.train.targets(every)]
    return [(text.decode(), name) for text, name in zip(splits.train.texts(every)[0], names, strict=True)]


def as_csv(rows):
    return "text,label\n" + "".join('"{}",{}\n'.format(t.replace('"', '""'), label) for t, label in rows)


def as_jsonl(rows):
    return "".join(json.dumps({"label": label, "text": t}) + "\n" for t, label in rows)


def as_tfrecord(path, rows):
    with tf.io.TFRecordWriter(str(path)) as writer:
        for values in rows:
            feature = {
                name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value.encode()]))
                for name, value in zip(("text", "label"), values, strict=True)
            }
            writer.write(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())


@pytest.mark.parametrize(
    "name", ["rows.csv", "rows.csv.gz", "rows.csv.xz", "rows.csv.bz2", "rows.jsonl", "rows.jsonl.xz"]
)
def test_text_formats(tmp_path, name):
    content = (as_csv if ".csv" in name else as_jsonl)(ROWS).encode()
    compress = {".gz": gzip.compress, ".xz": lzma.compress, ".bz2": bz2.compress}.get(Path(name).suffix, bytes)
    assert rows_of(load_text(tmp_path, compress(content), name)) == ROWS


def test_a_file_that_is_moved_to_another_label_changes_its_folder(tmp_path):
    """It keeps its size and its time."""
    folder = tmp_path / "texts"
    for label in ("no", "yes"):
        (folder / label).mkdir(parents=True)
        for i in range(4):
            (folder / label / f"{label}{i}.txt").write_text(f"{label} {i}")
    config = DataConfig(train=str(folder), validation_fraction=0, test_fraction=0)
    found, source = load(config, tmp_path / "data"), sources_of(str(folder), tmp_path / "out")[0]
    assert found.summary["train"]["labels"] == {"no": 4, "yes": 4}
    source.check()
    (folder / "no" / "no0.txt").rename(folder / "yes" / "no0.txt")
    assert load(config, tmp_path / "data").summary["train"]["labels"] == {"no": 3, "yes": 5}
    with pytest.raises(UserError, match="has changed while it was answered"):
        source.check()
    (folder / "yes" / "no0.txt").rename(folder / "no" / "no0.txt")
    with pytest.raises(UserError, match="the data changed since this run began"):
        load(config, tmp_path / "data", begun=True)


def test_tsv_takes_quotes_as_text(tmp_path):
    assert rows_of(load_text(tmp_path, 'label\ttext\nx\t"half\ny\twhole"\n', "rows.tsv")) == [
        ('"half', "x"),
        ('whole"', "y"),
    ]


def test_parquet(tmp_path):
    pq.write_table(pa.table({"label": [r[1] for r in ROWS], "text": [r[0] for r in ROWS]}), tmp_path / "rows.parquet")
    config = DataConfig(train=str(tmp_path / "rows.parquet"), validation_fraction=0, test_fraction=0)
    assert rows_of(load(config, tmp_path / "cache")) == ROWS


def test_tfrecord(tmp_path):
    as_tfrecord(tmp_path / "rows.tfrecord", ROWS)
    config = DataConfig(train=str(tmp_path / "rows.tfrecord"), validation_fraction=0, test_fraction=0)
    assert rows_of(load(config, tmp_path / "cache")) == ROWS


def test_shards_lists_and_folders(tmp_path):
    for i, (text, label) in enumerate(ROWS[:1] + ROWS[2:]):
        (tmp_path / f"part-{i}.csv").write_text(f"text,label\n{text},{label}\n")
        (tmp_path / "folder" / label).mkdir(parents=True, exist_ok=True)
        (tmp_path / "folder" / label / f"{i}.txt").write_text(text)
    none = {"validation_fraction": 0, "test_fraction": 0}
    shards = load(DataConfig(train=str(tmp_path / "part-*.csv"), **none), tmp_path / "cache")
    assert rows_of(shards) == ROWS[:1] + ROWS[2:]
    listed = load(
        DataConfig(train=[str(tmp_path / "part-2.csv"), str(tmp_path / "part-0.csv")], **none), tmp_path / "cache"
    )
    assert rows_of(listed) == [ROWS[3], ROWS[0]]
    folder = load(DataConfig(train=str(tmp_path / "folder"), **none), tmp_path / "cache")
    assert sorted(rows_of(folder)) == sorted(ROWS[:1] + ROWS[2:])


def test_sources_that_overlap_are_read_once(tmp_path, monkeypatch):
    for name in ("a", "b"):
        (tmp_path / f"{name}.txt").write_text(name)
    (tmp_path / "link.txt").symlink_to(tmp_path / "a.txt")
    one, other = str(tmp_path / "a.txt"), str(tmp_path / "b.txt")
    monkeypatch.chdir(tmp_path)
    assert sources.expand([other, str(tmp_path / "[ab].txt"), "a.txt", "link.txt"]) == [other, one]
    assert sources.expand(["tfds:x/train", "tfds:x/test", "tfds:x/train"]) == ["tfds:x/train", "tfds:x/test"]
    assert files_of([one, str(tmp_path)]) == [one, other]


def test_tfds_from_a_local_folder(tmp_path):
    import tensorflow_datasets as tfds

    records = tf.data.Dataset.from_tensor_slices({"text": ["one", "two"], "label": np.array([1, 0], np.int64)})
    features = tfds.features.FeaturesDict(
        {"text": tfds.features.Text(), "label": tfds.features.ClassLabel(names=["no", "yes"])}
    )
    tfds.dataset_builders.store_as_tfds_dataset(
        name="little",
        version="1.0.0",
        features=features,
        split_datasets={"train": records},
        data_dir=str(tmp_path / "tfds"),
    )
    config = DataConfig(train="tfds:little", data_dir=str(tmp_path / "tfds"), validation_fraction=0, test_fraction=0)
    assert sorted(rows_of(load(config, tmp_path / "cache"))) == [("one", "yes"), ("two", "no")]
    config.train = "tfds:little/nowhere"
    with pytest.raises(UserError, match="no split 'nowhere'"):
        load(config, tmp_path / "cache")


def test_pairs_and_several_labels(tmp_path):
    pairs = load_text(tmp_path, "a,b,label\nx,y,1\nz,w,0\n", text_columns=["a", "b"])
    assert pairs.features.inputs == ["text_a", "text_b"]
    assert [column.tolist() for column in pairs.train.texts(np.arange(2))] == [
        [b"x", b"z"],
        [b"y", b"w"],
    ]
    several = load_text(tmp_path, "text,label\nx,b|a\ny,\nz,b\n", "several.csv", label_separator="|")
    assert several.task.name == "multi_label" and several.task.names == ("a", "b")
    assert several.train.targets(np.arange(3)).tolist() == [[1, 1], [0, 0], [0, 1]]
    assert counts(several, several.train).tolist() == [1, 2]


def test_labels_are_sorted_as_numbers_where_they_are_numbers(tmp_path):
    assert load_text(tmp_path, "text,label\na,10\nb,9\nc, 2 \n").task.names == ("2", "9", "10")
    assert load_text(tmp_path, "text,label\na,y\nb,x\n", "b.csv", labels=["y", "x"]).task.names == ("y", "x")


def test_a_byte_order_mark_and_blank_lines_are_ignored(tmp_path):
    assert rows_of(load_text(tmp_path, "\ufefftext,label\n\na,x\n\nb,y\n")) == [("a", "x"), ("b", "y")]


@pytest.mark.parametrize(
    ("content", "settings", "message"),
    [
        ("", {}, r"rows.csv is empty"),
        ("text,label\n", {}, r"rows.csv: there is no row"),
        ("words,label\na,x\n", {}, r"rows.csv has no column 'text'; it has 'words', 'label'"),
        ("text,text,label\na,b,x\n", {}, r"rows.csv has 2 columns named 'text'"),
        ("text,label\na,x\n  ,y\n", {}, r"rows.csv, line 3: the row has no text"),
        ('text,label\n"a\nb",x\nc,\n', {}, r"rows.csv, line 4: the row has no label"),
        ("text,label\na,x\nb,y,z\n", {}, r"rows.csv, line 3: the row has 3 cells where the header has 2"),
        ("text,label\na\0,x\nb,y\n", {}, r"rows.csv, line 2: the row has a NUL"),
        ("text,label\na,x\nb,x\n", {}, r"all rows have the one label 'x'"),
        (b"text,label\na,x\nb\xff,y\n", {}, r"rows.csv, line 3: the row is not valid utf-8: byte 2 of line 3 \(0xff\)"),
        ('text,label\na,x\n"b,y\n', {}, r"rows.csv, line 3: .*quote"),
        ("text,label\na,x\nb,y\n", {"labels": ["x", "z"]}, r"line 3: the label 'y' is not among those of data.labels"),
        ("text,label\na,x\nb,y\n", {"encoding": "latin-99"}, r"'latin-99' is not an encoding"),
        ("text,label\na,x\nb,y\n", {"format": "jsonl"}, r"rows.csv, line 1: the row is not JSON: Expecting value;"),
    ],
)
def test_bad_input_is_one_sentence_with_file_and_line(tmp_path, content, settings, message):
    with pytest.raises(UserError, match=message):
        load_text(tmp_path, content, **settings)
    assert not list((tmp_path / "cache").glob(".*")), "nothing half-written stays"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("rows.jsonl", "{}\n[1]\n", "no column 'text'"),
        (
            "rows.jsonl",
            '{"text": "a", "label": 1}\n[1]\n',
            "line 2: the row is a JSON list where an object is expected",
        ),
        ("rows.jsonl", '{"text": 3, "label": 1}\n', "line 1: the row has a int where text is expected"),
        ("rows.csv.xz", "no xz", "cannot be read"),
        ("rows.parquet", "no parquet", "no parquet file"),
        ("rows.tfrecord", "no tfrecord at all", "record 1: the file is damaged"),
        ("rows.xyz", "a", "set data.format"),
    ],
)
def test_broken_files(tmp_path, name, content, message):
    with pytest.raises(UserError, match=message):
        load_text(tmp_path, content, name)


def test_rows_that_are_skipped_are_said_once_a_source(tmp_path):
    lines = [f"text {i},{'ab'[i % 2]}" for i in range(40)]
    (tmp_path / "rows.csv").write_text("\n".join(["text,label", ",a", ",b", "lonely,", *lines]))
    splits = load(DataConfig(train=str(tmp_path / "rows.csv"), bad_rows="skip"), tmp_path / "cache")
    said = [warning for warning in splits.warnings if "skipped" in warning]
    assert said == ["skipped 3 rows of the train source: 2 have no text, 1 has no label."]
    assert splits.summary["test"]["split_off"] == splits.summary["validation"]["split_off"]
    assert "split_off" not in splits.summary["train"]


def test_bad_rows_can_be_skipped_and_are_counted(tmp_path):
    splits = load_text(tmp_path, "text,label\na,x\n,x\nb,y\nc\n", bad_rows="skip")
    assert rows_of(splits) == [("a", "x"), ("b", "y")]
    assert "skipped 2 rows of the train source" in splits.warnings[0]


def test_no_such_file(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        load(DataConfig(train=str(tmp_path / "none-*.csv")), tmp_path / "cache")


def test_a_label_only_the_test_file_has(tmp_path):
    (tmp_path / "test.csv").write_text("text,label\na,x\nb,new\n")
    with pytest.raises(UserError, match=r"test.csv, line 3: the label 'new' is not among those of the training rows"):
        load_text(tmp_path, "text,label\na,x\nb,y\n", test=str(tmp_path / "test.csv"))


def test_rows_of_the_test_file_that_are_also_in_train_are_counted(tmp_path):
    (tmp_path / "test.csv").write_text("text,label\na,x\nq,y\n")
    splits = load_text(tmp_path, "text,label\na,x\nb,y\n", test=str(tmp_path / "test.csv"))
    assert splits.warnings == ["1 of 2 test rows (50.0%) are also in train: the test score may be too good by as much."]


def test_splitting_off_is_stratified_disjoint_and_keeps_equal_texts_together(tmp_path):
    rows = [(f"text {i}", "rare" if i % 10 == 0 else "common") for i in range(500)]
    rows += [*rows[:100], ("alone", "single")]
    splits = load_text(tmp_path, as_csv(rows), validation_fraction=0.2, test_fraction=0.2)
    parts = {s.name: s for s in (splits.train, splits.validation, splits.test)}
    texts = {name: set(split.texts(np.arange(len(split)))[0]) for name, split in parts.items()}
    assert sum(map(len, parts.values())) == len(rows)
    assert not texts["train"] & texts["test"] and not texts["train"] & texts["validation"]
    assert not texts["validation"] & texts["test"]
    rare = splits.task.names.index("rare")
    for name in ("validation", "test"):
        assert abs(counts(splits, parts[name])[rare] / len(parts[name]) - 0.1) < 0.02
    assert b"alone" in texts["train"]
    again = load_text(tmp_path, as_csv(rows), validation_fraction=0.2, test_fraction=0.2)
    assert again.test.rows.tolist() == splits.test.rows.tolist() and again.fingerprint == splits.fingerprint
    other = load_text(tmp_path, as_csv(rows), validation_fraction=0.2, test_fraction=0.2, split_seed=1)
    assert other.test.rows.tolist() != splits.test.rows.tolist()


def test_changed_content_changes_the_fingerprint_and_is_read_anew(tmp_path):
    first = load_text(tmp_path, "text,label\na,x\nb,y\n")
    second = load_text(tmp_path, "text,label\na,x\nc,y\n")
    assert first.fingerprint != second.fingerprint
    assert rows_of(second)[1] == ("c", "y")


@pytest.fixture(scope="module")
def split_and_encoder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rows")
    config = DataConfig(train=str(write_rows(folder / "rows.csv", 1003)), validation_fraction=0, test_fraction=0)
    return load(config, folder / "cache").train, TextEncoder(VOCABULARY, sequence_length=24)


def epoch_of(split, encoder, epoch=0, skip=0, **settings):
    task = SingleLabel(("a", "b", "c"))
    batches = training_batches(split, encoder, task, BatchOptions(4, **settings), epoch=epoch, skip=skip)
    assert batches.options().autotune.enabled is False
    return list(batches.as_numpy_iterator())


def row_keys(batches):
    return sorted(
        (tuple(ids[mask > 0]), tuple(target))
        for inputs, targets, weights in batches
        for ids, mask, target, weight in zip(inputs["token_ids"], inputs["padding_mask"], targets, weights, strict=True)
        if weight > 0
    )


@pytest.mark.parametrize("by_length", [True, False])
@pytest.mark.parametrize("lengths", [(), (6, 9), None])
def test_an_epoch_has_every_row_once(split_and_encoder, by_length, lengths):
    split, encoder = split_and_encoder
    batches = epoch_of(split, encoder, by_length=by_length, lengths=lengths)
    assert {len(weights) for *_, weights in batches} == {4}
    every = np.arange(len(split))
    encoded = encoder(split.texts(every)[0])
    expected = [
        ({name: t.numpy() for name, t in encoded.items()}, np.eye(3)[split.targets(every)], np.ones(len(split)))
    ]
    assert row_keys(batches) == row_keys(expected)
    found = {inputs["token_ids"].shape[1] for inputs, *_ in batches}
    if lengths is None:
        # The longest row of a window is its width, which may be odd.
        assert sum(length % 2 for length in found) <= 1
        assert any(length % 8 for length in found)
    else:
        assert found <= {*lengths, 24}


def test_lengths_seen_ahead_are_those_of_the_batches(split_and_encoder):
    split, encoder = split_and_encoder
    options = BatchOptions(4)
    expected = [inputs["padding_mask"].sum(axis=1).max() for inputs, *_ in epoch_of(split, encoder)]
    found = batch_lengths(split, encoder, options)
    assert abs(found.mean() - np.mean(expected)) < 1
    np.testing.assert_array_equal(found, batch_lengths(split, encoder, options))


def test_the_order_depends_on_seed_and_epoch_alone(split_and_encoder):
    split, encoder = split_and_encoder

    def ids(**settings):
        return [inputs["token_ids"].tolist() for inputs, *_ in epoch_of(split, encoder, **settings)]

    assert ids() == ids()
    assert ids() != ids(epoch=1)
    assert ids() != ids(seed=1)


@pytest.mark.parametrize("skip", [1, 63, 64, 65, 250, 251])
def test_skipping_batches_is_as_if_they_had_been_drawn(split_and_encoder, skip):
    split, encoder = split_and_encoder
    whole, rest = epoch_of(split, encoder), epoch_of(split, encoder, skip=skip)
    assert len(rest) == len(whole) - skip
    for a, b in zip(whole[skip:], rest, strict=True):
        tf.nest.map_structure(np.testing.assert_array_equal, a, b)


def test_batches_by_length_waste_little_on_padding(split_and_encoder):
    split, encoder = split_and_encoder

    def tokens(batches):
        return sum(inputs["token_ids"].size for inputs, *_ in batches)

    real = sum(inputs["padding_mask"].sum() for inputs, *_ in epoch_of(split, encoder))
    bucketed, plain = tokens(epoch_of(split, encoder)), tokens(epoch_of(split, encoder, by_length=False))
    assert bucketed < 0.8 * plain
    assert bucketed < 1.35 * real


def test_prediction_batches_have_every_row_once(split_and_encoder):
    split, encoder = split_and_encoder
    seen = [row for rows, _ in prediction_batches(split, encoder, batch_size=7) for row in rows]
    assert sorted(seen) == list(range(len(split)))


@pytest.mark.slow
def test_a_file_larger_than_the_memory_allowed(tmp_path):
    """300 MB of csv in a process that may take 150 MB more than its imports."""
    path = tmp_path / "large.csv"
    with open(path, "w") as file:
        file.write("text,label\n")
        for i in range(300_000):
            file.write(f"{i} {'word ' * 200},{'xy'[i % 2]}\n")
    code = (
        "import resource, sys; from pathlib import Path; import numpy as np\n"
        "from pipeline.config import DataConfig; from pipeline.data.load import load\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "splits = load(DataConfig(train=sys.argv[1]), Path(sys.argv[2]))\n"
        "assert len(splits.train.texts(np.arange(2048))[0]) == 2048\n"
        "resident = int(next(l for l in open('/proc/self/status') if l.startswith('RssAnon')).split()[1])\n"
        "print(before, resident)\n"
    )
    process = subprocess.run(
        [sys.executable, "-c", code, str(path), str(tmp_path / "cache")],
        capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1],
    )  # fmt: skip
    before, resident = map(int, process.stdout.split())
    assert resident - before < 150_000  # KiB; anonymous memory, as mapped files can be dropped at any time
