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

EXAMPLE = "the team's goal"
# To measure it takes seconds: done for one kit.
MEMORY = ("--memory", "1024")
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
    ":tensorflow:serving:request_latency_count",
    ":tensorflow:serving:batching_session:queuing_latency_bucket",
}  # fmt: skip
# export/monitor/report.py
MONITOR = {"bert_pipeline_monitor_moved", "bert_pipeline_monitor_report_time_seconds"}
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
    security = ["--client-certificates", "--cert-manager", "ClusterIssuer/ca", "--log-requests", "0.01"]
    assert kit.main([str(run), "--out", str(out), "--name", "news", "--example", EXAMPLE, *MEMORY, *security]) == 0
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
    published = [port for service in compose["services"].values() for port in service.get("ports", ())]
    # What is not encrypted is for this machine; with --tls nowhere.
    assert published == (
        ["127.0.0.1:8500:8500", "127.0.0.1:8501:8501"] if name == "plain" else ["8500:8500", "8443:8443"]
    )


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("name", ["plain", "encrypted"])
def test_kubernetes_manifests(name, version, request):
    folder = request.getfixturevalue(name)
    manifests = documents(folder / "kubernetes.yaml")
    if name == "encrypted":
        certificate = manifests.pop()
        assert certificate["kind"] == "Certificate"
    for manifest in manifests:
        kubernetes_validate.validate(manifest, version, strict=True)
    deployment, service, policy, scaler, budget = manifests
    pod = deployment["spec"]["template"]
    labels = pod["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"] == service["spec"]["selector"] == labels
    assert budget["spec"]["selector"]["matchLabels"] == labels
    assert scaler["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    container, *others = pod["spec"]["containers"] + pod["spec"].get("initContainers", [])
    volumes = {volume["name"] for volume in pod["spec"]["volumes"]}
    assert {mount["name"] for part in (container, *others) for mount in part["volumeMounts"]} == volumes
    assert scaler["spec"]["metrics"][0]["containerResource"]["container"] == container["name"]
    generators = yaml.safe_load((folder / "kustomization.yaml").read_text())
    made = {row["name"]: row["files"] for key in generators if key.endswith("Generator") for row in generators[key]}
    used = [volume.get("configMap", {}).get("name") for volume in pod["spec"]["volumes"]]
    if name == "encrypted":
        # cert-manager makes it.
        (secret,) = [volume["secret"] for volume in pod["spec"]["volumes"] if "secret" in volume]
        assert secret["secretName"] == certificate["spec"]["secretName"]
        assert policy["spec"]["ingress"] == [{"ports": [{"port": "grpc"}, {"port": "https"}]}]
    else:
        assert [part["ports"] for part in policy["spec"]["ingress"]] == [
            [{"port": "grpc"}, {"port": "rest"}],
            [{"port": "rest"}],
        ]
    assert set(made) == set(filter(None, used))
    # Every file that a flag names is one that is mounted, or that the first container makes.
    mounted = {f"/config/{Path(path).name}" for files in made.values() for path in files} | {"/ssl/ssl.config"}
    assert {flag.partition("=")[2] for flag in container["args"] if "_file=" in flag} <= mounted
    for files in made.values():
        assert all((folder / file).is_file() for file in files)


@pytest.mark.parametrize("name", ["plain", "encrypted"])
def test_probes_ask_for_the_stable_version(name, request):
    """Only /metadata has a status code that follows the state of a version (get_model_metadata_impl.cc)."""
    folder = request.getfixturevalue(name)
    served = yaml.safe_load((folder / "docker-compose.yml").read_text())["name"].removesuffix("-serving")
    container = documents(folder / "kubernetes.yaml")[0]["spec"]["template"]["spec"]["containers"][0]
    ready = {"path": f"/v1/models/{served}/labels/stable/metadata", "port": "rest"}
    assert container["readinessProbe"]["httpGet"] == container["startupProbe"]["httpGet"] == ready
    assert container["livenessProbe"]["httpGet"]["path"] == f"/v1/models/{served}"
    runtime = documents(folder / "kserve.yaml")[0]["spec"]["containers"][0]
    assert runtime["readinessProbe"]["httpGet"]["path"] == "/v1/models/{{.Name}}/metadata"


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
        re.findall(r"^    (--\w+=\S+)", (encrypted / "deploy.md").read_text(), re.M),
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
        assert found and found <= METRICS | MONITOR
        assert {"alert", "expr", "for", "labels", "annotations"} == set(rule)
    dashboard = json.loads((plain / "grafana.json").read_text())
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    found = set().union(*(metrics_of(expression.replace("$__rate_interval", "5m")) for expression in expressions))
    assert found == METRICS
    places = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in dashboard["panels"]}
    assert len(places) == len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


