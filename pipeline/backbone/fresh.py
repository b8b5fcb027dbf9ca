"""A backbone with fresh weights."""

import keras
import keras_nlp

from pipeline.backbone.loaded import LoadedBackbone
from pipeline.config import ModelConfig


def build(model: ModelConfig, vocabulary: list[str], seed: int, dtype: str | None = None) -> LoadedBackbone:
    """A BertBackbone of the config's sizes; kernels and embeddings are drawn from a truncated normal distribution.

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
    # BertBackbone knows only 0.02, which is right for a width of 768: narrower, the dot products of attention start so
    # near to zero that it takes long to learn anything from the context.
    scale = (model.initializer_range or model.hidden_dim**-0.5) / 0.02
    for variable in backbone.trainable_variables:
        if variable.path.endswith(("kernel", "embeddings")):
            variable.assign(variable * scale)
    return LoadedBackbone(backbone, tuple(vocabulary), lowercase=None, has_pooler=False)
