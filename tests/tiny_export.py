"""An exported classifier so small that it is made and loaded in seconds."""

from pathlib import Path

import numpy as np
from tiny import SUBJECTS, VOCABULARY

LABELS = tuple(SUBJECTS)
TEXTS = [
    "the team and the coach", "bank", "", "a rocket in orbit with the moon", "goal , goal .", "stock price",
    "two new comets", "café 漢字 \ud800", "the market was old", "league", "profit of the trade", "star and planet",
]  # fmt: skip


def tiny_model(outputs: int, seed: int = 7):
    """A model with random weights, large enough for clearly different answers, and its encoder."""
    import keras_nlp
    import tensorflow as tf

    from pipeline.backbone.loaded import LoadedBackbone
    from pipeline.classifier import build_classifier
    from pipeline.text import TextEncoder

    backbone = keras_nlp.models.BertBackbone(
        vocabulary_size=len(VOCABULARY), num_layers=1, num_heads=2, hidden_dim=16, intermediate_dim=16,
        max_sequence_length=16, dtype="float32",
    )  # fmt: skip
    loaded = LoadedBackbone(backbone, tuple(VOCABULARY), True, True)
    model = build_classifier(loaded, outputs, pooling="mean", dtype="float32")
    random = np.random.default_rng(seed)
    for variable in model.weights:
        center = 1.0 if variable.path.endswith("gamma") else 0.0
        variable.assign(tf.cast(random.normal(center, 0.5, variable.shape), variable.dtype))
    return model, TextEncoder(VOCABULARY, True, 16)


def some_typicality(model, encoder):
    """What is typical of TEXTS, in three classes."""
    import tensorflow as tf

    from pipeline.classifier import pooled_model
    from pipeline.tasks.targets import Groups
    from pipeline.typicality import find_typicality

    texts = [text.encode("utf-8", "replace") for text in TEXTS]
    vectors = pooled_model(model)(encoder(tf.constant(texts))).numpy()
    return find_typicality(vectors, Groups(np.ones(len(TEXTS), int), np.arange(len(TEXTS)) % 3, ()), vectors)


def export_tiny(directory: Path, seed: int = 7, pair: bool = False, task=None, **options) -> Path:
    """A version of a tiny model; without explain, which takes longest to trace, unless `settings` say so."""
    from export.savedmodel import ExportSettings, export_model
    from export.signatures import SignatureOptions
    from pipeline.features import ONE_TEXT, TWO_TEXTS
    from pipeline.tasks.single_label import SingleLabel

    task = task or SingleLabel(LABELS)
    model, encoder = tiny_model(task.outputs, seed)
    options.setdefault("settings", ExportSettings(SignatureOptions(["predict_tokens", "top_k", "embed"])))
    return export_model(model, encoder, task, directory, TWO_TEXTS if pair else ONE_TEXT, **options)


def export_columns(folder: Path, *columns) -> Path:
    """A version of a tiny model that reads columns beside its text, which tell much."""
    from export.savedmodel import ExportSettings, export_model
    from export.signatures import SignatureOptions
    from pipeline.classifier import over_columns
    from pipeline.features import Features
    from pipeline.features.rows import RowEncoder
    from pipeline.tasks.single_label import SingleLabel

    features = Features(("text",), columns, "concat")
    model = over_columns(tiny_model(len(LABELS))[0], features.width)
    random = np.random.default_rng(1)
    for variable in model.classifier_parts.head.weights:
        variable.assign(random.normal(0, 1, variable.shape))
    encoder = RowEncoder(features, VOCABULARY, True, 16)
    return export_model(
        model, encoder, SingleLabel(LABELS), folder, features, ExportSettings(SignatureOptions([]))
    )  # fmt: skip
