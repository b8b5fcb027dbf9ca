"""The client against a test double of TensorFlow Serving on loopback."""

import base64
import io
import json
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from serving_double import ServingDouble
from tiny_export import LABELS, TEXTS, export_tiny

from export import client as module
from export.answers import Answers
from export.client import Client, Limits
from export.loading import Classifier
from export.transport import BadAnswer, NotServed, OutOfTime, RequestFailed, TryAgain

PROTOCOLS = ("grpc", "rest")


@pytest.fixture(scope="module")
def versions(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("news")
    for seed in (1, 2):
        export_tiny(folder, seed=seed)
    return folder


@pytest.fixture(scope="module")
def running(versions):
    with ServingDouble(versions, "news", {"stable": 1, "canary": 2}) as double:
        yield double


@pytest.fixture
def double(running):
    running.faults, running.delay, running.hold, running.batches, running.peak = [], 0.0, None, [], 0
    running.withdrawn = set()
    return running


@pytest.fixture(scope="module")
def expected(versions) -> dict:
    return {number: Classifier(versions / str(number))(TEXTS) for number in (1, 2)}


def connect(double, protocol, **options) -> Client:
    return make_client(getattr(double, protocol), protocol=protocol, **{"model": "news", **options})


def make_client(target, **options) -> Client:
    """A client; options that are limits are given as such."""
    limits = {name: options.pop(name) for name in ("timeout", "attempts", "batch_size", "parallel") if name in options}
    return Client(target, limits=Limits(**limits), **options)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    ("options", "number"), [({}, 2), ({"version": 1}, 1), ({"label": "stable"}, 1), ({"label": "canary"}, 2)]
)
def test_answers_are_those_of_the_version_that_was_asked(protocol, options, number, double, expected):
    with connect(double, protocol, **options) as client:
        answer = client(TEXTS)
        one = client(TEXTS[3])
    assert isinstance(answer, Answers) and sorted(answer.outputs) == ["label", "probabilities", "score"]
    assert answer.labels == answer["label"].tolist() == expected[number].labels
    assert one["label"] == answer[3]["label"] and one["score"] == pytest.approx(answer[3]["score"], abs=1e-6)
    np.testing.assert_allclose(answer["probabilities"], expected[number].probabilities, atol=1e-6)
    assert answer["probabilities"].dtype == answer["score"].dtype == np.float32
    assert expected[1].labels != expected[2].labels


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_large_inputs_are_cut_and_keep_their_order(protocol, double, expected):
    double.delay = 0.05
    with connect(double, protocol, batch_size=5, parallel=3) as client:
        answer = client(TEXTS * 4)
    assert answer["label"].tolist() == expected[2].labels * 4
    assert sorted(double.batches, reverse=True) == [5] * 9 + [3]
    assert 1 < double.peak <= 3


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_unavailable_and_busy_are_tried_again(protocol, double, expected):
    double.faults = ["UNAVAILABLE", "RESOURCE_EXHAUSTED"]
    with connect(double, protocol) as client:
        assert client(TEXTS)["label"].tolist() == expected[2].labels
        assert double.batches == [len(TEXTS)]
        double.faults = ["UNAVAILABLE"] * 9
        with pytest.raises(TryAgain, match="is not available: ordered by the test"):
            client(["bank"])
        assert len(double.faults) == 9 - 5


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_other_failures_are_not_tried_again(protocol, double):
    double.faults = ["INTERNAL", "UNAVAILABLE"]
    with connect(double, protocol) as client, pytest.raises(RequestFailed, match="ordered by the test"):
        client(["bank"])
    assert double.faults == ["UNAVAILABLE"]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_deadline_holds_over_all_attempts(protocol, double):
    with connect(double, protocol, timeout=2) as client:
        assert client.inputs == ["text"]
        double.hold = threading.Event()
        with pytest.raises(OutOfTime, match="gave no answer for model 'news' in the time"):
            client(["bank"])
        double.hold.set()
    double.hold, double.faults = None, ["UNAVAILABLE"] * 100
    with connect(double, protocol, timeout=2, attempts=100) as client, pytest.raises(TryAgain):
        client(["bank"])
    assert 50 < len(double.faults) < 99


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "other"}, "does not serve model 'other': "),
        ({"version": 9}, "does not serve model 'news', version 9: "),
        ({"label": "next"}, r"refused the request to model 'news', label 'next' \(INVALID_ARGUMENT\): .*next"),
        ({"signature": "none"}, "has no signature 'none' but classify, embed, explain, predict_tokens, "),
    ],
)
def test_what_is_not_there_is_named(protocol, options, message, double):
    with connect(double, protocol, **options) as client, pytest.raises(RequestFailed, match=message) as caught:
        client(["bank"])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_no_server_is_a_sentence(protocol):
    with (
        make_client("localhost:9", model="news", protocol=protocol, timeout=1, attempts=2) as client,
        pytest.raises(TryAgain, match="localhost:9 is not available: "),
    ):
        client(["bank"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "localhost"}, "'localhost' is no address: give host:port"),
        ({"protocol": "soap"}, "it is grpc or rest"),
        ({"model": ""}, "has no name"),
        ({"version": 1, "label": "stable"}, "give one of them"),
        ({"version": -1}, "a number from 0"),
        ({"version": 2**63}, "a number from 0"),
        ({"timeout": 0}, "must be above 0"),
        ({"timeout": float("nan")}, "must be above 0"),
        ({"timeout": float("inf")}, "86400 seconds at most"),
        ({"parallel": 0}, "must be above 0"),
    ],
)
def test_wrong_arguments_are_refused(options, message):
    with pytest.raises(RequestFailed, match=message):
        make_client(**{"target": "localhost:8500", "model": "news", **options})


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_status_inputs_and_lists_that_do_not_fit(protocol, double):
    with connect(double, protocol) as client:
        assert client.versions() == {1: "AVAILABLE", 2: "AVAILABLE"}
        assert client.inputs == ["text"]
        none = client([])
        assert len(none) == 0 and none.labels == [] and none.probabilities.shape == (0, len(LABELS))
        with pytest.raises(RequestFailed, match="takes text, not 2 lists"):
            client(["a"], ["b"])
        with pytest.raises(RequestFailed, match="differ in length: 1, 2"):
            client.predict({"text": ["a"], "other": ["b", "c"]})
        with pytest.raises(RequestFailed, match="takes text, not 'other'"):
            client.predict({"other": ["b", "c"]})
        with pytest.raises(RequestFailed, match="the input 'text' takes a list, not 'a text'"):
            client.predict({"text": "a text"})
        for value, kind in ((None, "NoneType"), (float("nan"), "float"), (3, "int"), (["a"], "list")):
            with pytest.raises(RequestFailed, match=f"row 2: .* is no text but {kind}"):
                client(["a", value])


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_call_is_answered_by_one_version(protocol, double, expected):
    """Version 2 appears while the parts of a call of version 1 are under way."""
    limits = {"batch_size": 5, "parallel": 1}
    double.withdrawn = {2}
    with connect(double, protocol, **limits) as client:
        double.faults = [double.withdrawn.clear]
        answers = client(TEXTS)
        assert answers.labels == expected[1].labels and answers.version == 1
        answers = client(TEXTS)
        assert answers.labels == expected[2].labels and answers.version == 2


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_call_whose_version_is_withdrawn_is_asked_again_of_the_next(protocol, double, expected):
    limits = {"batch_size": 5, "parallel": 1}
    with connect(double, protocol, **limits) as client:
        double.faults = [lambda: double.withdrawn.add(2)]
        answers = client(TEXTS)
        assert answers.labels == expected[1].labels and answers.version == 1
        assert double.batches == [5, 5, 5, 2]
    with connect(double, protocol, version=2, **limits) as client, pytest.raises(NotServed, match="version 2"):
        client(TEXTS)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_pinned_client_stays_with_its_version(protocol, double, expected):
    double.withdrawn = {2}
    with connect(double, protocol) as client:
        pinned = client.pinned()
        double.withdrawn = set()
        assert pinned(TEXTS).labels == expected[1].labels and client(TEXTS).labels == expected[2].labels
        double.withdrawn = {1}
        with pytest.raises(NotServed, match="does not serve model 'news', version 1"):
            pinned(TEXTS)
    with pytest.raises(RequestFailed, match="is closed"):
        pinned(TEXTS)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_many_threads_share_a_client(protocol, double, expected):
    with connect(double, protocol) as client, ThreadPoolExecutor(16) as pool:
        labels = list(pool.map(lambda text: client(text)["label"], TEXTS * 8))
    assert labels == expected[2].labels * 8


