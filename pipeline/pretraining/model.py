"""BERT with the heads that it is pre-trained with: masked tokens and, if asked for, the order of two segments."""

import keras
import tensorflow as tf

from pipeline.backbone.architecture import activation_of, epsilon_of
from pipeline.backbone.heads import PretrainingHeads
from pipeline.backbone.loaded import LoadedBackbone
from pipeline.training.model import ExactModel


class PretrainingModel(ExactModel):
    """A functional model from `build_pretraining_model`, with the losses of BERT (Devlin et al., 2019).

    Its data: inputs, targets and weights as `pretraining_batches` gives them. The masked-token loss is the mean over
    all predicted tokens of a batch, the next-sentence loss that over its rows; they are added.
    """

    z_loss = 0.0
    """Factor of log(Z)^2, the square of the log of the softmax's denominator: it keeps logits from drifting away in
    long runs in low precision (PaLM, Chowdhery et al., 2022)."""

    @property
    def next_sentence(self) -> bool:
        """Whether there is a next-sentence head."""
        return "next_sentence_logits" in self.output

    def weight_sums(self, data):
        _, _, weights = data
        names = ["masked_weights", *(["next_sentence_weights"] if self.next_sentence else [])]
        return [tf.reduce_sum(weights[name]) for name in names]

    def losses_of(self, data, totals, training=True):
        """Also "masked_loss", "masked_accuracy" and, with a next-sentence head, "next_sentence_accuracy"; 0 each where
        a batch has no token to predict, or no pair."""
        inputs, targets, weights = data
        outputs = self(inputs, training=training)
        logits = tf.reshape(outputs["masked_logits"], [-1, outputs["masked_logits"].shape[-1]])
        ids = tf.reshape(targets["masked_ids"], [-1])
        shares = tf.math.divide_no_nan(tf.reshape(weights["masked_weights"], [-1]), totals[0])
        masked_loss = _mean_cross_entropy(ids, logits, shares)
        losses = {"loss": masked_loss, "masked_loss": masked_loss, "masked_accuracy": _accuracy(ids, logits, shares)}
        if self.z_loss:
            losses["loss"] += self.z_loss * tf.reduce_sum(shares * tf.square(tf.reduce_logsumexp(logits, axis=-1)))
        if self.next_sentence:
            logits, labels = outputs["next_sentence_logits"], targets["next_sentence"]
            shares = tf.math.divide_no_nan(weights["next_sentence_weights"], totals[1])
            losses["loss"] += _mean_cross_entropy(labels, logits, shares)
            losses["next_sentence_accuracy"] = _accuracy(labels, logits, shares)
        return losses


class MaskedTokenHead(keras.layers.Layer):
    """Dense, activation, layer normalisation, then the word embeddings transposed and a bias: logits of the vocabulary.

    As google-research/bert's get_masked_lm_output. Only the asked positions are computed.

    Args:
        table: the word embeddings' variable [V, E], which is not this layer's own; E is H but for ELECTRA's.
        activation: of the dense layer; the backbone's.
        epsilon: of the normalisation; the backbone's.

    Call arguments: sequence [batch, length, H]; positions int32 [batch, n]. Returns float32 [batch, n, V].
    """

    def __init__(self, table: keras.Variable, activation, epsilon: float, **kwargs):
        super().__init__(**kwargs)
        # In a closure, which Keras does not track: the table stays the backbone's.
        self._table = lambda: table
        self.vocabulary_size, self.width = table.shape
        initializer = keras.initializers.TruncatedNormal(stddev=0.02)
        self.transform = keras.layers.Dense(
            self.width, activation=activation, kernel_initializer=initializer, dtype=self.dtype_policy
        )
        self.norm = keras.layers.LayerNormalization(epsilon=epsilon, dtype=self.dtype_policy)

    def build(self, sequence_shape, positions_shape=None):
        self.transform.build(sequence_shape)
        self.norm.build((*sequence_shape[:-1], self.width))
        self.bias = self.add_weight(name="bias", shape=(self.vocabulary_size,), initializer="zeros")

    def call(self, sequence, positions):
        x = tf.gather(sequence, positions, batch_dims=1)
        x = tf.reshape(self.norm(self.transform(x)), [-1, self.width])
        # Not through autocast: the table's own layer keeps it in float32, but this product must be in the fast dtype.
        table = tf.cast(tf.convert_to_tensor(self._table().value), x.dtype)
        logits = tf.cast(tf.matmul(x, table, transpose_b=True), tf.float32) + tf.cast(self.bias, tf.float32)
        return tf.reshape(logits, [-1, tf.shape(positions)[1], self.vocabulary_size])

    def compute_output_spec(self, sequence, positions):
        return keras.KerasTensor((*positions.shape, self.vocabulary_size), dtype="float32")


def build_pretraining_model(loaded: LoadedBackbone, *, next_sentence: bool, dtype: str | None = None):
    """Backbone and heads, in the current strategy scope.

    Args:
        loaded: the backbone; its heads, where the checkpoint has them, initialise the model's.
        next_sentence: whether to have a head for the order of two segments.
        dtype: Keras dtype policy; None: the current one.

    Returns:
        PretrainingModel. Inputs: token_ids, segment_ids, padding_mask int32 [batch, length], masked_positions int32
        [batch, n]. Outputs: masked_logits float32 [batch, n, V], next_sentence_logits float32 [batch, 2].
    """
    backbone = loaded.backbone
    backbone.get_layer("pooled_dense").trainable = next_sentence
    positions = keras.Input((None,), dtype="int32", name="masked_positions")
    vectors = backbone(backbone.input)
    (table,) = backbone.get_layer("token_embedding").weights
    head = MaskedTokenHead(table, activation_of(backbone), epsilon_of(backbone), dtype=dtype, name="masked_token_head")
    outputs = {"masked_logits": head(vectors["sequence_output"], positions)}
    if next_sentence:
        initializer = keras.initializers.TruncatedNormal(stddev=0.02)
        order = keras.layers.Dense(2, kernel_initializer=initializer, dtype="float32", name="next_sentence_logits")
        outputs["next_sentence_logits"] = order(vectors["pooled_output"])
    model = PretrainingModel(inputs={**backbone.input, "masked_positions": positions}, outputs=outputs, name="bert")
    if loaded.heads is not None:
        for name, variable in _head_variables(model).items():
            value = getattr(loaded.heads, name)
            if value is not None:
                variable.assign(value)
    return model


def heads_of(model: PretrainingModel) -> PretrainingHeads:
    """The weights of a model's heads, as checkpoints hold them."""
    variables = _head_variables(model)
    return PretrainingHeads(**{name: tf.cast(v.value, tf.float32).numpy() for name, v in variables.items()})


def _head_variables(model: PretrainingModel) -> dict[str, keras.Variable]:
    """The variables of the heads that a model has, by PretrainingHeads' fields."""
    head = model.get_layer("masked_token_head")
    variables = {
        "transform_kernel": head.transform.kernel,
        "transform_bias": head.transform.bias,
        "norm_gamma": head.norm.gamma,
        "norm_beta": head.norm.beta,
        "output_bias": head.bias,
    }
    if model.next_sentence:
        order = model.get_layer("next_sentence_logits")
        variables |= {"next_sentence_kernel": order.kernel, "next_sentence_bias": order.bias}
    return variables


def _mean_cross_entropy(labels, logits, shares):
    return tf.reduce_sum(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits) * shares)


def _accuracy(labels, logits, shares):
    right = tf.argmax(logits, axis=-1, output_type=labels.dtype) == labels
    return tf.reduce_sum(tf.cast(right, tf.float32) * shares)
