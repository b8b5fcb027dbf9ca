"""Limits that keep the code easy to read."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
FILES = [path for folder in ("pipeline", "export") for path in sorted((ROOT / folder).rglob("*.py"))]
LONGEST, MOST_PARAMETERS = 60, 8
# Of keras-nlp's TransformerEncoder and of Keras' MultiHeadAttention inside it.
PRIVATE = ("._self_attention", "._feedforward", "._dropout_layer")


def functions():
    """(path:line name, lines, parameters without self and cls) of every function."""
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                place = f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
                arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                named = [argument for argument in arguments if argument.arg not in ("self", "cls")]
                yield place, node.end_lineno - node.lineno + 1, len(named)


def test_no_function_is_longer_than_60_lines():
    found = list(functions())
    assert len(found) > 300
    assert [f"{place}: {lines} lines" for place, lines, _ in found if lines > LONGEST] == []


def test_no_function_takes_more_than_8_parameters():
    assert [f"{place}: {count}" for place, _, count in functions() if count > MOST_PARAMETERS] == []


def test_one_file_names_the_private_attributes_of_keras_nlp():
    named = [path.name for path in FILES if any(name in path.read_text(encoding="utf-8") for name in PRIVATE)]
    assert named == ["transformer_parts.py"]
