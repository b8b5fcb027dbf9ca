"""Everything that it takes to put an exported model behind TensorFlow Serving, made for that model.

    python -m export.kit runs/quickstart
    python -m export.kit runs/quickstart --out serving/news --name news --tls --image registry.example.com/news:1

Writes docker-compose.yml, Kubernetes and KServe manifests, the server's config files, alerts, a dashboard, and
deploy.md, which explains how to use them and shows a request with the model's own answer. The files of an earlier kit
are replaced, other files in the folder are kept.
"""

import argparse
import json
import os
import re
import shlex
import sys
from pathlib import Path

import jinja2

from export.command_line import command_parser
from export.versions import find_version, versions_in
from pipeline.files import write_text

TEMPLATES = Path(__file__).parent / "serving"
SERVER_IMAGE = "tensorflow/serving:2.20.0"
EXAMPLE = ("An example of a text that this model has never seen.", "Another one.")
CONFIGS = ("models.config", "batching.config", "monitoring.config")
FILES = (
    "docker-compose.yml", "Dockerfile", "kustomization.yaml", "kubernetes.yaml", "kserve.yaml", "prometheus.yml",
    "alerts.yml", "grafana.json", "ask.mjs", "deploy.md",
)  # fmt: skip
# What a name may be in Kubernetes, with room for what is appended.
NAME = re.compile(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?")


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status: 0, or 2 after one sentence on what is wrong."""
    parser = command_parser("export.kit", __doc__)
    parser.add_argument("model", type=Path, help="run directory, or directory of versions")
    parser.add_argument("--out", type=Path, help="folder to write (default: serving, beside the versions' folder)")
    parser.add_argument("--name", help="to serve it under (default: after the run directory)")
    parser.add_argument("--example", action="append", metavar="TEXT", help="of the request shown; twice for pairs "
                        "(default: of the model's warm-up requests, if any)")  # fmt: skip
    parser.add_argument("--stable", type=int, help="version with that label (default: the one before the canary)")
    parser.add_argument("--canary", type=int, help="version with that label (default: the newest)")
    parser.add_argument("--cpus", type=int, default=2, help="of a server (default: 2)")
    parser.add_argument("--memory", type=int, metavar="MIB", help="of a server (default: by the size of the weights)")
    parser.add_argument("--max-batch-size", type=int, default=32, help="texts a forward pass (default: 32)")
    parser.add_argument("--batch-timeout", type=int, default=2000, metavar="MICROSECONDS", help="(default: 2000)")
    parser.add_argument("--replicas", type=int, default=2, help="pods at least (default: 2)")
    parser.add_argument("--max-replicas", type=int, default=6, help="pods at most (default: 6)")
    parser.add_argument("--latency", type=int, default=500, metavar="MS", help="99th percentile to alert above "
                        "(default: 500)")  # fmt: skip
    parser.add_argument("--image", help="of model and server, for Kubernetes (default: one to be replaced)")
    parser.add_argument("--storage-uri", help="of the versions, for KServe (default: pvc://NAME-models/NAME)")
    parser.add_argument("--tls", action="store_true", help="encrypt gRPC; adds tls.sh, which makes certificates")
    options = parser.parse_args(arguments)
    try:
        out = make_kit(options)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{out / 'deploy.md'} says what to do next")
    return 0


def make_kit(options: argparse.Namespace) -> Path:
    """Write the kit of parsed arguments; returns its folder.

    Raises:
        ValueError: no model, or settings that do not fit it; nothing is written.
    """
    for name in ("cpus", "max_batch_size", "batch_timeout", "replicas", "latency"):
        if getattr(options, name) < 1:
            raise ValueError(f"--{name.replace('_', '-')} {getattr(options, name)}: it must be at least 1.")
    if options.max_replicas < options.replicas:
        raise ValueError(f"--max-replicas {options.max_replicas} is below --replicas {options.replicas}.")
    if options.memory is not None and options.memory < 512:
        raise ValueError(f"--memory {options.memory}: the server alone needs more; give MiB.")
    values = _values(options)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["json"] = lambda value: json.dumps(value, ensure_ascii=False)
    environment.filters["shell"] = shlex.quote
    names = {name: f"config/{name}" for name in CONFIGS} | {name: name for name in FILES}
    if options.tls:
        names["tls.sh"] = "tls.sh"
    contents = {path: environment.get_template(f"{name}.j2").render(values) for name, path in names.items()}
    out = values["out"]
    for path, content in contents.items():
        write_text(out / path, content)
    if options.tls:
        (out / "tls.sh").chmod(0o755)
    return out


def _values(options: argparse.Namespace) -> dict:
    """What the templates are filled with."""
    folder, stable, canary = _chosen_versions(options)
    name = options.name or _name(folder.parent.name if folder.name == "saved_model" else folder.name)
    if not NAME.fullmatch(name):
        raise ValueError(f"--name {name!r}: lower-case letters, digits and hyphens, a letter first, at most 40.")
    out = options.out or folder.parent / "serving"
    versions = sorted({stable, canary})
    weights = sum(p.stat().st_size for v in versions for p in (folder / str(v) / "variables").iterdir()) / 2**20
    return {
        "name": name,
        "out": out,
        "models": Path(os.path.relpath(folder.resolve(), out.resolve())).as_posix(),
        "versions": versions,
        "stable": stable,
        "canary": canary,
        **_example(folder / str(stable), options.example),
        **_flags(options),
        "tls": options.tls,
        "tls_arguments": "--root tls/authority.pem " if options.tls else "",
        "server_image": SERVER_IMAGE,
        "image": options.image or f"registry.example.com/{name}:{versions[-1]}",
        "storage_uri": options.storage_uri or f"pvc://{name}-models/{name}",
        "cpus": options.cpus,
        "memory_mib": options.memory or 256 * -(-int(1024 + 4 * weights) // 256),
        "weights_mib": round(weights),
        "max_batch_size": options.max_batch_size,
        "max_request_size": max(1024, options.max_batch_size),
        "max_enqueued_batches": 100,
        "batch_timeout_micros": options.batch_timeout,
        "replicas": options.replicas,
        "max_replicas": options.max_replicas,
        "latency_ms": options.latency,
        "max_error_share": 0.01,
    }


def _chosen_versions(options: argparse.Namespace) -> tuple[Path, int, int]:
    """The folder of all versions, the stable one and the canary."""
    newest = find_version(options.model)
    if not newest.name.isdigit() or newest == options.model:
        raise ValueError(f"{options.model} is one version: give the folder that its numbered versions are in.")
    folder = newest.parent
    present = [int(version.name) for version in versions_in(folder)]
    canary = present[-1] if options.canary is None else options.canary
    before = [version for version in present if version < canary] or [canary]
    stable = before[-1] if options.stable is None else options.stable
    for label, version in (("canary", canary), ("stable", stable)):
        if version not in present:
            raise ValueError(f"--{label} {version}: {folder} holds {', '.join(map(str, present))}.")
    return folder, stable, canary


def _example(version: Path, example: list[str] | None) -> dict:
    """A request, the model's own answer to it, and what else the templates need to know of the model."""
    # TensorFlow takes seconds to import: only when the options are known to be good.
    from export.loading import Classifier

    classifier = Classifier(version)
    example = example or _warmup_example(classifier.version, classifier.inputs)
    answer = classifier(*([text] for text in example))[0]
    shown = {name: _rounded(value) for name, value in answer.items()}
    instance = dict(zip(classifier.inputs, example, strict=True))
    return {
        "inputs": classifier.inputs,
        "answer_notes": classifier.task.answer_notes(),
        "sequence_length": classifier.metadata["sequence_length"],
        "signatures": _signatures(classifier.version),
        "example": example,
        "example_argument": f"$'{_escaped(example)}'" if len(example) > 1 else shlex.quote(example[0]),
        "body": json.dumps({"instances": [instance]}, ensure_ascii=False),
        "answer": json.dumps({"predictions": [shown]}, ensure_ascii=False),
    }


def _flags(options: argparse.Namespace) -> dict[str, list[str]]:
    """Command lines of the server: in a container, without one, and under KServe, which sets ports and model itself."""
    flags = [
        "--port=8500",
        "--rest_api_port=8501",
        "--model_config_file=/config/models.config",
        "--model_config_file_poll_wait_seconds=30",
        # At the start no version is there yet.
        "--allow_version_labels_for_unavailable_models=true",
    ]
    tuning = [
        "--enable_batching=true",
        "--batching_parameters_file=/config/batching.config",
        "--monitoring_config_file=/config/monitoring.config",
        # TensorFlow sees all cores of the machine, whatever the container's share is.
        f"--tensorflow_intra_op_parallelism={options.cpus}",
        f"--tensorflow_inter_op_parallelism={options.cpus}",
        "--rest_api_timeout_in_ms=30000",
    ]
    flags += tuning + (["--ssl_config_file=/tls/ssl.config"] if options.tls else [])
    return {
        "flags": flags,
        "bare_flags": [flag.replace("=/config/", "=run/").replace("=/tls/", "=tls/server/") for flag in flags],
        "kserve_flags": tuning,
    }


def _rounded(value):
    """A value of an answer, short enough for an example."""
    if isinstance(value, list):
        rounded = [round(item, 4) for item in value]
        return rounded if len(rounded) <= 10 else [*rounded[:3], "..."]
    return round(value, 4) if isinstance(value, float) else value


def _warmup_example(version: Path, names: list[str]) -> list[str]:
    """The beginning of the first text in the model's warm-up requests, where there are any and they can be read."""
    import tensorflow as tf

    from export.serving_protos import PredictionLog

    path = version / "assets.extra" / "tf_serving_warmup_requests"
    if path.is_file():
        for record in tf.data.TFRecordDataset(str(path)):
            inputs = PredictionLog.FromString(record.numpy()).predict_log.request.inputs
            if set(inputs) == set(names):
                texts = [tf.make_ndarray(inputs[name]).ravel()[0].decode("utf-8", "replace") for name in names]
                texts = [" ".join(text.split())[:200] for text in texts]
                if all(texts):
                    return texts
    return list(EXAMPLE[: len(names)])


def _name(folder: str) -> str:
    """A folder's name as a name for Kubernetes; as it is where that cannot be."""
    name = re.sub(r"[^a-z0-9]+", "-", folder.lower()).strip("-")[:40].rstrip("-")
    return name if NAME.fullmatch(name) else folder


def _escaped(texts: list[str]) -> str:
    return "\\t".join(text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", " ") for text in texts)


def _signatures(version: Path) -> list[dict]:
    """Names, types and shapes of all signatures, read from the graph."""
    import tensorflow as tf
    from tensorflow.core.protobuf import saved_model_pb2

    def described(tensors) -> list[str]:
        rows = []
        for name, tensor in sorted(tensors.items()):
            sizes = ["n" if dim.size < 0 else str(dim.size) for dim in tensor.tensor_shape.dim]
            rows.append(f"`{name}`: {tf.as_dtype(tensor.dtype).name} [{', '.join(sizes)}]")
        return rows

    content = saved_model_pb2.SavedModel.FromString((version / "saved_model.pb").read_bytes())
    return [
        {"name": name, "inputs": described(signature.inputs), "outputs": described(signature.outputs)}
        for name, signature in sorted(content.meta_graphs[0].signature_def.items())
        if not name.startswith("__")
    ]


if __name__ == "__main__":
    from pipeline.entry import run_command

    run_command(main)
