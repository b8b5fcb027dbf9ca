"""Whatever a person or a path brings reaches every file of the kit as it was given, by the parsers of its language."""

import ast
import io
import itertools
import json
import re
import shutil
import subprocess

import markdown_it
import promql_parser
import pytest
import ruamel.yaml
import yaml
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2
from tiny_export import LABELS, export_tiny

from export import kit
from export.kit_quoting import quote_go, quote_haproxy, quote_json, quote_shell, quote_yaml
from export.kit_values import IMAGE, Version, _name, values_of
from export.savedmodel import ExportSettings
from export.signatures import SignatureOptions
from pipeline.markdown import code_span

NASTY = [
    "no", "on", "true", "null", "off", "~", "y", "1e3", "0x10", "0o17", "1_000", ".inf", "2026-01-01",
    "12:30:45", "=", "<<", "", " ", " both ends ", "exp #3: it's", "gs://b/m #1", "reg/x: y", "a: b",
    "- item", "# comment", "*alias", "&anchor", "!tag", "%percent %{+Q}o %[src]", "{brace}", "[bracket", "'",
    '"', 'it\'s "both"', "back\\slash \\n \\", "$(id)", "`id`", "$HOME ${HOME} $$", "!history",
    "a|b & c; d > e", "--help", "-", "~/x", "tab\there", "two\nlines", "carriage\r\nreturn", "```\nfence",
    "| cell | <b>html</b>", "{{ jinja }} {% raw %}", "</script>", "$'ansi'", "\u2028line\u2029", "\x85next",
    "\x07\x1b[31mred", "\x7f", "\ufeffmark", "\u200fright\u202eleft", "emoji 😀 👩\u200d👧", "é漢字",
    "\U000e0001", "null\\0",
]  # fmt: skip
# What may be a Service's name, and is more than a word to YAML, to some of its versions.
NAMES = ["no", "on", "off", "yes", "true", "false", "null", "nan", "inf", "y", "n", "e3", "x10", "model", "a-b", "none"]


@pytest.fixture(scope="module")
def values(tmp_path_factory) -> dict:
    """Of a kit with all that it can have."""
    folder = tmp_path_factory.mktemp("kit")
    export_tiny(folder, settings=ExportSettings(SignatureOptions([])))
    arguments = [
        str(folder),
        "--name",
        "usual",
        "--memory",
        "1024",
        "--cert-manager",
        "ClusterIssuer/ca",
        "--log-requests",
        "0.5",
    ]
    return values_of(kit.argument_parser().parse_args(arguments))


def changed(values: dict, text: str) -> dict:
    """The values with a text in all places where one may come from outside."""
    return values | {
        "models": text,
        "folder": text,
        "linked": True,
        "mounts": [(text, f"/models/{values['name']}/1")],
        "versions": [Version(1, "0001"), Version(2, "2")],
        "image": text,
        "server_image": text,
        "proxy_image": text,
        "storage_uri": text,
        "monitoring_namespace": text,
        "hosts": [text, "localhost"],
        "inputs": [text],
        "schema": text,
        "signatures": [{"name": text, "inputs": [(text, "string [n]")], "outputs": [(text, "string [n]")]}],
        "answer_notes": f"The label {code_span(text)}.",
        "example": [text],
        "example_arguments": ("-- " if text.startswith("-") else "") + quote_shell(text),
        "body": json.dumps({"instances": [{text: text}]}, ensure_ascii=False),
        "answer": quote_json({"predictions": [{"label": text}]}),
    }


def parsed(text: str) -> list:
    """A YAML stream; what comes from outside is in double quotes, in which versions 1.1 and 1.2 of YAML agree."""
    return list(yaml.load_all(text, yaml.CSafeLoader))


def interpolated(value):
    """As Compose replaces variables; there are none but those of the user."""
    if isinstance(value, dict):
        return {key: interpolated(part) for key, part in value.items()}
    if isinstance(value, list):
        return [interpolated(part) for part in value]
    if isinstance(value, str) and "SERVING_UID" not in value:
        assert not re.search(r"\$", value.replace("$$", ""))
        return value.replace("$$", "$")
    return value


def blocks(text: str, language: str) -> list[str]:
    tokens = markdown_it.MarkdownIt().enable("table").parse(text)
    return [token.content for token in tokens if token.type == "fence" and token.info == language]


