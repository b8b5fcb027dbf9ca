"""A TextEncoder as TF-Hub's BERT preprocessors are: strings to the inputs of a TF-Hub encoder, in the graph."""

from collections.abc import Sequence

import tensorflow as tf

from pipeline.backbone.hub_encoder import INPUTS
from pipeline.text import TextEncoder


def preprocessor(text: TextEncoder) -> tf.train.Checkpoint:
    """An object for tf.saved_model.save. Loaded again (where tensorflow_text has been imported), it has

    - a call: string [batch] to input_word_ids, input_mask and input_type_ids, int32 [batch, text.sequence_length];
    - tokenize: string [batch] to ragged int32 [batch, (tokens)], without special tokens (TF-Hub's give
      [batch, (words), (tokens)]), with get_special_tokens_dict();
    - bert_pack_inputs: a list of one or two of what tokenize gives (or TF-Hub's, with words), and optionally
      seq_length, to the same inputs, int32 [batch, seq_length]. Pairs are cut as TextEncoder cuts them.
    """
    strings = tf.TensorSpec([None], tf.string)
    special = {
        "start_of_sequence_id": text.cls_id,
        "end_of_segment_id": text.sep_id,
        "padding_id": text.pad_id,
        "mask_id": text.mask_id,
        "vocab_size": len(text.vocabulary),
    }

    def encode(texts: tf.Tensor) -> dict[str, tf.Tensor]:
        encoded = text(texts, fixed_length=True)
        return {hub: encoded[name] for hub, name in INPUTS.items()}

    def pack(inputs: Sequence[tf.RaggedTensor], seq_length=text.sequence_length) -> dict[str, tf.Tensor]:
        tokens = [rows if rows.ragged_rank == 1 else rows.merge_dims(1, -1) for rows in inputs]
        seq_length = tf.convert_to_tensor(seq_length, tf.int32)
        enough = tf.debugging.assert_greater_equal(seq_length, 3, "seq_length must be at least 3")
        with tf.control_dependencies([enough]):
            encoded = text.pack(tokens, tf.identity(seq_length))
        padding = [[0, 0], [0, seq_length - tf.shape(encoded["token_ids"])[1]]]
        fillers = {"token_ids": text.pad_id}
        return {
            hub: tf.pad(encoded[name], padding, constant_values=fillers.get(name, 0)) for hub, name in INPUTS.items()
        }

    root = tf.train.Checkpoint()
    root.__call__ = tf.function(encode, input_signature=[strings], autograph=False)
    root.tokenize = tf.train.Checkpoint()
    root.tokenize.__call__ = tf.function(text.tokenize, input_signature=[strings], autograph=False)
    root.tokenize.get_special_tokens_dict = tf.function(
        lambda: {name: tf.constant(value, tf.int32) for name, value in special.items()}, input_signature=[]
    )
    root.bert_pack_inputs = tf.train.Checkpoint()
    root.bert_pack_inputs.__call__ = tf.function(pack, autograph=False)
    for rank in (1, 2):
        for count in (1, 2):
            rows = [tf.RaggedTensorSpec([None] * (rank + 1), tf.int32, ragged_rank=rank)] * count
            root.bert_pack_inputs.__call__.get_concrete_function(rows, seq_length=tf.TensorSpec([], tf.int32))
    return root
