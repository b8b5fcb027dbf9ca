"""export.batch on the engines that are extras, each with its own local runner: two workers, one of them killed.

Each is tested where it is installed, in whatever environment: `python -m pytest tests/test_batch_engines.py`.
"""

import os

import pytest
from batch_rows import answers, assert_alike, kill_writer, predicted, records, started, write_jsonl, write_parquet
from tiny_export import export_tiny

MODULES = {"beam": "apache_beam", "ray": "ray.data", "spark": "pyspark"}
TWO_WORKERS = {
    "beam": (
        "--",
        "--runner",
        "DirectRunner",
        "--direct_num_workers",
        "2",
        "--direct_running_mode",
        "multi_processing",
    ),
    "ray": ("--workers", "2"),
    "spark": ("--", "--master", "local[2,4]"),
}
ROWS = 6000


@pytest.fixture(scope="module", params=MODULES)
def engine(request):
    pytest.importorskip(MODULES[request.param])
    return request.param


@pytest.fixture(scope="module")
def model(engine, tmp_path_factory):
    return export_tiny(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    folder, rows = tmp_path_factory.mktemp("rows"), records(ROWS)
    return {"parquet": write_parquet(folder / "a.parquet", rows, 1100), "jsonl": write_jsonl(folder / "a.jsonl", rows)}


@pytest.fixture(scope="module")
def expected(model, sources, tmp_path_factory):
    folder = tmp_path_factory.mktemp("predicted")
    return {form: predicted(model, path, folder / f"predicted.{form}", "--bad_rows", "keep")
            for form, path in sources.items()}  # fmt: skip


def finished(engine, model, source, output, *arguments, rows=300) -> tuple[int, str]:
    with command(engine, model, source, output, *arguments, rows=rows) as process:
        said = process.communicate()[0]
    return process.returncode, said


def command(engine, model, source, output, *arguments, rows=300):
    return started(model, "--input", source, "--output", output, "--part_rows", rows, *arguments, "--engine", engine,
                   *TWO_WORKERS[engine])  # fmt: skip


@pytest.mark.parametrize("form", ["parquet", "jsonl"])
def test_answers_are_those_of_predict(form, engine, model, sources, expected, tmp_path):
    status, said = finished(engine, model, sources[form], tmp_path / "out", "--bad_rows", "keep", rows=1000)
    assert status == 0, said
    assert f"{ROWS:,} rows are answered in 6 parts" in said
    assert_alike(answers(tmp_path / "out", form), expected[form])


def test_a_killed_worker_loses_and_repeats_nothing(engine, model, sources, expected, tmp_path):
    output = tmp_path / "out"
    with command(engine, model, sources["parquet"], output, "--bad_rows", "keep") as process:
        kill_writer(output, after=3)
        if engine == "beam":
            # The direct runner, which is for tests, waits for ever for a worker that has died.
            process.kill()
        said = process.communicate()[0]
    there = {path.name: path.stat().st_ino for path in output.glob("*.parquet")}
    assert process.returncode == 0 or engine == "beam", said
    status, said = finished(engine, model, sources["parquet"], output, "--bad_rows", "keep")
    assert status == 0, said
    now = {path.name: path.stat().st_ino for path in output.glob("*.parquet")}
    assert len(now) == 20 and {name: now[name] for name in there} == there
    found = answers(output, "parquet")
    assert [row[0] for row in found[1:]] == list(range(ROWS))
    assert_alike(found, expected["parquet"])


def test_a_bad_row_is_one_sentence(engine, model, tmp_path):
    source = tmp_path / "a.csv"
    source.write_text("id,text\n1,bank\n2,a,b,c\n")
    status, said = finished(engine, model, source, tmp_path / "out")
    sentence = f"error: {os.fspath(source)}, line 3: the row has 4 cells where the header has 2; mend it, or see"
    assert status == 2 and any(line.startswith(sentence) for line in said.splitlines()), said
