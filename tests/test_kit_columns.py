"""The kit of a model with columns beside its text, or of one that answers numbers: what its guide shows works."""

import ast
import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from serving_double import ServingDouble
from tiny_export import export_columns, export_tiny

from export import load
from export.client import Client
from export.client import main as client
from export.kit import main as kit
from export.request_schema import FILE
from export.savedmodel import ExportSettings
from export.signatures import SignatureOptions
from pipeline.features.columns import Category, Number, Vector
from pipeline.tasks.number import Number as NumberTask

BRAND, COLOUR = (Category(name, ("goal", "bank"), True, True) for name in ("brand", "a colour"))
PRICE, IMAGE = Number("price", 2.0, 1.5), Vector("image", (0.0, 0.0), (1.0, 1.0))
CELLS = ["goal match team", "3.1", "bank", "0.1 2", "goal"]
EXAMPLE = [part for cell in CELLS for part in ("--example", cell)]


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("films")
    export_columns(folder / "saved_model", PRICE, COLOUR, IMAGE, BRAND)
    assert kit([str(folder), "--name", "films", "--memory", "1024", *EXAMPLE]) == 0
    return folder


@pytest.fixture(scope="module")
def double(run):
    with ServingDouble(run / "saved_model", "films", {"stable": 1}) as double:
        yield double


def blocks(folder: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (folder / "serving" / "deploy.md").read_text(), re.DOTALL)


def shown(folder: Path) -> dict:
    return json.loads(blocks(folder, "json")[0])["predictions"][0]


def python_of(folder: Path, double: ServingDouble) -> str:
    return blocks(folder, "python")[0].replace("localhost:8500", double.grpc)


def test_all_languages_send_numbers_as_numbers(run, double):
    command = shlex.split(blocks(run, "bash")[0])
    (row,) = json.loads(command[command.index("-d") + 1])["instances"]
    assert row == {"text": CELLS[0], "price": 3.1, "a_colour": "bank", "image": [0.1, 2.0], "brand": "goal"}
    with Client(double.rest, protocol="rest", model="films") as served:
        answer = served.predict({name: [cell] for name, cell in row.items()})[0]
    expected = load(run)(*row.values())
    for found in (answer["probabilities"], shown(run)["probabilities"]):
        np.testing.assert_allclose(found, expected["probabilities"], atol=1e-4)
    if shutil.which("node"):
        line = next(line for block in blocks(run, "bash") for line in block.splitlines() if "node ask.mjs" in line)
        words = [part.replace("localhost:8501", double.rest) for part in shlex.split(line)]
        process = subprocess.run(words, capture_output=True, text=True, cwd=run / "serving")
        assert process.returncode == 0, process.stderr
        np.testing.assert_allclose(json.loads(process.stdout)["probabilities"], expected["probabilities"], atol=1e-4)


def test_the_guides_client_gets_the_answer_that_is_shown(run, double, capsys, monkeypatch):
    monkeypatch.chdir(run / "serving")
    lines = [line for block in blocks(run, "bash") for line in block.splitlines() if "--target localhost:8500" in line]
    # $'...\\t...' is bash's.
    told = subprocess.run(
        ["bash", "-c", lines[0].replace("python -m export.client", "printf '%s\\0'")], capture_output=True
    )
    words = told.stdout.decode().removesuffix("\0").split("\0")
    assert client([word.replace("localhost:8500", double.grpc) for word in words]) == 0
    assert capsys.readouterr().out.startswith(f"{shown(run)['label']} {shown(run)['score']:.4f}\t")
    exec(compile(ast.parse(python_of(run, double)), "deploy.md", "exec"), {})
    assert shown(run)["label"] in capsys.readouterr().out


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (CELLS[:2], "the model takes text, price, a_colour, image, brand, not 2 examples"),
        ([CELLS[0], "dear", *CELLS[2:]], "--example has no number in the column 'price': 'dear'"),
        ([*CELLS[:3], "1", CELLS[4]], "a list of another length in the column 'image' than others: 1 in place of 2"),
    ],
)
def test_examples_that_are_none_are_one_sentence(run, cells, message, capsys, tmp_path):
    example = [part for cell in cells for part in ("--example", cell)]
    assert kit([str(run), "--out", str(tmp_path / "kit"), "--memory", "1024", *example]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and not (tmp_path / "kit").exists()


def test_a_number_is_printed_by_its_name(tmp_path, capsys):
    export_tiny(tmp_path / "saved_model", task=NumberTask(), settings=ExportSettings(SignatureOptions([])))
    assert kit([str(tmp_path), "--name", "stars", "--memory", "1024", "--example", "goal"]) == 0
    with ServingDouble(tmp_path / "saved_model", "stars", {"stable": 1}) as double:
        capsys.readouterr()
        exec(compile(ast.parse(python_of(tmp_path, double)), "deploy.md", "exec"), {})
    assert f"[{shown(tmp_path)['value']:.2f}" in re.sub(r"(\.\d\d)\d+", r"\1", capsys.readouterr().out)


@pytest.mark.parametrize(("folder", "given"), [(".", "."), ("saved_model", "."), ("saved_model", "../serving/..")])
def test_a_kit_made_from_inside_is_the_one_that_is_made_from_outside(run, folder, given, monkeypatch, tmp_path):
    files = {path: path.read_bytes() for path in (run / "serving").rglob("*") if path.is_file()}
    monkeypatch.chdir(run / folder)
    assert kit([given, "--name", "films", "--memory", "1024", *EXAMPLE]) == 0
    assert {path: path.read_bytes() for path in run.rglob("serving/**/*") if path.is_file()} == files
    assert kit([given, "--memory", "1024", *EXAMPLE, "--out", str(tmp_path / "kit")]) == 0
    assert (tmp_path / "kit" / "deploy.md").read_text().startswith("# Serving `films")


def test_the_kit_of_an_old_export_brings_the_schema(run, double, tmp_path, capsys, monkeypatch):
    shutil.copytree(run / "saved_model", tmp_path / "saved_model")
    schema = tmp_path / "saved_model" / "1" / FILE
    content = json.loads(schema.read_text())
    schema.unlink()
    assert kit([str(tmp_path), "--name", "films", "--memory", "1024", *EXAMPLE]) == 0
    assert json.loads((tmp_path / "serving" / FILE.name).read_text()) == content
    capsys.readouterr()
    test_the_guides_client_gets_the_answer_that_is_shown(tmp_path, double, capsys, monkeypatch)