def fired(folder: Path, series: dict[str, str], minutes: int) -> set[str]:
    """Names of the alerts that fire, by Prometheus' own tool, while these series have those values."""
    rules = yaml.safe_load((folder / "alerts.yml").read_text())["groups"][0]["rules"]
    found = set()
    for rule in rules:
        test = {
            "rule_files": [str(folder / "alerts.yml")],
            "tests": [{
                "interval": "15s",
                "input_series": [{"series": name, "values": values} for name, values in series.items()],
                "alert_rule_test": [{"eval_time": f"{minutes}m", "alertname": rule["alert"], "exp_alerts": []}],
            }],
        }  # fmt: skip
        path = folder / "alerts.test.yml"
        path.write_text(yaml.safe_dump(test))
        process = subprocess.run(["promtool", "test", "rules", str(path)], capture_output=True, text=True)
        if process.returncode:
            assert "got:" in process.stdout + process.stderr, process.stderr
            found.add(rule["alert"])
    return found


PROBES = ':tensorflow:serving:request_count{model_name="my-news",status="OK"%s}'
ASKED = ':tensorflow:serving:request_latency_count{model_name="my-news",API="Predict",entrypoint="GRPC"}'
FAILED = ':tensorflow:serving:request_count{model_name="my-news",status="INTERNAL"}'
MOVED = 'bert_pipeline_monitor_moved{model_name="my-news",feature="%s"}'
REPORTED = 'bert_pipeline_monitor_report_time_seconds{model_name="my-news"}'
POD = 'up{job="kubernetes-pods",app_kubernetes_io_name="my-news",instance="10.0.0.%d:8501"}'


@pytest.mark.parametrize(
    ("series", "alerts"),
    [
        # As scraped by the pods' annotations: the name of the job says nothing.
        ({POD % 1: "1x80", PROBES % "": "0+3x80"}, set()),
        ({POD % 1: "1x20 0x60", PROBES % "": "0+3x20 stale"}, {"ServingDown", "ServingInstanceDown"}),
        ({POD % 1: "1x20 0x60", POD % 2: "1x80", PROBES % "": "0+3x80"}, {"ServingInstanceDown"}),
        # No target is left, or nobody ever scraped.
        ({POD % 1: "1x20 stale", PROBES % "": "0+3x20 stale"}, {"ServingDown"}),
        ({}, {"ServingDown"}),
        # Few requests, half of which fail: probes, of which there are more, do not hide it.
        ({PROBES % "": "0+300x80", ASKED: "0+1x80", FAILED: "0+1x80"}, {"ServingErrors"}),
        ({PROBES % "": "0+300x80", FAILED: "0+1x80"}, {"ServingErrors"}),
        ({PROBES % "": "0+300x80", ASKED: "0+1000x80", FAILED: "0+1x80"}, set()),
        # Time begins at 0 in promtool's tests.
        ({PROBES % "": "0+300x80", MOVED % "score": "0x80", REPORTED: "0x80"}, set()),
        ({PROBES % "": "0+300x80", MOVED % "score": "0x20 1x60", REPORTED: "0x80"}, {"ModelInputsMoved"}),
        ({PROBES % "": "0+300x80", MOVED % "score": "0x80", REPORTED: "-180000x80"}, {"MonitorStopped"}),
    ],
)  # fmt: skip
def test_alerts_fire(series, alerts, plain):
    if shutil.which("promtool") is None:
        pytest.skip("no promtool (Debian's prometheus)")
    assert fired(plain, series, 18) == alerts


