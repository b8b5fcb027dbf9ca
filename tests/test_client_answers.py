"""The client against servers that answer wrongly: one sentence and a status, never a traceback."""

import json

import numpy as np
import pytest
from misbehaving import SIGNATURE, UNTOLD, described, http, misbehaving, right, spec

from export import client as module
from export.served import Client, Limits
from export.transport import BadAnswer, RequestFailed


def command(capsys, server, *arguments) -> tuple[int, str, str]:
    status = module.main(["--target", server.address, "--protocol", "rest", "--model", "m", *map(str, arguments)])
    output = capsys.readouterr()
    return status, output.out, output.err


def connect(server, **limits) -> Client:
    return Client(server.address, model="m", protocol="rest", limits=Limits(**{"timeout": 5, **limits}))


WRONG = {
    "html": (b"<html>please\nlog in</html>", "model 'm', version 1 with no JSON but <html>please log in</html>"),
    "nothing": (b"", "with no JSON but nothing: is it TensorFlow Serving's REST port?"),
    "cut off": (json.dumps({"outputs": right(1)}).encode()[:-9], "with no JSON but {"),
    "no UTF-8": (b'{"outputs": {"label": ["\xff\xfe"]}}', "with bytes that are not UTF-8"),
    "UTF-16": (json.dumps({"outputs": right(1)}).encode("utf-16"), "with bytes that are not UTF-8"),
    "deep": (b'{"outputs": ' + b"[" * 99_999 + b"]" * 99_999 + b"}", "with no JSON but {"),
    "long number": (b'{"outputs": ' + b"9" * 5000 + b"}", "with no JSON but {"),
    "a list": ([1, 2], "with JSON that is no object: [1, 2]"),
    "null": (None, "with JSON that is no object: None"),
    "rows": ({"predictions": []}, "with JSON without outputs: {'predictions': []}"),
    "an error": ({"error": "\x1b[31mno"}, r"with JSON without outputs: {'error': '\x1b[31mno'}"),
    "one output": ({"outputs": ["a"]}, "with JSON without outputs: {'outputs': ['a']}"),
    "outputs null": ({"outputs": None}, "with JSON without outputs"),
    "an output less": ({"outputs": {"label": ["a"], "score": [0.5]}}, "the outputs label, score in place of label, "),
    "an output more": ({"outputs": right(1) | {"x\n": [1]}}, "the outputs label, probabilities, score, x in place of"),
    "a row more": ({"outputs": right(2)}, "'label' has 2 rows for 1 texts"),
    "no row": ({"outputs": right(0)}, "'label' has 0 rows for 1 texts"),
    "no rows": ({"outputs": right(1) | {"score": 0.5}}, "'score' has a single value for 1 texts"),
    "null inside": ({"outputs": right(1) | {"score": [None]}}, "'score' that is no array of strings or numbers: [N"),
    "an object inside": ({"outputs": right(1) | {"label": [{"b64": "YQ=="}]}}, "with 'label' that is no array"),
    "mixed": ({"outputs": right(1) | {"probabilities": [[0.5, "b"]]}}, "with 'probabilities' that is no array"),
    "ragged": ({"outputs": right(1) | {"probabilities": [[0.5, [0.5]]]}}, "with 'probabilities' that is no array"),
    "too deep": ({"outputs": right(1) | {"score": [[0.5]]}}, "'score' has rows of [1] in place of []"),
    "too wide": ({"outputs": right(1, width=3)}, "'probabilities' has rows of [3] in place of [2]"),
    "text for number": ({"outputs": right(1) | {"score": ["0.5"]}}, "'score' has the type string in place of float32"),
    "number for text": ({"outputs": right(1) | {"label": [1]}}, "'label' that is no array of strings or numbers: [1]"),
    "truth for number": ({"outputs": right(1) | {"score": [True]}}, "with 'score' that is no array"),
    "NaN": ({"outputs": right(1) | {"score": [float("nan")]}}, "'score' has numbers that are not finite"),
    "infinity": ({"outputs": right(1) | {"probabilities": [[0.1, -float("inf")]]}}, "has numbers that are not finite"),
    "huge": (b'{"outputs": {"label": ["a"], "score": [1e999], "probabilities": [[1, 0]]}}', "that are not finite"),
    "large": ({"outputs": right(1) | {"score": [10**400]}}, "with 'score' that is no array of strings or numbers"),
}  # fmt: skip


