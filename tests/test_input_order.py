"""Values without names reach the inputs that are meant, or are refused: the client's order is the model's own."""

import json
from pathlib import Path

import numpy as np
import pytest
from serving_double import ServingDouble
from tiny_export import export_columns, export_tiny

from export import load
from export.client import Client
from export.client import main as client
from export.failures import RequestFailed
from export.input_order import InputOrder, order_of
from export.predict import main as predict
from export.request_schema import FILE, RequestSchema, request_schema
from export.transport import Spec
from pipeline.features import Features
from pipeline.features.columns import Category, Number

STRING, FLOAT = Spec(np.dtype(object), (None,)), Spec(np.dtype(np.float32), (None,))
BRAND, COLOUR = (Category(name, ("goal", "bank"), True, True) for name in ("brand", "a colour"))
TEXT = "goal match team"


@pytest.fixture(scope="module")
def one(tmp_path_factory) -> Path:
    return export_columns(tmp_path_factory.mktemp("one"), BRAND)


@pytest.fixture(scope="module")
def several(tmp_path_factory) -> Path:
    return export_columns(tmp_path_factory.mktemp("several"), Number("price", 2.0, 1.5), COLOUR, BRAND)


def asked(capsys, main, *arguments) -> tuple[int, str, str]:
    status = main(list(map(str, arguments)))
    return status, *capsys.readouterr()


@pytest.mark.parametrize(
    ("features", "known"),
    [
        (Features(), True),
        (Features(("a", "b")), True),
        (Features(("text",), (BRAND,)), True),
        (Features(("a", "b"), (Number("price"),)), True),
        (Features(("a", "b"), (BRAND,)), False),
        (Features(("text",), (BRAND, COLOUR)), False),
        (Features(("title", "text", "body")), False),
        (Features(("text_b", "text_a", "body")), False),
    ],
)
def test_the_order_is_the_models_wherever_it_is_said_to_be(features, known, tmp_path):
    columns = dict(zip(features.inputs[len(features.text_columns) :], features.columns, strict=True))
    served = {name: FLOAT if isinstance(columns.get(name), Number) else STRING for name in sorted(features.inputs)}
    found = order_of(served)
    assert sorted(found.names) == sorted(features.inputs) and found.known == known
    assert not known or found == (features.inputs, len(features.text_columns), True)
    (tmp_path / "schema.json").write_text(json.dumps(request_schema(features)))
    schema = RequestSchema(tmp_path / "schema.json")
    assert order_of(served, schema) == InputOrder(features.inputs, len(features.text_columns), True)
    assert order_of({"other": STRING}, schema) == InputOrder(["other"], 1, True)


def test_numbers_are_no_texts_but_may_have_any_order():
    several = {"text": STRING, "b": FLOAT, "a": FLOAT}
    assert order_of(several) == InputOrder(["text", "a", "b"], 1, False)
    assert order_of({"ids": FLOAT}) == InputOrder(["ids"], 0, True)
    assert order_of({"token_ids": FLOAT, "padding_mask": FLOAT}).known is False


@pytest.mark.parametrize("protocol", ["grpc", "rest"])
def test_the_text_stands_before_its_column(one, protocol, capsys):
    expected = load(one)
    assert expected(TEXT, "bank")["probabilities"] != expected("bank", TEXT)["probabilities"]
    with ServingDouble(one.parent, "col") as double:
        target = getattr(double, protocol)
        with Client(target, protocol=protocol, model="col") as served:
            assert served.inputs == expected.inputs == ["text", "brand"]
            answer = served([TEXT], ["bank"])[0]
        np.testing.assert_allclose(answer["probabilities"], expected(TEXT, "bank")["probabilities"], atol=1e-5)
        options = ["--target", target, "--protocol", protocol, "--model", "col"]
        for text in (f"{TEXT}\tbank", TEXT):
            status, output, error = asked(capsys, client, *options, text)
            assert status == 0 and (status, output, error) == asked(capsys, predict, one, text)
        assert "texts without brand, which count as missing" in error


def test_an_order_that_nobody_tells_is_refused(several, capsys, tmp_path):
    expected, schema = load(several), several / FILE
    assert expected.inputs == ["text", "price", "a_colour", "brand"]
    line = f"{TEXT}\t3.5\tgoal\tbank"
    with ServingDouble(several.parent, "col") as double:
        with Client(double.grpc, model="col") as served:
            assert sorted(served.inputs) == sorted(expected.inputs) and not served.order.known
            with pytest.raises(RequestFailed, match=r"in an order that its server does not tell: .*client\.predict"):
                served([TEXT], [3.5], ["goal"], ["bank"])
            held = served.held_to(schema)
            assert held.inputs == held.pinned().inputs == expected.inputs
            found = held([TEXT], [3.5], ["goal"], ["bank"])
        np.testing.assert_allclose(
            found.probabilities[0], expected(TEXT, 3.5, "goal", "bank")["probabilities"], atol=1e-5
        )
        options = ["--target", double.grpc, "--model", "col"]
        for text in (line, TEXT):
            status, output, error = asked(capsys, client, *options, text)
            assert (status, output) == (2, "") and "does not tell: give --schema" in error
            status, output, error = asked(capsys, client, *options, "--schema", schema, text)
            plain, warned = asked(capsys, predict, several, text)[1:]
            assert (status, output, error) == (0, plain, warned.replace("a colour", "a_colour"))
        (tmp_path / "rows.csv").write_text(f"price,brand,text,a_colour\n3.5,bank,{TEXT},goal\n")
        for more in ((), ("--schema", schema), ("--schema", schema, "--text-column", "text")):
            status, output, _ = asked(capsys, client, *options, *more, "--input", tmp_path / "rows.csv")
            assert status == 0 and output.split("\t")[0] == asked(capsys, predict, several, line)[1].split("\t")[0]
        status, _, error = asked(capsys, client, *options, "--input", tmp_path / "rows.csv", "--text-column", "text")
        assert status == 2 and "its server does not tell the texts: give --schema" in error


@pytest.mark.parametrize("model", ["one", "several"])
def test_a_file_of_texts_alone_is_refused_for_what_it_is(model, request, capsys, tmp_path):
    version = request.getfixturevalue(model)
    (tmp_path / "texts.txt").write_text(f"{TEXT}\n")
    with ServingDouble(version.parent, "col") as double:
        for main, first in ((client, ["--target", double.grpc, "--model", "col"]), (predict, [version])):
            for more in ((), ("--input_format", "lines")):
                status, output, error = asked(capsys, main, *first, "--input", tmp_path / "texts.txt", *more)
                assert (status, output) == (2, "") and "has a text a line, and the model takes " in error
                assert "brand" in error and error.count("\n") == 1


def test_a_pair_is_asked_as_it_is_predicted(tmp_path, capsys):
    version = export_tiny(tmp_path, pair=True)
    with ServingDouble(tmp_path, "pairs") as double:
        text = f"{TEXT}\tbank"
        status, output, _ = asked(capsys, client, "--target", double.grpc, "--model", "pairs", text)
        assert status == 0 and output == asked(capsys, predict, version, text)[1]
