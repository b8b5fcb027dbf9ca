"""An exported classifier so small that it is made and loaded in seconds."""

from pathlib import Path

import numpy as np
from tiny import SUBJECTS, VOCABULARY

LABELS = tuple(SUBJECTS)
TEXTS = [
    "the team and the coach", "bank", "", "a rocket in orbit with the moon", "goal , goal .", "stock price",
    "two new comets", "café 漢字 \ud800", "the market was old", "league", "profit of the trade", "star and planet",
]  # fmt: skip


def export_tiny(directory: Path, seed: int = 7, pair: bool = False, task=None, **options) -> Path:
    """A version of a model with random weights, large enough for clearly different answers."""
    import keras_nlp
    import tensorflow as tf

    from export.savedmodel import export_model
    from pipeline.backbone.loaded import LoadedBackbone
    from pipeline.classifier import build_classifier
    from pipeline.features import ONE_TEXT, TWO_TEXTS
    from pipeline.tasks.single_label import SingleLabel
    from pipeline.text import TextEncoder

    backbone = keras_nlp.models.BertBackbone(
        vocabulary_size=len(VOCABULARY), num_layers=1, num_heads=2, hidden_dim=16, intermediate_dim=16,
        max_sequence_length=16, dtype="float32",
    )  # fmt: skip
    loaded = LoadedBackbone(backbone, tuple(VOCABULARY), True, True)
    model = build_classifier(loaded, task.outputs if task else len(LABELS), pooling="mean", dtype="float32")
    random = np.random.default_rng(seed)
    for variable in model.weights:
        center = 1.0 if variable.path.endswith("gamma") else 0.0
        variable.assign(tf.cast(random.normal(center, 0.5, variable.shape), variable.dtype))
    features = TWO_TEXTS if pair else ONE_TEXT
    encoder, task = TextEncoder(VOCABULARY, True, 16), task or SingleLabel(LABELS)
    return export_model(model, encoder, task, directory, features, **options)
