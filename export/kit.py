"""Everything that it takes to put an exported model behind TensorFlow Serving, made for that model.

    python -m export.kit runs/quickstart
    python -m export.kit runs/quickstart --out serving/news --name news --tls --image registry.example.com/news:1

Writes docker-compose.yml, Kubernetes and KServe manifests, the server's config files, alerts, a dashboard, and
deploy.md, which explains how to use them and shows a request with the model's own answer. The files of an earlier kit
are replaced, other files in the folder are kept.
"""

import argparse
import sys
from pathlib import Path

import jinja2

from export.command_line import command_parser
from export.kit_quoting import environment
from export.kit_values import PROXY_IMAGE, SERVER_IMAGE, values_of
from export.request_schema import FILE as SCHEMA
from pipeline.files import write_text

ENVIRONMENT = environment(jinja2.FileSystemLoader(Path(__file__).parent / "serving"))
CONFIGS = ("models.config", "batching.config", "monitoring.config")
FILES = (
    "docker-compose.yml", "Dockerfile", "kustomization.yaml", "kubernetes.yaml", "kserve.yaml", "prometheus.yml",
    "alerts.yml", "grafana.json", "ask.mjs", "deploy.md",
)  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status: 0, or 2 after one sentence on what is wrong."""
    options = argument_parser().parse_args(arguments)
    try:
        out = make_kit(options)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{out / 'deploy.md'} says what to do next")
    return 0


def argument_parser() -> argparse.ArgumentParser:
    """Of the command line."""
    parser = command_parser("export.kit", __doc__)
    parser.add_argument("model", type=Path, help="run directory, or directory of versions")
    parser.add_argument("--out", type=Path, help="folder to write (default: serving, beside the versions' folder)")
    parser.add_argument("--name", help="to serve it under (default: after the run directory)")
    parser.add_argument("--example", action="append", metavar="TEXT", help="of the request shown; twice for pairs "
                        "(default: of the model's warm-up requests, if any)")  # fmt: skip
    parser.add_argument("--stable", type=int, help="version with that label (default: the one before the canary)")
    parser.add_argument("--canary", type=int, help="version with that label (default: the newest)")
    parser.add_argument("--cpus", type=int, default=2, help="of a server (default: 2)")
    parser.add_argument("--memory", type=int, metavar="MIB", help="of a server (default: by measurement)")
    parser.add_argument("--max-batch-size", type=int, default=32, help="texts a forward pass (default: 32)")
    parser.add_argument("--batch-timeout", type=int, default=2000, metavar="MICROSECONDS", help="(default: 2000)")
    parser.add_argument("--replicas", type=int, default=2, help="pods at least (default: 2)")
    parser.add_argument("--max-replicas", type=int, default=6, help="pods at most (default: 6)")
    parser.add_argument("--latency", type=int, default=500, metavar="MS", help="99th percentile to alert above "
                        "(default: 500)")  # fmt: skip
    parser.add_argument("--image", help="of model and server, for Kubernetes (default: one to be replaced)")
    parser.add_argument("--server-image", default=SERVER_IMAGE, help="tensorflow_model_server, by tag or by digest "
                        f"(default: {SERVER_IMAGE})")  # fmt: skip
    parser.add_argument("--storage-uri", help="of the versions, for KServe (default: pvc://NAME-models/NAME)")
    parser.add_argument("--monitoring-namespace", default="monitoring", help="from which metrics may be scraped in "
                        "Kubernetes without --tls (default: monitoring)")  # fmt: skip
    _add_security(parser)
    return parser


def _add_security(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tls", action="store_true", help="encrypt gRPC, put a proxy in front of REST and metrics, "
                        "and add tls.sh, which makes certificates")  # fmt: skip
    parser.add_argument("--client-certificates", action="store_true", help="let in only clients with a certificate; "
                        "implies --tls")  # fmt: skip
    parser.add_argument("--cert-manager", metavar="ISSUER", help="of cert-manager, which makes the certificates in "
                        "Kubernetes: NAME, Issuer/NAME or ClusterIssuer/NAME; implies --tls")  # fmt: skip
    parser.add_argument("--host", action="append", help="name or address in the certificates, once for each (default: "
                        "localhost, NAME, NAME.default.svc.cluster.local)")  # fmt: skip
    parser.add_argument("--proxy-image", default=PROXY_IMAGE, help="HAProxy, by tag or by digest "
                        f"(default: {PROXY_IMAGE})")  # fmt: skip
    parser.add_argument("--log-requests", type=float, default=0.0, metavar="SHARE", help="of the REST requests, with "
                        "their texts and answers, by the proxy (default: 0, none)")  # fmt: skip


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
    values = values_of(options)
    contents = render(values)
    if values["schema_text"] is not None:
        contents[SCHEMA.name] = values["schema_text"]
    out = values["out"]
    for path, content in contents.items():
        write_text(out / path, content)
    if values["tls"]:
        (out / "tls.sh").chmod(0o755)
    return out


def render(values: dict) -> dict[str, str]:
    """The content of each file of the kit, by its path, of `values_of`'s values."""
    # By path: the template, and what is put in besides.
    wanted = {f"config/{name}": (name, {"base_path": f"/models/{values['name']}"}) for name in CONFIGS}
    wanted |= {name: (name, {}) for name in FILES}
    wanted["bare/models.config"] = ("models.config", {"base_path": values["folder"]})
    if values["tls"]:
        wanted |= {"tls.sh": ("tls.sh", {}), "config/proxy.cfg": ("proxy.cfg", {})}
    return {path: ENVIRONMENT.get_template(f"{name}.j2").render(values | more) for path, (name, more) in wanted.items()}


if __name__ == "__main__":
    from pipeline.entry import run_command

    run_command(main)
