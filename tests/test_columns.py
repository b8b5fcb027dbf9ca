"""Columns beside text and target: weights, groups, times and languages of rows, from the file to the batches."""

import datetime
import hashlib
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tiny import VOCABULARY

from pipeline.config import Config, DataConfig, EvaluationConfig
from pipeline.config_check import check
from pipeline.data.batching import BatchOptions, training_batches
from pipeline.data.extra_columns import GROUP, TIME
from pipeline.data.load import load
from pipeline.data.sampling import draw, quotas
from pipeline.errors import UserError
from pipeline.text import TextEncoder


def write(path, header, rows):
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n")
    return str(path)


def load_rows(tmp_path, header, rows, name="rows.csv", evaluation=None, **settings):
    settings = {"validation_fraction": 0, "test_fraction": 0} | settings
    config = DataConfig(train=write(tmp_path / name, header, rows), **settings)
    return load(config, tmp_path / "cache", evaluation=evaluation)


def authored(count=400, authors=40):
    """Rows of authors who each write several, about one of two labels more than about the other."""
    random = np.random.default_rng(0)
    for i in range(count):
        author = int(random.integers(authors))
        yield f"text {i}", ("a", "b")[int(random.random() < (0.2 if author % 2 else 0.8))], f"author{author}"


def names(split, role):
    known = split.store.columns[role].names
    return [known[code] for code in split.extra(role)]


def test_a_group_stays_on_one_side_of_every_split(tmp_path):
    rows = list(authored())
    settings = {"group_column": "author", "test_fraction": 0.2, "validation_fraction": 0.2}
    splits = load_rows(tmp_path, "text,label,author", rows, **settings)
    sides = [set(names(split, GROUP)) for split in splits.splits]
    assert not (sides[0] & sides[1] or sides[0] & sides[2] or sides[1] & sides[2])
    assert sum(map(len, splits.splits)) == 400
    for split in (splits.validation, splits.test):
        assert len(split) == pytest.approx(80, abs=8)
        # Stratified, as far as whole groups allow.
        assert np.bincount(split.targets())[0] == pytest.approx(0.2 * sum(row[1] == "a" for row in rows), abs=8)
    assert splits.summary["test"]["groups"] == len(sides[2])
    # Neither the order of the rows nor other rows of a group decide its side.
    again = load_rows(tmp_path, "text,label,author", rows[::-1], "again.csv", **settings)
    assert set(names(again.test, GROUP)) == sides[2]
    other = load_rows(tmp_path, "text,label,author", rows, **settings, split_seed=1)
    assert set(names(other.test, GROUP)) != sides[2]


def test_rows_without_a_group_are_groups_of_their_own(tmp_path):
    rows = [(f"text {i}", "ab"[i % 2], "") for i in range(100)]
    splits = load_rows(tmp_path, "text,label,author", rows, group_column="author", test_fraction=0.2)
    assert len(splits.test) == 20


