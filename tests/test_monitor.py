"""Logs compared with a reference: what is counted, how often chance is taken for drift, and whole runs by command."""

import base64
import csv
import itertools
import json
import re
import shutil
import subprocess
import unicodedata
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.stats import chi2_contingency, ks_2samp
from tiny import FILLER, SUBJECTS, VOCABULARY, write_config, write_rows

from export import request_log
from export.check import check
from export.loading import Classifier
from export.monitor import __main__ as command
from export.monitor.accuracy import estimate, measure
from export.monitor.build import _HeldOut, _made, of_logs
from export.monitor.characters import LONGEST, SCRIPT_NAMES, Characters, Tables, Words
from export.monitor.drift import Limits, chi_square_p, compare, distances, kolmogorov_p, moved_since
from export.monitor.features import Features, Rows
from export.monitor.findings import find
from export.monitor.redacting import redacting
from export.monitor.reference import FILE, Reference
from export.monitor.report import lines
from export.monitor.sketch import Sketch
from export.monitor.watch import Watch, since_time
from export.request_log import RequestLog
from pipeline import run
from pipeline.redaction.kinds import NOTHING, Redaction

TEXTS = [
    "The Team scored 3:1!", "", "café au lait", "naïve coöperation", "漢字と kana", "Привет, мир", "   ", "12 %",
    "a" * 1500, "मराठी", "don't stop", "\ud800 x", "ABC def", "日本 goal",
]  # fmt: skip

# What texts look like.


def slowly(text: str, vocabulary: set[str]) -> dict[str, float]:
    """The same features, a character at a time."""
    read = text[:LONGEST]
    kinds = [unicodedata.category(c) for c in read]
    solid = sum(not (kind[0] == "Z" or c.isspace()) for c, kind in zip(read, kinds, strict=True))
    letters = sum(kind[0] == "L" for kind in kinds)
    words, word = [], ""
    for c, kind in zip(read, kinds, strict=True):
        han = unicodedata.name(c, "").startswith("CJK")
        if kind[0] in "LMN" and not han:
            word += unicodedata.normalize("NFD", c.lower())[0]
            continue
        words += [word] if word else []
        words += [c] if han else []
        word = ""
    words += [word] if word else []
    return {
        "characters": len(text),
        "digits": sum(kind[0] == "N" for kind in kinds) / solid if solid else np.nan,
        "punctuation": sum(kind[0] in "PS" for kind in kinds) / solid if solid else np.nan,
        "capitals": sum(kind in ("Lu", "Lt") for kind in kinds) / letters if letters else np.nan,
        "whole words": sum(word in vocabulary for word in words) / len(words) if words else np.nan,
    }


def test_features_of_texts_are_those_of_plain_python():
    vocabulary = [*VOCABULARY, "cafe", "don", "字", "x", "日", "##gs"]
    found = Characters(TEXTS, Tables()).features(Words.of(vocabulary, True))
    expected = [slowly(text, set(vocabulary)) for text in TEXTS]
    for name in expected[0]:
        np.testing.assert_allclose(found[name], [one[name] for one in expected], err_msg=name)
    scripts = [SCRIPT_NAMES[number] for number in found["script"]]
    assert scripts[:8] == [
        "Latin", "no letters", "Latin with accents", "Latin with accents", "Latin", "Cyrillic", "no letters",
        "no letters",
    ]  # fmt: skip
    assert scripts[9] == "Devanagari"


def test_no_texts_at_all_and_words_with_case():
    assert {len(values) for values in Characters([], Tables()).features(None).values()} == {0}
    cased = Words.of(["Bank"], False)
    found = Characters(["Bank bank", "BANK"], Tables(False)).features(cased)["whole words"]
    np.testing.assert_array_equal(found, [0.5, 0])


# Bins.


def test_bins_hold_their_share_and_missing_values_have_their_own():
    values = np.append(np.random.default_rng(0).normal(0, 1, 5000), [np.nan] * 7)
    sketch = Sketch.of_numbers("score", values)
    assert sum(sketch.counts) == len(values) and sketch.counts[-1] == 7
    np.testing.assert_allclose(np.array(sketch.counts[1:4]) / 5000, [0.03, 0.05, 0.1], atol=0.002)
    assert Sketch.read(json.loads(json.dumps(sketch.metadata()))) == sketch
    assert len(sketch.bin_names()) == sketch.size