def test_pairs(tmp_path):
    export_tiny(tmp_path, pair=True)
    first, second = TEXTS, TEXTS[::-1]
    wanted = Classifier(tmp_path)(first, second)
    with ServingDouble(tmp_path, "pairs") as double:
        for protocol in PROTOCOLS:
            with connect(double, protocol, model="pairs", batch_size=5) as client:
                assert client(first, second).labels == wanted.labels
                assert client(first[0], second[0])["label"] == wanted.labels[0]


def test_a_single_output_and_rows_whose_width_follows_the_batch(tmp_path):
    """Such as a server's own batching cannot join either."""
    import tensorflow as tf

    class Words(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "text")])
        def words(self, text):
            return {"words": tf.strings.split(text).to_tensor("")}

    module = Words()
    tf.saved_model.save(module, str(tmp_path / "1"), signatures={"words": module.words})
    with ServingDouble(tmp_path, "words") as double:
        for protocol in PROTOCOLS:
            with connect(double, protocol, model="words", signature="words", batch_size=1) as client:
                assert client(["a b", "c d"])["words"].tolist() == [["a", "b"], ["c", "d"]]
                with pytest.raises(BadAnswer, match=r"'words' has rows of object\[1\] and object\[2\] in different"):
                    client(["a", "b c"])


