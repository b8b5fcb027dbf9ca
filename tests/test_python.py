"""The same from Python as from the shell: `pipeline.train`, and what `export.load` gives."""

import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
from test_resume import assert_same_end, finish
from tiny import VOCABULARY, write_config, write_rows
from tiny_export import LABELS, TEXTS, export_tiny

import pipeline
from export import ModelError, load
from pipeline import Config, UserError, read_config, train
from pipeline.config import EvaluationConfig

ROOT = Path(__file__).parents[1]


def test_to_import_a_package_does_not_import_tensorflow():
    program = (
        "import sys, pipeline, export; from pipeline import Config, UserError, read_config, train;"
        "from export import load;"
        "print('tensorflow' in sys.modules, pipeline.__version__)"
    )
    process = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert process.stdout.split() == ["False", pipeline.__version__]
    assert all(hasattr(pipeline, name) for name in pipeline.__all__)
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        pipeline.trian  # noqa: B018


@pytest.mark.slow
def test_a_run_after_another_ends_as_one_in_a_process_of_its_own(tmp_path):
    path = write_config(tmp_path, training={"epochs": 1})
    finish(path, tmp_path / "alone", "--export.enabled", "false")
    keras.config.set_dtype_policy("mixed_bfloat16")
    random.seed(3)
    drawn = []
    for folder, settings in (("other", {"seed": 5, "deterministic": True, "dtype": "mixed_bfloat16"}), ("again", {})):
        config = read_config(path)
        config.run_dir, config.export.enabled = tmp_path / folder, False
        for name, value in settings.items():
            setattr(config.training, name, value)
        run = train(config)
        drawn.append(random.random())
    assert_same_end(tmp_path / "alone", tmp_path / "again")
    assert run.run_dir == tmp_path / "again" and run.saved_model is None
    assert run.metrics["test"] == json.loads((run.run_dir / "metrics.json").read_text())["test"]
    # The process is as its owner left it.
    assert keras.config.dtype_policy().name == "mixed_bfloat16"
    random.seed(3)
    assert drawn == [random.random(), random.random()]


def test_settings_from_python_are_checked_as_those_of_the_command(tmp_path):
    config = read_config(write_config(tmp_path))
    config.training.epochs = "many"
    with pytest.raises(UserError, match=r"training\.epochs"):
        train(config)
    with pytest.raises(UserError, match="run_dir is not set"):
        train(Config())
    with pytest.raises(UserError, match=r"data\.train is not set"):
        train(Config(run_dir=str(tmp_path / "run")))
    with pytest.raises(UserError, match="no such recipe"):
        read_config("quickstrat")
    (tmp_path / "bad.yaml").write_text("training: {epoch: 3}\n")
    with pytest.raises(UserError, match=r"bad\.yaml: .*epoch"):
        read_config(tmp_path / "bad.yaml")


def test_a_folder_that_is_taken_is_refused(tmp_path):
    from pipeline.run_folder import held

    config = read_config(write_config(tmp_path))
    config.run_dir = str(tmp_path / "run")
    with held(config), pytest.raises(UserError, match="another process is working in"):
        train(config)
    # Of a run that has learned something.
    (tmp_path / "run" / "checkpoints").mkdir()
    config.training.seed = 9
    with pytest.raises(UserError, match=r"training.seed: 0 -> 9"):
        train(config)


def test_test_rows_are_scored_only_where_asked():
    from types import SimpleNamespace

    from pipeline.evaluation.evaluate import evaluate
    from pipeline.tasks.single_label import SingleLabel

    class Rows:
        """Four rows whose texts and labels nobody may look at, but those of the validation rows."""

        def __init__(self, name):
            self.name, self.store = name, SimpleNamespace(columns={})

        def targets(self):
            assert self.name == "validation"
            return np.array([0, 1, 0, 1])

        def texts(self, rows):
            assert self.name == "validation"
            return [[b"text"] * len(rows)]

    def predict(split):
        assert split.name == "validation"
        return np.full((4, 2), 0.5, np.float32)

    data = SimpleNamespace(train=Rows("train"), validation=Rows("validation"), test=Rows("test"))
    found = evaluate(predict, data, SingleLabel(("a", "b")), EvaluationConfig(score_test=False, baseline="none"))
    assert list(found.scores) == ["validation"]


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    return load(export_tiny(tmp_path_factory.mktemp("model")))


