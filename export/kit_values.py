"""What the kit's templates are filled with: the model, its versions, the server's settings."""

import argparse
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from export.kit_quoting import quote_json, quote_shell, text_of
from export.request_schema import FILE, request_schema
from export.versions import find_version, version_number, versions_in
from pipeline.long_texts import LongTexts

if TYPE_CHECKING:
    from export.loading import Classifier

# By tag: a digest that nobody here has seen is not made up. --server-image and --proxy-image take one.
SERVER_IMAGE = "tensorflow/serving:2.20.0"
PROXY_IMAGE = "haproxy:3.2-alpine"
EXAMPLE = ("An example of a text that this model has never seen.", "Another one.")
# What a Service may be called (RFC 1035), with room for what is appended.
NAME = re.compile(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?")
# github.com/distribution/reference: host and port, path, tag, digest.
IMAGE = re.compile(
    r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9.-]*[a-zA-Z0-9])?(?::[0-9]+)?/)?"
    r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*"
    r"(?::[\w][\w.-]{0,127})?(?:@[A-Za-z][A-Za-z0-9]*:[0-9a-fA-F]{32,})?",
    re.ASCII,
)
HOST = re.compile(r"[A-Za-z0-9.:*-]+")
# Of what was measured: fragments, buffers of connections, and texts that are longer than tokens tell.
MEMORY_RESERVE = 1.25


@dataclass(frozen=True)
class Version:
    """A version that is served, and the name of its folder, which may begin with zeros."""

    number: int
    folder: str


@dataclass(frozen=True)
class Memory:
    """What was measured, in MiB: a loaded model, and what one batch of its hungriest signature takes more."""

    loaded: int
    request: int
    signature: str


def values_of(options: argparse.Namespace) -> dict:
    """From parsed arguments of export.kit.

    Raises:
        ValueError: no model, or settings that do not fit it.
    """
    folder, versions, stable, canary = _chosen_versions(options)
    name = options.name or _name(folder.parent.name if folder.name == "saved_model" else folder.name)
    if not NAME.fullmatch(name):
        raise ValueError(f"--name {name!r}: lower-case letters, digits and hyphens, a letter first, at most 40.")
    out = options.out or folder.parent / "serving"
    models = _relative(folder, out)
    image = options.image or f"registry.example.com/{name}:{canary}"
    for flag, value in (("image", image), ("server-image", options.server_image), ("proxy-image", options.proxy_image)):
        if not IMAGE.fullmatch(value):
            raise ValueError(f"--{flag} {value!r} is no reference to an image, such as registry.example.com/{name}:1.")
    security = _security(options, name)
    storage_uri = _storage(options.storage_uri or f"pvc://{name}-models/{name}")
    linked = any((folder / version.folder).is_symlink() for version in versions)
    folders = {version.number: folder / version.folder for version in versions}
    example = _example(folders[stable], options.example, out)
    memory = None if options.memory else _memory(list(folders.values()), options)
    return {
        "name": name,
        "out": out,
        "folder": text_of(str(folder.resolve()), "the path"),
        "models": models,
        "versions": versions,
        "linked": linked,
        "mounts": _mounts(folder, versions, out, name) if linked else [(models, f"/models/{name}")],
        "stable": stable,
        "canary": canary,
        "ready": f"/v1/models/{name}/labels/stable/metadata",
        **example,
        **_flags(security["tls"]),
        **security,
        "server_image": options.server_image,
        "proxy_image": options.proxy_image,
        "image": image,
        "storage_uri": storage_uri,
        "cpus": options.cpus,
        "batch_threads": options.cpus,
        "memory": memory,
        "memory_mib": _memory_limit(memory, options.cpus) if memory else options.memory,
        "max_batch_size": options.max_batch_size,
        "max_request_size": max(1024, options.max_batch_size),
        "max_enqueued_batches": 100,
        "batch_timeout_micros": options.batch_timeout,
        "replicas": options.replicas,
        "max_replicas": options.max_replicas,
        "latency_ms": options.latency,
        "max_error_share": 0.01,
        "monitoring_namespace": text_of(options.monitoring_namespace, "--monitoring-namespace"),
    }


def _chosen_versions(options: argparse.Namespace) -> tuple[Path, list[Version], int, int]:
    """The folder of all versions, those that are served, the stable one and the canary."""
    newest = find_version(options.model)
    if version_number(newest) is None or newest == options.model:
        raise ValueError(f"{options.model} is one version: give the folder that its numbered versions are in.")
    # "." has no name of its own; a link keeps the name that it goes by.
    folder = Path(os.path.abspath(newest.parent))
    present = {int(version.name): version.name for version in versions_in(folder)}
    numbers = list(present)
    canary = numbers[-1] if options.canary is None else options.canary
    before = [number for number in numbers if number < canary] or [canary]
    stable = before[-1] if options.stable is None else options.stable
    for label, number in (("canary", canary), ("stable", stable)):
        if number not in present:
            raise ValueError(f"--{label} {number}: {folder} holds {', '.join(map(str, numbers))}.")
    return folder, [Version(number, present[number]) for number in sorted({stable, canary})], stable, canary


