"""A backbone with fresh weights."""

import keras
import keras_nlp

from pipeline.backbone.loaded import LoadedBackbone
from pipeline.config import ModelConfig


def build(model: ModelConfig, vocabulary: list[str], seed: int, dtype: str | None = None) -> LoadedBackbone:
    """A BertBackbone of the config's sizes; weights are drawn as in the BERT paper, truncated normal of 0.02.

    Args:
        model: the sizes.
        vocabulary: one row of word embeddings for each.
        seed: of the weights; sets the global seeds of Keras.
        dtype: Keras dtype policy; None: the current one.
    """
    keras.utils.set_random_seed(seed)
    backbone = keras_nlp.models.BertBackbone(
        vocabulary_size=len(vocabulary),
        num_layers=model.num_layers or 4,
        num_heads=model.num_heads,
        hidden_dim=model.hidden_dim,
        intermediate_dim=model.intermediate_dim,
        dropout=model.dropout,
        max_sequence_length=model.max_sequence_length,
        dtype=dtype,
    )
    return LoadedBackbone(backbone, tuple(vocabulary), lowercase=None, has_pooler=False)