def test_frequent_values_have_bins_of_their_own_and_rounding_moves_none():
    values = np.random.default_rng(0).choice(np.float32([0, 0.1234567, 0.98765432, 1]), 1000, p=[0.5, 0.2, 0.2, 0.1])
    sketch = Sketch.of_numbers("score", values.astype(float))
    assert sorted(count for count in sketch.counts if count) == sorted(
        np.unique(values, return_counts=True)[1].tolist()
    )
    np.testing.assert_array_equal(sketch.bins(values.astype(float)), sketch.bins(np.round(values.astype(float), 6)))
    constant = Sketch.of_numbers("digits", np.zeros(100))
    assert len(set(constant.bins(np.array([-1.0, 0.0, 1.0, np.nan])).tolist())) == 4


def test_names_that_nobody_has_seen_are_others():
    sketch = Sketch.of_names("label", np.array([0, 1, 1]), ["a", "b"])
    assert sketch.bins(np.array([1, -1, 5])).tolist() == [1, 2, 2] and sketch.bin_names() == ["a", "b", "other"]


# Tests.


def samples(bins=12, reference=3000, rows=1000, windows=50, seed=0):
    chance = np.random.default_rng(seed)
    shares = chance.dirichlet(np.ones(bins) * 5)
    return chance.multinomial(rows, shares, windows), chance.multinomial(reference, shares)


def test_distances_and_tests_are_scipys():
    counts, reference = samples()
    _, js = distances(counts, reference)
    for window, found in zip(counts, js, strict=True):
        assert found == pytest.approx(jensenshannon(window, reference, base=2) ** 2)
    dense = [chi2_contingency([window, reference], correction=False).pvalue for window in counts]
    np.testing.assert_allclose(chi_square_p(counts, reference), dense, atol=0.005)
    values = np.arange(12)
    for window, found in zip(counts, kolmogorov_p(np.c_[counts, counts[:, 0]], np.append(reference, 5)), strict=True):
        theirs = ks_2samp(np.repeat(values, window), np.repeat(values, reference), method="asymp").pvalue
        # scipy corrects the asymptotic formula for small samples.
        assert found == pytest.approx(theirs, abs=0.02)


def test_p_values_where_bins_have_next_to_no_rows():
    """150 labels in 200 rows: against rows that are dealt out at random."""
    chance = np.random.default_rng(0)
    both = chance.multinomial(3200, chance.dirichlet(np.ones(150)))
    dealt = chance.multivariate_hypergeometric(both, 200, 8_000, method="count")
    p = np.concatenate([chi_square_p(window[None], both - window) for window in dealt])
    for level in (0.5, 0.1, 0.01, 0.001):
        assert (p < level).mean() == pytest.approx(level, rel=0.2 if level > 0.005 else 1.0)


def test_psi_is_nothing_where_nothing_has_moved_and_known_where_something_has():
    counts, reference = samples(bins=150, reference=5000, windows=200)
    assert np.median(distances(counts, reference)[0]) < 0.02
    psi, _ = distances(np.array([[300_000, 700_000]]), np.array([500_000, 500_000]))
    assert psi[0] == pytest.approx(0.2 * np.log(0.7 / 0.5) - 0.2 * np.log(0.3 / 0.5), abs=1e-4)


def alarms(windows: int, repeats: int, seed: int = 0) -> float:
    """Share of windows with an alarm of nine features, of which half hang together; references are drawn anew."""
    chance, found = np.random.default_rng(seed), 0
    shares = [chance.dirichlet(np.ones(bins)) for bins in (150, 18, 18)] + [np.ones(14) / 14] * 3
    for _ in range(repeats):
        counts, theirs = zip(
            *((chance.multinomial(500, p, windows), chance.multinomial(2000, p)) for p in shares), strict=True
        )
        counts, theirs = [*counts, *counts[:3]], [*theirs, *theirs[:3]]
        moved = [
            compare(c, t, ordered=i > 2).moved(Limits(psi=0), 9)
            for i, (c, t) in enumerate(zip(counts, theirs, strict=True))
        ]
        found += np.any(moved, axis=0).sum()
    return found / (windows * repeats)


