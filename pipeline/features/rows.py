"""Cells of rows to the inputs of a model: their text to tokens, the columns beside it to numbers."""

import hashlib
import json
from collections.abc import Callable, Sequence

import tensorflow as tf

from pipeline.features import Features
from pipeline.features.column_values import all_numbers, spec_of, value_of, words_of
from pipeline.features.columns import COLUMNS, Column
from pipeline.text import TextEncoder


class RowEncoder(TextEncoder):
    """A TextEncoder of rows that are more than one text or two.

    Called with a tensor for each of features.inputs, in their order, it gives what a TextEncoder gives of the text, and
    beside it COLUMNS, float32 [batch, width], where there are any. A column's tensor is string [batch], cells as they
    are kept (see pipeline.features.columns), or as `specs` of a signature has it.

    Args:
        features: what the cells are.
        arguments, settings: of the TextEncoder.
    """

    def __init__(self, features: Features, *arguments, **settings):
        super().__init__(*arguments, **settings)
        self.features = features
        digest = hashlib.sha256(self.fingerprint.encode())
        digest.update(json.dumps(features.metadata(), sort_keys=True).encode())
        if self.redaction and features.composed:
            digest.update(b"each cell is redacted by itself")
        self.fingerprint = digest.hexdigest()

    @property
    def _redactor_of_read(self):
        return None if self.features.composed else self._redactor

    def __call__(self, *cells, fixed_length: bool = False) -> dict[str, tf.Tensor]:
        """See TextEncoder, and the class."""
        found = super().__call__(*self.texts(*cells), fixed_length=fixed_length)
        return found | ({COLUMNS: self.numbers(*cells)} if self.features.width else {})

    @property
    def specs(self) -> dict[str, tf.TensorSpec]:
        """What a call gives."""
        beside = {COLUMNS: tf.TensorSpec([None, self.features.width], tf.float32)} if self.features.width else {}
        return super().specs | beside

    @property
    def cell_specs(self) -> list[tf.TensorSpec]:
        """What a signature takes: strings, but for numbers and vectors."""
        features, inputs = self.features, self.features.inputs
        count = len(features.text_columns)
        texts = [tf.TensorSpec([None], tf.string, name) for name in inputs[:count]]
        return texts + [spec_of(*pair) for pair in zip(features.columns, inputs[count:], strict=True)]

    def texts(self, *cells) -> list[tf.Tensor]:
        """What is tokenized, string [batch] each: columns in words come before the first text; more than two texts are
        one, each behind its column's name. What is put together is redacted before, each text by itself, as it is
        where rows are stored and shown: the names and cells beside it make no difference, and stay."""
        names = self.features.text_columns
        texts = [tf.convert_to_tensor(cell, tf.string) for cell in cells[: len(names)]]
        if self.features.composed and self.redaction:
            # One call for all: it costs as much as several texts.
            together = self.redacted(tf.reshape(tf.stack(texts), [-1]))
            texts = tf.unstack(tf.reshape(together, [len(texts), -1]))
        if len(texts) > 2:
            named = [
                tf.where(tf.strings.strip(text) == "", "", tf.strings.join([f"{name}: ", text, " "]))
                for name, text in zip(names, texts, strict=True)
            ]
            texts = [tf.strings.join(named)]
        words = [words_of(*pair) for pair in self._values(cells, self.features.read_as_text)]
        texts = [tf.strings.join([*words, texts[0]]), *texts[1:]] if words else texts
        if not self.features.composed:
            return texts
        # What is read can be shown: bytes that are no UTF-8, which the tokenizer drops, are dropped here.
        return [tf.strings.unicode_transcode(text, "UTF-8", "UTF-8", errors="ignore") for text in texts]

    def numbers(self, *cells) -> tf.Tensor:
        """float32 [batch, width], what else the model reads."""
        return all_numbers(*zip(*self._values(cells, lambda _: True), strict=True))

    def _values(self, cells: Sequence, wanted: Callable[[Column], bool]):
        """Columns that are wanted, with their values."""
        columns = self.features.columns
        given = cells[len(self.features.text_columns) :]
        pairs = zip(columns, map(tf.convert_to_tensor, given), strict=True)
        return [(column, value_of(column, cell)) for column, cell in pairs if wanted(column)]