def test_any_bytes_arrive_as_they_are(tmp_path):
    import tensorflow as tf

    class Echo(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "text")])
        def hex(self, text):
            return {"base64": tf.io.encode_base64(text), "size": tf.strings.length(text)}

    module, texts = Echo(), [b"\xff\xfe", "é \U0001f600".encode(), b"", b"a\x00b", b"\xed\xa0\x80"]
    tf.saved_model.save(module, str(tmp_path / "1"), signatures={"hex": module.hex})
    with ServingDouble(tmp_path, "echo") as double:
        for protocol in PROTOCOLS:
            with connect(double, protocol, model="echo", signature="hex") as client:
                answer = client(texts)
                assert client(b"\xff")["size"] == 1
            wanted = [base64.urlsafe_b64encode(text).rstrip(b"=").decode() for text in texts]
            assert answer["base64"].tolist() == wanted
            assert answer["size"].tolist() == [len(text) for text in texts]


def test_batches_of_the_servers_own_scheduler(versions, expected):
    """Single texts sent at once; where its queue is full, they are sent again."""
    batching = {"num_batch_threads": 1, "max_batch_size": 2, "batch_timeout_micros": 20_000, "max_enqueued_batches": 1}
    with ServingDouble(versions, "news", batching=batching) as double:
        refused = double.refused
        with connect(double, "grpc", batch_size=1, parallel=12, attempts=100, timeout=60) as client:
            answer = client(TEXTS * 4)
    assert answer["label"].tolist() == expected[2].labels * 4
    assert set(refused) == {"UNAVAILABLE"}


def ask(capsys, double, *arguments, protocol="grpc") -> tuple[int, str, str]:
    target = [] if double is None else ["--target", getattr(double, protocol), "--protocol", protocol]
    status = module.main([*target, "--model", "news", *map(str, arguments)])
    output = capsys.readouterr()
    return status, output.out, output.err


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_command_line(protocol, double, expected, tmp_path, capsys, monkeypatch):
    texts = [text for text in TEXTS if text and text.isascii()]
    wanted = dict(zip(TEXTS, expected[2].labels, strict=True))
    status, lines, _ = ask(capsys, double, *texts, protocol=protocol)
    assert status == 0
    assert [line.split()[0] for line in lines.splitlines()] == [wanted[text] for text in texts]
    (tmp_path / "a.csv").write_text("review\n" + "\n".join(f'"{text}"' for text in texts) + "\n")
    options = ["--input", tmp_path / "a.csv", "--text-column", "review", "--format", "jsonl", "--batch-size", 2]
    status, output, _ = ask(capsys, double, *options, protocol=protocol)
    rows = [json.loads(line) for line in output.splitlines()]
    assert [row["review"] for row in rows] == texts
    assert [row["label"] for row in rows] == [wanted[text] for text in texts]
    assert all(len(row["probabilities"]) == len(LABELS) for row in rows)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("\n".join(texts).encode())))
    assert ask(capsys, double, protocol=protocol)[1] == lines