def test_false_alarms_are_below_one_in_a_thousand():
    assert alarms(windows=10, repeats=300) < 0.0015


@pytest.mark.slow
def test_false_alarms_are_below_one_in_a_thousand_of_many():
    assert alarms(windows=5, repeats=20_000, seed=1) < 0.001


def test_the_window_in_which_it_began_is_found():
    chance = np.random.default_rng(0)
    before, after = np.array([0.5, 0.3, 0.2]), np.array([0.4, 0.4, 0.2])
    counts = np.concatenate([chance.multinomial(500, before, 20), chance.multinomial(500, after, 10)])
    assert abs(moved_since(counts, chance.multinomial(3000, before)) - 20) <= 1
    assert moved_since(chance.multinomial(500, after, 10), chance.multinomial(3000, before)) == 0


# Accuracy without labels.


@pytest.mark.parametrize("shape", [(9, 1), (3, 1), (1, 1)])
def test_accuracy_is_estimated_where_scores_mean_what_they_meant(shape):
    """Scores that are too high by a known rule: right as often as their square says."""
    chance = np.random.default_rng(0)
    scores = chance.beta(4, 1, 5000)
    sketch = Sketch.of_numbers("score", scores)
    known = measure((chance.random(5000) < scores**2).astype(float), scores, sketch)
    assert known.share == pytest.approx((scores**2).mean(), abs=0.02)
    new = chance.beta(*shape, 20_000)
    found = estimate(np.bincount(sketch.bins(new), minlength=sketch.size), float(new.mean()), known, sketch)
    assert found.calibrated == pytest.approx((new**2).mean(), abs=0.04)
    assert found.low < found.calibrated < found.high and found.high - found.low < 0.12
    assert found.doc == pytest.approx(known.share + new.mean() - scores.mean())


# Planted drifts, without a model.

WORDS = [word for words in SUBJECTS.values() for word in words] + FILLER


def made_rows(chance, rows: int, shift: str = "") -> Rows:
    """Texts, labels, scores and `fit`; of `shift` rows that are otherwise than the rest."""
    texts = [" ".join(chance.choice(WORDS, 3 + chance.poisson(6))) for _ in range(rows)]
    labels, score, fit = chance.choice(list(SUBJECTS), rows), chance.beta(8, 1, rows), chance.random(rows)
    if shift == "longer":
        texts = [f"{text} {text}" for text in texts]
    if shift == "typos":
        texts = [text.replace("t", "tt").replace("o", "0") for text in texts]
    if shift == "language":
        texts = ["мать моя и твоя" if i % 4 == 0 else text for i, text in enumerate(texts)]
    if shift == "labels":
        labels = np.where(chance.random(rows) < 0.3, "sport", labels)
    if shift == "score":
        score = score**2
    if shift == "fit":
        fit = np.where(chance.random(rows) < 0.2, fit / 50, fit)
    times = [f"2026-03-{1 + i * 20 // rows:02d}T00:00:00Z" for i in range(rows)]
    return Rows([texts], {"label": labels.tolist(), "score": score, "fit": fit}, times, "row 1")


@pytest.fixture(scope="module")
def planted() -> Reference:
    rows = made_rows(np.random.default_rng(0), 3000)
    made = of_logs([rows], None, ("text",), ("text",))
    words = Words.of(VOCABULARY, True)
    values = Features(("text",), made.labels, made.outputs, words)(rows)
    return replace(
        made, words=words, sketches=(*made.sketches, Sketch.of_numbers("whole words", values["whole words"]))
    )


def watched(reference: Reference, parts: list[Rows], size: int | str = 500) -> dict:
    watch = Watch(reference, size, shown=3)
    for rows in parts:
        watch.add(rows)
    return find(reference, watch, Limits())


