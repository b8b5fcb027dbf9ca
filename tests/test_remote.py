"""Rows, text and models in buckets: read as if they lay here, by way of a double of S3 and fsspec's own in memory."""

import contextlib
import csv
import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace

import pytest
from tiny import write_config

from export.batch import answer
from export.batch.__main__ import main as batch
from export.batch.inputs import sources_of
from export.batch.parts import parts_of
from pipeline import remote
from pipeline.config import Config, CorpusConfig, DataConfig
from pipeline.data import sources
from pipeline.data.corpus import documents
from pipeline.data.recall import convert_or_recall
from pipeline.errors import UserError
from pipeline.local_paths import remote_files

fsspec = pytest.importorskip("fsspec", reason="the extra remote is not installed here")


@pytest.fixture(scope="module")
def s3():
    """The address of an S3 server of this process."""
    pytest.importorskip("s3fs", reason="the extra remote is not installed here")
    moto = pytest.importorskip("moto.server", reason="moto is not installed here")
    server = moto.ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(params=["memory", "s3"])
def bucket(request, tmp_path, monkeypatch):
    """The address of an empty folder, and a function that writes a file into it."""
    monkeypatch.setenv("BERT_PIPELINE_CACHE", str(tmp_path / "cache"))
    address = f"{request.param}://rows-{abs(hash(tmp_path)) % 10**9}"
    if request.param == "s3":
        for name, value in {"ENDPOINT_URL": request.getfixturevalue("s3"), "ACCESS_KEY_ID": "no",
                            "SECRET_ACCESS_KEY": "no", "DEFAULT_REGION": "us-east-1"}.items():  # fmt: skip
            monkeypatch.setenv(f"AWS_{name}", value)
        fsspec.filesystem("s3", use_listings_cache=False, skip_instance_cache=True).mkdir(address.removeprefix("s3://"))

    def write(name, text):
        with fsspec.open(f"{address}/{name}", "wb") as file:
            file.write(text.encode())

    return SimpleNamespace(address=address, write=write)


def rows(source):
    config = DataConfig(train=source)
    return [cells for item in sources.expand(source) for _, cells in sources.read(item, config, ["text"], "train")]


def test_rows_of_patterns_lists_and_folders(bucket):
    bucket.write("a/1.csv", "text,label\none,x\n")
    bucket.write("a/2.csv", "text,label\ntwo,x\n")
    bucket.write("texts/good/1.txt", "three")
    bucket.write("texts/bad/2.txt", "four")
    assert (
        rows(f"{bucket.address}/a/*.csv") == rows([f"{bucket.address}/a/{n}.csv" for n in "12"]) == [["one"], ["two"]]
    )
    (folder,) = sources.expand(f"{bucket.address}/texts")
    assert Path(folder).name == "texts"
    found = sources.read(folder, DataConfig(), ["text", "label"], "train")
    assert [cells for _, cells in found] == [["four", "bad"], ["three", "good"]]


def test_a_file_is_fetched_once_and_again_when_it_has_changed(bucket, tmp_path):
    bucket.write("rows.csv", "text\none\n")
    address = f"{bucket.address}/rows.csv"
    (first,) = sources.expand(address)
    assert Path(first).is_relative_to(tmp_path / "cache" / "remote") and Path(first).name == "rows.csv"
    config = DataConfig()
    before, state = sources.identity(first, config), remote_files(Config(data=DataConfig(train=address)))
    # Deleted and copied anew, it is the same file to whatever was made of it.
    Path(first).unlink()
    assert sources.identity(sources.expand(address)[0], config) == before
    written = os.stat(first).st_ctime_ns
    assert sources.expand(address) == [first] and os.stat(first).st_ctime_ns == written
    bucket.write("rows.csv", "text\ntwo\n")
    assert rows(address) == [["two"]] and sources.expand(address) != [first]
    assert remote_files(Config(data=DataConfig(train=address))) != state


def test_a_bucket_is_listed_once_for_the_rows_of_a_split(bucket, tmp_path, monkeypatch):
    bucket.write("rows.csv", "text,label\none,x\ntwo,y\n")
    asked, address = listings(monkeypatch), f"{bucket.address}/*.csv"
    convert_or_recall(address, DataConfig(train=address), tmp_path / "data", "train", begun=False)
    assert asked == [address]


