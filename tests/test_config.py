"""Settings: read, overridden, refused."""

import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from tiny import write_config

from pipeline.command_line import RECIPES, parse
from pipeline.config import Config, EvaluationConfig, PhaseConfig, differences, to_yaml
from pipeline.config_check import check
from pipeline.errors import UserError
from pipeline.run import main
from pipeline.run_folder import claim
from pipeline.settings.help import help_of
from pipeline.settings.read import keys_of


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


def test_when_a_run_waits_and_saves_decides_no_weights():
    config = Config()
    old = yaml.safe_load(to_yaml(config))
    config.training.workers_timeout, config.training.checkpoint_seconds = 5.0, 5.0
    config.training.steps_per_execution, config.export.top_k = 10, 2
    assert differences(old, config) == []


def test_what_chooses_the_best_epoch_stays_until_all_are_made(tmp_path):
    config, state = Config(run_dir=str(tmp_path)), tmp_path / "checkpoints" / "00000001"
    claim(tmp_path, config)
    config.evaluation.threshold = 0.3
    # Nothing is trained yet.
    claim(tmp_path, config)
    state.mkdir(parents=True)
    config.evaluation.threshold, config.evaluation.mistakes = "tuned", 3
    (state / "progress.json").write_text('{"progress": {"finished": false}}')
    with pytest.raises(UserError, match=r"other settings \(evaluation\.threshold: 0\.3 -> tuned\)"):
        claim(tmp_path, config)
    (state / "progress.json").write_text('{"progress": {"finished": true}}')
    claim(tmp_path, config)


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
        (["--training.epochs", "-1"], "training.epochs is -1"),
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
        (["--export.warmup_batch_sizes", "[8, 0]"], r"export.warmup_batch_sizes\[1\] is 0"),
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


WRONG = {
    "--training.epoch 3": "--training.epoch is not a setting; did you mean --training.epochs?",
    "--trainig.epochs 3": "--trainig.epochs is not a setting; did you mean --training.epochs?",
    "--learning_rate 1": "did you mean --pretraining.learning_rate or --training.learning_rate?",
    "--training.colour red": "there are --training.method",
    "--training.epochs many": "training.epochs is many: it must be an integer of at least 0.",
    "--training.epochs 1.5": "training.epochs is 1.5",
    "--training.epochs null": "training.epochs is null",
    "--training.learning_rate nan": "training.learning_rate is nan: it must be a number above 0.",
    "--training.clip_norm 0": "training.clip_norm is 0: it must be a number above 0 or null.",
    "--training.seed -1": "training.seed is -1",
    "--training.schedule cubic": "training.schedule is cubic: it must be one of linear, cosine, constant.",
    "--training.schedule cosin": "did you mean cosine?",
    "--export.signatures explian": "did you mean explain?",
    "--text.fixed_length 2": "text.fixed_length is 2: it must be true or false.",
    "--training.epochs": "--training.epochs needs a value",
    "--training.epochs --training.seed 1": "--training.epochs needs a value",
    "--training 3": "training is '3': it must hold keys such as method",
    "--training {epoch: 3}": "training.epoch is not a setting; did you mean training.epochs?",
    "--pretraining.phases [{step: 3}]": "did you mean pretraining.phases[0].steps?",
    "--pretraining.phases [{steps: 0}]": "pretraining.phases[0].steps is 0",
    "--pretraining.phases [{steps:": "pretraining.phases is '[{steps:'",
    "--data.labels [a,,b]": "data.labels is [a,,b]: not valid YAML",
    "--config qickstart": "no such file, and no such recipe; did you mean quickstart?",
    "trec": "did you mean --config trec?",
    "-training.epochs 3": "options begin with two hyphens: --training.epochs.",
}