def _relative(path: Path, out: Path) -> str:
    """The path as seen from the kit's folder, never to be taken for an option."""
    relative = Path(os.path.relpath(path.resolve(), out.resolve())).as_posix()
    return text_of(relative if relative.startswith(".") else f"./{relative}", "the path")


def _mounts(folder: Path, versions: list[Version], out: Path, name: str) -> list[tuple[str, str]]:
    """Each version by itself: a link leads nowhere in a container."""
    return [(_relative(folder / version.folder, out), f"/models/{name}/{version.number}") for version in versions]


def _storage(uri: str) -> str:
    if not re.match(r"[a-z][a-z0-9+.-]*://.", uri) or not uri.isprintable():
        raise ValueError(
            f"--storage-uri {uri!r}: it begins with a scheme, such as gs://bucket/folder, and is one line."
        )
    return uri


def _memory(folders: list[Path], options: argparse.Namespace) -> Memory:
    """Of the version that needs most."""
    from export.server.memory import LOADED, peaks

    found = []
    for folder in folders:
        by_signature = peaks(folder, options.max_batch_size)
        loaded = by_signature.pop(LOADED)
        name, peak = max(by_signature.items(), key=lambda item: item[1])
        found.append(Memory(-(-loaded // 2**20), -(-max(peak - loaded, 0) // 2**20), name))
    return max(found, key=lambda memory: 2 * memory.loaded + options.cpus * memory.request)


def _memory_limit(memory: Memory, batch_threads: int) -> int:
    """MiB of a server.

    While one version takes the place of another both are loaded, and each batch thread may work on a batch of the
    hungriest signature at the same time: reserve * (2 * loaded + batch threads * (peak - loaded)), in steps of 256 MiB.
    """
    needed = MEMORY_RESERVE * (2 * memory.loaded + batch_threads * memory.request)
    return 256 * max(2, -(-int(needed) // 256))


def _example(version: Path, given: list[str] | None, out: Path) -> dict:
    """A request, the model's own answer to it, and what else the templates need to know of the model."""
    # TensorFlow takes seconds to import: only when the options are known to be good.
    from export.loading import Classifier

    for text in given or ():
        text_of(text, "--example")
    classifier = Classifier(version)
    names, features = classifier.inputs, classifier.features
    example = _cells_of(given, classifier) if given else _warmup_example(classifier.version, names)
    answer = classifier(*([text] for text in example))[0]
    shown = {name: _rounded(value) for name, value in answer.items()}
    # One text as it is; a pair as a line of the client's, with a tab between.
    line = example[0] if len(example) == 1 else "\t".join(map(_in_line, example))
    schema = None if features.plain else _schema(version, out)
    return {
        "inputs": names,
        "schema": schema,
        "schema_text": None if schema != FILE.name else json.dumps(request_schema(features), indent=1),
        "answer_names": classifier.task.answer_names,
        "answer_notes": classifier.task.answer_notes(),
        "sequence_length": _most_tokens(classifier.metadata),
        "signatures": _signatures(classifier.version),
        "example": example,
        "example_arguments": ("-- " if line.startswith("-") else "") + quote_shell(line),
        "body": json.dumps({"instances": [dict(zip(names, example, strict=True))]}, ensure_ascii=False),
        "answer": quote_json({"predictions": [shown]}),
    }


def _cells_of(texts: list[str], classifier: "Classifier") -> list[Any]:
    """What stands on the command line, as a request has it: numbers and vectors for inputs of such.

    Raises:
        ValueError: they are not as many as the inputs, or one is not of its input's kind.
    """
    from export.cells import array_of
    from export.graph import read_graph, signatures

    names, columns = classifier.inputs, classifier.features.wanted("the column")
    if len(texts) != len(names):
        raise ValueError(
            f"the model takes {', '.join(names)}, not {len(texts)} examples: give --example once for each."
        )
    inputs = signatures(read_graph(classifier.version))["serving_default"].inputs
    # Texts stay as they are, whatever they hold.
    cells: list[Any] = texts[: len(texts) - len(columns)]
    try:
        for one, text, name in zip(columns, texts[len(cells) :], names[len(cells) :], strict=True):
            cells.append(_shown_cell(array_of([one.read(text).decode()], inputs[name])[0]))
    except ValueError as error:
        raise ValueError(f"--example {error}.") from None
    return cells


def _schema(version: Path, out: Path) -> str:
    """The schema of requests, as seen from the kit's folder; of an old export, which has none, one in that folder."""
    path = version / FILE
    return _relative(path, out) if path.is_file() else FILE.name


def _most_tokens(metadata: dict) -> int:
    """Of the longest text that is read whole, special ones included."""
    length = metadata["sequence_length"]
    return LongTexts.from_metadata(metadata.get("long", {})).room(length - 2) + 2


def _security(options: argparse.Namespace, name: str) -> dict:
    """Encryption, who is let in, and what is logged in passing."""
    tls = options.tls or options.client_certificates or options.cert_manager is not None
    if options.log_requests and not tls:
        raise ValueError("--log-requests needs --tls: it is the proxy in front of REST that logs.")
    if not 0 <= options.log_requests <= 1:
        raise ValueError(f"--log-requests {options.log_requests:g}: it is a share, from 0 to 1.")
    issuer = None
    if options.cert_manager is not None:
        kind, _, issuer_name = options.cert_manager.rpartition("/")
        issuer = (kind or "Issuer", issuer_name)
        if issuer[0] not in ("Issuer", "ClusterIssuer") or not re.fullmatch(
            r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?", issuer[1]
        ):
            raise ValueError(f"--cert-manager {options.cert_manager!r}: give NAME, Issuer/NAME or ClusterIssuer/NAME.")
    hosts = options.host or ["localhost", name, f"{name}.default.svc.cluster.local"]
    for host in hosts:
        if not HOST.fullmatch(host):
            raise ValueError(f"--host {host!r} is no name of a host and no address.")
    return {
        "tls": tls,
        "client_certificates": options.client_certificates,
        "issuer": issuer,
        "hosts": hosts,
        "log_requests": options.log_requests,
        "rest": "https://localhost:8443" if tls else "http://localhost:8501",
    }


def _flags(tls: bool) -> dict[str, list[str]]:
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
        # A thread for each batch, as many batches at a time as CPUs (batching.config), and no more:
        # benchmarks/README.md, "Threads of the server". By itself TensorFlow takes all cores of the machine, whatever
        # the container's share is.
        "--tensorflow_intra_op_parallelism=1",
        "--tensorflow_inter_op_parallelism=1",
        "--rest_api_timeout_in_ms=30000",
    ]
    flags += tuning + (["--ssl_config_file=/ssl/ssl.config"] if tls else [])
    # The server opens REST on all addresses: without a container's network around it, not beside encrypted gRPC.
    bare = [flag.replace("_port=8501", "_port=0") if tls else flag for flag in flags]
    places = {"=/config/models": "=bare/models", "=/config/": "=config/", "=/ssl/": "=tls/server/"}
    for place, here in places.items():
        bare = [flag.replace(place, here) for flag in bare]
    return {"flags": flags, "bare_flags": bare, "kserve_flags": tuning}


def _rounded(value):
    """A value of an answer, short enough for an example."""
    if isinstance(value, list):
        rounded = [round(item, 4) for item in value]
        return rounded if len(rounded) <= 10 else [*rounded[:3], "..."]
    return round(value, 4) if isinstance(value, float) else value


def _warmup_example(version: Path, names: list[str]) -> list[str]:
    """The beginning of the first text in the model's warm-up requests, where there are any and they can be read."""
    import tensorflow as tf

    from export.warmup import read_warmup

    for log in read_warmup(version):
        inputs = log.predict_log.request.inputs
        if set(inputs) == set(names):
            cells = [_shown_cell(tf.make_ndarray(inputs[name])[0]) for name in names]
            if cells[0]:
                return cells
    return list(EXAMPLE[: len(names)])


def _shown_cell(value: Any) -> Any:
    """A cell of a request, as JSON has it; numbers that are missing are 0, for JSON has no NaN."""
    if isinstance(value, bytes):
        return " ".join(value.decode("utf-8", "replace").split())[:200]
    numbers = np.nan_to_num(value)
    # The shortest text that is the same float32: 3.1 rather than 3.0999999046325684.
    return [float(str(number)) for number in numbers] if numbers.ndim else float(str(numbers))


def _in_line(cell: Any) -> str:
    """A cell among others on a line, with tabs between."""
    text = " ".join(map(str, cell)) if isinstance(cell, list) else str(cell)
    return re.sub(r"[\t\r\n]", " ", text)


def _name(folder: str) -> str:
    """A folder's name as a name for Kubernetes; as it is where that cannot be."""
    name = re.sub(r"[^a-z0-9]+", "-", folder.lower()).strip("-")
    name = f"model-{name}" if name[:1].isdigit() else name
    name = name[:40].rstrip("-")
    return name if NAME.fullmatch(name) else folder


def _signatures(version: Path) -> list[dict]:
    """Names of all signatures, names and forms of their tensors, read from the graph."""
    import tensorflow as tf

    from export.graph import read_graph, signatures

    def described(tensors) -> list[tuple[str, str]]:
        rows = []
        for name, tensor in sorted(tensors.items()):
            sizes = ["n" if dim.size < 0 else str(dim.size) for dim in tensor.tensor_shape.dim]
            rows.append((name, f"{tf.as_dtype(tensor.dtype).name} [{', '.join(sizes)}]"))
        return rows

    return [
        {"name": name, "inputs": described(signature.inputs), "outputs": described(signature.outputs)}
        for name, signature in signatures(read_graph(version)).items()
    ]
