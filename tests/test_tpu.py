"""TPU slices: their files, the step that is compiled for them, and what the compiler answers."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import tensorflow as tf
import yaml
from test_wheel import make_wheel
from tiny import write_config

from pipeline.command_line import parse
from pipeline.errors import UserError
from pipeline.tpu import check as checking
from pipeline.tpu import table
from pipeline.tpu.__main__ import main
from pipeline.tpu.check import Compiled, TooLarge, compile_step, largest_that_fits, refusal
from pipeline.tpu.environment import PINS, compiler_python, own_python
from pipeline.tpu.step import audit, steps_of
from pipeline.tpu.target import SHIPPED, adapt, read_target, shipped_names

GENERATIONS = ["v2-8", "v3-8", "v4-8", "v5e-8", "v5p-8", "v6e-8"]


@pytest.fixture
def compiler() -> Path:
    """A Python with the TPU's compiler, where there is one."""
    python = Path(os.environ.get("TPU_CHECK_PYTHON", own_python()))
    if not python.is_file():
        pytest.skip("no TPU compiler (python -m pipeline.tpu check makes one; or set TPU_CHECK_PYTHON)")
    return python


@pytest.fixture
def tiny(tmp_path) -> list[str]:
    """Arguments of a tiny fine-tuning run, whose batch every slice of 8 cores can divide."""
    return ["--config", str(write_config(tmp_path, training={"batch_size": 16, "strategy": "auto"}))]


def altered(tmp_path: Path, name: str = "v5e-8", **changes) -> Path:
    """A shipped file with other values; None: without the key."""
    values = yaml.safe_load((SHIPPED / f"{name}.yaml").read_text()) | changes
    path = tmp_path / "slice.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in values.items() if value is not None}))
    return path


def fake_python(tmp_path: Path, body: str) -> Path:
    """A stand-in for the compiler's Python: called with program, module, topology and cores."""
    path = tmp_path / "python"
    path.write_text(
        f"#!{sys.executable}\nimport sys\nprogram, module, topology, cores, *chip_config = sys.argv[1:]\n{body}\n"
    )
    path.chmod(0o755)
    return path


# The files.


def test_shipped_files_agree_with_themselves():
    assert len(shipped_names()) == 12
    for name in shipped_names():
        target = read_target(name)
        rows, columns, *rest = map(int, target.topology.partition(":")[2].split("x"))
        chips = rows * columns * (rest[0] if rest else 1)
        assert target.chips in (chips, 1), name
        assert target.cores == target.chips * (2 if name[:2] in ("v2", "v3") else 1), name
        assert target.topology.partition(":")[0] == name.partition("-")[0]
        for task in ("finetune", "pretrain"):
            for width in (256, 768, 1024):
                assert target.most_at_once(task, width, 100) >= target.most_at_once(task, width, 512) >= 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"chip": 8}, "chip"),
        ({"cores": None}, "cores"),
        ({"cores": "many"}, "cores"),
        ({"hosts": 0}, "hosts is 0"),
        (
            {"finetune_batch": {"huge": {128: 1}}},
            "finetune_batch is huge: it must be one of small, base, large",
        ),
    ],
)
def test_a_wrong_file_is_refused_by_name_and_key(tmp_path, changes, message):
    path = altered(tmp_path, **changes)
    with pytest.raises(UserError, match=message) as refused:
        read_target(str(path))
    assert str(path) in str(refused.value)


def test_an_unknown_slice_is_refused_with_those_there_are():
    with pytest.raises(UserError, match="v5e-8"):
        read_target("v7-1024")


# A run as it goes on a slice.


def test_a_batch_that_a_core_cannot_take_is_accumulated_and_stays_the_same(tmp_path, tiny):
    target = read_target(str(altered(tmp_path, cores=4, finetune_batch={"small": {128: 2}})))
    config = adapt(parse(tiny), target)
    assert (config.training.batch_size, config.training.accumulation) == (16, 2)
    assert config.text.fixed_length and config.training.embedding_update == "dense"
    assert (config.training.strategy, config.training.dtype) == ("tpu", "float32")