@pytest.mark.parametrize(
    ("shift", "features"),
    [
        ("longer", {"characters"}),
        ("typos", {"whole words", "digits"}),
        ("language", {"script", "whole words"}),
        ("labels", {"label"}),
        ("score", {"score"}),
        ("fit", {"fit"}),
    ],
)
def test_planted_drifts_are_found_from_their_first_window_on(planted, shift, features):
    chance = np.random.default_rng(1)
    found = watched(planted, [made_rows(chance, 2000), made_rows(chance, 1000, shift)])
    moved = {feature["name"]: feature for feature in found["features"] if feature["moved"]}
    assert found["moved"] and features <= set(moved)
    assert [bool(window["moved"]) for window in found["windows"]] == [False] * 4 + [True] * 2
    for name in features:
        assert moved[name]["first_alarm"] == found["windows"][4]["begins"]
        assert moved[name]["since"] == found["windows"][4]["begins"]


def test_days_are_windows_whatever_the_order_of_logs(planted):
    rows = made_rows(np.random.default_rng(2), 2000)
    whole = watched(planted, [rows], "day")
    assert len(whole["windows"]) == 20 and not whole["moved"] and {w["rows"] for w in whole["windows"]} == {100}
    parts = [
        Rows([rows.texts[0][part]], {n: v[part] for n, v in rows.outputs.items()}, rows.times[part], "row 1")
        for part in (slice(1030, None), slice(0, 1030))
    ]
    again = watched(planted, parts, "day")
    assert again["windows"] == whole["windows"] and again["features"] == whole["features"]


def test_times_are_of_one_day_in_utc_and_rows_without_are_counted(planted):
    rows = made_rows(np.random.default_rng(2), 2000)
    assert rows.times is not None
    whole = watched(planted, [rows], "day")
    # The same moments, as clocks of other places show them.
    local = [f"{time[:8]}{int(time[8:10]) - 1:02d}T20:00:00-04:00" if i % 2 and time[8:10] != "01" else time
             for i, time in enumerate(rows.times)]  # fmt: skip
    again = watched(planted, [replace(rows, times=local)], "day")
    assert again["windows"] == whole["windows"] and again["without_time"] == 0
    lacking = [None if i % 4 == 3 else time for i, time in enumerate(local)]
    found = watched(planted, [replace(rows, times=lacking)], "day")
    assert found["without_time"] == 500 and found["rows"] == 1500 and len(found["windows"]) == 20
    assert "500 rows without a time are passed over" in list(lines(found))
    watch = Watch(planted, 500, since_time("2026-03-11"))
    watch.add(replace(rows, times=lacking))
    assert (watch.rows, watch.passed_over, watch.without_time) == (750, 750, 500)
    # A time that is none is one in any row, not only in the first.
    with pytest.raises(ValueError, match="'soon' is no time in ISO's form"):
        watched(planted, [replace(rows, times=[*local[:-1], "soon"])], "day")
    # Where nothing asks for a time, none is missed.
    assert watched(planted, [replace(rows, times=lacking)])["rows"] == 2000


def test_rows_that_fit_least(planted):
    rows = made_rows(np.random.default_rng(3), 1000)
    found = watched(planted, [rows, rows])
    assert found["least_fitting_by"] == "fit"
    least = sorted([*rows.outputs["fit"], *rows.outputs["fit"]])[:3]
    assert [row["fit"] for row in found["least_fitting"]] == least


def test_what_logs_lack_is_said(planted):
    rows = made_rows(np.random.default_rng(3), 500)
    found = watched(planted, [replace(rows, outputs={"label": rows.outputs["label"]})])
    assert found["not_in_logs"] == ["score", "fit"]


