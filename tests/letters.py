"""A tiny classifier whose words are letters, with weights large enough for clear answers, and what asks it."""

from pathlib import Path

import keras
import keras_nlp
import numpy as np
import tensorflow as tf

from export import predict
from pipeline.backbone.activations import ACTIVATIONS
from pipeline.backbone.architecture import configure
from pipeline.backbone.loaded import LoadedBackbone
from pipeline.classifier import build_classifier
from pipeline.tasks.single_label import SingleLabel

LETTERS = [chr(code) for code in range(ord("a"), ord("z") + 1)]
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS, *(f"##{letter}" for letter in LETTERS), "!", "?"]
LABELS = ("no", "maybe", "déjà vu")
TASK = SingleLabel(LABELS)
TEXTS = ["a b c", "hello world!", "", "z", "some much longer text than all the others here ?", "café ça 漢字", "x y"]


def make_model(pooling: str = "fresh", policy: str = "float32", activation: str = "gelu", seed: int = 7) -> keras.Model:
    """With weights large enough for clearly different answers."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        backbone = keras_nlp.models.BertBackbone(
            vocabulary_size=len(VOCABULARY), num_layers=2, num_heads=2, hidden_dim=16, intermediate_dim=32,
            max_sequence_length=24,
        )  # fmt: skip
        configure(backbone, activation=ACTIVATIONS[activation])
        model = build_classifier(LoadedBackbone(backbone, tuple(VOCABULARY), True, True), len(LABELS), pooling=pooling)
    finally:
        keras.config.set_dtype_policy(before)
    random = np.random.default_rng(seed)
    for variable in model.weights:
        # Trained weights: the variance below is what LayerNormalization's epsilon must not disturb.
        scale = 0.02 if "embedding" in variable.path else 0.5
        center = 1.0 if variable.path.endswith("gamma") else 0.0
        variable.assign(tf.cast(random.normal(center, scale, variable.shape), variable.dtype))
    return model


def live(model, encoder, *columns) -> np.ndarray:
    logits = model(encoder(*(tf.constant(list(column)) for column in columns)), training=False)
    return tf.nn.softmax(tf.cast(logits, tf.float32)).numpy()


def checkpoint_bytes(folder: Path) -> int:
    """Bytes of all floating-point tensors in the checkpoint."""
    prefix = str(folder / "variables" / "variables")
    reader = tf.train.load_checkpoint(prefix)
    types, shapes = reader.get_variable_to_dtype_map(), reader.get_variable_to_shape_map()
    return sum(types[name].size * int(np.prod(shapes[name])) for name in types if types[name].is_floating)


def forbidden_operations(folder: Path) -> set[str]:
    from tensorflow.core.protobuf import saved_model_pb2

    saved = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    graph = saved.meta_graphs[0].graph_def
    nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
    bad = {node.op for node in nodes if "Random" in node.op or "HashTable" in node.op or "Assign" in node.op}
    # Restoring writes the variables, once, at the start.
    return (bad - {"AssignVariableOp"}) | {"XLA" for node in nodes if "_XlaMustCompile" in node.attr}


def ask(capsys, *arguments) -> tuple[int, str, str]:
    status = predict.main([str(argument) for argument in arguments])
    output = capsys.readouterr()
    return status, output.out, output.err
