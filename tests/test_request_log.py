"""What a service keeps of its requests: all that a client asks with and answers, whichever share is chosen."""

import json

import numpy as np
import pytest

from export.answers import Answers
from export.request_log import Record, RequestLog, read

OUTPUTS = {
    "label": np.array(["a", "b"], object),
    "score": np.array([0.5, 0.25], np.float32),
    "probabilities": np.array([[0.5, 0.5], [0.75, 0.25]], np.float32),
}
KEPT = {name: values.tolist() for name, values in OUTPUTS.items()}
FIRST = {name: values[:1] for name, values in KEPT.items()}
ANSWERS = Answers(OUTPUTS, version=3)
ACCEPTED = {
    "answers": ({"text": ["x", "y"]}, ANSWERS, ["x", "y"], KEPT),
    "arrays": ({"text": np.array(["x", "y"], object)}, OUTPUTS, ["x", "y"], KEPT),
    "bytes": ({"text": [b"x\xff", "y"]}, KEPT, ["x\ufffd", "y"], KEPT),
    "array of bytes": ({"text": np.array([b"x", b"y"])}, OUTPUTS, ["x", "y"], KEPT),
    "tuple": ({"text": ("x", "y")}, ANSWERS, ["x", "y"], KEPT),
    "one text": ({"text": "x"}, ANSWERS[0], ["x"], FIRST),
    "one text as bytes": ({"text": b"x"}, ANSWERS[0], ["x"], FIRST),
    "one text, a list of answers": ({"text": "x"}, FIRST, ["x"], FIRST),
    "a vector for a text": ({"text": "x"}, {"embedding": np.array([1.0, 2.0])}, ["x"], {"embedding": [[1.0, 2.0]]}),
}
REFUSED = {
    "rows": ({"text": ["x"]}, OUTPUTS),
    "one answer to a list": ({"text": ["x"]}, ANSWERS[0]),
    "inputs that differ": ({"text": ["x", "y"], "price": [1.0]}, ANSWERS),
    "a generator": ({"text": (text for text in "xy")}, ANSWERS),
    "nothing": ({}, {}),
}


@pytest.mark.parametrize(("inputs", "outputs", "texts", "kept"), ACCEPTED.values(), ids=ACCEPTED)
def test_what_was_asked_and_answered_is_kept(inputs, outputs, texts, kept, tmp_path):
    path = tmp_path / "log.jsonl"
    assert RequestLog(path, share=1).add("news", inputs, outputs, label="stable")
    (record,) = read(path.read_text().splitlines())
    version = 3 if outputs is ANSWERS else None
    assert record == Record(record.time, "news", version, "stable", "serving_default", {"text": texts}, kept)


def test_columns_of_one_row_and_values_that_json_lacks_are_kept(tmp_path):
    log = RequestLog(tmp_path / "log.jsonl", share=1)
    inputs = {"text": "x", "price": np.float32(3.5), "image": np.array([1.0, 2.0]), "day": np.datetime64("2024-05-31")}
    assert log.add("news", inputs, ANSWERS[0], version=7)
    found = json.loads((tmp_path / "log.jsonl").read_text())
    assert found["inputs"] == {"text": ["x"], "price": [3.5], "image": [[1.0, 2.0]], "day": ["2024-05-31"]}
    assert found["version"] == 7


@pytest.mark.parametrize(("inputs", "outputs"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_fit_is_refused_also_where_it_is_not_chosen(inputs, outputs, tmp_path):
    for share in (0, 1):
        with pytest.raises(ValueError, match="no lists of as many rows"):
            RequestLog(tmp_path / "log.jsonl", share=share).add("news", inputs, outputs)
    assert not (tmp_path / "log.jsonl").exists()