@pytest.mark.parametrize("stored_redacted", [False, True])
def test_what_a_model_redacts_moves_nothing(stored_redacted, tmp_path):
    """A reference is of the rows that a run has stored, redacted or not, and logs are of what was sent."""
    redaction, chance = Redaction.of(["phone"]), np.random.default_rng(2)

    def sent(rows: int) -> Rows:
        made = made_rows(chance, rows)
        numbers = (f" +49 30 {chance.integers(10**6, 10**7)}" if chance.random() < 0.4 else "" for _ in range(rows))
        return replace(made, texts=[[text + number for text, number in zip(made.texts[0], numbers, strict=True)]])

    held = redacting(redaction)(sent(3000)) if stored_redacted else sent(3000)
    found = _HeldOut(held, tuple(SUBJECTS), ("score", "fit"), {}, None)
    about = {"inputs": ("text",), "text_columns": ("text",)}
    _made(found, None, made_from="", redaction=redaction, **about).save(tmp_path / "reference.json")
    reference = Reference.load(tmp_path / "reference.json")
    assert reference.redaction == redaction
    logs = sent(2000)
    assert watched(reference, [logs])["moved"] is False
    # Without it the numbers tell the two apart.
    assert watched(replace(reference, redaction=NOTHING), [logs])["moved"] is True


def test_rows_that_are_shown_are_redacted(planted):
    rows = replace(made_rows(np.random.default_rng(3), 500), texts=[["call +49 30 1234567"] * 500])
    reference = replace(planted, redaction=Redaction.of(["phone"]))
    assert all(row["texts"] == ["call [PHONE]"] for row in watched(reference, [rows])["least_fitting"])


def test_since():
    assert since_time("2026-01-31") == "2026-01-31T00:00:00Z"
    assert since_time("2026-01-31T12:00:00+02:00") == "2026-01-31T10:00:00Z"
    assert since_time("24h") < since_time("1h") and since_time(None) is None
    with pytest.raises(ValueError, match="--since yesterday"):
        since_time("yesterday")


# A run, by command.


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("watched")
    settings = {"model": {"num_layers": 1}, "training": {"epochs": 1}}
    config = write_config(folder, 600, **settings, export={"signatures": ["predict_tokens"], "fit": True})
    run.main(["--config", str(config), "--run_dir", str(folder / "news"), "--evaluation.baseline", "none"])
    # What a run has stored is enough.
    (folder / "train.csv").rename(folder / "moved.csv")
    assert command.main(["build", str(folder / "news")]) == 0
    (folder / "moved.csv").rename(folder / "train.csv")
    return folder / "news"


@pytest.fixture(scope="module")
def logged(finished, tmp_path_factory) -> dict[str, Path]:
    """Logs of requests: of rows like those of training, and with much longer ones from 300 on."""
    folder, model = tmp_path_factory.mktemp("logs"), Classifier(finished)
    with open(write_rows(folder / "new.csv", 600, seed=5), newline="") as file:
        texts = [row["text"] for row in csv.DictReader(file)]
    logs = {name: folder / f"{name}.jsonl" for name in ("same", "longer")}
    for name, path in logs.items():
        log = RequestLog(path, share=1)
        for start in range(0, 600, 3):
            asked = [f"{text} {text} {text}" for text in texts[start : start + 3]]
            asked = asked if name == "longer" and start >= 300 else texts[start : start + 3]
            log.add("news", {"text": asked}, model(asked).outputs, label="stable")
    return logs


def report(reference: Path, *arguments) -> int:
    return command.main(["report", str(reference), "--window", "100", *map(str, arguments)])


def texts_of(path: Path) -> list[str]:
    return [text for line in path.read_text().splitlines() for text in json.loads(line)["inputs"]["text"]]


def test_a_reference_has_no_texts(finished):
    content = (finished / "saved_model/1" / FILE).read_text()
    with open(finished.parent / "train.csv", newline="") as file:
        texts = [row["text"] for row in csv.DictReader(file)]
    assert not any(text in content for text in texts)
    # This one is the name of an output.
    words = {word for words in SUBJECTS.values() for word in words} - {"score"}
    assert not [word for word in words if word in content]
    reference = Reference.load(finished)
    assert reference.rows == 240 and reference.labels == tuple(sorted(SUBJECTS))
    assert {sketch.name for sketch in reference.sketches} >= {"characters", "whole words", "label", "score", "fit"}


def test_accuracy_of_the_reference_is_that_of_the_run(finished):
    metrics = json.loads((finished / "metrics.json").read_text())
    splits = [metrics[name] for name in ("validation", "test")]
    expected = sum(split["accuracy"] * split["rows"] for split in splits) / sum(split["rows"] for split in splits)
    assert Reference.load(finished).accuracy.share == pytest.approx(expected, abs=0.005)