@pytest.mark.parametrize("name", ["plain", "encrypted"])
def test_prometheus_takes_its_file(name, request):
    if shutil.which("promtool") is None:
        pytest.skip("no promtool (Debian's prometheus)")
    folder = request.getfixturevalue(name)
    if name == "encrypted":
        # It looks for the certificates.
        (folder / "tls").mkdir(exist_ok=True)
        for file in ("authority.pem", "client.pem", "client.key"):
            (folder / "tls" / file).touch()
    process = subprocess.run(["promtool", "check", "config", "--syntax-only", "prometheus.yml"], cwd=folder,
                             capture_output=True, text=True)  # fmt: skip
    assert process.returncode == 0, process.stderr
    process = subprocess.run(["promtool", "check", "rules", "alerts.yml"], cwd=folder, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr


def test_health_check_says_whether_the_model_is_there(plain, double):
    compose = yaml.safe_load((plain / "docker-compose.yml").read_text())
    kind, *command = compose["services"]["serving"]["healthcheck"]["test"]
    assert kind == "CMD"
    port = double.rest.rpartition(":")[2]
    # Compose's $$ is a shell's $.
    command = [part.replace("127.0.0.1/8501", f"127.0.0.1/{port}").replace("$$", "$") for part in command]
    assert subprocess.run(command).returncode == 0
    assert subprocess.run([part.replace("my-news", "other") for part in command]).returncode != 0
    assert subprocess.run([part.replace("labels/stable", "versions/3") for part in command]).returncode != 0
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
    text = (plain / "bare/models.config").read_text()
    config = text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
    assert Path(config.model_config_list.config[0].base_path) == (run / "saved_model").resolve()
    flags = re.findall(r"^    --\w+_file=(\S+)", (plain / "deploy.md").read_text(), re.M)
    assert flags and all((plain / flag).is_file() for flag in flags)


def test_a_server_without_a_container_opens_nothing_unencrypted(encrypted):
    assert "    --rest_api_port=0 \\\n" in (encrypted / "deploy.md").read_text()


def test_memory_follows_from_measurement(plain):
    """Two loaded models, a batch of the hungriest signature in each of two threads, and a quarter."""
    text = (plain / "deploy.md").read_text()
    loaded, request = int(re.search(r"twice the (\d+) MiB", text)[1]), int(re.search(r"2 times the (\d+) MiB", text)[1])
    assert loaded > 100
    limits = yaml.safe_load((plain / "docker-compose.yml").read_text())["services"]["serving"]["deploy"]["resources"][
        "limits"
    ]
    needed = 1.25 * (2 * loaded + 2 * request)
    assert int(limits["memory"].removesuffix("M")) - needed == pytest.approx(128, abs=129)


def test_folders_of_versions_may_have_zeros_and_be_links(run, tmp_path):
    (tmp_path / "m").mkdir()
    shutil.copytree(run / "saved_model/1", tmp_path / "m/0001")
    (tmp_path / "m/2").symlink_to(run / "saved_model/2", target_is_directory=True)
    assert kit.main([str(tmp_path / "m"), "--out", str(tmp_path / "kit"), *MEMORY]) == 0
    compose = yaml.safe_load((tmp_path / "kit/docker-compose.yml").read_text())
    mounts = {volume["target"]: volume["source"] for volume in compose["services"]["serving"]["volumes"][:2]}
    assert {target: (tmp_path / "kit" / source).resolve() for target, source in mounts.items()} == {
        "/models/m/1": (tmp_path / "m/0001").resolve(), "/models/m/2": (run / "saved_model/2").resolve(),
    }  # fmt: skip
    assert 'COPY --chmod=755 ["0001", "/models/m/1/"]' in (tmp_path / "kit/Dockerfile").read_text()
    assert "versions: 1\n" in (tmp_path / "kit/config/models.config").read_text()
    # The context of the image holds files, also where there was a link.
    line = next(line for line in (tmp_path / "kit/deploy.md").read_text().splitlines() if line.startswith("tar "))
    line = line.replace(line[line.index("docker") :], "tar -tvf -")
    listing = subprocess.run(
        ["bash", "-c", line], cwd=tmp_path / "kit", capture_output=True, text=True, check=True
    ).stdout
    names = {row.split()[-1] for row in listing.splitlines()}
    assert {"Dockerfile", "0001/saved_model.pb", "2/saved_model.pb"} <= names and " -> " not in listing


def test_deploy_names_every_signature_and_label(plain):
    text = (plain / "deploy.md").read_text()
    assert "| `classify` | `inputs`: string [n] | `classes`: string [n, 3]<br>`scores`: float32 [n, 3] |" in text
    assert "| `serving_default` | `text`: string [n] | `label`: string [n]<br>" in text
    assert ", ".join(f"`{label}`" for label in LABELS) in text


def test_labels_can_be_chosen_and_one_version_has_both(run, tmp_path):
    def labels(*options) -> dict:
        assert kit.main([str(run), "--out", str(tmp_path), *MEMORY, *options]) == 0
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
    assert kit.main([str(tmp_path / "m"), "--out", str(tmp_path / "kit"), *MEMORY]) == 0
    command = commands(tmp_path / "kit", "curl -d")[0]
    assert json.loads(command[2]) == {"instances": [{"text": "a rocket in orbit"}]}


@pytest.mark.slow
def test_pairs(tmp_path, capsys):
    export_tiny(tmp_path / "pairs", pair=True)
    assert kit.main([str(tmp_path / "pairs"), "--out", str(tmp_path / "kit"), *MEMORY]) == 0
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
        (["{run}", "--example", "half \ud800"], r"--example .* half a surrogate pair"),
        (["{run}", "--name", "2026-01-01"], "a letter first"),
        (["{run}", "--image", "reg/x: y"], "--image 'reg/x: y' is no reference to an image"),
        (["{run}", "--storage-uri", "folder"], "begins with a scheme"),
        (["{run}", "--log-requests", "0.1"], "needs --tls"),
        (["{run}", "--tls", "--log-requests", "2"], "from 0 to 1"),
        (["{run}", "--tls", "--host", "a b"], "--host 'a b' is no name"),
        (["{run}", "--cert-manager", "Secret/x"], "ClusterIssuer/NAME"),
        (["{run}/absent"], "no such folder"),
    ],
)
def test_wrong_arguments_are_one_sentence_and_write_nothing(arguments, message, run, tmp_path, capsys):
    arguments = [argument.format(run=run) for argument in arguments]
    assert kit.main([*arguments, "--out", str(tmp_path / "kit")]) == 2
    error = capsys.readouterr().err
    assert re.search(message, error) and error.startswith("error: ") and error.count("\n") == 1
    assert not (tmp_path / "kit").exists()