@pytest.mark.parametrize(
    ("arguments", "faults", "status", "message"),
    [
        (["--label", "next", "a"], [], 2, "label 'next'"),
        (["--version", "7", "a"], [], 2, "version 7"),
        (["--timeout", "nan", "a"], [], 2, "timeout must be above 0"),
        (["a"], ["RESOURCE_EXHAUSTED"] * 5, 75, "too busy: ordered by the test"),
        (["a"], ["UNAVAILABLE"] * 5, 75, "not available"),
        (["--input", "absent.txt"], [], 2, "no such file"),
        (["--key", "key.pem", "a"], [], 2, "go together"),
        (["--root", "ca.pem", "a"], [], 2, "ca.pem: no such certificate"),
    ],
)
def test_command_line_errors_are_one_sentence(arguments, faults, status, message, double, capsys):
    double.faults = faults
    found, _, error = ask(capsys, double, *arguments)
    assert found == status
    assert error.startswith("error: ") and error.count("\n") == 1 and message in error


def test_numbers_are_of_the_signatures_type(tmp_path):
    import tensorflow as tf

    class Sum(tf.Module):
        @tf.function(
            input_signature=[tf.TensorSpec([None, 2], tf.int32, "ids"), tf.TensorSpec([None], tf.float32, "x")]
        )
        def sum(self, ids, x):
            return {"sum": tf.reduce_sum(ids, 1), "x": x, "even": tf.reduce_sum(ids, 1) % 2 == 0}

    module = Sum()
    tf.saved_model.save(module, str(tmp_path / "1"), signatures={"sum": module.sum})
    with ServingDouble(tmp_path, "sum") as double:
        for protocol in PROTOCOLS:
            with connect(double, protocol, model="sum", signature="sum", batch_size=2) as client:
                answers = client.predict({"ids": [[1, 2], [3, 4], [5, 7]], "x": np.array([1, 2, 0.5])})
                assert [(name, answers[name].dtype) for name in ("sum", "x", "even")] == [
                    ("sum", np.int32), ("x", np.float32), ("even", bool)
                ]  # fmt: skip
                assert list(answers)[2] == {"even": True, "sum": 12, "x": 0.5}
                for ids in ([[1, 2], [3]], [[1, 2.5]], [[1, 2**40]], [["1", "2"]], [[1, None]]):
                    with pytest.raises(
                        RequestFailed, match="the input 'ids' takes int32 numbers, in rows of one length"
                    ):
                        client.predict({"ids": ids, "x": [1.0] * len(ids)})


def test_the_versions_of_a_command_are_one(double, expected, capsys, tmp_path):
    (tmp_path / "a.txt").write_text("bank\n" * 3)
    options = ["--input", tmp_path / "a.txt", "--batch-size", 1, "--parallel", 1]
    double.faults = [lambda: double.withdrawn.add(2)]
    status, output, error = ask(capsys, double, *options, protocol="rest")
    assert (status, output) == (75, "")
    assert "does not serve model 'news', version 2: " in error and "It was replaced after 0 rows: ask again" in error


def test_rest_needs_no_tensorflow(double, expected):
    program = (
        "import sys; from export.client import main; status = main(sys.argv[1:]);"
        "print([name for name in ('tensorflow', 'grpc') if name in sys.modules]); sys.exit(status)"
    )
    arguments = ["--target", double.rest, "--protocol", "rest", "--model", "news", "bank"]
    process = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, cwd=Path(__file__).parents[1]
    )
    assert process.returncode == 0, process.stderr
    answer, modules = process.stdout.splitlines()
    assert answer.startswith(expected[2].labels[TEXTS.index("bank")]) and modules == "[]"