def test_the_model_still_passes_its_check(finished):
    failed = [one for one in check(finished, at_export=True) if one.result == "failed"]
    assert not failed


def test_nothing_has_moved(finished, logged, tmp_path, capsys):
    assert report(finished, logged["same"], "--json", tmp_path / "found.json") == 0
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["rows"] == 600 and not any(window["moved"] for window in found["windows"])
    out = capsys.readouterr().out
    assert "nothing has moved" in out and not any(text in out for text in texts_of(logged["same"]) if " " in text)


def test_longer_texts_have_moved(finished, logged, tmp_path, capsys):
    page, metrics = tmp_path / "drift.html", tmp_path / "drift.prom"
    assert (
        report(finished, logged["longer"], "--html", page, "--prometheus", metrics, "--json", tmp_path / "a.json") == 1
    )
    assert "MOVED since" in capsys.readouterr().out
    found = json.loads((tmp_path / "a.json").read_text())
    characters = next(feature for feature in found["features"] if feature["name"] == "characters")
    assert characters["moved"] and characters["windows_moved"] == 3
    content = page.read_text()
    assert "Something has moved" in content and "<svg" in content and "http:" not in content and "https:" not in content
    texts = [text for text in texts_of(logged["longer"]) if " " in text]
    assert not any(text in content for text in texts)
    assert 'bert_pipeline_monitor_moved{model_name="news",feature="characters"} 1' in metrics.read_text()
    assert report(finished, logged["longer"], "--html", page, "--show", 5) == 1
    assert sum(text in page.read_text() for text in set(texts)) >= 5


def test_metrics_are_as_prometheus_takes_them(finished, logged, tmp_path):
    metrics = tmp_path / "drift.prom"
    report(finished, logged["same"], "--prometheus", metrics, "--name", 'a "quoted"\\name')
    lines = metrics.read_text().splitlines()
    sample = re.compile(r'[a-z_]+\{([a-z_]+="([^"\\\n]|\\["\\n])*",?)+\} [0-9.e+-]+')
    assert all(line.startswith("# ") or sample.fullmatch(line) for line in lines)
    helped = [line.split()[2] for line in lines if line.startswith("# TYPE")]
    assert len(helped) == len(set(helped)) and helped == list(
        dict.fromkeys(line.partition("{")[0] for line in lines if not line.startswith("#"))
    )
    if shutil.which("promtool"):
        subprocess.run(["promtool", "check", "metrics"], input=metrics.read_bytes(), check=True)


def test_answers_of_predict_are_a_log(finished, logged, tmp_path):
    from export import predict

    texts = texts_of(logged["longer"])
    source = tmp_path / "asked.csv"
    with open(source, "w", newline="") as file:
        csv.writer(file).writerows([["text", "label"], *([text, "x"] for text in texts)])
    found = []
    for suffix in ("csv", "parquet", "jsonl"):
        output = tmp_path / f"answers.{suffix}"
        assert predict.main([str(finished), "--input", str(source), "--output", str(output)]) == 0
        assert report(finished, output, "--json", tmp_path / "found.json") == 1
        found.append(json.loads((tmp_path / "found.json").read_text()))
    assert report(finished, logged["longer"], "--json", tmp_path / "found.json") == 1
    found.append(json.loads((tmp_path / "found.json").read_text()))
    for one in found[1:]:
        for feature, first in zip(one["features"], found[0]["features"], strict=True):
            # A score of six digits may be rounded to the other side of an edge.
            near = 0.02 if feature["name"] == "score" else 0
            assert feature["name"] == first["name"]
            np.testing.assert_allclose(feature["psi"], first["psi"], atol=near)


