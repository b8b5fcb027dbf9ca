"""Run as a program by verify.py: load a SavedModel with nothing but tensorflow and tensorflow_text, and answer texts.

python answer.py SAVED_MODEL texts.json answers.json
"""

import json
import sys

import tensorflow as tf
import tensorflow_text  # noqa: F401  (registers the tokenizer's ops)

# All at once, an odd number, and each alone: no answer may depend on its neighbours.
BATCH_SIZES = {"all in one batch": None, "batches of 7": 7, "one by one": 1}
# Texts to explain, which takes hundreds of times as long as to answer.
EXPLAINED = 4


def main() -> None:
    folder, source, target = sys.argv[1:]
    with open(source) as file:
        request = json.load(file)
    columns, tokens = request["texts"], request["tokens"]
    model = tf.saved_model.load(folder)
    serve, classify = (model.signatures[name] for name in ("serving_default", "classify"))
    names = sorted(serve.structured_input_signature[1])
    count = len(columns[0])
    rows = [[text.encode("utf-8", "replace") for text in row] for row in zip(*columns, strict=True)]
    examples = tf.constant([_example(names, row) for row in rows])

    def columns_of(part: list) -> dict[str, tf.Tensor]:
        return {name: tf.constant(column) for name, column in zip(names, zip(*part, strict=True), strict=True)}

    answers = {}
    for way, size in BATCH_SIZES.items():
        starts = range(0, count, size or count)
        found = [serve(**columns_of(rows[start : start + (size or count)])) for start in starts]
        answers[f"serving_default, {way}"] = _predictions(found)
    if "predict_tokens" in model.signatures and tokens:
        inputs = {name: tf.constant(values, tf.int32) for name, values in tokens.items()}
        answers["predict_tokens"] = _predictions([model.signatures["predict_tokens"](**inputs)])
    for name, number in (("top_k", count), ("embed", count), ("explain", EXPLAINED)):
        if name in model.signatures:
            answer = model.signatures[name](**columns_of(rows[:number]))
            answers[name] = {key: _plain(value.numpy().tolist()) for key, value in answer.items()}
    answer = classify(inputs=examples)
    answers["classify"] = {
        "classes": [[name.decode() for name in row] for row in answer["classes"].numpy().tolist()],
        "probabilities": answer["scores"].numpy().tolist(),
    }
    loaded = [name for name in ("keras_nlp", "keras_hub", "pipeline", "export") if name in sys.modules]
    if loaded:
        raise RuntimeError(f"{', '.join(loaded)} should not be needed to serve")
    with open(target, "w") as file:
        json.dump(answers, file)


def _predictions(found: list[dict]) -> dict[str, list]:
    return {
        "labels": [label.decode() for answer in found for label in answer["label"].numpy().tolist()],
        "scores": [score for answer in found for score in answer["score"].numpy().tolist()],
        "probabilities": [row for answer in found for row in answer["probabilities"].numpy().tolist()],
    }


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