def test_the_accumulation_of_a_config_is_kept_where_it_does(tmp_path, tiny):
    config = adapt(parse([*tiny, "--training.accumulation", "2"]), read_target("v5e-8"))
    assert config.training.accumulation == 2


def test_phases_of_pretraining_share_one_accumulation(tmp_path):
    target = read_target(str(altered(tmp_path, pretrain_batch={"base": {128: 32, 512: 4}})))
    config = adapt(parse(["--config", "bert_base", "--stage", "pretrain"]), target)
    # 256 sequences over 8 cores: 32 each, of 128 tokens at once, of 512 in 8 parts.
    assert config.pretraining.accumulation == 8


@pytest.mark.parametrize("stage", ["finetune", "pretrain"])
def test_a_batch_that_does_not_divide_is_refused_with_one_that_does(stage):
    arguments = ["--config", "bert_base", "--stage", stage, "--training.batch_size", "36"]
    arguments += ["--pretraining.phases", "[{batch_size: 36}]"]
    with pytest.raises(UserError, match=r"batch_size 36 does not divide among the 8 cores.* multiple of 8; \d+ fills"):
        adapt(parse(arguments), read_target("v5e-8"))


# The step.


def test_strings_and_unknown_shapes_are_found_in_inner_functions_too():
    @tf.function(input_signature=[tf.TensorSpec([4], tf.float32)], autograph=False)
    def fixed(x):
        return tf.while_loop(lambda i, _: i < 3, lambda i, x: (i + 1, x + 1.0), (0, x))

    @tf.function(input_signature=[tf.TensorSpec([4], tf.int32)], autograph=False)
    def unknown(x):
        return tf.cond(x[0] > 1, lambda: tf.size(tf.unique(x)[0]), lambda: 0)

    @tf.function(input_signature=[tf.TensorSpec([4], tf.int32)], autograph=False)
    def strings(x):
        return tf.strings.length(tf.strings.as_string(x))

    audit(fixed.get_concrete_function().graph)
    with pytest.raises(UserError, match=r"Unique.*of shape"):
        audit(unknown.get_concrete_function().graph)
    with pytest.raises(UserError, match=r"AsString.*a string"):
        audit(strings.get_concrete_function().graph)


def test_the_lazy_update_has_shapes_that_no_tpu_takes(tiny):
    config = adapt(parse(tiny), read_target("v5e-1"))
    config.training.embedding_update = "lazy"
    (step,) = steps_of(config, 1)
    with pytest.raises(UserError, match="Unique"):
        step.lower(2, 1)


