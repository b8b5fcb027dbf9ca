"""The serving kit: its files by the schemas and programs that read them, its commands against a test double."""

import importlib.resources
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import grpc
import jsonschema
import kubernetes_validate
import promql_parser
import pytest
import tensorflow as tf
import yaml
from google.protobuf import text_format
from serving_double import ServingDouble
from serving_protos import CLASSES
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog
from tensorflow_serving.config import model_server_config_pb2
from tiny_export import LABELS, export_tiny

from export import client, kit
from export.client import Client, Limits
from export.transport import RequestFailed, Tls

EXAMPLE = "the team's goal"
# tensorflow_serving/model_servers/main.cc
FLAGS = {
    "port", "rest_api_port", "rest_api_timeout_in_ms", "model_config_file", "model_config_file_poll_wait_seconds",
    "model_name", "model_base_path", "allow_version_labels_for_unavailable_models", "enable_batching",
    "batching_parameters_file", "monitoring_config_file", "ssl_config_file", "tensorflow_intra_op_parallelism",
    "tensorflow_inter_op_parallelism",
}  # fmt: skip
# servables/tensorflow/util.cc and batching/batching_session.cc, as util/prometheus_exporter.cc spells them.
METRICS = {
    "up", ":tensorflow:serving:request_count", ":tensorflow:serving:request_latency_bucket",
    ":tensorflow:serving:batching_session:queuing_latency_bucket",
}  # fmt: skip
KUBERNETES = ("1.31", "1.37")


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("kit") / "my_News"
    for seed in (1, 2):
        export_tiny(folder / "saved_model", seed=seed)
    return folder


@pytest.fixture(scope="module")
def plain(run) -> Path:
    assert kit.main([str(run), "--example", EXAMPLE]) == 0
    return run / "serving"


