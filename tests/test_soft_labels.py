"""Probabilities of labels as targets."""

import json

import numpy as np
import pytest
from tiny import VOCABULARY

from pipeline.config import Config, DataConfig, ModelConfig
from pipeline.config_check import check
from pipeline.data.batching import BatchOptions, training_batches
from pipeline.data.load import load
from pipeline.errors import UserError
from pipeline.tasks.single_label import SingleLabel
from pipeline.text import TextEncoder


def load_text(tmp_path, content, name="rows.csv", **settings):
    (tmp_path / name).write_text(content)
    settings = {"validation_fraction": 0, "test_fraction": 0} | settings
    return load(DataConfig(train=str(tmp_path / name), **settings), tmp_path / "cache")


def loss_targets(splits):
    """By the number of tokens of a text."""
    encoder = TextEncoder(VOCABULARY, lowercase=True, sequence_length=16)
    batches = training_batches(splits.train, encoder, splits.task, BatchOptions(2), epoch=0)
    return {
        int(length): target.tolist()
        for inputs, targets, _ in batches.as_numpy_iterator()
        for length, target in zip(inputs["padding_mask"].sum(axis=1) - 2, targets, strict=True)
    }


ONE = {"task": "single_label", "label_columns": ["no", "yes"]}


def test_votes_on_one_label_are_what_is_learned(tmp_path):
    splits = load_text(tmp_path, "text,yes,no\ngoal,0.75,0.25\nbank goal,1,0\na bank goal,0.5,0.5\n", **ONE)
    assert splits.task.names == ("no", "yes")
    # Scores are of the label of most votes, the first of equals.
    assert splits.train.targets().tolist() == [1, 1, 0]
    assert loss_targets(splits) == {1: [0.25, 0.75], 2: [0, 1], 3: [0.5, 0.5]}
    # Thirds as people write them add up to 1 about.
    thirds = {"task": "single_label", "label_columns": ["a", "b", "c"]}
    splits = load_text(tmp_path, "text,a,b,c\ngoal,0.33,0.33,0.33\nbank goal,0,1,0\n", "thirds.csv", **thirds)
    assert loss_targets(splits)[1] == pytest.approx([1 / 3] * 3)


def test_shares_of_any_number_of_labels(tmp_path):
    rows = [("goal", 0.9, 0.5), ("bank goal", 0, None), ("a bank goal", True, 0.25)]
    content = "".join(json.dumps(dict(zip(("text", "a", "b"), row, strict=True))) + "\n" for row in rows)
    splits = load_text(tmp_path, content, "rows.jsonl", label_columns=["b", "a"])
    assert splits.train.targets().tolist() == [[1, 1], [0, 0], [0, 1]]
    assert loss_targets(splits) == {1: pytest.approx([0.5, 0.9]), 2: [0, 0], 3: [0.25, 1]}


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ("0.7,0.7", r"no probabilities that add up to 1: they add up to 1\.4"),
        ("0,0", "they add up to 0"),
        ("-0.5,1.5", r"has '-0\.5' in the column 'no' of data\.label_columns, where 0 or 1 is expected"),
        ("x,1", "has 'x' in the column 'no'"),
        ("inf,0", "has 'inf' in the column 'no'"),
    ],
)
def test_what_are_no_probabilities_is_refused_with_file_and_row(tmp_path, cells, message):
    with pytest.raises(UserError, match=rf"rows\.csv, line 3: the row .*{message}"):
        load_text(tmp_path, f"text,no,yes\na,1,0\nb,{cells}\n", **ONE)


def test_the_fingerprint_holds_probabilities_and_is_as_before_without_any(tmp_path):
    found = {
        load_text(tmp_path, f"text,a,b\ngoal,1,{share}\n", label_columns=["a", "b"]).fingerprint
        for share in ("0.5", "0.75", "1", "1.0", "yes")
    }
    assert len(found) == 3


def test_a_finished_model_is_compared_by_the_label_of_most_votes():
    task = SingleLabel(("no", "yes"))
    assert task.truth(["0.2", "0.8"], ["no", "yes"]) == ["yes"]
    assert task.truth(["yes"], ["label"]) == ["yes"]


def test_one_column_is_no_choice():
    data = DataConfig(train="rows.csv", task="single_label", label_columns=["yes"])
    with pytest.raises(UserError, match=r"data\.label_columns names one label"):
        check(Config(model=ModelConfig(backbone="x"), data=data))


def test_hard_rows_of_old_stores_are_targets_still(tmp_path):
    splits = load_text(tmp_path, "text,a,b\ngoal,1,0\nbank goal,1,1\n", label_columns=["a", "b"])
    del splits.train.store.arrays["soft"]
    splits.train.of_store = splits.task.targets(splits.train.store, "the training rows")
    assert loss_targets(splits) == {1: [1, 0], 2: [1, 1]}
    assert np.array_equal(splits.train.targets(), [[1, 0], [1, 1]])