def listings(monkeypatch):
    """The addresses that are listed from now on."""
    asked, matches = [], remote.matches

    def counted(pattern):
        asked.append(pattern)
        return matches(pattern)

    monkeypatch.setattr(remote, "matches", counted)
    return asked


def test_names_that_lead_out_of_a_folder_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("BERT_PIPELINE_CACHE", str(tmp_path / "cache"))
    system = fsspec.filesystem("memory")
    monkeypatch.setattr(type(system), "info", lambda self, path: {"size": 1})
    monkeypatch.setattr(type(system), "isdir", lambda self, path: True)
    for name in ("rows/../../../evil.csv", f"rows/{tmp_path}/evil.csv"):
        monkeypatch.setattr(type(system), "find", lambda self, path, name=name: [f"/out/{name}"])
        for call in (remote.fetch_all, lambda address: sources_of(address, tmp_path)):
            with pytest.raises(UserError, match=r"evil\.csv: a name with an empty part, \. or \.\. has no place"):
                call("memory://out/rows")
    assert not (tmp_path / "evil.csv").exists()


def test_a_file_over_http_is_read_again_once_it_has_changed(tmp_path, monkeypatch):
    """Its server gives no ETag, and the size stays."""
    pytest.importorskip("aiohttp", reason="fsspec's http is not installed here")
    monkeypatch.setenv("BERT_PIPELINE_CACHE", str(tmp_path / "cache"))
    served = tmp_path / "served"
    served.mkdir()
    monkeypatch.setattr(SimpleHTTPRequestHandler, "log_message", lambda *arguments: None)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(served)))
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        for second, text in enumerate(("one", "two")):
            (served / "rows.csv").write_text(f"text\n{text}\n")
            os.utime(served / "rows.csv", (second * 60, second * 60))
            assert rows(f"http://127.0.0.1:{server.server_port}/rows.csv?token=1") == [[text]]
    finally:
        server.shutdown()


def test_processes_that_fetch_one_folder_at_a_time_have_one_copy(tmp_path, monkeypatch):
    monkeypatch.setenv("BERT_PIPELINE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "rows").mkdir()
    for number in range(5):
        (tmp_path / "rows" / f"{number}.txt").write_text("text")
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(remote.fetch_all, [f"file://{tmp_path}/rows"] * 8))
    assert len({path for (path,) in found}) == 1
    assert sorted(path.name for path in Path(found[0][0]).iterdir()) == [f"{number}.txt" for number in range(5)]
    assert not list((tmp_path / "cache").rglob("*.partial"))