def test_groups_too_large_to_be_split_off_are_refused(tmp_path):
    rows = [(f"text {i}", "ab"[i // 2 % 2], f"author{i % 2}") for i in range(40)]
    with pytest.raises(UserError, match=r"group_column 'author' has 2 groups in 40 training rows.*test rows: set data"):
        load_rows(tmp_path, "text,label,author", rows, group_column="author", test_fraction=0.1)


def test_groups_in_several_files_are_said(tmp_path):
    test = write(
        tmp_path / "test.csv", "text,label,author", [("x", "a", "one"), ("y", "b", "three"), ("z", "b", "one")]
    )
    rows = [("a", "a", "one"), ("b", "b", "two")]
    splits = load_rows(tmp_path, "text,label,author", rows, group_column="author", test=test)
    assert splits.warnings == [
        "1 of 2 groups of data.group_column 'author' in test are also in train, with 2 of 3 test rows: the test score "
        "may be too good by as much."
    ]


@pytest.mark.parametrize("dates", [True, False])
def test_the_newest_rows_are_the_test_rows(tmp_path, dates):
    random = np.random.default_rng(0)
    days = random.integers(0, 300, 200)
    start = datetime.date(2024, 1, 1)
    times = [start + datetime.timedelta(int(day)) if dates else int(day) for day in days]
    rows = [(f"text {i}", "ab"[i % 2], time) for i, time in enumerate(times)]
    settings = {"time_column": "day", "test_fraction": 0.2, "validation_fraction": 0.1}
    splits = load_rows(tmp_path, "text,label,day", rows, **settings)
    assert len(splits.test) == pytest.approx(40, abs=3) and len(splits.validation) == pytest.approx(20, abs=3)
    train, validation, test = (split.extra(TIME) for split in splits.splits)
    assert train.max() < validation.min() and validation.max() < test.min()
    assert splits.summary["test"]["newest"] == (str(max(times)) if dates else f"{days.max()}")
    assert splits.warnings == []


@pytest.mark.parametrize(
    ("cells", "line", "message"),
    [
        (["2024-05-31", "31.5.2024"], 3, r"neither a date as ISO writes it.*data\.time_column: '31\.5\.2024'"),
        (["2024-05-31", ""], 3, r"neither a date.*: the cell is empty"),
        (["nan"], 2, "neither a date"),
        (["1", "2024-05-31"], 3, "a date in data.time_column, where the rows before have numbers"),
        (["2024-05-31", "1"], 3, "a number in data.time_column, where the rows before have dates"),
    ],
)
def test_what_is_no_time_is_refused(tmp_path, cells, line, message):
    rows = [(f"text {i}", "ab"[i % 2], cell) for i, cell in enumerate(cells)]
    with pytest.raises(UserError, match=rf"rows\.csv, line {line}: the row has {message}"):
        load_rows(tmp_path, "text,label,day", rows, time_column="day")


def test_times_of_many_forms(tmp_path):
    day = datetime.datetime(2024, 5, 31, tzinfo=datetime.UTC)
    forms = ["2024-05-31", "20240531T00:00", "2024-05-31T02:00:00+02:00", "2024-05-31 00:00:00Z"]
    rows = [(f"text {i}", "ab"[i % 2], form) for i, form in enumerate(forms)]
    splits = load_rows(tmp_path, "text,label,day", rows, time_column="day")
    assert splits.train.extra(TIME).tolist() == [day.timestamp()] * 4
    with pytest.raises(UserError, match=r"all 4 training rows that are left have the time 2024-05-31, so no test rows"):
        load_rows(tmp_path, "text,label,day", rows, time_column="day", test_fraction=0.5)
    table = {"text": ["a", "b"], "label": ["a", "b"], "day": [day, day + datetime.timedelta(1)]}
    pq.write_table(pa.table(table), tmp_path / "rows.parquet")
    config = DataConfig(train=str(tmp_path / "rows.parquet"), time_column="day", validation_fraction=0)
    config.test_fraction = 0
    assert load(config, tmp_path / "cache").summary["train"]["newest"] == "2024-06-01"


def test_test_rows_older_than_the_training_rows_are_said(tmp_path):
    test = write(tmp_path / "test.csv", "text,label,day", [("x", "a", "2024-01-01"), ("y", "b", "2024-03-01")])
    rows = [("a", "a", "2024-01-15"), ("b", "b", "2024-02-01")]
    splits = load_rows(tmp_path, "text,label,day", rows, time_column="day", test=test)
    (warning,) = splits.warnings
    assert warning.startswith("1 of 2 test rows are not newer than the newest training row (2024-02-01, ")


@pytest.mark.parametrize("cell", ["-1", "much", "", "inf", "nan"])
def test_what_is_no_weight_is_refused_with_file_and_row(tmp_path, cell):
    rows = [("a", "a", 1), ("b", "b", cell)]
    with pytest.raises(UserError, match=r"rows\.csv, line 3: the row has no number of at least 0 in data\.weight_col"):
        load_rows(tmp_path, "text,label,w", rows, weight_column="w")
    splits = load_rows(tmp_path, "text,label,w", [*rows, ("c", "b", 2)], weight_column="w", bad_rows="skip")
    assert len(splits.train) == 2 and "1 has no number of at least 0 in data.weight_column" in splits.warnings[0]


@pytest.mark.parametrize("role", ["weight", "group", "time", "language"])
def test_a_missing_column_is_named_with_its_file(tmp_path, role):
    with pytest.raises(UserError, match=r"rows\.csv has no column 'x'; it has 'text', 'label'"):
        load_rows(tmp_path, "text,label", [("a", "a"), ("b", "b")], **{f"{role}_column": "x"})


def test_weights_need_not_stand_in_the_test_file(tmp_path):
    test = write(tmp_path / "test.csv", "text,label", [("x", "a")])
    rows = [("a", "a", 1), ("b", "b", 0), ("c", "b", 3)]
    splits = load_rows(tmp_path, "text,label,w", rows, weight_column="w", test=test)
    assert splits.test.weights is None and len(splits.train) == 2
    assert splits.notes == [
        "1 of 3 training rows has the weight 0 in data.weight_column 'w': left out of training.",
        "no test row has the label “b”: the test scores say nothing about how well it is recognised.",
    ]
    with pytest.raises(UserError, match=r"data\.weight_column 'w': all 2 training rows have the weight 0"):
        load_rows(tmp_path, "text,label,w", [("a", "a", 0), ("b", "b", 0)], "zero.csv", weight_column="w")


def encoder():
    return TextEncoder(VOCABULARY, lowercase=True, sequence_length=16)


def batches_of(splits, options, **position):
    return list(training_batches(splits.train, encoder(), splits.task, options, **position).as_numpy_iterator())


@pytest.mark.parametrize("by_length", [True, False])
def test_weights_reach_the_batches_times_those_of_the_classes(tmp_path, by_length):
    rows = [(" ".join(["goal"] * (i + 1)), "ab"[i % 2], 1 + i) for i in range(10)]
    splits = load_rows(tmp_path, "text,label,w", rows, weight_column="w")
    options = BatchOptions(4, by_length=by_length, weigh=lambda classes: np.where(classes == 1, 10, 1))
    seen = {}
    for inputs, targets, weights in batches_of(splits, options, epoch=0):
        for length, target, weight in zip(inputs["padding_mask"].sum(axis=1), targets, weights, strict=True):
            seen.setdefault(int(length) - 3, []).append(float(weight) / (10 if target[1] else 1))
    # In units of their mean; what only fills the last batch has 0.
    found = [max(seen[i]) for i in range(10)]
    np.testing.assert_allclose(found, [(1 + i) / 5.5 for i in range(10)], rtol=1e-6)


def test_very_large_weights_stay_finite(tmp_path):
    rows = [("a", "a", 1e300), ("b", "b", 1.7e308), ("c", "b", 1e308)]
    splits = load_rows(tmp_path, "text,label,w", rows, weight_column="w")
    weights = splits.train.weights
    assert np.isfinite(weights).all() and weights[1] == pytest.approx(1.7 * weights[2])


def test_quotas_are_powers_of_the_counts():
    counts = np.array([1000, 0, 10, 1])
    assert quotas(counts, 1.0).tolist() == counts.tolist()
    found = quotas(counts, 5.0)
    assert found.sum() == counts.sum() and found[1] == 0
    powers = counts[[0, 2, 3]] ** 0.2
    np.testing.assert_allclose(found[[0, 2, 3]], powers / powers.sum() * counts.sum(), atol=1)


def test_no_row_comes_twice_before_all_of_its_language_came():
    languages = np.array([0] * 90 + [1] * 10)
    drawn = draw(languages, np.array([65, 35]), np.random.default_rng(0))
    often = np.bincount(drawn, minlength=100)
    assert set(often[:90]) == {0, 1} and set(often[90:]) == {3, 4} and len(drawn) == 100


def test_languages_are_drawn_evenly_and_the_order_is_of_seed_and_epoch_alone(tmp_path):
    rows = [(f"goal {'very ' * (i % 5)}", "ab"[i % 2], "en" if i % 10 else "sw") for i in range(200)]
    splits = load_rows(tmp_path, "text,label,lang", rows, language_column="lang", language_temperature=1e6)
    assert splits.notes == [
        "rows that an epoch draws at data.language_temperature 1e+06: en 100 (has 180), sw 100 (has 20)."
    ]
    assert splits.summary["train"]["languages"] == {"sw": 20, "en": 180}
    options = BatchOptions(8, seed=3)
    whole = batches_of(splits, options, epoch=1)
    assert len(whole) == 25
    for (inputs, _, _), (others, _, _) in zip(whole[7:], batches_of(splits, options, epoch=1, skip=7), strict=True):
        np.testing.assert_array_equal(inputs["token_ids"], others["token_ids"])

    def order(epoch):
        return splits.train.epoch_order(np.random.Generator(np.random.Philox(key=[3, epoch]))).tolist()

    assert order(1) == order(1) != order(2)
    plain = load_rows(tmp_path, "text,label,lang", rows, language_column="lang")
    key = np.random.Philox(key=[3, 1])
    assert sorted(plain.train.epoch_order(np.random.Generator(key)).tolist()) == list(range(200))


def test_the_fingerprint_holds_what_decides_the_weights_and_nothing_else(tmp_path):
    def fingerprint(content, **settings):
        return load_rows(
            tmp_path, "text,label,x", [(*row, x) for row, x in zip(rows, content, strict=True)], **settings
        )

    rows = [("one", "a"), ("two", "b"), ("three", "b")]
    plain = fingerprint("123").fingerprint
    # As it was before there were such columns.
    digest = hashlib.sha256()
    for text, label in rows:
        digest.update(repr(([text.encode()], [label])).encode())
    assert plain == f"train:{digest.hexdigest()}:3"
    for role in ("weight", "group", "time"):
        first, second = (fingerprint(content, **{f"{role}_column": "x"}).fingerprint for content in ("123", "124"))
        assert first != second != plain
    assert fingerprint("123", language_column="x").fingerprint == plain
    drawn = {"language_column": "x", "language_temperature": 2}
    assert fingerprint("123", **drawn).fingerprint != fingerprint("124", **drawn).fingerprint
    evaluation = EvaluationConfig(group_columns=["x"])
    assert fingerprint("125", evaluation=evaluation).fingerprint == plain


def test_a_store_of_before_there_were_columns_is_read(tmp_path):
    rows = [("one", "a"), ("two", "b")]
    before = load_rows(tmp_path, "text,label", rows)
    folder = before.train.store.folder
    meta = json.loads((folder / "meta.json").read_text())
    assert meta.pop("extra") == []
    (folder / "meta.json").write_text(json.dumps(meta))
    data = DataConfig(train=str(tmp_path / "rows.csv"), validation_fraction=0, test_fraction=0)
    after = load(data, tmp_path / "cache", begun=True)
    assert after.train.store.folder == folder and after.fingerprint == before.fingerprint
    manifest = json.loads((tmp_path / "cache" / "manifest.json").read_text())
    assert "extra" not in manifest["train"]["settings"]


def test_group_columns_are_read_where_the_scored_rows_come_from(tmp_path):
    test = write(tmp_path / "test.csv", "text,label,region", [("x", "a", "north"), ("y", "b", "")])
    evaluation = EvaluationConfig(group_columns=["region"])
    splits = load_rows(tmp_path, "text,label", [("a", "a"), ("b", "b")], evaluation=evaluation, test=test)
    assert names(splits.test, "scored0") == ["north", ""] and not splits.train.store.columns
    with pytest.raises(UserError, match=r"rows\.csv has no column 'region'"):
        load_rows(tmp_path, "text,label", [("a", "a"), ("b", "b")], evaluation=evaluation)
    # A finished classifier: nothing is split off where nothing is learned from.
    for name, score_test in (("validation", True), ("validation", False), ("test", True)):
        data = DataConfig(**{name: test}, labels=["a", "b"])
        evaluation = EvaluationConfig(group_columns=["region"], score_test=score_test)
        splits = load(data, tmp_path / f"{name}{score_test}", learning=False, evaluation=evaluation)
        assert names(splits.splits[0], "scored0") == ["north", ""]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"language_temperature": 5}, r"data\.language_temperature 5 needs data\.language_column"),
        ({"group_column": "a", "time_column": "b"}, "group_column and data.time_column both decide"),
        ({"weight_column": "text"}, r"data\.weight_column 'text' is also in data\.text_columns"),
        ({"language_column": "l", "language_temperature": 0.5}, "at least 1"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings, message):
    config = Config(data=DataConfig(train="rows.csv", **settings))
    with pytest.raises(UserError, match=message):
        check(config)


def test_groups_may_be_numbers_of_any_format(tmp_path):
    rows = [{"text": f"t{i}", "label": "ab"[i % 2], "g": g} for i, g in enumerate([1, 1.0, True, None, 2**60 + 1, 0.5])]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = DataConfig(train=str(tmp_path / "rows.jsonl"), group_column="g", validation_fraction=0, test_fraction=0)
    splits = load(data, tmp_path / "cache")
    assert names(splits.train, GROUP) == ["1", "1", "True", "", str(2**60 + 1), "0.5"]
