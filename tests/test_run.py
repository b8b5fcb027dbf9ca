"""The whole road on tiny data: what a run directory holds, and what is refused."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from tiny import SUBJECTS, write_config

from export.loading import Classifier
from pipeline.run import main


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run and its config."""
    folder = tmp_path_factory.mktemp("road")
    config = write_config(folder, rows=400, training={"epochs": 4, "learning_rate": 0.01})
    assert main(["--config", str(config), "--run_dir", str(folder / "run")]) == 0
    return config, folder / "run"


def test_metrics_follow_the_contract(finished):
    metrics = json.loads((finished[1] / "metrics.json").read_text())
    assert set(metrics) >= {"validation", "test", "train"}
    assert set(metrics["test"]) >= {"accuracy", "macro_f1", "weighted_f1", "loss", "per_class"}
    assert set(metrics["test"]["per_class"]) == set(SUBJECTS)
    assert set(metrics["test"]["per_class"]["sport"]) >= {"precision", "recall", "f1", "support"}
    assert set(metrics["train"]) >= {"seconds", "examples_per_second"}
    assert len(metrics["train"]["history"]) == 4
    assert metrics["test"]["accuracy"] > 0.1 + metrics["test"]["majority_baseline"]["accuracy"]


def test_the_run_directory_holds_what_the_contract_says(finished):
    names = {path.name for path in finished[1].iterdir() if not path.name.startswith(".")}
    assert names >= {"config.yaml", "metrics.json", "report.html", "checkpoints", "logs", "saved_model"}
    assert [path.name for path in (finished[1] / "saved_model").iterdir()] == ["1"]
    assert all(label in (finished[1] / "report.html").read_text() for label in SUBJECTS)


def test_the_served_model_scores_what_was_evaluated(finished):
    """Over all test rows, through strings, against metrics.json."""
    from pipeline.command_line import parse
    from pipeline.data.load import load

    config, run_dir = finished
    data = load(parse(["--config", str(config)]).data, run_dir / "data")
    every = np.arange(len(data.test))
    texts = [text.decode() for text in data.test.texts(every)[0]]
    answers = Classifier(run_dir)(texts)
    right = [name == data.task.names[i] for name, i in zip(answers.labels, data.test.targets(every), strict=True)]
    metrics = json.loads((run_dir / "metrics.json").read_text())
    assert np.mean(right) == pytest.approx(metrics["test"]["accuracy"], abs=1e-9)


def test_the_same_command_again_trains_nothing_more(finished, capsys):
    config, run_dir = finished
    before = json.loads((run_dir / "metrics.json").read_text())["test"]
    assert main(["--config", str(config), "--run_dir", str(run_dir), "--export.enabled", "false"]) == 0
    assert "training is already complete" in capsys.readouterr().out
    assert json.loads((run_dir / "metrics.json").read_text())["test"] == before


def test_other_settings_in_the_same_directory_are_refused(finished, capsys):
    config, run_dir = finished
    assert main(["--config", str(config), "--run_dir", str(run_dir), "--training.seed", "5"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and "training.seed: 0 -> 5" in error and error.count("\n") == 1


@pytest.fixture
def again(finished, tmp_path):
    """Take a copy of the finished run up with other arguments; returns the exit status."""
    run_dir = shutil.copytree(finished[1], tmp_path / "run")
    return lambda *arguments: main(["--config", str(finished[0]), "--run_dir", str(run_dir), *arguments])


def test_a_finished_run_is_exported_with_other_settings(finished, again, tmp_path):
    rows = list(csv.DictReader((finished[0].parent / "train.csv").open()))
    # About half of the rows are answered from this score on.
    score = round(float(np.median(Classifier(finished[1])([row["text"] for row in rows[:64]]).scores)), 4)
    settings = {"sequence_length": "12", "weights": "bfloat16", "signatures": "[top_k]"}
    settings |= {"abstain_below": str(score), "abstain_label": "unsure"}
    assert again(*(word for key, value in settings.items() for word in (f"--export.{key}", value))) == 0
    version = tmp_path / "run" / "saved_model" / "2"
    description = json.loads((version / "assets.extra" / "metadata.json").read_text())
    assert description["sequence_length"] == 12 and description["optional_signatures"] == ["top_k"]
    selective = json.loads((tmp_path / "run" / "metrics.json").read_text())["test"]["selective"]
    assert selective["abstain_below"] == score and 0 < selective["coverage"] < 1
    words = ["goal match", "the a of", "bank planet", "two three big"]
    answers = Classifier(version)(words)
    assert [label == "unsure" for label in answers.labels] == [bool(found < score) for found in answers.scores]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--export.sequence_length", "33"], "export.sequence_length 33 exceeds the 32 positions"),
        (["--export.abstain_below", "0.5", "--export.abstain_label", "sport"], "'sport' is the name of a label"),
        (["--export.dtype", "bfloat16", "--export.weights", "float32"], "set export.dtype to float32 too"),
    ],
)
def test_export_settings_that_do_not_fit_are_refused(again, capsys, arguments, message):
    assert again(*arguments) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ") and message in error