def test_a_list_and_a_single_text(classifier):
    answers = classifier(TEXTS)
    assert len(answers) == len(answers.labels) == len(TEXTS) and set(answers.labels) <= set(LABELS)
    assert set(answers.outputs) == {"label", "score", "probabilities"}
    for text, answer in zip(TEXTS, answers, strict=True):
        alone = classifier(text)
        assert json.loads(json.dumps(alone)) == alone
        assert alone["label"] == answer["label"] and alone["score"] == pytest.approx(answer["score"], abs=1e-6)
        assert alone["probabilities"] == pytest.approx(answer["probabilities"], abs=1e-6)
    assert classifier([]).labels == []


def test_a_frame_keeps_its_index(classifier):
    frame = pd.DataFrame({"id": [7, 8, 9], "review": TEXTS[:3]}, index=[30, 10, 20])
    answered = frame.join(classifier(frame, columns=["review"]).to_frame())
    assert list(answered.columns) == ["id", "review", "label", "score"] and list(answered.index) == [30, 10, 20]
    assert answered.label.tolist() == classifier(TEXTS[:3]).labels
    assert classifier(frame.review).to_frame().equals(classifier(frame, columns=["review"]).to_frame())
    assert classifier(frame.rename(columns={"review": "text"})).labels == answered.label.tolist()
    with pytest.raises(ModelError, match="no column 'text' but id, review"):
        classifier(frame)
    with pytest.raises(ModelError, match="row 2: nan is no text but float"):
        classifier(frame.replace("bank", np.nan), columns=["review"])


def test_a_generator_is_answered_as_it_goes(classifier):
    taken = []

    def rows():
        for i, text in enumerate(TEXTS):
            taken.append(i)
            yield {"body": text, "id": i} if i % 2 else text

    answers = classifier.stream(rows(), columns=["body"], window=4)
    assert next(answers)["label"] == classifier(TEXTS[0])["label"] and taken == [0, 1, 2, 3]
    assert [answer["label"] for answer in answers] == classifier(TEXTS).labels[1:]
    assert [answer["label"] for answer in classifier(iter(TEXTS))] == classifier(TEXTS).labels
    with pytest.raises(ModelError, match="row 2: no 'text' but body"):
        list(classifier(row for row in ["a", {"body": "b"}]))
    with pytest.raises(ModelError, match="row 1: None is no text but NoneType"):
        list(classifier({"text": None} for _ in range(1)))


def test_pairs(tmp_path):
    classifier = load(export_tiny(tmp_path, pair=True))
    first, second = TEXTS[:3], TEXTS[3:6]
    wanted = classifier(first, second).labels
    frame = pd.DataFrame({"question": first, "passage": second})
    assert classifier(frame, columns=["question", "passage"]).labels == wanted
    assert [answer["label"] for answer in classifier(iter(zip(first, second, strict=True)))] == wanted
    assert classifier(first[0], second[0])["label"] == wanted[0]
    with pytest.raises(ModelError, match="text_a and text_b"):
        classifier("one text")
    with pytest.raises(ModelError, match=r"row 1: .* not 1 texts"):
        list(classifier(iter(first)))


@pytest.mark.slow
def test_the_examples_of_the_readme_run_as_they_are_written(tmp_path):
    section = (ROOT / "README.md").read_text().split("\n## From Python\n")[1].split("\n## ")[0]
    blocks = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    assert len(blocks) == 3
    (tmp_path / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n")
    pd.read_csv(write_rows(tmp_path / "rows.csv", 240)).rename(columns={"text": "review", "label": "about"}).to_csv(
        tmp_path / "reviews.csv"
    )
    # A checkpoint takes a network: fresh weights so small that training takes seconds stand in for it.
    small = """
import pipeline.command_line as command_line
from pipeline.config import ModelConfig
read = command_line.read_config
def read_small(name):
    config = read(name)
    config.model = ModelConfig(num_layers=1, num_heads=2, hidden_dim=16, intermediate_dim=16, max_sequence_length=32)
    config.text.vocabulary, config.text.sequence_length = "vocab.txt", 24
    config.training.epochs, config.training.strategy, config.export.signatures = 1, "one", []
    return config
command_line.read_config = read_small
"""
    program = "\n".join([small, *blocks])
    process = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    assert (tmp_path / "runs" / "reviews" / "saved_model" / "1").is_dir()
    assert (tmp_path / "labelled.csv").is_file()
