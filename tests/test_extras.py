"""What is an extra is not needed elsewhere, and named where it is missing."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import tensorflow as tf
from tiny import write_config

from export.serving_protos import PredictionLog
from pipeline.errors import UserError
from pipeline.extras import require
from pipeline.training.watch import log

ROOT = Path(__file__).parents[1]
# Packages of extras, as they are imported.
MISSING = (
    "tensorflow_datasets",
    "tensorflow_hub",
    "tensorflow_serving",
    "tensorboard",
    "importlib_resources",
    "onnx",
    "onnxruntime",
    "optuna",
    "pandas",
    "dp_accounting",
    "py3langid",
)


# A finder to which these are not installed; None in sys.modules would say to others that they were imported.
HIDING = f"""
import sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {MISSING!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Hidden())
"""


def run_without(code: str, *arguments: str) -> subprocess.CompletedProcess:
    """Python code in a process that has no package of an extra."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "TF_CPP_MIN_LOG_LEVEL": "3"}
    return subprocess.run(
        [sys.executable, "-c", HIDING + code, *arguments], env=environment, capture_output=True, text=True
    )


def test_require_gives_the_module():
    assert require("tfds", "json.decoder").JSONDecoder is not None


@pytest.mark.parametrize("name", ["no_such_module", "no_such_module.part", "json.no_such_part"])
def test_a_missing_extra_is_named(name):
    with pytest.raises(UserError) as caught:
        require("some-extra", name)
    assert "the extra some-extra" in str(caught.value) and "pip install 'bert-pipeline[some-extra]'" in str(
        caught.value
    )


def test_a_package_that_does_not_import_says_why(tmp_path, monkeypatch):
    (tmp_path / "broken_package.py").write_text("from json import nothing_of_that_name")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=r"the extra x \(cannot import name 'nothing_of_that_name'"):
        require("x", "broken_package")


@pytest.mark.parametrize(
    ("extra", "code"),
    [
        ("tfds", "from pipeline.run import main; raise SystemExit(main(sys.argv[1:] + ['--data.train', 'tfds:trec']))"),
        ("hub", "from pipeline.backbone.load import load_checkpoint\n"
                "load_checkpoint('https://tfhub.dev/tensorflow/bert_en_uncased_L-2_H-128_A-2/2')"),
        ("client", "from export.client import main\n"
                   "raise SystemExit(main(['--target', 'localhost:1', '--model', 'm', 'text']))"),
        ("pandas", "from export.loading import Answers; Answers({}).to_frame()"),
        ("languages", "from pipeline.pretraining.prepare import main\n"
                      "raise SystemExit(main(['--corpus.train', sys.argv[2], '--corpus.languages', '[en]', "
                      "'--vocabulary', 'v', '--output', sys.argv[4]]))"),
        ("privacy", "from pipeline.run import main\n"
                    "raise SystemExit(main(sys.argv[1:] + ['--training.privacy.epsilon', '8']))"),
    ],
    ids=["tfds", "hub", "client", "pandas", "languages", "privacy"],
)  # fmt: skip
def test_each_use_names_its_extra(tmp_path, extra, code):
    process = run_without(code, "--config", str(write_config(tmp_path, rows=9)), "--run_dir", str(tmp_path / "run"))
    assert process.returncode != 0
    told = process.stderr.strip().splitlines()[-1]
    assert told.endswith(f"pip install 'bert-pipeline[{extra}]'.") and f"the extra {extra} (" in told


def test_rest_needs_no_extra_and_no_tensorflow():
    process = run_without(
        "from export.client import main\n"
        "status = main(['--target', 'localhost:1', '--protocol', 'rest', '--model', 'm', '--timeout', '0.3', 'text'])\n"
        "assert 'tensorflow' not in sys.modules; raise SystemExit(status)"
    )
    assert process.returncode == 75 and "localhost:1 is not available" in process.stderr


@pytest.mark.slow
def test_a_run_needs_no_extra(tmp_path):
    config = write_config(tmp_path, rows=90, training={"epochs": 1})
    process = run_without(
        "from pipeline.run import main; raise SystemExit(main(sys.argv[1:]))",
        "--config", str(config), "--run_dir", str(tmp_path / "run"),
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    (version,) = (tmp_path / "run/saved_model").glob("[0-9]*")
    assert (version / "assets.extra/tf_serving_warmup_requests").stat().st_size > 0
    assert list((tmp_path / "run/logs").rglob("*tfevents*"))


def test_the_extras_are_those_that_are_named():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = {
        word.split('"')[1]
        for folder in ("pipeline", "export")
        for file in (ROOT / folder).rglob("*.py")
        for word in file.read_text().split("require(")[1:]
        if word.startswith('"')
    }
    assert named >= {"tfds", "hub", "client"} and named <= set(extras)


def filled(kind: str, log):
    """A log of one kind, with all its fields."""
    request = getattr(log, kind).request
    request.model_spec.name, request.model_spec.signature_name = "news", "serving_default"
    if kind == "classify_log":
        request.model_spec.version_label = "stable"
        for text in (b"one", b"\xff"):
            feature = request.input.example_list.examples.add().features.feature["text"]
            feature.bytes_list.value.append(text)
    else:
        request.model_spec.version.value = 1 << 40
        request.inputs["text"].CopyFrom(tf.make_tensor_proto([b"a", b"b"]))
        request.inputs["token_ids"].CopyFrom(tf.make_tensor_proto([[1, 2]], tf.int32))
        request.output_filter.append("label")
    return log


@pytest.mark.parametrize("kind", ["predict_log", "classify_log"])
def test_requests_are_those_of_tensorflow_serving(kind):
    true = pytest.importorskip("tensorflow_serving.apis.prediction_log_pb2").PredictionLog
    ours = filled(kind, PredictionLog()).SerializeToString(deterministic=True)
    assert ours == filled(kind, true()).SerializeToString(deterministic=True)
    assert true.FromString(ours) == filled(kind, true())
    assert PredictionLog.FromString(ours) == filled(kind, PredictionLog())


def test_other_kinds_are_known_by_name_and_kept():
    true = pytest.importorskip("tensorflow_serving.apis.prediction_log_pb2").PredictionLog
    for kind in [field.name for field in true.DESCRIPTOR.oneofs_by_name["log_type"].fields]:
        log = true()
        getattr(log, kind).SetInParent()
        if kind == "regress_log":
            log.regress_log.request.model_spec.name = "news"
        read = PredictionLog.FromString(log.SerializeToString())
        assert read.WhichOneof("log_type") == kind
        assert read.SerializeToString() == log.SerializeToString()


def test_logs_are_those_of_tf_summary_scalar(tmp_path):
    pytest.importorskip("tensorboard")

    def written(name: str, write) -> list[bytes]:
        writer = tf.summary.create_file_writer(str(tmp_path / name))
        write(writer)
        writer.flush()
        (file,) = (tmp_path / name).iterdir()
        events = tf.compat.v1.train.summary_iterator(str(file))
        return [value.SerializeToString(deterministic=True) for event in events for value in event.summary.value]

    def scalars(writer):
        with writer.as_default():
            for name, value in row.items():
                tf.summary.scalar(name, value, 7)

    row = {"loss": 0.25, "validation/accuracy": 1}
    assert written("ours", lambda writer: log(writer, row, 7)) == written("theirs", scalars) != []