@pytest.mark.slow
@pytest.mark.parametrize("accumulation", [1, 2])
def test_a_step_on_many_cores_sums_over_them(tiny, accumulation):
    config = adapt(parse([*tiny, "--training.accumulation", str(accumulation)]), read_target("v5e-8"))
    (step,) = steps_of(config, 8)
    assert (step.at_once, step.parts) == (2 // accumulation, accumulation)
    alone, one_of_eight = (step.lower(step.at_once, cores) for cores in (1, 8))
    assert b"all_reduce" in one_of_eight and b"all_reduce" not in alone


def test_texts_in_chunks_have_a_fixed_number_of_them(tiny):
    chunks = ["--text.long", "chunks", "--text.sequence_length", "16", "--export.signatures", "[]"]
    config = adapt(parse([*tiny, *chunks, "--model.num_layers", "1", "--text.max_chunks", "3"]), read_target("v5e-4"))
    (step,) = steps_of(config, 4)
    assert (step.name, step.at_once) == ("fine-tuning, 16 tokens, 3 chunks a text", 4)
    assert b"all_reduce" in step.lower(4, 4)
    with pytest.raises(UserError, match=r"text\.max_chunks 9999: a core takes \d+ sequences of 16 tokens at once"):
        adapt(parse([*tiny, *chunks, "--text.max_chunks", "9999"]), read_target("v5e-4"))


def test_pretraining_has_a_step_for_each_kind_of_phase():
    arguments = ["--config", "bert_base", "--stage", "all", "--pretraining.vocabulary_size", "50"]
    arguments += ["--model.num_layers", "1", "--model.hidden_dim", "16", "--model.num_heads", "2"]
    arguments += [
        "--pretraining.phases",
        "[{sequence_length: 16, batch_size: 8}, {sequence_length: 32, batch_size: 16}]",
    ]
    arguments += ["--training.batch_size", "8"]
    steps = list(steps_of(adapt(parse(arguments), read_target("v5e-4")), 4))
    assert [(step.name, step.at_once) for step in steps] == [
        ("pre-training, 16 tokens", 2), ("pre-training, 32 tokens", 4), ("fine-tuning, 128 tokens", 2),
    ]  # fmt: skip
    assert b"all_reduce" in steps[1].lower(4, 4)


# The compiler's answers.


def test_a_refusal_is_read_in_bytes():
    message = "RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 23.50G of 15.75G hbm. Exceeded by 7.75G."
    assert refusal(message) == TooLarge(int(23.5 * 2**30), int(15.75 * 2**30))
    message = (
        "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO temporaries (512.00M) exceeds "
        "available HBM (15.75G)."
    )
    assert refusal(message) == TooLarge(2**29, int(15.75 * 2**30))
    with pytest.raises(UserError, match="no such op"):
        refusal("INVALID_ARGUMENT: no such op")


@pytest.mark.parametrize("fits", [0, 1, 5, 8, 100, 128, 999])
def test_the_search_finds_the_largest_batch_with_few_compilations(fits):
    """Memory grows with the batch, a little faster than in proportion; a compilation that fits takes minutes."""
    calls = []

    def compiled(number):
        calls.append(number)
        used = int(1e9 + 1e6 * number**1.02)
        limit = int(1e9 + 1e6 * (fits + 0.5) ** 1.02)
        return TooLarge(used, limit) if used > limit else Compiled(used, 0.0, 0.0)

    found = largest_that_fits(compiled, 1024, compiled(1024))
    assert found == (fits // 8 * 8 if fits >= 8 else fits)
    assert sum(number <= fits for number in calls) <= 3 and len(calls) < 14


def test_the_other_python_is_asked_with_module_topology_and_cores(tmp_path):
    answer = (
        "import json; print('noise')\n"
        "print(json.dumps({'peak_bytes': len(open(module).read()), 'flops': float(cores), 'seconds': 2.0}))"
    )
    assert compile_step(b"module", read_target("v5e-4"), fake_python(tmp_path, answer)) == Compiled(6, 4.0, 2.0)


def test_a_compiler_that_breaks_is_reported_in_one_sentence(tmp_path):
    with pytest.raises(UserError, match="status 3: no libtpu here"):
        compile_step(
            b"", read_target("v5e-4"), fake_python(tmp_path, 'sys.stderr.write("no libtpu here"); sys.exit(3)')
        )
    with pytest.raises(UserError, match="nowhere"):
        compile_step(b"", read_target("v5e-4"), tmp_path / "nowhere")


def test_the_command_says_what_fits_and_fails_where_it_does_not(tmp_path, tiny, capsys):
    python = str(
        fake_python(tmp_path, "import json; print(json.dumps({'peak_bytes': 3 << 30, 'flops': 7e9, 'seconds': 1.0}))")
    )
    assert main(["check", "v5e-8", "--jax_python", python, *tiny]) == 0
    assert "fits; peak HBM 3.00 of 16 GiB" in capsys.readouterr().out
    body = "import json; print(json.dumps({'error': 'Used 20.00G of 15.75G hbm'}))"
    assert main(["check", "v5e-8", "--jax_python", str(fake_python(tmp_path, body)), *tiny]) == 1
    assert "21474836480 bytes) of 15.75 GiB" in (said := capsys.readouterr().out) and "not even one" in said


def test_the_table_gets_a_row_in_its_place(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{table.HEAD}| `v2-8` | old |\n\nafter\n")
    target = read_target("v5e-8")
    line = table.row("v5e-8", target, checking.Checked("", 128, 1, Compiled(10 << 30, 8.76e12, 283.2)))
    assert line == "| `v5e-8` | 8 | 128 x 128 | 10.00 | 16 | 8.76e+12 | 283 |\n"
    too_large = table.row("v2-8", target, checking.Checked("", 8, 1, TooLarge(9 << 30, 8 << 30)))
    for name, text in (("v5e-8", "| `v5e-8` | new |\n"), ("v2-8", too_large), ("v5e-8", line)):
        table.put(readme, name, text)
    assert readme.read_text() == f"before\n{table.HEAD}{too_large}{line}\nafter\n"
    readme.write_text("no table")
    with pytest.raises(UserError, match="no table"):
        table.put(readme, "v5e-8", line)


def test_an_unknown_key_of_the_config_is_an_error(tiny, capsys):
    assert main(["check", "v5e-8", *tiny, "--training.epoch", "3"]) == 2
    assert "did you mean --training.epochs?" in capsys.readouterr().err


def test_pins_are_those_of_the_extra():
    project = (SHIPPED.parent / "pyproject.toml").read_text()
    assert all(f'"{package}=={version}"' in project for package, version in PINS.items())


@pytest.mark.slow
def test_the_compiler_gets_an_environment_of_its_own_whole_or_not_at_all(tmp_path, monkeypatch):
    monkeypatch.setenv("BERT_PIPELINE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setattr("pipeline.tpu.environment._has_pins", lambda: False)
    (jax, number), (libtpu, other) = PINS.items()
    make_wheel(tmp_path / "index", {f"{jax}.py": ""}, jax, number)
    with pytest.raises(UserError, match=f"could not be installed .*{libtpu}=={other}"):
        compiler_python()
    assert not own_python().exists()
    make_wheel(tmp_path / "index", {f"{libtpu}.py": ""}, libtpu, other)
    python = compiler_python()
    assert python == own_python()
    subprocess.run([python, "-c", f"import {jax}, {libtpu}"], check=True)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == "v5e-8" else pytest.mark.slow) for name in GENERATIONS]
)
def test_a_tiny_step_compiles_for_every_generation(name, tiny, compiler):
    target = read_target(name)
    config = adapt(parse([*tiny, "--model.num_layers", "1"]), target)
    (checked,) = checking.check(config, target, compiler)
    assert isinstance(checked.answer, Compiled)
    assert 0 < checked.answer.peak_bytes < target.hbm_gib * 2**30 and checked.answer.flops > 0


@pytest.mark.slow
def test_a_step_too_large_is_refused_by_the_real_compiler(tiny, compiler, tmp_path):
    target = read_target("v5e-1")
    config = adapt(parse([*tiny, "--model.num_layers", "1"]), target)
    (step,) = steps_of(config, 1)
    answer = compile_step(step.lower(1_500_000, 1), target, compiler)
    assert isinstance(answer, TooLarge) and answer.used_bytes > answer.limit_bytes > 15 * 2**30


def test_the_compiler_program_reports_what_it_cannot_read(compiler, tmp_path):
    module = tmp_path / "module"
    module.write_bytes(b"nothing")
    program = SHIPPED.parent / "pipeline" / "tpu" / "compile_ahead.py"
    process = subprocess.run([compiler, program, module, "v5e:2x2", "1"], capture_output=True, text=True)
    assert "error" in json.loads(process.stdout.splitlines()[-1])