def test_answers_are_no_input(tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("a.jsonl", "answers/a-00000.jsonl"):
        (tmp_path / "in" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "in" / name).write_text("{}")
    address = f"file://{tmp_path}/in"
    assert [s.name for s in sources_of(f"{address}/**", tmp_path / "here", f"{address}/answers")] == ["a"]
    with pytest.raises(UserError, match="is the folder of the input"):
        sources_of(f"{address}/*.jsonl", tmp_path / "here", address)


def test_a_place_to_publish_is_looked_at_before_training(tmp_path, capsys):
    from pipeline.run import main

    given = ["--config", str(write_config(tmp_path, 20)), "--run_dir", str(tmp_path / "run"), "--export.publish"]
    assert main([*given, "models"]) == 2
    assert "export.publish models is no address" in capsys.readouterr().err
    assert main([*given, "unheard://of"]) == 2
    assert "unheard://of cannot be read (ValueError: Protocol not known" in capsys.readouterr().err


def test_a_corpus(bucket):
    bucket.write("deep/a.txt", "One here. Two here.\n\nThree.\n")
    found = [["One here.", "Two here."], ["Three."]]
    for source in (f"{bucket.address}/deep", f"{bucket.address}/**/*.txt"):
        assert list(documents(source, CorpusConfig())) == found


def test_what_is_not_there_is_said_in_a_sentence(bucket):
    with pytest.raises(UserError, match=r"none\.csv: there is no such file"):
        sources.expand(f"{bucket.address}/none.csv")
    with pytest.raises(UserError, match=r"^unheard://of/a cannot be listed \(ValueError: Protocol not known: unheard"):
        sources.expand("unheard://of/a")


def test_a_server_that_does_not_answer(tmp_path, monkeypatch):
    pytest.importorskip("s3fs", reason="the extra remote is not installed here")
    for name, value in {"ENDPOINT_URL": "http://127.0.0.1:9", "ACCESS_KEY_ID": "no", "SECRET_ACCESS_KEY": "no",
                        "MAX_ATTEMPTS": "1"}.items():  # fmt: skip
        monkeypatch.setenv(f"AWS_{name}", value)
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    with pytest.raises(UserError, match=r"^s3://nobody/a\.csv cannot be listed \("):
        sources.expand("s3://nobody/a.csv")
    # File systems are kept by their options, of which the environment is none.
    fsspec.get_filesystem_class("s3").clear_instance_cache()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    from tiny_export import export_tiny

    return export_tiny(tmp_path_factory.mktemp("model"))


def test_a_batch_from_bucket_to_bucket(bucket, model, tmp_path, monkeypatch, capsys):
    def run(job, files, workers):
        for source in files:
            for part in parts_of(job, source):
                answer.answer(job, part)

    monkeypatch.setattr("export.batch.local.run", run)
    for name in "ab":
        bucket.write(f"in/{name}.csv", "id,text\n" + "".join(f"{name}{n},the bank {n}\n" for n in range(5)))
    given = [str(model), "--input", f"{bucket.address}/in/*.csv", "--part_rows", "3"]
    asked = listings(monkeypatch)
    assert batch([*given, "--output", f"{bucket.address}/out"]) == 0
    assert asked == [f"{bucket.address}/in/*.csv"]
    assert f"10 rows are answered in 4 parts: {bucket.address}/out" in capsys.readouterr().out
    found = remote.fetch_all(f"{bucket.address}/out/*")
    assert [Path(path).name for path in found] == [f"{name}-00000{n}.csv" for name in "ab" for n in (0, 1)]
    answered = [row for path in found for row in csv.DictReader(Path(path).read_text().splitlines())]
    assert [row["id"] for row in answered] == [f"{name}{n}" for name in "ab" for n in range(5)]
    # The same as of files of this machine.
    (tmp_path / "in").mkdir()
    for name in "ab":
        (tmp_path / "in" / f"{name}.csv").write_bytes(remote.fetch(f"{bucket.address}/in/{name}.csv").read_bytes())
    assert batch([str(model), "--input", str(tmp_path / "in/*.csv"), "--part_rows", "3", "--output",
                  str(tmp_path / "out")]) == 0  # fmt: skip
    assert [(tmp_path / "out" / Path(path).name).read_bytes() for path in found] == [
        Path(p).read_bytes() for p in found
    ]
    capsys.readouterr()
    bucket.write("in/a.csv", "id,text\nnew,bank\n")
    assert batch([*given, "--output", f"{bucket.address}/out"]) == 2
    assert "/in/a.csv has changed since it was answered" in capsys.readouterr().err
    # Of the parts of the file as it was, none is left at the address; those of others and other files stay.
    for name in ("out/a-b-000001.csv", "out/deep/a-000001.csv", "out/a-000001.jsonl"):
        bucket.write(name, "kept")
    assert batch([*given, "--redo", "--output", f"{bucket.address}/out"]) == 0
    assert sorted(path.partition("/out/")[2] for path in remote.matches(f"{bucket.address}/out")) == [
        "a-000000.csv", "a-000001.jsonl", "a-b-000001.csv", "b-000000.csv", "b-000001.csv", "deep/a-000001.csv",
    ]  # fmt: skip


def test_publishing(bucket, model, monkeypatch):
    from export.loading import Classifier
    from pipeline.published import publish

    publish(model, f"{bucket.address}/models/")
    with pytest.raises(UserError, match="is taken by another run"):
        publish(model, f"{bucket.address}/models")
    (folder,) = remote.fetch_all(f"{bucket.address}/models/{model.name}")
    names = sorted(path.relative_to(model) for path in model.rglob("*") if path.is_file())
    assert sorted(path.relative_to(folder) for path in Path(folder).rglob("*") if path.is_file()) == names
    texts = ["the bank", "a rocket"]
    assert Classifier(Path(folder))(texts).labels == Classifier(model)(texts).labels


def test_what_makes_a_model_of_a_folder_comes_last(model, monkeypatch):
    from pipeline.published import publish

    placed, system = [], fsspec.filesystem("memory")
    put = type(system).put_file
    monkeypatch.setattr(type(system), "put_file",
                        lambda self, here, there, **more: placed.append(there) or put(self, here, there))  # fmt: skip
    publish(model, "memory://last")
    assert len(placed) > 3 and placed.index(f"/last/{model.name}/saved_model.pb") == len(placed) - 1


def test_nothing_is_published_where_another_run_has_begun(bucket, model):
    from pipeline.published import publish

    bucket.write(f"models/{model.name}/variables/variables.index", "half")
    with pytest.raises(UserError, match="nothing was uploaded; start the same command again"):
        publish(model, f"{bucket.address}/models")
    assert remote.names_in(f"{bucket.address}/models/{model.name}") == ["variables"]


@pytest.mark.parametrize("meets", ["at the look", "at the claim"])
def test_of_two_that_publish_at_once_at_most_one_does(bucket, model, monkeypatch, meets):
    from pipeline.published import publish

    names_in, upload, done = remote.names_in, remote.upload, []

    def other():
        monkeypatch.setattr(remote, "names_in", names_in)
        monkeypatch.setattr(remote, "upload", upload)
        with contextlib.suppress(UserError):
            publish(model, f"{bucket.address}/models")
            done.append("other")

    def looked(address):
        found = names_in(address)
        other()
        return found

    def claimed(*given):
        upload(*given)
        other()

    hook = ("names_in", looked) if meets == "at the look" else ("upload", claimed)
    monkeypatch.setattr(remote, *hook)
    with contextlib.suppress(UserError):
        publish(model, f"{bucket.address}/models")
        done.append("one")
    assert done == (["other"] if meets == "at the look" else ["one"])
    # No claim is left.
    names = sorted(path.relative_to(model).as_posix() for path in model.rglob("*") if path.is_file())
    found = remote.matches(f"{bucket.address}/models/{model.name}")
    assert [address.partition(f"/models/{model.name}/")[2] for address in found] == names


def test_the_next_number_is_that_of_the_address_and_of_the_folder(bucket):
    from pipeline.published import highest_at

    assert highest_at(f"{bucket.address}/models/") == 0
    # One is half copied, and what is no number is no version.
    for name in ("2/saved_model.pb", "0010/assets/vocab.txt", "latest/saved_model.pb", "11.txt"):
        bucket.write(f"models/{name}", "")
    assert highest_at(f"{bucket.address}/models") == 10


@pytest.mark.slow
def test_runs_that_publish_to_one_address_take_numbers_in_turn(tmp_path, capsys, monkeypatch):
    from pipeline import publish
    from pipeline.run import main

    address = f"memory://shared-{abs(hash(tmp_path)) % 10**9}/news"
    with fsspec.open(f"{address}/1/saved_model.pb", "wb") as file:
        file.write(b"of another run")
    config = write_config(tmp_path, 60, training={"epochs": 1}, export={"signatures": [], "onnx": "float32"})
    given = ["--config", str(config), "--run_dir", str(tmp_path / "run"), "--export.publish", address]

    def no_onnx(*_):
        raise UserError("no ONNX form")

    monkeypatch.setattr(publish, "export_onnx", no_onnx)
    for left in ("saved_model/.new-killed", "onnx/.new-killed"):
        (tmp_path / "run" / left).mkdir(parents=True)
    assert main(given) == 2
    assert "no ONNX form" in capsys.readouterr().err
    # What is not whole is not published, and what an export that was killed has left is gone.
    assert remote.names_in(address) == ["1"] and not list((tmp_path / "run").rglob(".new-*"))
    monkeypatch.setattr(publish, "export_onnx", lambda *_: 0.0)
    assert main(given) == 0
    assert f"published: {address}/3" in capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "run" / "saved_model").iterdir()) == ["2", "3"]
    with fsspec.open(f"{address}/1/saved_model.pb") as file:
        assert file.read() == b"of another run"
    # Another run takes the number meanwhile: as the message says, the same command takes the next.
    with fsspec.open(f"{address}/4/variables/half", "wb") as file:
        file.write(b"of another run")
    with monkeypatch.context() as patch:
        patch.setattr(publish, "highest_at", lambda _: 0)
        assert main([*given, "--export.force", "true"]) == 2
    assert "start the same command again" in capsys.readouterr().err
    assert main(given) == 0
    assert f"published: {address}/5" in capsys.readouterr().out


def test_a_run_stays_here(capsys):
    from pipeline.run import main

    assert main(["--run_dir", "gs://bucket/run"]) == 2
    assert "run_dir gs://bucket/run: a run works in a folder of this machine" in capsys.readouterr().err
    assert not Path("gs:").exists()
