"""Run as a program by verify.py: load a SavedModel with nothing but tensorflow and tensorflow_text, and ask it
everything that it can be asked.

python answer.py SAVED_MODEL texts.json answers.json
"""

import json
import sys

import tensorflow as tf
import tensorflow_text  # noqa: F401  (registers the tokenizer's ops)

# All at once, an odd number, and each alone: no answer may depend on its neighbours.
BATCH_SIZES = {"all in one batch": None, "batches of 7": 7, "one by one": 1}
# Texts to explain, which takes about ninety times as long as to answer.
EXPLAINED = 2


def main() -> None:
    folder, source, target = sys.argv[1:]
    with open(source) as file:
        request = json.load(file)
    columns, tokens = request["texts"], request["tokens"]
    model = tf.saved_model.load(folder)
    names = sorted(model.signatures["serving_default"].structured_input_signature[1])
    count = len(columns[0])
    rows = [[text.encode("utf-8", "replace") for text in row] for row in zip(*columns, strict=True)]

    def texts(part: list) -> dict[str, tf.Tensor]:
        return {name: tf.constant(column) for name, column in zip(names, zip(*part, strict=True), strict=True)}

    answers = {}
    for way, size in BATCH_SIZES.items():
        starts = range(0, count, size or count)
        found = [_ask(model, "serving_default", texts(rows[start : start + (size or count)])) for start in starts]
        joined = {key: [value for answer in found for value in answer[key]] for key in found[0]}
        answers[f"serving_default, {way}"] = ("serving_default", joined)
    for name in model.signatures:
        wanted = sorted(model.signatures[name].structured_input_signature[1])
        if name == "serving_default":
            continue
        if wanted == names:
            inputs = texts(rows[: EXPLAINED if name == "explain" else count])
        elif wanted == ["inputs"]:
            inputs = {"inputs": tf.constant([_example(names, row) for row in rows])}
        elif tokens and wanted == sorted(tokens):
            inputs = {key: tf.constant(values, tf.int32) for key, values in tokens.items()}
        else:
            continue
        answers[name] = (name, _ask(model, name, inputs))
    loaded = [name for name in ("keras_nlp", "keras_hub", "pipeline", "export") if name in sys.modules]
    if loaded:
        raise RuntimeError(f"{', '.join(loaded)} should not be needed to serve")
    with open(target, "w") as file:
        json.dump(answers, file)


def _ask(model, signature: str, inputs: dict[str, tf.Tensor]) -> dict:
    return {key: _plain(value.numpy().tolist()) for key, value in model.signatures[signature](**inputs).items()}


def _plain(value):
    """Nested lists with strings in place of bytes."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value.decode() if isinstance(value, bytes) else value


def _example(names: list[str], row: list[bytes]) -> bytes:
    features = {
        name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[text]))
        for name, text in zip(names, row, strict=True)
    }
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


if __name__ == "__main__":
    main()
