"""Settings: read, overridden, refused."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from tiny import write_config

from pipeline.command_line import RECIPES, parse
from pipeline.config import Config, differences, to_yaml
from pipeline.errors import UserError


def test_the_command_line_overrides_the_file(tmp_path):
    path = write_config(tmp_path)
    config = parse(["--config", str(path), "--training.epochs", "7", "--data.text_columns", "[a, b]"])
    assert config.training.epochs == 7
    assert config.data.text_columns == ["a", "b"]
    assert config.model.hidden_dim == 16
    assert config.run_dir == "runs/tiny"


def test_a_written_config_reads_back_as_it_was(tmp_path):
    config = parse(["--config", str(write_config(tmp_path)), "--run_dir", "somewhere"])
    (tmp_path / "again.yaml").write_text(to_yaml(config))
    assert parse(["--config", str(tmp_path / "again.yaml")]) == config
    assert differences(yaml.safe_load(to_yaml(config)), config) == []


def test_differences_name_what_decides_the_weights(tmp_path):
    config = parse(["--config", str(write_config(tmp_path))])
    old = yaml.safe_load(to_yaml(config))
    config.training.learning_rate = 1.0
    config.evaluation.batch_size = 1
    assert differences(old, config) == ["training.learning_rate: 0.003 -> 1.0"]


def test_a_setting_that_is_younger_than_a_run_had_its_default_in_it(tmp_path):
    config = parse(["--config", str(write_config(tmp_path))])
    old = yaml.safe_load(to_yaml(config))
    del old["distillation"], old["training"]["seed"]
    assert differences(old, config) == []
    config.distillation.teacher = "there"
    assert differences(old, config) == ["distillation.teacher: None -> there"]


@pytest.mark.parametrize("recipe", sorted(path.stem for path in RECIPES.glob("*.yaml")))
def test_every_recipe_is_valid(recipe):
    assert isinstance(parse(["--config", recipe]), Config)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--training.epochs", "0"], "training.epochs is 0"),
        (["--training.accumulation", "3"], "no multiple of training.accumulation 3"),
        (["--data.text_columns", "[label]"], "data.label_column 'label'"),
        (["--data.test_fraction", "1.5"], "data.test_fraction is 1.5"),
        (["--text.sequence_length", "2"], "leaves no room"),
        (["--text.sequence_length", "64"], "exceeds model.max_sequence_length 32"),
        (["--text.vocabulary", "null"], "name a checkpoint, a vocab.txt"),
        (["--model.hidden_dim", "15"], "not a multiple of model.num_heads"),
        (["--model.pooling", "cls"], "needs a checkpoint's pooler"),
        (["--data.label_separator", "|", "--training.class_weights", "balanced"], "one label a row"),
        (["--data.validation_fraction", "0", "--training.early_stopping", "1"], "needs validation rows"),
        (["--export.warmup_batch_sizes", "[8, 0]"], r"export.warmup_batch_sizes is \[8, 0\]"),
        (["--export.recorded_examples", "-1"], "export.recorded_examples is -1"),
        (["--export.explain_steps", "0"], "export.explain_steps is 0"),
        (["--export.sequence_length", "2"], "export.sequence_length 2 leaves no room"),
        (["--export.abstain_below", "1"], "export.abstain_below is 1"),
        (["--data.label_separator", "|", "--export.abstain_below", "0.5"], "use evaluation.threshold"),
        (["--config", "nowhere"], "no such recipe"),
    ],
)
def test_impossible_settings_are_one_sentence(tmp_path, arguments, message):
    with pytest.raises(UserError, match=message):
        parse(["--config", str(write_config(tmp_path)), *arguments])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--training.epoch", "3"], "training.epoch"),
        (["--training.epochs", "many"], "training.epochs"),
        (["--training.schedule", "cubic"], "training.schedule"),
    ],
)
def test_unknown_keys_and_wrong_types_are_refused_before_tensorflow_is_imported(tmp_path, arguments, message):
    code = (
        "import sys; from pipeline.run import main\n"
        "try: sys.exit(main(sys.argv[1:]))\n"
        "finally: print('tensorflow' in sys.modules)"
    )
    process = subprocess.run(
        [sys.executable, "-c", code, "--config", str(write_config(tmp_path)), *arguments],
        capture_output=True, text=True, cwd=Path(__file__).parents[1],
    )  # fmt: skip
    assert process.returncode == 2
    assert process.stdout.strip() == "False"
    assert message in process.stderr


def test_unknown_keys_in_a_file_are_refused(tmp_path, capsys):
    path = write_config(tmp_path)
    path.write_text(path.read_text() + "colour: red\n")
    with pytest.raises(SystemExit):
        parse(["--config", str(path)])
    assert "colour" in capsys.readouterr().err