@pytest.mark.parametrize("arguments", WRONG)
def test_a_wrong_word_is_one_sentence_on_stderr(tmp_path, arguments, capsys):
    words = arguments.split(" ", 2) if arguments.count(" ") == 3 else arguments.split(" ", 1)
    assert main(["--config", str(write_config(tmp_path)), *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    assert WRONG[arguments] in error


FILES = {
    "colour: red": "colour is not a setting",
    "training: {epoch: 3}": "training.epoch is not a setting; did you mean training.epochs?",
    "training: {epochs: many}": "training.epochs is many",
    "training: 3": "training is '3'",
    "training: {epochs: [1, 2]}": "training.epochs is ['1', '2']",
    "data: {label_column: null}": "data.label_column is null: it must be a string.",
    "data: {labels: [a, null]}": "data.labels[1] is null",
    "pretraining:\n  warmup: 1.5": "pretraining.warmup is 1.5",
    "training: {epochs: 3, epochs: 4}": "epochs stands twice",
    "training:\n  epochs: [3\n": "not valid YAML in line 3",
    "- training": "must hold keys",
    "text: {lowercase: caf\xe9}": "UTF-8",
}


@pytest.mark.parametrize("content", FILES)
def test_a_wrong_file_is_one_sentence_that_names_it(tmp_path, content, capsys):
    path = tmp_path / "mine.yaml"
    path.write_bytes(content.encode("latin-1"))
    assert main(["--config", str(path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {path}: ") and error.count("\n") == 1
    assert FILES[content] in error


def test_mistakes_are_refused_before_tensorflow_is_imported(tmp_path):
    code = (
        "import sys; from pipeline.run import main\n"
        "try: sys.exit(main(sys.argv[1:]))\n"
        "finally: print('tensorflow' in sys.modules)"
    )
    process = subprocess.run(
        [sys.executable, "-c", code, "--config", str(write_config(tmp_path)), "--training.epoch", "3"],
        capture_output=True, text=True, cwd=Path(__file__).parents[1],
    )  # fmt: skip
    assert process.returncode == 2
    assert process.stdout.strip() == "False"
    assert process.stderr == "error: --training.epoch is not a setting; did you mean --training.epochs?\n"


@pytest.mark.parametrize(
    "text", ["#", "~", "no", "1", "|", ", ", "- ", "a: b", "[x]", "{x}", "0123", "1e3", "'", "true"]
)
@pytest.mark.parametrize("key", ["label_separator", "label_column"])
def test_a_string_is_itself_whatever_it_is_in_yaml(tmp_path, key, text):
    config = parse(["--config", str(write_config(tmp_path)), f"--data.{key}", text])
    assert getattr(config.data, key) == text
    (tmp_path / "again.yaml").write_text(to_yaml(config))
    assert parse(["--config", str(tmp_path / "again.yaml")]).data == config.data


@pytest.mark.parametrize("text", ["no", "1", "0123", "1e3", "2024-01-01", "1_000", "'#'", '"~"', "'null'"])
def test_a_string_in_a_file_is_as_it_is_written(tmp_path, text):
    write_config(tmp_path)
    (tmp_path / "more.yaml").write_text(f"data:\n  label_column: {text}\n  labels: [{text}, b]\nrun_dir: {text}\n")
    config = parse(["--config", str(tmp_path / "tiny.yaml"), "--config", str(tmp_path / "more.yaml")])
    written = text.strip("'\"")
    assert (config.data.label_column, config.data.labels, config.run_dir) == (written, [written, "b"], written)


def test_null_unsets_what_may_be_none_and_is_a_string_elsewhere(tmp_path):
    arguments = [
        "--config",
        str(write_config(tmp_path)),
        "--data.validation",
        "x.csv",
        "--export.abstain_label",
        "null",
    ]
    config = parse([*arguments, "--data.validation", "null", "--training.clip_norm", "null"])
    assert config.data.validation is None and config.training.clip_norm is None
    assert config.export.abstain_label == "null"


def test_one_value_is_a_list_of_one(tmp_path):
    path = write_config(tmp_path, data={"labels": 1}, export={"warmup_batch_sizes": 4})
    config = parse(["--config", str(path), "--data.text_columns", "review", "--export.signatures", "explain"])
    assert (config.data.text_columns, config.data.labels) == (["review"], ["1"])
    assert (config.export.signatures, config.export.warmup_batch_sizes) == (["explain"], [4])
    config = parse(["--config", str(path), "--data.text_columns", "[1, 2]", "--data.labels", "[0, 1]"])
    assert (config.data.text_columns, config.data.labels) == (["1", "2"], ["0", "1"])
    assert parse(["--config", str(path), "--data.train", "[ab]*.csv"]).data.train == "[ab]*.csv"
    assert parse(["--config", str(path), "--data.train", "[a.csv, b.csv]"]).data.train == ["a.csv", "b.csv"]
    phases = parse(["--config", str(path), "--pretraining.phases", "{steps: 7}"]).pretraining.phases
    assert phases == [PhaseConfig(steps=7)]


def test_the_command_line_overrides_files_wherever_it_names_them(tmp_path):
    path = str(write_config(tmp_path))
    (tmp_path / "more.yaml").write_text("training: {epochs: 5, seed: 1}\nevaluation:\n")
    config = parse(["--training.seed=2", "--config", path, f"--config={tmp_path / 'more.yaml'}"])
    assert (config.training.epochs, config.training.seed, config.training.batch_size) == (5, 2, 8)
    assert config.run_dir == "runs/more"


def test_what_is_printed_is_a_config(tmp_path, capsys):
    arguments = ["--config", str(write_config(tmp_path)), "--data.label_separator", "#", "--data.labels", "[no, 1]"]
    with pytest.raises(SystemExit) as end:
        parse([*arguments, "--print_config"])
    assert end.value.code == 0
    (tmp_path / "tiny.yaml").write_text(capsys.readouterr().out)
    assert parse(["--config", str(tmp_path / "tiny.yaml")]) == parse(arguments)


def test_help_explains_every_setting_and_one_section_alone(capsys):
    for arguments in (["--help"], ["--config", "trec", "--training.help"]):
        with pytest.raises(SystemExit) as end:
            parse(arguments)
        assert end.value.code == 0
    every, _, section = capsys.readouterr().out.rpartition("training: ")
    assert all(f"  --{key}\n" in every for key in keys_of(Config) if not key.startswith("export."))
    explained = "Examples a weight update, over all devices. (an integer of at least 1; default: 32)"
    assert f"--training.batch_size\n      {explained}" in section
    assert "--data." not in section
    for item in dataclasses.fields(Config):
        if dataclasses.is_dataclass(item.type):
            assert "()" not in help_of(item.type) and " (" in help_of(item.type)
            assert not re.search(r"--\S+\n      \(", help_of(item.type)), "a field without a text below it"


def test_a_config_from_python_is_as_safe_as_one_from_a_shell(tmp_path):
    config = parse(["--config", str(write_config(tmp_path))])
    config.training.epochs = np.int64(4)
    config.training.learning_rate = np.float32(0.5)
    config.run_dir = tmp_path
    config.data.text_columns, config.data.labels = ("text",), [0, 1]
    config.pretraining.phases = [{"steps": 7}]
    config.evaluation = {"batch_size": 3}
    check(config)
    assert type(config.training.epochs) is int and config.training.learning_rate == 0.5
    assert config.data.labels == ["0", "1"] and config.evaluation == EvaluationConfig(batch_size=3)
    assert config.pretraining.phases == [PhaseConfig(steps=7)]
    (tmp_path / "again.yaml").write_text(to_yaml(config))
    assert parse(["--config", str(tmp_path / "again.yaml")]) == config


@pytest.mark.parametrize(
    ("section", "key", "value", "message"),
    [
        ("training", "epochs", -1, "training.epochs is -1"),
        ("training", "epochs", True, "training.epochs is True"),
        ("training", "epochs", 1.5, "training.epochs is 1.5"),
        ("training", "ema", float("nan"), "training.ema is nan"),
        ("training", "schedule", "cubic", "training.schedule is cubic"),
        ("training", "epoch", 3, "training.epoch is not a setting; did you mean training.epochs?"),
        ("data", "text_columns", None, "data.text_columns is null"),
        ("data", "label_column", 1.5, "data.label_column is 1.5"),
        ("pretraining", "phases", [PhaseConfig(steps=0)], r"pretraining.phases\[0\].steps is 0"),
        ("export", "warmup_batch_sizes", [1, "x"], r"export.warmup_batch_sizes\[1\] is x"),
    ],
)
def test_a_wrong_config_from_python_is_refused(tmp_path, section, key, value, message):
    config = parse(["--config", str(write_config(tmp_path))])
    setattr(getattr(config, section), key, value)
    with pytest.raises(UserError, match=message):
        check(config)


def test_two_ways_to_write_a_setting_are_no_difference(tmp_path):
    config = parse(["--config", str(write_config(tmp_path))])
    old = yaml.safe_load(to_yaml(config))
    old["data"]["train"] = [old["data"]["train"]]
    old["data"]["labels"], config.data.labels = [0, 1], ["0", "1"]
    old["training"]["checkpoint_seconds"] = 300
    assert differences(old, config) == []
    config.data.labels = ["1", "0"]
    assert differences(old, config) == ["data.labels: [0, 1] -> ['1', '0']"]


def test_stage_pretrain_begins_with_nothing_but_what_it_is_given():
    config = parse(["--stage", "pretrain", "--corpus.train", "texts"])
    expected = Config(stage="pretrain", run_dir="runs/pretrain")
    expected.corpus.train = "texts"
    assert config == expected and config.model.backbone is None
    # A recipe that is named is taken, whichever it is.
    assert parse(["--config", "quickstart", "--stage", "pretrain", "--corpus.train", "texts"]).model.backbone
    assert parse(["--stage", "all", "--corpus.train", "texts"]).model.backbone


@pytest.mark.parametrize(
    "setting",
    [
        "text.sequence_length 2000", "model.pooling cls", "model.pooling none_such", "training.batch_size 3",
        "training.epochs 0", "training.monitor none_such", "data.validation_fraction 0.95", "data.label_column text",
        "model.max_sequence_length 128",
    ],
)  # fmt: skip
def test_stage_pretrain_does_not_look_at_fine_tuning(setting):
    words = ["--stage", "pretrain", "--corpus.train", "texts", "--pretraining.objective", "none"]
    key, value = setting.split()
    assert parse([*words, f"--{key}", value]).stage == "pretrain"