def words(script: str, *programs: str) -> dict[str, list[str]]:
    """The arguments that bash gives the programs, of which none is started."""
    stubs = "".join(
        f'{name}() {{ [ -t 0 ] || cat > /dev/null; printf \'%s\\0\' {name} "$#" "$@" >&3; }}\n' for name in programs
    )
    process = subprocess.run(
        ["bash", "-c", f"exec 3>&1\n{stubs}{script}"], input=b"", capture_output=True, check=True,
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"},
    )  # fmt: skip
    found, parts = {}, iter(process.stdout.decode().split("\0")[:-1])
    for name in parts:
        found[name] = list(itertools.islice(parts, int(next(parts))))
    return found


@pytest.mark.parametrize("text", NASTY)
def test_manifests_mean_what_was_given(text, values):
    files = kit.render(changed(values, text))
    (compose,) = map(interpolated, parsed(files["docker-compose.yml"]))
    serving, proxy = compose["services"]["serving"], compose["services"]["proxy"]
    assert (serving["image"], proxy["image"], serving["volumes"][0]["source"]) == (text, text, text)
    deployment, _, _, _, _, certificate = parsed(files["kubernetes.yaml"])
    pod = deployment["spec"]["template"]["spec"]
    assert [part["image"] for part in pod["initContainers"] + pod["containers"]] == [text, text, text]
    assert certificate["spec"]["dnsNames"] == [text, "localhost"]
    plain = kit.render(changed(values, text) | {"tls": False, "issuer": None, "log_requests": 0})
    policy = parsed(plain["kubernetes.yaml"])[2]["spec"]
    assert policy["ingress"][1]["from"][0]["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": text}
    runtime, service = parsed(files["kserve.yaml"])
    assert runtime["spec"]["containers"][0]["image"] == text
    assert service["spec"]["predictor"]["model"]["storageUri"] == text
    config = text_format.Parse(files["bare/models.config"], model_server_config_pb2.ModelServerConfig())
    assert config.model_config_list.config[0].base_path == text
    copies = [line for line in files["Dockerfile"].splitlines() if line.startswith("COPY")]
    assert json.loads(copies[0].removeprefix("COPY --chmod=755 ")) == ["0001", f"/models/{values['name']}/1/"]


@pytest.mark.parametrize("text", NASTY)
def test_the_guide_means_what_was_given(text, values):
    guide = kit.render(changed(values, text))["deploy.md"]
    shell = blocks(guide, "bash")
    subprocess.run(["bash", "-n"], input="\n".join(shell), text=True, check=True)
    (answer,) = blocks(guide, "json")
    assert json.loads(answer) == {"predictions": [{"label": text}]}
    (snippet,) = blocks(guide, "python")
    (call,) = [node for node in ast.walk(ast.parse(snippet)) if isinstance(node, ast.Call) and node.args[:1]
               and isinstance(node.func, ast.Name) and node.func.id == "client"]  # fmt: skip
    assert ast.literal_eval(call.args[0]) == [text]
    commands = [
        shell[0],
        next(block for block in shell if "docker build -t" in block).splitlines()[0],
        next(block for block in shell if "node ask.mjs" in block),
        next(block for block in shell if "export.client" in block).splitlines()[0],
    ]
    found = words("\n".join(commands), "curl", "tar", "docker", "node", "python")
    assert json.loads(found["curl"][found["curl"].index("-d") + 1]) == {"instances": [{text: text}]}
    assert found["tar"] == ["-ch", "Dockerfile", "-C", text, "0001", "2"]
    assert found["docker"] == ["build", "-t", text, "-"]
    assert found["node"][2:] == [text] == found["python"][-1:]


def kinds(guide: str) -> list[str]:
    """What the document is made of, down to the inline parts."""
    tokens = markdown_it.MarkdownIt().enable("table").parse(guide)
    return [part.type for token in tokens for part in [token, *(token.children or [])]]


def test_no_text_is_markup_in_the_guide(values):
    usual = kinds(kit.render(changed(values, "usual"))["deploy.md"])
    # A dash in front adds one word to a command, nothing to the document.
    assert {text: kinds(kit.render(changed(values, text))["deploy.md"]) == usual for text in NASTY} == dict.fromkeys(
        NASTY, True
    )


def test_code_spans_show_the_text(values):
    for text in NASTY:
        guide = kit.render(changed(values, text))["deploy.md"]
        tokens = markdown_it.MarkdownIt().enable("table").parse(guide)
        spans = [part.content for token in tokens for part in token.children or [] if part.type == "code_inline"]
        shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
        # CommonMark has no empty code span.
        assert shown.strip() == "" or spans.count(shown) >= 5