@pytest.mark.parametrize(("content", "message"), WRONG.values(), ids=WRONG)
def test_what_is_no_answer_is_refused_in_one_sentence(content, message, capsys):
    with misbehaving(lambda number, texts: http(content)) as server:
        status, output, error = command(capsys, server, "hello")
    assert (status, output) == (2, "")
    assert error.startswith(f"error: {server.address} ") and error.count("\n") == 1 and message in error
    assert error[:-1].isprintable() and len(error) < 500 and len(server.seen) == 1


DESCRIPTIONS = {
    "html": b"<html>please log in</html>",
    "a list": [1],
    "empty": {},
    "no map": {"metadata": {"signature_def": {"signature_def": [1]}}},
    "a number": {"metadata": {"signature_def": {"signature_def": {"serving_default": 3}}}},
    "sizes": {"metadata": {"signature_def": {"signature_def": {"serving_default": {
        "inputs": {"text": {"tensor_shape": {"dim": [{"size": float("inf")}]}}}, "outputs": {}}}}}},
    "a version": json.loads(described().split(b"\r\n\r\n")[1]) | {"model_spec": {"version": "one"}},
}  # fmt: skip


@pytest.mark.parametrize("content", DESCRIPTIONS.values(), ids=DESCRIPTIONS)
def test_what_is_no_description_is_refused_in_one_sentence(content, capsys):
    with misbehaving(lambda number, texts: http(right(1)), http(content)) as server:
        status, output, error = command(capsys, server, "hello")
        assert (status, output) == (2, "") and error.count("\n") == 1 and server.address in error
        with connect(server) as client, pytest.raises(BadAnswer):
            client.versions()


def test_parts_that_differ_are_refused():
    """Of a server that does not say which version it is, or what its outputs are."""

    def parts(width):
        return lambda number, texts: http({"outputs": right(len(texts), width(len(texts)))})

    untold = described(UNTOLD, version=None)
    differing = r"'probabilities' has rows of float32\[5\] and float32\[6\] in different parts"
    with (
        misbehaving(parts(lambda rows: 5 if rows == 32 else 6), untold) as server,
        connect(server) as client,
        pytest.raises(BadAnswer, match=differing),
    ):
        client(["hello"] * 40)
    with misbehaving(parts(lambda rows: 5), untold) as server, connect(server) as client:
        answers = client(["hello"] * 40)
    assert answers.probabilities.shape == (40, 5) and answers.probabilities.dtype == np.float32
    assert answers.version is None

    def shifted(number, texts):
        return http({"outputs": right(len(texts) + (1 if number == 2 else -1))})

    with (
        misbehaving(shifted, untold) as server,
        connect(server, parallel=1) as client,
        pytest.raises(BadAnswer, match="'label' has 31 rows for 32 texts"),
    ):
        client(["hello"] * 80)


def test_parts_are_asked_of_the_version_that_the_label_means():
    with (
        misbehaving(lambda number, texts: http({"outputs": right(len(texts))}), described(version=7)) as server,
        Client(server.address, model="m m", label="a/b", protocol="rest") as client,
    ):
        assert client(["hello"] * 40).version == 7
        assert client("hello")["label"] == "a"
        assert client(["hello"]).version is None
    assert server.paths[0] == "/v1/models/m%20m/labels/a%2Fb/metadata"
    assert sorted(server.paths[1:3]) == ["/v1/models/m%20m/versions/7:predict"] * 2
    assert server.paths[3:] == ["/v1/models/m%20m/labels/a%2Fb:predict"] * 2


