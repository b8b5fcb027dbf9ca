"""Texts as a checkpoint sees them before anything has been trained: what labels are judged by must not have learned
them."""

import numpy as np

from pipeline.backbone.load import load_backbone, require_segments
from pipeline.classifier import build_classifier, over_chunks, over_columns, pooled_model
from pipeline.config import Config
from pipeline.evaluation.predict import BatchForward
from pipeline.features import Features
from pipeline.training.numerics import choose_dtype

# At a time; like lengths are found among more of them.
BATCH = 32


def frozen(config: Config, features: Features) -> BatchForward:
    """The vectors of rows by the checkpoint of a config as it is: the mean of the last half of its layers, and behind
    it the numbers of columns beside the text.

    Args:
        features: what is read of the rows.
        config: settled; a pooling with weights of its own, which nothing has trained, becomes the mean of the tokens.

    Raises:
        UserError: the checkpoint cannot be had, or does not go with the settings.
    """
    dtype = choose_dtype(config.training.dtype)
    loaded = load_backbone(config.model, config.text, config.training.seed, dtype)
    if features.texts_read > 1:
        require_segments(loaded, f"data.text_columns [{', '.join(config.data.text_columns)}]")
    pooling = config.model.pooled_by if config.model.pooled_by == "first" else "mean"
    layers = max(1, loaded.backbone.num_layers // 2)
    model = build_classifier(loaded, 1, pooling=pooling, pooled_layers=layers, dropout=0.0, dtype=dtype)
    if config.text.long == "chunks":
        model = over_chunks(model, "mean", dtype=dtype)
    if config.model.backbone is None:
        print("note: the model has no checkpoint, and random weights tell texts apart by their words alone.")
    if features.width:
        model = over_columns(model, features.width)
    encoder = loaded.text_encoder(config.text.lowercase, config.text.length, config.text.long_texts, features)
    return BatchForward(pooled_model(model), encoder, BATCH)


def vectors_of_texts(forward: BatchForward, texts: list[tuple[str, ...]]) -> np.ndarray:
    """float32 [n, hidden], of texts that no store holds.

    Args:
        forward: of `frozen`.
        texts: one or two strings each.
    """
    # Like lengths together, or most of a batch is padding.
    order = sorted(range(len(texts)), key=lambda row: sum(map(len, texts[row])))
    batches = [order[start : start + BATCH] for start in range(0, len(order), BATCH)]
    found = [forward.texts(tuple(map(list, zip(*(texts[row] for row in batch), strict=True)))) for batch in batches]
    joined = np.concatenate(found)
    vectors = np.empty_like(joined)
    vectors[order] = joined
    return vectors
