"""A small model made by hand, with all that an export has, and what makes it break a rule."""

import json
from pathlib import Path

import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from export.expected import Expected
from export.graph import operations, read_graph
from export.recorded import write_recorded
from export.server.ask import Replies
from export.server.rules.subject import Broken, Subject
from export.versions import METADATA
from export.warmup import FILE as WARMUP
from export.warmup import write_warmup

LABELS = ("short", "long", "longer")
TEXTS = ["a", "", "some words", "déjà vu", "a much longer text"]


class HandMade(tf.Module):
    """Answers by the length of a text."""

    def __init__(self):
        super().__init__()
        self.kernel = tf.Variable([[0.1, -0.2, 0.3], [0.5, 0.1, -0.4]])

    def probabilities(self, text):
        length = tf.cast(tf.strings.length(text), tf.float32)
        return tf.nn.softmax(tf.stack([length, tf.ones_like(length)], axis=1) @ self.kernel)

    def serve(self, text):
        probabilities = self.probabilities(text)
        label = tf.gather(tf.constant(LABELS), tf.argmax(probabilities, axis=1))
        return {"label": label, "score": tf.reduce_max(probabilities, axis=1), "probabilities": probabilities}

    def classify(self, inputs):
        text = tf.io.parse_example(inputs, {"text": tf.io.FixedLenFeature([], tf.string, "")})["text"]
        classes = tf.repeat(tf.constant([LABELS]), tf.shape(text)[0], axis=0)
        return {"classes": classes, "scores": self.probabilities(text)}


def save(model: HandMade, folder: Path, **more) -> Path:
    """With the signatures of this project, or others in place of them, and what an export has beside it."""
    strings = [tf.TensorSpec([None], tf.string)]
    signatures = {
        "serving_default": tf.function(model.serve, input_signature=[tf.TensorSpec([None], tf.string, "text")]),
        "classify": tf.function(model.classify, input_signature=[tf.TensorSpec([None], tf.string, "inputs")]),
        **{name: tf.function(function, input_signature=strings) for name, function in more.items()},
    }
    options = tf.saved_model.SaveOptions(save_debug_info=False)
    tf.saved_model.save(model, str(folder), signatures, options)
    (folder / "assets.extra").mkdir()
    describe(folder)
    write_recorded(folder, {"text": TEXTS}, Expected(model.probabilities(TEXTS).numpy(), 1e-5), 3)
    write_warmup(folder, {"text": TEXTS}, [1, 4], lambda text, fixed_length: {})
    return folder


def describe(folder: Path, **changes) -> None:
    content = {
        "label_names": LABELS, "task": "single_label", "inputs": ["text"], "tokenization": "", "versions": {},
        "run": {}, "minimum_serving": "2.12.0", "operations": operations(read_graph(folder)), **changes,
    }  # fmt: skip
    (folder / METADATA).write_text(json.dumps(content))


def edit(folder: Path, change) -> None:
    """Apply a function to the MetaGraphDef in saved_model.pb."""
    path = folder / "saved_model.pb"
    saved = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    change(saved.meta_graphs[0])
    path.write_bytes(saved.SerializeToString())


def subject(folder: Path, **known) -> Subject:
    """Without a server."""
    return Subject(folder, read_graph(folder), **{"replies": Replies("not asked"), **known})


def broken(rule, folder: Path, message: str, **known) -> None:
    with pytest.raises(Broken, match=message):
        rule(subject(folder, **known))


def write_logs(folder: Path, logs: list) -> None:
    with tf.io.TFRecordWriter(str(folder / WARMUP)) as writer:
        for log in logs:
            writer.write(log.SerializeToString())