@pytest.fixture(scope="module")
def encrypted(run, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("out") / "deep" / "kit"
    assert kit.main([str(run), "--out", str(out), "--name", "news", "--tls", "--example", EXAMPLE]) == 0
    return out


@pytest.fixture(scope="module")
def double(run):
    with ServingDouble(run / "saved_model", "my-news", {"stable": 1, "canary": 2}) as double:
        yield double


def documents(path: Path) -> list[dict]:
    return list(yaml.safe_load_all(path.read_text()))


def test_models_config(plain, run):
    config = text_format.Parse(
        (plain / "config/models.config").read_text(), model_server_config_pb2.ModelServerConfig()
    )
    (model,) = config.model_config_list.config
    assert (model.name, model.base_path, model.model_platform) == ("my-news", "/models/my-news", "tensorflow")
    assert list(model.model_version_policy.specific.versions) == [1, 2]
    assert dict(model.version_labels) == {"stable": 1, "canary": 2}


def test_batching_and_monitoring_configs(plain):
    batching = text_format.Parse((plain / "config/batching.config").read_text(), CLASSES["BatchingParameters"]())
    assert batching.max_execution_batch_size.value == 32 <= batching.max_batch_size.value
    assert batching.enable_large_batch_splitting.value and batching.num_batch_threads.value == 2
    monitoring = text_format.Parse((plain / "config/monitoring.config").read_text(), CLASSES["MonitoringConfig"]())
    assert monitoring.prometheus_config.enable
    path = monitoring.prometheus_config.path
    (scrape,) = yaml.safe_load((plain / "prometheus.yml").read_text())["scrape_configs"]
    pod = documents(plain / "kubernetes.yaml")[0]["spec"]["template"]
    runtime = documents(plain / "kserve.yaml")[0]["spec"]
    assert path == scrape["metrics_path"] == pod["metadata"]["annotations"]["prometheus.io/path"]
    assert path == runtime["annotations"]["prometheus.kserve.io/path"]


@pytest.mark.parametrize("name", ["plain", "encrypted"])
def test_compose_file(name, request):
    folder = request.getfixturevalue(name)
    schema = importlib.resources.files("check_jsonschema") / "builtin_schemas/vendor/compose-spec.json"
    compose = yaml.safe_load((folder / "docker-compose.yml").read_text())
    jsonschema.validate(compose, json.loads(schema.read_text()))
    service = compose["services"]["serving"]
    assert service["image"] == "tensorflow/serving:2.20.0"
    assert service["read_only"] and service["cap_drop"] == ["ALL"]
    sources = [folder / volume["source"] for volume in service["volumes"]]
    assert all(volume["read_only"] for volume in service["volumes"])
    assert (sources[0] / "2" / "saved_model.pb").is_file()
    assert not [port for port in service["ports"] if "8501" in port and not port.startswith("127.0.0.1:")]


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("name", ["plain", "encrypted"])
def test_kubernetes_manifests(name, version, request):
    folder = request.getfixturevalue(name)
    manifests = documents(folder / "kubernetes.yaml")
    for manifest in manifests:
        kubernetes_validate.validate(manifest, version, strict=True)
    deployment, service, scaler, budget = manifests
    pod = deployment["spec"]["template"]
    labels = pod["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"] == service["spec"]["selector"] == labels
    assert budget["spec"]["selector"]["matchLabels"] == labels
    assert scaler["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    (container,) = pod["spec"]["containers"]
    volumes = {volume["name"] for volume in pod["spec"]["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == volumes
    generators = yaml.safe_load((folder / "kustomization.yaml").read_text())
    made = {row["name"]: row["files"] for key in generators if key.endswith("Generator") for row in generators[key]}
    used = [volume.get("configMap", {}).get("name") for volume in pod["spec"]["volumes"]]
    used += [volume.get("secret", {}).get("secretName") for volume in pod["spec"]["volumes"]]
    assert set(made) == set(filter(None, used))
    # Every file that a flag names is one that is mounted.
    mounted = {
        f"/{'tls' if 'tls' in path else 'config'}/{Path(path).name}" for files in made.values() for path in files
    }
    named = {flag.partition("=")[2] for flag in container["args"] if "_file=" in flag}
    assert named == mounted


def test_kustomize_renders(plain):
    if shutil.which("kubectl") is None:
        pytest.skip("no kubectl")
    process = subprocess.run(["kubectl", "kustomize", str(plain)], capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    rendered = {manifest["kind"]: manifest for manifest in yaml.safe_load_all(process.stdout)}
    for manifest in rendered.values():
        kubernetes_validate.validate(manifest, KUBERNETES[-1], strict=True)
    volumes = rendered["Deployment"]["spec"]["template"]["spec"]["volumes"]
    assert volumes[0]["configMap"]["name"] == rendered["ConfigMap"]["metadata"]["name"] != "my-news-config"


def test_kserve_manifests(plain):
    runtime, service = documents(plain / "kserve.yaml")
    assert (runtime["kind"], service["kind"]) == ("ServingRuntime", "InferenceService")
    model = service["spec"]["predictor"]["model"]
    assert model["runtime"] == runtime["metadata"]["name"]
    assert model["modelFormat"] in [
        {key: row[key] for key in ("name", "version")} for row in runtime["spec"]["supportedModelFormats"]
    ]
    assert model["protocolVersion"] in runtime["spec"]["protocolVersions"]
    # The parts of a runtime that are those of a pod.
    pod = {key: runtime["spec"][key] for key in ("containers", "volumes")}
    manifest = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "runtime"}, "spec": pod}
    kubernetes_validate.validate(manifest, KUBERNETES[-1], strict=True)
    assert "--model_name={{.Name}}" in pod["containers"][0]["args"]


def test_every_flag_is_one_of_the_server(encrypted):
    lists = [
        yaml.safe_load((encrypted / "docker-compose.yml").read_text())["services"]["serving"]["command"],
        documents(encrypted / "kubernetes.yaml")[0]["spec"]["template"]["spec"]["containers"][0]["args"],
        documents(encrypted / "kserve.yaml")[0]["spec"]["containers"][0]["args"],
        re.findall(r"^    (--\S+=\S+)", (encrypted / "deploy.md").read_text(), re.M),
    ]
    for flags in lists:
        assert flags and {re.fullmatch(r"--(\w+)=.+", flag)[1] for flag in flags} <= FLAGS


def metrics_of(expression: str) -> set[str]:
    """Names of the metrics of a PromQL expression that parses."""
    promql_parser.parse(expression)
    bare = re.sub(r'"[^"]*"|\{[^}]*\}|\[[^\]]*\]', lambda match: "{}" if match[0][0] == "{" else "", expression)
    return set(re.findall(r"[a-z_:]+(?=\{)", bare))


def test_alerts_and_dashboard_ask_for_metrics_that_the_server_has(plain):
    (group,) = yaml.safe_load((plain / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]:
        found = metrics_of(rule["expr"])
        assert found and found <= METRICS
        assert {"alert", "expr", "for", "labels", "annotations"} == set(rule)
    dashboard = json.loads((plain / "grafana.json").read_text())
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    found = set().union(*(metrics_of(expression.replace("$__rate_interval", "5m")) for expression in expressions))
    assert found == METRICS
    places = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in dashboard["panels"]}
    assert len(places) == len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


def test_health_check_says_whether_the_model_is_there(plain, double):
    compose = yaml.safe_load((plain / "docker-compose.yml").read_text())
    kind, *command = compose["services"]["serving"]["healthcheck"]["test"]
    assert kind == "CMD"
    port = double.rest.rpartition(":")[2]
    command = [part.replace("127.0.0.1/8501", f"127.0.0.1/{port}") for part in command]
    assert subprocess.run(command).returncode == 0
    assert subprocess.run([part.replace("my-news", "other") for part in command]).returncode != 0
    closed = [part.replace(f"/{port}", "/9") for part in command]
    assert subprocess.run(closed, stderr=subprocess.DEVNULL).returncode != 0


def commands(folder: Path, start: str) -> list[list[str]]:
    """The commands of deploy.md that start so, as a shell splits them."""
    text = (folder / "deploy.md").read_text().replace("\\\n", " ")
    return [shlex.split(line) for line in text.splitlines() if line.startswith(start)]


def shown(folder: Path) -> dict:
    (answer,) = re.findall(r"```json\n(.*)\n```", (folder / "deploy.md").read_text())
    return json.loads(answer)["predictions"][0]


def test_curl_gets_the_answer_that_is_shown(plain, double):
    if shutil.which("curl") is None:
        pytest.skip("no curl")
    command = commands(plain, "curl -d")[0]
    process = subprocess.run(
        ["curl", "--silent", *(part.replace("localhost:8501", double.rest) for part in command[1:])],
        capture_output=True, env={**os.environ, "no_proxy": "localhost"},
    )  # fmt: skip
    (answer,) = json.loads(process.stdout)["predictions"]
    assert answer["label"] == shown(plain)["label"]
    assert answer["probabilities"] == pytest.approx(shown(plain)["probabilities"], abs=1e-4)


def test_node_gets_the_answer_that_is_shown(plain, double):
    if shutil.which("node") is None:
        pytest.skip("no node")
    double.faults = ["UNAVAILABLE"]
    (command,) = commands(plain, "node ask.mjs")
    command = [part.replace("localhost:8501", double.rest) for part in command]
    process = subprocess.run(command, capture_output=True, text=True, cwd=plain)
    assert process.returncode == 0, process.stderr
    assert json.loads(process.stdout)["label"] == shown(plain)["label"]


def test_client_gets_the_answer_that_is_shown(plain, double, capsys):
    over_grpc, _ = commands(plain, "python -m export.client")
    assert client.main([part.replace("localhost:8500", double.grpc) for part in over_grpc[3:]]) == 0
    assert capsys.readouterr().out.startswith(f"{shown(plain)['label']} {shown(plain)['score']:.4f}\t")


def test_what_a_server_without_a_container_reads(plain, run):
    (line,) = [line for line in (plain / "deploy.md").read_text().splitlines() if line.startswith("mkdir -p run")]
    subprocess.run(["bash", "-ec", line], cwd=plain, check=True)
    text = (plain / "run/models.config").read_text()
    config = text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
    assert Path(config.model_config_list.config[0].base_path) == (run / "saved_model").resolve()


def test_deploy_names_every_signature_and_label(plain):
    text = (plain / "deploy.md").read_text()
    assert "| `classify` | `inputs`: string [n] | `classes`: string [n, 3]<br>`scores`: float32 [n, 3] |" in text
    assert "| `serving_default` | `text`: string [n] | `label`: string [n]<br>" in text
    assert ", ".join(LABELS) in text


def credentials(folder: Path) -> grpc.ServerCredentials:
    """As BuildServerCredentials in tensorflow_serving/model_servers/server.cc makes them of ssl.config."""
    config = text_format.Parse((folder / "tls/server/ssl.config").read_text(), CLASSES["SSLConfig"]())
    pair = (config.server_key.encode(), config.server_cert.encode())
    return grpc.ssl_server_credentials([pair], config.custom_ca.encode(), config.client_verify)


def test_certificates(encrypted, run):
    if shutil.which("openssl") is None:
        pytest.skip("no openssl")
    script, tls = encrypted / "tls.sh", encrypted / "tls"
    trusting = Tls(root=tls / "authority.pem")
    known = Tls(tls / "authority.pem", tls / "client.pem", tls / "client.key")
    options = {"model": "news", "limits": Limits(timeout=5, attempts=1)}

    subprocess.run([script], check=True, capture_output=True)
    authority = (tls / "authority.pem").read_bytes()
    with ServingDouble(run / "saved_model", "news", credentials=credentials(encrypted)) as double:
        with Client(double.grpc, tls=trusting, **options) as asked:
            assert asked(["bank"])["label"][0] in LABELS
        with Client(double.grpc, tls=Tls(), **options) as asked, pytest.raises(RequestFailed):
            asked(["bank"])
        with Client(double.grpc, **options) as asked, pytest.raises(RequestFailed):
            asked(["bank"])

    subprocess.run([script], check=True, capture_output=True, env={**os.environ, "CLIENT_VERIFY": "true"})
    assert (tls / "authority.pem").read_bytes() == authority
    with ServingDouble(run / "saved_model", "news", credentials=credentials(encrypted)) as double:
        with Client(double.grpc, tls=known, **options) as asked:
            assert asked(["bank"])["label"][0] in LABELS
        with Client(double.grpc, tls=trusting, **options) as asked, pytest.raises(RequestFailed):
            asked(["bank"])
    # Made again, the kit leaves the certificates alone.
    assert kit.main([str(run), "--out", str(encrypted), "--name", "news", "--tls", "--example", EXAMPLE]) == 0
    assert (tls / "authority.pem").read_bytes() == authority


def test_labels_can_be_chosen_and_one_version_has_both(run, tmp_path):
    def labels(*options) -> dict:
        assert kit.main([str(run), "--out", str(tmp_path), *options]) == 0
        text = (tmp_path / "config/models.config").read_text()
        return dict(re.findall(r'key: "(\w+)" value: (\d+)', text))

    assert labels("--stable", "2") == {"stable": "2", "canary": "2"}
    assert labels("--canary", "1") == {"stable": "1", "canary": "1"}


def test_the_example_is_a_warm_up_request_where_there_are_any(tmp_path):
    version = export_tiny(tmp_path / "m")
    tensors = [tf.constant(texts) for texts in ([""], ["a rocket\nin orbit", "bank"])]
    with tf.io.TFRecordWriter(str(version / "assets.extra/tf_serving_warmup_requests")) as file:
        for tensor in tensors:
            log = PredictionLog()
            log.predict_log.request.inputs["text"].CopyFrom(tf.make_tensor_proto(tensor))
            file.write(log.SerializeToString())
    assert kit.main([str(tmp_path / "m"), "--out", str(tmp_path / "kit")]) == 0
    command = commands(tmp_path / "kit", "curl -d")[0]
    assert json.loads(command[2]) == {"instances": [{"text": "a rocket in orbit"}]}


def test_pairs(tmp_path, capsys):
    export_tiny(tmp_path / "pairs", pair=True)
    assert kit.main([str(tmp_path / "pairs"), "--out", str(tmp_path / "kit")]) == 0
    with ServingDouble(tmp_path / "pairs", "pairs", {"stable": 1}) as double:
        # $'...\\t...' is bash's.
        line = next(x for x in (tmp_path / "kit/deploy.md").read_text().splitlines() if "--label stable" in x)
        line = line.replace("localhost:8500", double.grpc).replace("python", shlex.quote(sys.executable), 1)
        process = subprocess.run(["bash", "-c", line], capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert process.returncode == 0, process.stderr
    assert process.stdout.startswith(shown(tmp_path / "kit")["label"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{run}/saved_model/1"], "is one version"),
        (["{run}", "--stable", "7"], "--stable 7: .* holds 1, 2"),
        (["{run}", "--canary", "7"], "--canary 7: .* holds 1, 2"),
        (["{run}", "--name", "My_News"], "--name 'My_News': lower-case letters"),
        (["{run}", "--cpus", "0"], "--cpus 0: it must be at least 1"),
        (["{run}", "--max-replicas", "1"], "below --replicas 2"),
        (["{run}", "--memory", "2"], "give MiB"),
        (["{run}", "--example", "a", "--example", "b"], "takes text, not 2"),
        (["{run}/absent"], "no such folder"),
    ],
)
def test_wrong_arguments_are_one_sentence_and_write_nothing(arguments, message, run, tmp_path, capsys):
    arguments = [argument.format(run=run) for argument in arguments]
    assert kit.main([*arguments, "--out", str(tmp_path / "kit")]) == 2
    error = capsys.readouterr().err
    assert re.search(message, error) and error.startswith("error: ") and error.count("\n") == 1
    assert not (tmp_path / "kit").exists()