def test_prediction_logs_of_tensorflow_serving(finished, logged, tmp_path):
    import tensorflow as tf

    log_of = pytest.importorskip("tensorflow_serving.apis.prediction_log_pb2").PredictionLog
    path = tmp_path / "log.tfrecord"
    with tf.io.TFRecordWriter(str(path)) as writer:
        for line in logged["longer"].read_text().splitlines():
            record, log = json.loads(line), log_of()
            log.predict_log.request.model_spec.name = "news"
            request, response = log.predict_log.request, log.predict_log.response
            for message, values in ((request.inputs, record["inputs"]), (response.outputs, record["outputs"])):
                for name, column in values.items():
                    message[name].CopyFrom(tf.make_tensor_proto(column))
            writer.write(log.SerializeToString())
    assert report(finished, path, "--json", tmp_path / "a.json") == 1
    assert report(finished, logged["longer"], "--json", tmp_path / "b.json") == 1
    a, b = (json.loads((tmp_path / name).read_text()) for name in ("a.json", "b.json"))
    assert [f["psi"] for f in a["features"]] == [f["psi"] for f in b["features"]]
    path.write_bytes(path.read_bytes()[:-3])
    assert report(finished, path) == 2


def test_a_reference_of_logs(finished, logged, tmp_path, capsys):
    output = tmp_path / "reference.json"
    assert command.main(["build", str(finished), "--from", str(logged["same"]), "--output", str(output)]) == 0
    assert report(output, logged["same"]) == 0 and report(output, logged["longer"]) == 1
    assert command.main(["build", "--from", str(logged["same"])]) == 2
    assert "--output" in capsys.readouterr().err


@pytest.mark.parametrize("said", ["in its metadata", "in its folder"])
def test_a_private_run_has_none(finished, logged, said, tmp_path, capsys):
    copy = Path(shutil.copytree(finished, tmp_path / "run"))
    (copy / "saved_model/1" / FILE).unlink()
    metadata = copy / "saved_model/1/assets.extra/metadata.json"
    if said == "in its metadata":
        metadata.write_text(json.dumps(json.loads(metadata.read_text()) | {"privacy": {"epsilon": 3}}))
    else:
        (copy / "privacy.json").write_text("{}")
    assert command.main(["build", str(copy)]) == 2
    assert "is private" in capsys.readouterr().err and not (copy / "saved_model/1" / FILE).exists()
    # What was asked since is nobody's training row.
    assert command.main(["build", str(copy), "--from", str(logged["same"])]) == 0


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda lines: [*lines[:4], lines[4][:-9], *lines[5:]], "line 5: it is no record"),
        (lambda lines: [re.sub(r'"score": .[^]]*.', '"score": [1]', line) for line in lines], "request 1: 1 values"),
        (lambda lines: [line.replace('"text"', '"words"') for line in lines], "no input 'text' but 'words'"),
        (lambda lines: [re.sub(r'"score": .[^],]*', '"score": ["high"', line) for line in lines], "score is no number"),
        (lambda lines: ["a log of something else"], "no column 'text' but none"),
    ],
)  # fmt: skip
def test_broken_logs_are_named_by_line(finished, logged, spoil, sentence, tmp_path, capsys):
    log = tmp_path / "requests.jsonl"
    log.write_text("\n".join(spoil(logged["same"].read_text().splitlines())) + "\n")
    page = tmp_path / "drift.html"
    assert report(finished, log, "--html", page) == 2
    assert sentence in capsys.readouterr().err and not page.exists()


def test_a_column_of_times_with_gaps(finished, logged, tmp_path, capsys):
    log, texts = tmp_path / "answers.csv", texts_of(logged["same"])
    with open(log, "w", newline="") as file:
        times = ["2026-03-01 23:30:00-02:00", "2026-03-02 00:00:00", "", "2026-03-01T12:00Z"]
        rows = ([text, "sport", 0.5, times[i % 4]] for i, text in enumerate(texts))
        csv.writer(file).writerows([["text", "label", "score", "when"], *rows])
    given = ["--time_column", "when", "--window", "day", "--json", tmp_path / "found.json"]
    assert report(finished, log, *given) == 1
    found = json.loads((tmp_path / "found.json").read_text())
    assert [(w["begins"][:10], w["rows"]) for w in found["windows"]] == [
        ("2026-03-01", len(texts[3::4])), ("2026-03-02", len(texts[::4]) + len(texts[1::4])),
    ]  # fmt: skip
    assert found["without_time"] == len(texts[2::4])


