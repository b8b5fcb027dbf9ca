"""An exported classifier so small that it is made and loaded in seconds."""

from pathlib import Path

import numpy as np
from tiny import SUBJECTS, VOCABULARY

LABELS = tuple(SUBJECTS)
TEXTS = [
    "the team and the coach", "bank", "", "a rocket in orbit with the moon", "goal , goal .", "stock price",
    "two new comets", "café 漢字 \ud800", "the market was old", "league", "profit of the trade", "star and planet",
]  # fmt: skip


def export_tiny(directory: Path, seed: int = 7, pair: bool = False, **options) -> Path:
    """A version of a model with random weights, large enough for clearly different answers."""
    import keras_nlp
    import tensorflow as tf

    from export.savedmodel import export_classifier
    from pipeline.backbone.loaded import LoadedBackbone
    from pipeline.classifier import build_classifier
    from pipeline.text import TextEncoder

    backbone = keras_nlp.models.BertBackbone(
        vocabulary_size=len(VOCABULARY), num_layers=1, num_heads=2, hidden_dim=16, intermediate_dim=16,
        max_sequence_length=16, dtype="float32",
    )  # fmt: skip
    loaded = LoadedBackbone(backbone, tuple(VOCABULARY), True, True)
    model = build_classifier(loaded, len(LABELS), pooling="mean", dtype="float32")
    random = np.random.default_rng(seed)
    for variable in model.weights:
        center = 1.0 if variable.path.endswith("gamma") else 0.0
        variable.assign(tf.cast(random.normal(center, 0.5, variable.shape), variable.dtype))
    return export_classifier(model, TextEncoder(VOCABULARY, True, 16), LABELS, directory, pair=pair, **options)