def test_changed_data_is_refused(finished, capsys):
    config, run_dir = finished
    csv = Path(config).parent / "train.csv"
    content = csv.read_text()
    try:
        csv.write_text(content.replace("goal", "bank", 1))
        assert main(["--config", str(config), "--run_dir", str(run_dir)]) == 2
    finally:
        csv.write_text(content)
    assert "the data changed since this run began" in capsys.readouterr().err


@pytest.mark.slow
def test_a_folder_may_have_an_odd_name(tmp_path, capsys):
    config = write_config(tmp_path, rows=60, training={"epochs": 1})
    arguments = ["--config", str(config), "--run_dir", str(tmp_path / "a b#*?{c}é%20'~")]
    assert main(arguments) == 0
    assert main([*arguments, "--export.sequence_length", "12"]) == 0
    assert Classifier(tmp_path / "a b#*?{c}é%20'~")(["goal match"]).labels[0] in SUBJECTS


@pytest.mark.parametrize("name", ["x[1]", "x[1", "a\\b"])
def test_a_folder_that_tensorflow_cannot_read_from_is_refused_before_training(tmp_path, capsys, name):
    config = write_config(tmp_path)
    assert main(["--config", str(config), "--run_dir", str(tmp_path / name)]) == 2
    assert f"run_dir is {tmp_path / name}: " in capsys.readouterr().err
    assert not (tmp_path / name).exists()
    config = config.rename(tmp_path / f"{name}.yaml")
    assert main(["--config", str(config)]) == 2


def test_a_missing_file_is_one_sentence(tmp_path, capsys):
    config = write_config(tmp_path)
    assert main(["--config", str(config), "--data.train", "nowhere.csv", "--run_dir", str(tmp_path / "run")]) == 2
    assert "nowhere.csv: no such file" in capsys.readouterr().err


@pytest.mark.parametrize("fixed_length", ["true", pytest.param("false", marks=pytest.mark.slow)])
def test_pairs_with_several_labels_a_row(tmp_path, fixed_length):
    config = write_config(tmp_path, training={"epochs": 1})
    rows = ["first,second,label"]
    names = list(SUBJECTS)
    for i in range(120):
        a, b = names[i % 3], names[i // 3 % 3]
        rows.append(f"{SUBJECTS[a][i % 6]} the,{SUBJECTS[b][i % 5]} of {i % 7},{'|'.join({a, b}) if i % 8 else ''}")
    (tmp_path / "pairs.csv").write_text("\n".join(rows) + "\n")
    arguments = [
        "--config",
        str(config),
        "--data.train",
        str(tmp_path / "pairs.csv"),
        "--data.text_columns",
        "[first, second]",
    ]
    arguments += [
        "--data.label_separator",
        "|",
        "--text.fixed_length",
        fixed_length,
        "--run_dir",
        str(tmp_path / "run"),
    ]
    assert main([*arguments, "--training.monitor", "micro_f1"]) == 0
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert set(metrics["test"]) >= {"micro_f1", "macro_f1", "hamming_loss"}
    assert Classifier(tmp_path / "run").inputs == ["text_a", "text_b"]


@pytest.mark.slow
def test_bfloat16_end_to_end(tmp_path):
    config = write_config(tmp_path, training={"epochs": 1, "dtype": "mixed_bfloat16", "class_weights": "balanced"})
    assert main(["--config", str(config), "--run_dir", str(tmp_path / "run")]) == 0
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["environment"]["served_dtype"] == "bfloat16"
