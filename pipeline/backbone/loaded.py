"""What every loader returns."""

from dataclasses import dataclass

import keras_nlp

from pipeline.backbone.classifier_head import ClassifierHead
from pipeline.backbone.families import BERT, Family
from pipeline.backbone.heads import PretrainingHeads
from pipeline.features import ONE_TEXT, Features
from pipeline.features.rows import RowEncoder
from pipeline.long_texts import HEAD, LongTexts
from pipeline.redaction.kinds import NOTHING, Redaction
from pipeline.text import TextEncoder
from pipeline.tokenizer_rules import BERT_RULES, TokenizerRules


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
    classifier: ClassifierHead | None = None
    """The head of a finished classifier, where the checkpoint is one."""
    rules: TokenizerRules = BERT_RULES
    """What else decides its tokens."""
    redaction: Redaction = NOTHING
    """What is replaced in texts before they become tokens; its placeholders are in the vocabulary."""
    family: Family = BERT
    """What transformers calls such a model."""
    left_out: tuple[str, ...] = ()
    """What the checkpoint has beside: tensors with their shapes, and settings of heads for tasks."""

    def text_encoder(
        self,
        lowercase: bool | None = None,
        sequence_length: int = 128,
        long: LongTexts = HEAD,
        features: Features = ONE_TEXT,
    ) -> TextEncoder:
        """Strings to the tokens that the checkpoint was trained with.

        Args:
            lowercase: None: as the checkpoint says, or lower-cased.
            sequence_length: longest encoded sequence in tokens.
            long: what is read of longer texts.
            features: of the rows; more than one text or two need a RowEncoder.

        Raises:
            UserError: see TextEncoder.
        """
        lowercase = self.lowercase if lowercase is None else lowercase
        arguments = self.vocabulary, lowercase is not False, sequence_length, self.rules, long, self.redaction
        return TextEncoder(*arguments) if features.plain else RowEncoder(features, *arguments)