def test_scripts_run_with_what_was_given(values, tmp_path):
    heads = []
    for text in NASTY:
        files = kit.render(changed(values, text))
        head = files["ask.mjs"].partition("const instance")[0].split("\n", 2)[2].replace("const ", "var ")
        heads.append(re.sub(r"process\.argv\.slice\(2\)", "[]", head) + "out.push([names[0], examples[0]]);")
        subprocess.run(["bash", "-n"], input=files["tls.sh"], text=True, check=True)
        names = re.search(r"^\[ \$# -gt 0 \] \|\| (names=\(.*\))$", files["tls.sh"], re.M)
        assert names and words(f'{names[1]}; program "${{names[@]}}"', "program") == {"program": [text, "localhost"]}
    if shutil.which("node") is None:
        pytest.skip("no node")
    script = tmp_path / "heads.mjs"
    script.write_text("const out = [];\n" + "".join(f"(() => {{ {head} }})();\n" for head in heads)
                      + "console.log(JSON.stringify(out));", encoding="utf-8")  # fmt: skip
    found = subprocess.run(["node", str(script)], capture_output=True, text=True, check=True).stdout
    assert json.loads(found) == [[text, text] for text in NASTY]


@pytest.mark.parametrize("text", NASTY)
def test_filters(text):
    flow = f"{{a: {quote_yaml(text)}, b: [{quote_yaml(text)}]}}"
    for found in (parsed(flow)[0], ruamel.yaml.YAML(typ="safe", pure=True).load(io.StringIO(flow))):
        assert found == {"a": text, "b": [text]}
    assert quote_yaml(text).isascii() and re.fullmatch('".*"', quote_yaml(text))
    assert json.loads(quote_json(text)) == text and quote_json(text).isprintable()
    promql_parser.parse(f"up{{a={quote_go(text)}}}")
    if "\n" not in text:
        assert quote_haproxy(text).replace("'\\''", "\0").strip("'").replace("\0", "'") == text


@pytest.mark.parametrize("name", NAMES)
def test_names_are_strings_everywhere(name, values):
    values = values | {
        "name": name, "ready": f"/v1/models/{name}/labels/stable/metadata", "hosts": [name],
        "mounts": [("..", f"/models/{name}")],
    }  # fmt: skip
    files = kit.render(values)
    (compose,), (alerts,) = parsed(files["docker-compose.yml"]), parsed(files["alerts.yml"])
    assert compose["name"] == f"{name}-serving"
    assert alerts["groups"][0]["name"] == name
    for rule in alerts["groups"][0]["rules"]:
        assert rule["labels"]["model"] == name
        promql_parser.parse(rule["expr"])
    manifests = parsed(files["kubernetes.yaml"])
    assert [manifest["metadata"]["name"] for manifest in manifests] == [*[name] * 5, f"{name}-tls"]
    assert manifests[0]["spec"]["selector"]["matchLabels"] == manifests[1]["spec"]["selector"]
    assert manifests[1]["spec"]["selector"] == {"app.kubernetes.io/name": name}
    assert parsed(files["kserve.yaml"])[1]["metadata"]["name"] == name
    (scrape,) = parsed(files["prometheus.yml"])[0]["scrape_configs"]
    assert (scrape["job_name"], scrape["static_configs"][0]["labels"]) == (name, {"app_kubernetes_io_name": name})
    config = text_format.Parse(files["config/models.config"], model_server_config_pb2.ModelServerConfig())
    assert config.model_config_list.config[0].name == name
    assert json.loads(files["grafana.json"])["title"] == f"Serving {name}"
    assert f"/v1/models/{name}/labels/stable:predict" in files["ask.mjs"]


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("exp #3: it's", "exp-3-it-s"), ("my_News", "my-news"), ("2026-01-01", "model-2026-01-01"), ("no", "no"),
        ("1e3", "model-1e3"), ("0x10", "model-0x10"), ("漢字", "漢字"), ("x" * 60, "x" * 40), ("-a-", "a"),
        ("7" * 60, "model-" + "7" * 34),
    ],
)  # fmt: skip
def test_a_folder_gives_a_name_where_it_can(folder, name):
    assert _name(folder) == name


@pytest.mark.parametrize(
    ("image", "sound"),
    [
        ("news", True), ("registry.example.com/team/news:1", True), ("localhost:5000/x", True),
        ("tensorflow/serving@sha256:" + "0" * 64, True), ("a/b:1@sha256:" + "f" * 64, True), ("a__b/c-d.e", True),
        ("reg/x: y", False), ("UPPER", False), ("a//b", False), ("a:", False), ("", False), ("a@sha256:12", False),
        ("-x", False), ("a b", False), ("$(id)", False), ("a\n", False), ("a:b:c", False), ("http://a/b", False),
    ],
)  # fmt: skip
def test_references_to_images(image, sound):
    assert bool(IMAGE.fullmatch(image)) == sound


def test_labels_are_named_in_the_guide(values):
    assert all(code_span(label) in values["answer_notes"] for label in LABELS)
