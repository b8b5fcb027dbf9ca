"""Columns beside the texts, watched: drifts in them are found, and nothing else is an alarm."""

import json

import numpy as np
import pytest

from export.monitor import build
from export.monitor.columns import GIVEN, MISSING, WatchedColumn
from export.monitor.drift import Limits
from export.monitor.features import Rows
from export.monitor.findings import find
from export.monitor.logs import LogFields, read_log
from export.monitor.reference import Reference
from export.monitor.watch import Watch
from pipeline.data.formats import Notices, ReadOptions
from pipeline.features import Features
from pipeline.features.columns import Category, Date, Number, Vector

PLACES = ("Bonn", "Köln", "Ulm")
MODEL = Features(("text",), (Number("price"), Category("place", PLACES), Date("when"), Vector("image", (0.0, 0.0))))


def made(chance, count, shift=""):
    """Rows as logs have them; `shift` is what has changed."""
    price = chance.lognormal(3, 1, count) * (1.6 if shift == "price" else 1)
    place = chance.choice([*PLACES, "Rom"], count, p=[0.6, 0.25, 0.14, 0.01])
    if shift == "unseen":
        place = np.where(chance.random(count) < 0.15, "Paris", place)
    gone = {
        name: chance.random(count) < (0.25 if shift == f"no {name}" else 0.05) for name in ("price", "place", "when")
    }
    columns = {"price": price.tolist(), "place": place.tolist(), "when": ["2026-01-31"] * count}
    for name, missing in gone.items():
        columns[name] = [None if one else cell for cell, one in zip(columns[name], missing, strict=True)]
    columns["image"] = [[0.5, 1.0]] * count
    answers = {"label": ["a"] * count, "score": chance.uniform(0.5, 1, count)}
    return Rows([["the price"] * count], answers, None, "row 1", columns)


@pytest.fixture
def reference(monkeypatch, tmp_path):
    monkeypatch.setattr(build, "features_of", lambda model: MODEL)
    chance = np.random.default_rng(0)
    build.of_logs([made(chance, 2000), made(chance, 2000)], None, ("text",), ("text",)).save(tmp_path / "r.json")
    return Reference.load(tmp_path / "r.json")


def moved(reference, parts):
    watch = Watch(reference, 500)
    for part in parts:
        watch.add(part)
    found = find(reference, watch, Limits())
    assert not found["not_in_logs"]
    return {feature["name"]: feature["since"] for feature in found["features"] if feature["moved"]}


@pytest.mark.parametrize(
    ("shift", "column"),
    [
        ("", None),
        ("price", "price"),
        ("unseen", "place"),
        ("no price", "price"),
        ("no place", "place"),
        ("no when", "when"),
    ],
)
def test_a_planted_drift_is_found_from_its_first_row_on(reference, shift, column):
    chance = np.random.default_rng(1)
    parts = [made(chance, 500) for _ in range(6)] + [made(chance, 500, shift) for _ in range(4)]
    assert moved(reference, parts) == ({f"column {column}": "row 3001"} if column else {})


def test_false_alarms_stay_rare(reference):
    chance = np.random.default_rng(2)
    watch = Watch(reference, 200)
    for _ in range(40):
        watch.add(made(chance, 2000))
    found = find(reference, watch, Limits())
    assert len(found["windows"]) == 400 and not any(window["moved"] for window in found["windows"])


def test_nothing_of_a_row_is_in_a_reference(reference, tmp_path):
    text = (tmp_path / "r.json").read_text()
    # A name that the model does not know is a count of others.
    assert "Rom" not in text and "Köln" in text
    sketches = {sketch.name: sketch for sketch in reference.sketches}
    assert sketches["column place"].names == (*PLACES, MISSING) and sketches["column when"].names == (GIVEN, MISSING)
    assert 0 < sketches["column place"].counts[-1] < 80
    plain = build.of_logs([made(np.random.default_rng(0), 100)], None, ("text",), ("text",))
    assert plain.columns == reference.columns


def test_without_columns_a_reference_is_as_before(tmp_path):
    rows = made(np.random.default_rng(0), 100)
    build.of_logs([rows], None, ("text",), ("text",)).save(tmp_path / "r.json")
    assert "columns" not in json.loads((tmp_path / "r.json").read_text())


@pytest.mark.parametrize("kind", ["number", "vector", "date", "category"])
def test_no_cell_of_a_log_ends_a_report(kind):
    for cell in (10**400, [10**400], {"a": 1}, [[1], 2], b"\xff", True, "\ud800"):
        (kept,) = WatchedColumn("c", "c", kind).read([cell])
        assert isinstance(kept, str)


def test_cells_are_read_of_requests_and_of_files(tmp_path):
    columns = [WatchedColumn("Price €", "price", "number"), WatchedColumn("place", "place", "category")]
    wanted = LogFields(("text",), ("text",), ("score",), None, columns)
    request = {"time": "2026-01-31T12:00:00Z", "model": "m", "version": None, "label": None,
               "signature": "serving_default", "outputs": {"score": [0.5, 0.6]},
               "inputs": {"text": ["a", "b"], "price": ["3.5", ""], "place": ["Ulm", "x"]}}  # fmt: skip
    (tmp_path / "log.jsonl").write_text(json.dumps(request) + "\n")
    (tmp_path / "log.csv").write_text("text,Price €,place,score\na,3.5,Ulm,0.5\nb,,x,0.6\nc,dear,,0.7\n")
    (of_requests,), (of_file,) = (list(read_log(str(tmp_path / f"log.{kind}"), wanted, ReadOptions(), Notices()))
                                  for kind in ("jsonl", "csv"))  # fmt: skip
    prices = [columns[0].values(columns[0].read(rows.columns["Price €"]), ()) for rows in (of_requests, of_file)]
    # What is no number is as if it were missing.
    np.testing.assert_array_equal(prices[1], [3.5, np.nan, np.nan])
    np.testing.assert_array_equal(prices[0], prices[1][:2])
    for rows, codes in ((of_requests, [0, -1]), (of_file, [0, -1, 1])):
        assert columns[1].values(columns[1].read(rows.columns["place"]), ("Ulm", MISSING)).tolist() == codes