def test_bytes_in_a_log_of_the_proxy_are_their_texts(finished, logged, tmp_path):
    """REST takes a text as {"b64": ...} too, in each form of a request."""
    log, forms = tmp_path / "requests.jsonl", itertools.cycle(range(4))
    with log.open("w") as file:
        for line in logged["longer"].read_text().splitlines():
            record, form = json.loads(line), next(forms)
            texts = [{"b64": base64.b64encode(text.encode()).decode()} for text in record["inputs"]["text"]]
            request = [{"instances": texts}, {"instances": [{"text": text} for text in texts]},
                       {"inputs": texts}, {"inputs": {"text": texts}}][form]  # fmt: skip
            answer = {"time": record["time"], "path": "/v1/models/news:predict", "request": request,
                      "response": {"outputs": record["outputs"]}}  # fmt: skip
            file.write(json.dumps(answer) + "\n")
    assert report(finished, log, "--json", tmp_path / "a.json") == 1
    assert report(finished, logged["longer"], "--json", tmp_path / "b.json") == 1
    a, b = (json.loads((tmp_path / name).read_text()) for name in ("a.json", "b.json"))
    assert a["features"] == b["features"] and a["rows"] == b["rows"]
    line = json.dumps({**answer, "request": {"instances": [{"b64": "/w=="}, "plain"]}})
    (record,) = request_log.read([line])
    assert record.inputs == {"": ["\ufffd", "plain"]}


@pytest.mark.parametrize("rows", [1, 8192])
def test_a_request_without_a_time_is_counted_wherever_it_stands(finished, logged, tmp_path, capsys, rows, monkeypatch):
    monkeypatch.setattr("export.monitor.logs.CHUNK", rows)
    lines = [json.loads(line) for line in logged["same"].read_text().splitlines()]
    without = len(lines[3]["inputs"]["text"])
    lines[3]["time"] = ""
    log = tmp_path / "requests.jsonl"
    log.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    assert report(finished, log, "--window", "day", "--json", tmp_path / "found.json") == 0, capsys.readouterr().err
    assert json.loads((tmp_path / "found.json").read_text())["without_time"] == without
    log.write_text("".join(f"{json.dumps(line | {'time': ''})}\n" for line in lines))
    assert report(finished, log, "--window", "day") == 2
    error = capsys.readouterr().err
    assert "have no time, which --window day needs" in error and "time_column" not in error


def test_a_file_of_rows_needs_the_name_of_its_times(finished, tmp_path, capsys):
    log = tmp_path / "answers.csv"
    log.write_text("text,label,score\na,sport,0.5\n")
    assert report(finished, log, "--since", "7d") == 2
    assert "which --since needs; set --time_column" in capsys.readouterr().err


def test_times_that_are_none(finished, logged, tmp_path, capsys):
    log = tmp_path / "requests.jsonl"
    log.write_text(logged["same"].read_text().replace('"time": "', '"time": "March '))
    assert report(finished, log) == 0
    assert report(finished, log, "--window", "day") == 2
    assert "is no time" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--window", "week"], "--window week"),
        (["--window", "7"], "--window 7"),
        (["--false_alarms", "0"], "--false_alarms"),
        (["--prometheus", "drift.txt"], ".prom"),
        (["--since", "soon"], "--since soon"),
        (["--input_format", "xml"], "xml"),
        (["--model", "other"], "hold no row"),
        (["--since", "2999-01-01"], "600 are before --since"),
    ],
)
def test_bad_arguments(finished, logged, arguments, sentence, capsys):
    assert report(finished, logged["same"], *arguments) == 2
    assert sentence in capsys.readouterr().err


def test_no_reference_and_no_log(finished, logged, tmp_path, capsys):
    (tmp_path / "reference.json").write_text('{"version": 99}')
    assert report(tmp_path / "reference.json", logged["same"]) == 2
    assert "version 99" in capsys.readouterr().err
    assert report(finished, tmp_path / "none.jsonl") == 2
    assert "none.jsonl: no such file" in capsys.readouterr().err
    assert command.main(["build", str(tmp_path / "no")]) == 2
