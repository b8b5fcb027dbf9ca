"""The recipes: each is a config that passes all checks, and those of fields run on rows with their columns."""

import json
import re
from pathlib import Path

import pytest
from made_fields import FIELDS, words_of, write_rows
from tiny import SPECIAL

from export.loading import Classifier
from pipeline import run
from pipeline.behave.__main__ import main as behave
from pipeline.command_line import RECIPES, parse
from pipeline.data.load import load

NAMES = sorted(path.stem for path in RECIPES.glob("*.yaml"))
# Copied, or started by another command.
COPIED = {"few_shot", "own_csv"}
# In place of the checkpoint.
TINY = {
    "model.backbone": "null", "model.num_layers": "1", "model.num_heads": "2", "model.hidden_dim": "16",
    "model.intermediate_dim": "16", "model.max_sequence_length": "32", "text.sequence_length": "32",
    "training.epochs": "1", "training.dtype": "float32", "training.learning_rate": "0.003",
    "evaluation.baseline": "none", "export.signatures": "[]", "export.verify_examples": "4",
}  # fmt: skip


def header(name: str) -> str:
    lines = (RECIPES / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    return "\n".join(line for line in lines if line.startswith("#"))


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_is_a_config_and_says_its_command(name):
    assert parse(["--config", name]).run_dir == f"runs/{name}"
    command = "python -m pipeline.run" + ("" if name == "quickstart" else rf".*--config {name}\b")
    assert name in COPIED or re.search(command, header(name))


@pytest.mark.parametrize("name", sorted(FIELDS))
def test_a_recipe_of_a_field_reads_the_columns_that_its_header_names(name, tmp_path):
    config = parse(["--config", name, "--data.train", str(write_rows(name, tmp_path / "rows.txt", 120))]
                   + (["--data.format", "csv"] if name != "financial_news" else []))  # fmt: skip
    # What is redacted is, in the slow test.
    config.data.keep_redacted_only = False
    found = load(config.data, tmp_path / "cache", evaluation=config.evaluation)
    assert [len(split) > 0 for split in found.splits] == [True] * 3
    data = config.data
    # The Financial PhraseBank has no header whose names one could know.
    named = [] if data.column_names else [*data.text_columns, *data.numeric_columns, *data.date_columns]
    named += [data.group_column] if data.group_column else []
    assert all(re.search(rf"\b{column}\b", header(name)) for column in named)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(FIELDS))
def test_a_recipe_of_a_field_runs_to_a_served_model_that_behaves_or_not(name, tmp_path):
    rows = write_rows(name, tmp_path / "rows.csv", 240)
    (tmp_path / "vocab.txt").write_text("\n".join([*SPECIAL, *words_of(name), *"abcdefghijklmnopqrstuvwxyz.:,"]) + "\n")
    settings = TINY | {"data.train": str(rows), "text.vocabulary": str(tmp_path / "vocab.txt")}
    words = [word for key, value in settings.items() for word in (f"--{key}", value)]
    folder = tmp_path / "run"
    assert run.main(["--config", name, *words, "--run_dir", str(folder)]) == 0
    assert json.loads((folder / "metrics.json").read_text())["test"]["rows"] > 0
    assert Classifier(folder).version.is_dir()
    assert behave([str(folder), "--suite", "abuse" if name == "abuse" else "general", "--rows", "20"]) == 0
    assert json.loads((folder / "behaviour.json").read_text())["tests"]
    if name == "medicine":
        # Neither what a kind finds, nor one's own pattern.
        files = [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
        assert files and not any(left in content for content in files for left in (b"+49 30", b"MRN: 10"))
    if name == "abuse":
        assert "identity" in (folder / "report.html").read_text()


def test_generated_rows_are_the_same_every_time(tmp_path):
    one, other = (write_rows("abuse", Path(tmp_path, name), 20).read_text() for name in ("1.csv", "2.csv"))
    assert one == other
