"""What every loader returns."""

from dataclasses import dataclass

import keras_nlp

from pipeline.backbone.families import BERT, Family
from pipeline.backbone.heads import PretrainingHeads


@dataclass
class LoadedBackbone:
    """A backbone with what its checkpoint records about its use."""

    backbone: keras_nlp.models.BertBackbone
    """Inputs token_ids, segment_ids, padding_mask, int32 [batch, length]; outputs sequence_output
    [batch, length, hidden] and pooled_output [batch, hidden]."""
    vocabulary: tuple[str, ...]
    """Tokens in the order of the word embeddings' rows, of which there may be more; empty: the checkpoint has none."""
    lowercase: bool | None
    """Whether the checkpoint is uncased; None: not recorded."""
    has_pooler: bool
    """Whether the [CLS] pooler's weights were in the checkpoint."""
    source: str = "fresh weights"
    """Where the weights are from, for messages."""
    vocabulary_source: str = "the vocabulary"
    """Where the vocabulary is from, for messages."""
    notes: tuple[str, ...] = ()
    """Settings of the checkpoint that are not honoured: one sentence each."""
    heads: PretrainingHeads | None = None
    """The pre-training heads, where the checkpoint has them."""
    family: Family = BERT
    """What transformers calls such a model."""
    left_out: tuple[str, ...] = ()
    """What the checkpoint has beside: tensors with their shapes, and settings of heads for tasks."""