def test_a_signature_that_changes_with_the_version_is_read_again():
    wider = SIGNATURE | {"outputs": SIGNATURE["outputs"] | {"probabilities": spec("DT_FLOAT", -1, 3)}}
    width = 2

    def answer(number, texts):
        return http({"outputs": right(len(texts), width)})

    with misbehaving(answer, described(), described(wider, version=2)) as server, connect(server) as client:
        assert client(["hello"]).probabilities.shape == (1, 2)
        width = 3
        assert client(["hello"]).probabilities.shape == (1, 3)
        width = 4
        with pytest.raises(BadAnswer, match=r"rows of \[4\] in place of \[3\]"):
            client(["hello"])


@pytest.mark.parametrize(
    ("status", "content", "message"),
    [
        ("302 Found", b"", "refused the request to model 'm', version 1 (HTTP 302): HTTP status 302"),
        ("400 Bad Request", {"error": "no\n\x9b1mgood"}, r"(INVALID_ARGUMENT): no \u009b1mgood."),
        ("404 Not Found", b"<html>nginx</html>", "does not serve model 'm', version 1: <html>nginx</html>"),
        ("500 Internal Server Error", [], "(HTTP 500): []"),
        ("500 Internal Server Error", {"error": {"a": 1}}, '(HTTP 500): {"error": {"a": 1}}'),
        ("418 Teapot", b"\xff" * 999, "(HTTP 418): \ufffd\ufffd"),
        ("401 No", {"error": "see http://u:secret@host/x?"}, "(HTTP 401): see http://host/x?"),
    ],
)
def test_refusals_are_quoted_on_one_line(status, content, message, capsys):
    with misbehaving(lambda number, texts: http(content, status, Location="http://127.0.0.1:9/")) as server:
        found, _, error = command(capsys, server, "hello", "--version", 1)
    assert (found, error.count("\n")) == (2, 1)
    assert message in error and "secret" not in error


LABEL = "\x1b[31mred\x07\nfake 0.9999\tline\u202eevil\x9b\u2028\U000e0041 é \u05d0 \U0001f468\u200d\U0001f469"


def test_labels_have_no_power_over_the_terminal(capsys):
    def answer(number, texts):
        return http({"outputs": right(1) | {"label": [LABEL]}})

    shown = r"\u001b[31mred\u0007\nfake 0.9999\tline\u202eevil\u009b\u2028\udb40\udc41 é א 👨" "\u200d👩"
    with misbehaving(answer) as server:
        assert command(capsys, server, "a\x1btext")[1] == f"{shown} 0.5000\ta text\n"
        assert json.loads(command(capsys, server, "text", "--format", "jsonl")[1])["label"] == LABEL

    def other(number, texts):
        return http({"outputs": {"answer": [LABEL], "half": ["\ud800"]}})

    outputs = {"answer": spec("DT_STRING", -1), "half": spec("DT_STRING", -1)}
    with misbehaving(other, described(SIGNATURE | {"outputs": outputs})) as server:
        line, _, text = command(capsys, server, "text")[1].rstrip("\n").rpartition("\t")
    assert json.loads(line) == {"answer": LABEL, "half": "?"} and text == "text" and "\u202e" not in line


def test_texts_that_are_none_are_not_sent():
    with (
        misbehaving(lambda number, texts: http({"outputs": right(len(texts))}), described(UNTOLD)) as server,
        connect(server) as client,
        pytest.raises(RequestFailed, match="row 3: nan is no text but float"),
    ):
        client(["a", b"\xff", float("nan")])
    assert server.seen == []


def test_a_text_with_a_tab_is_one_text_beside_two_columns(capsys):
    inputs = {"text": spec("DT_STRING", -1), "price": spec("DT_FLOAT", -1), "size": spec("DT_FLOAT", -1)}
    told = described(SIGNATURE | {"inputs": inputs})
    with misbehaving(lambda number, texts: http({"outputs": right(1)}), told) as server:
        status, output, error = command(capsys, server, "a\tb")
        assert (status, output) == (0, "a 0.5000\ta b |  | \n"), error
        assert "texts without price, size" in error
        assert command(capsys, server, "a\t1\t2")[0] == 2
