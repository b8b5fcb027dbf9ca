"""A backbone for a larger vocabulary: the checkpoint's tokens and, after them, words of a new domain."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from pipeline.backbone.architecture import like
from pipeline.backbone.loaded import LoadedBackbone
from pipeline.errors import UserError
from pipeline.text import TextEncoder


def extend_backbone(loaded: LoadedBackbone, new_tokens: Sequence[str], encoder: TextEncoder) -> LoadedBackbone:
    """Append rows to the word embeddings; each starts as the mean of the rows of its word's tokens so far.

    Text without the new tokens is computed exactly as before. The mean keeps a new word near its meaning so far, at
    the scale of the other rows, where random rows would have to be learned from nothing (Gee et al., 2022).

    Args:
        loaded: left as it is. The bias of its masked-token head is lengthened like the word embeddings.
        new_tokens: whole words, in their order after the old vocabulary (see `added_tokens`).
        encoder: of the old vocabulary, cased or not as the new one is used.

    Returns:
        A copy in the same dtype policy, built in the current strategy scope.

    Raises:
        UserError: a token that the vocabulary has already, or an encoder of another vocabulary.
    """
    if encoder.vocabulary != tuple(loaded.vocabulary):
        raise UserError(f"{loaded.vocabulary_source} is not the vocabulary of the encoder that is to be extended.")
    known = set(loaded.vocabulary)
    for token in new_tokens:
        if token in known:
            raise UserError(f"{loaded.vocabulary_source} has {token!r} already: a token has one id.")
        known.add(token)
    if not new_tokens:
        return loaded
    # Rows behind those of the vocabulary are of no token.
    used = len(loaded.vocabulary)
    table = tf.cast(tf.convert_to_tensor(loaded.backbone.token_embedding.embeddings), tf.float32).numpy()[:used]
    parts = encoder.tokenize([token.removeprefix("##") for token in new_tokens]).to_list()
    # A word that normalisation removes entirely is like an unknown one.
    rows = np.stack([table[part or [encoder.unk_id]].mean(axis=0) for part in parts])
    backbone = like(loaded.backbone, dtype=loaded.backbone.dtype_policy.name, words=np.concatenate([table, rows]))
    heads = loaded.heads
    if heads is not None:
        bias = heads.output_bias[:used]
        more = np.array([bias[part or [encoder.unk_id]].mean() for part in parts], bias.dtype)
        heads = dataclasses.replace(heads, output_bias=np.concatenate([bias, more]))
    return dataclasses.replace(loaded, backbone=backbone, heads=heads, vocabulary=(*loaded.vocabulary, *new_tokens))


def added_tokens(old: Sequence[str], new: Sequence[str], source: str) -> list[str]:
    """The tokens that a vocabulary has after those of another, all of which it must begin with.

    Raises:
        UserError: the first line where the two differ.
    """
    for number, (a, b) in enumerate(zip(old, new, strict=False), 1):
        if a != b:
            raise UserError(
                f"{source} has {b!r} in line {number}, but the checkpoint's vocabulary has {a!r}: to add words, "
                "append them."
            )
    if len(new) < len(old):
        raise UserError(f"{source} has {len(new)} tokens, but the checkpoint's vocabulary has {len(old)}.")
    return list(new[len(old) :])
