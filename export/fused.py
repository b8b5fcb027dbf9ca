"""The forward pass of a BERT classifier in the form that TensorFlow's CPU kernels run fastest.

Same weights and same arithmetic as the Keras model, other graph:
- query, key and value are one matrix product;
- dense layers see only real tokens: padding is dropped before them and put back for attention;
- of the last layer only what the pooling reads is computed;
- dense, bias, activation and residual, the attention scores, and layer normalisation are written in the patterns that
  grappler's remapper (tensorflow/core/grappler/optimizers/remapper.cc) turns into one oneDNN kernel each.

Where a pattern is not recognised, as on a GPU, the graph computes the same, unfused.
"""

import keras
import numpy as np
import tensorflow as tf

from pipeline.backbone.architecture import is_projected, last_embedding_layer
from pipeline.backbone.transformer_parts import parts_of as parts_of_layer
from pipeline.classifier import parts_of
from pipeline.features.columns import COLUMNS
from pipeline.layer_mean import mean_of_layers

# oneDNN compiles a kernel for every new shape: the number of tokens is rounded up to keep the shapes few. Up to so many
# tokens, the few of a text or two, more finely: there each counts.
TOKEN_MULTIPLE, FEW_TOKENS, FEW_MULTIPLE = 32, 64, 8
MASKED = -1e9
KERNEL_EPSILON = 1e-3


class UnsupportedModel(ValueError):
    """Not the architecture that FusedClassifier knows."""


class FusedClassifier(tf.Module):
    """Logits of a BERT classifier.

    Args:
        model: as pipeline.classifier builds it. Its weights are copied.
        weights: dtype of the copies, but for the classification layer's and layer normalisation's; None: the one that
            the model computes in, which they are cast to at each call.

    Attributes:
        dtype: what the model computes in.
        max_length: positions that it knows.
        num_segments: segments that it knows.
        over_chunks: of a model of texts in chunks, from pooled vectors to one a text (see export.chunks); else None.

    Raises:
        UnsupportedModel: any other architecture.
    """

    def __init__(self, model: keras.Model, weights: str | None = None):
        super().__init__(name="fused_classifier")
        parts = parts_of(model)
        if parts is None:
            raise UnsupportedModel("the model was not built by pipeline.classifier.")
        backbone = parts.backbone
        if any(layer.normalize_first for layer in backbone.transformer_layers) or backbone.cls_token_index != 0:
            raise UnsupportedModel("the backbone is not laid out as BERT is.")
        self.dtype = tf.as_dtype(backbone.transformer_layers[0].compute_dtype)
        self._stored = self.dtype if weights is None else tf.as_dtype(weights)
        self._as_computed = weights is None
        self.num_heads, self.hidden_dim = backbone.num_heads, backbone.hidden_dim
        self.head_dim = self.hidden_dim // self.num_heads
        self.pools_first, self.pooled_layers = parts.pooling.first_only, parts.pooled_layers
        names = ("token_embedding", "position_embedding", "segment_embedding")
        self.embeddings = [self._variable(backbone.get_layer(name).weights[0], name) for name in names]
        self.max_length, self.num_segments = backbone.max_sequence_length, backbone.num_segments
        self.embedding_norm = self._norm(backbone.get_layer("embeddings_layer_norm"))
        self.projection = self._dense(last_embedding_layer(backbone)) if is_projected(backbone) else tf.identity
        self.layers = [self._layer(layer) for layer in backbone.transformer_layers]
        self._pooling_weights: list[tf.Module] = []
        self._pool = parts.pooling.served(self)
        self.over_chunks = parts.chunk_pooling.served(self) if parts.chunk_pooling else None
        self._fusion = parts.fusion.served(self) if parts.fusion else None
        self.head = self._dense(parts.head, tf.as_dtype(parts.head.compute_dtype))

    def __call__(self, inputs: dict[str, tf.Tensor], words: tf.Tensor | None = None) -> tf.Tensor:
        """float32 [batch, C] of token_ids, segment_ids and padding_mask, int32 [batch, length]; `words` as `pooled`."""
        return self.logits(self.pooled(inputs, words))

    def words(self, ids: tf.Tensor) -> tf.Tensor:
        """Word embeddings, float32 [..., E], of ids."""
        return tf.cast(tf.gather(self.embeddings[0], ids), tf.float32)

    def logits(self, pooled: tf.Tensor) -> tf.Tensor:
        """float32 [batch, C] of `pooled`'s."""
        return tf.cast(self.head(tf.cast(pooled, self.head.dtype)), tf.float32)

    def pooled(self, inputs: dict[str, tf.Tensor], words: tf.Tensor | None = None) -> tf.Tensor:
        """What the classification layer sees.

        Args:
            inputs: token_ids, segment_ids and padding_mask, int32 [batch, length]; of a model that reads columns beside
                the text, columns, float32 [batch, width].
            words: [batch, length, E] in place of the word embeddings of token_ids; what follows is then computed in
                its dtype.

        Returns:
            [batch, H], in the dtype computed in; with columns float32.
        """
        return self.with_columns(self.sequences(inputs, words), inputs)

    def with_columns(self, vectors: tf.Tensor, inputs: dict[str, tf.Tensor]) -> tf.Tensor:
        """The vectors of texts together with the columns beside them, where the model reads any."""
        return self._fusion(vectors, inputs[COLUMNS]) if self._fusion else vectors

    def sequences(self, inputs: dict[str, tf.Tensor], words: tf.Tensor | None = None) -> tf.Tensor:
        """What the pooling gives, [batch, hidden]; see `pooled`."""
        ids, segments, mask = (inputs[name] for name in ("token_ids", "segment_ids", "padding_mask"))
        dtype = self.dtype if words is None else words.dtype
        batch, length = tf.unstack(tf.shape(ids))
        real = tf.reshape(mask, [-1]) > 0
        # Packed row to place in [batch * length], and back; places of padding read some row that attention ignores.
        places = tf.cast(tf.where(real)[:, 0], tf.int32)
        tokens = tf.shape(places)[0]
        places = tf.pad(places, [[0, -tokens % tf.where(tokens <= FEW_TOKENS, FEW_MULTIPLE, TOKEN_MULTIPLE)]])
        rows = tf.maximum(tf.cumsum(tf.cast(real, tf.int32)) - 1, 0)
        first = tf.gather(rows, tf.range(batch) * length)
        # The product before the slice: a sum of two products would not be recognised as scores and mask.
        ignored = (tf.cast(1 - mask, dtype) * tf.constant(MASKED, dtype))[:, tf.newaxis, tf.newaxis]

        token, position, segment = self.embeddings
        if words is None:
            words, chosen = token, tf.gather(tf.reshape(ids, [-1]), places)
        else:
            words, chosen = tf.reshape(words, [-1, token.shape[1]]), places
        x = tf.cast(tf.gather(words, chosen), dtype) + tf.cast(tf.gather(position, places % length), dtype)
        x = self.embedding_norm(x + tf.cast(tf.gather(segment, tf.gather(tf.reshape(segments, [-1]), places)), dtype))
        x = self.projection(x)
        states = []
        for layer in self.layers:
            last = self.pools_first and layer is self.layers[-1]
            spread = tf.reshape(tf.gather(layer["qkv"](x), rows), [batch, length, 3, self.num_heads, self.head_dim])
            spread = tf.transpose(spread, [2, 0, 3, 1, 4])
            query, key, value = spread[0], spread[1], spread[2]
            if last:
                query, x = query[:, :, :1], tf.gather(x, first)
            scores = tf.matmul(query, key, transpose_b=True) * tf.constant(self.head_dim**-0.5, dtype) + ignored
            context = tf.transpose(tf.matmul(tf.nn.softmax(scores), value), [0, 2, 1, 3])
            context = tf.reshape(context, [-1, self.hidden_dim])
            if not last:
                context = tf.gather(context, places)
            x = layer["attention_norm"](layer["attention_output"](context) + x)
            x = layer["output_norm"](layer["output"](layer["intermediate"](x)) + x)
            states.append(x if last or not self.pools_first else tf.gather(x, first))
        if self.pooled_layers > 1:
            x = mean_of_layers(states[-self.pooled_layers :])
        if not self.pools_first:
            x = tf.reshape(tf.gather(x, rows), [batch, length, self.hidden_dim])
        return self._pool(x, mask)

    def variable(self, value, name: str) -> tf.Variable:
        """A copy of a pooling's weight, as it is stored."""
        copy = self._variable(value, name)
        self._pooling_weights.append(copy)
        return copy

    def dense(self, layer: keras.layers.Dense) -> "_Dense":
        """A copy of a pooling's layer, for [n, in]; of one that computes in float32 in any case, in float32."""
        exact = self._as_computed and layer.compute_dtype == "float32"
        copy = self._dense(layer, tf.float32 if exact else None)
        self._pooling_weights.append(copy)
        return copy

    def _variable(self, value, name: str, dtype: tf.DType | None = None) -> tf.Variable:
        value = tf.cast(tf.convert_to_tensor(value), dtype or self._stored)
        return tf.Variable(value, trainable=False, name=name.replace("/", "_"))

    def _dense(self, layer: keras.layers.Dense, dtype: tf.DType | None = None) -> "_Dense":
        kernel, bias = (self._variable(weight, weight.path, dtype) for weight in (layer.kernel, layer.bias))
        return _Dense(kernel, bias, layer.activation)

    def _norm(self, layer: keras.layers.LayerNormalization) -> "_LayerNorm":
        return _LayerNorm(layer, self.dtype)

    def _layer(self, layer) -> dict:
        found = parts_of_layer(layer)
        attention = (found.query, found.key, found.value)
        kernel = tf.concat([tf.reshape(part.kernel, [self.hidden_dim, -1]) for part in attention], axis=1)
        bias = tf.concat([tf.reshape(part.bias, [-1]) for part in attention], axis=0)
        output = found.attention_output
        return {
            "qkv": _Dense(self._variable(kernel, "qkv_kernel"), self._variable(bias, "qkv_bias")),
            "attention_output": _Dense(
                self._variable(tf.reshape(output.kernel, [-1, self.hidden_dim]), "attention_output_kernel"),
                self._variable(output.bias, "attention_output_bias"),
            ),
            "attention_norm": self._norm(found.attention_norm),
            "intermediate": self._dense(found.intermediate),
            "output": self._dense(found.output),
            "output_norm": self._norm(found.output_norm),
        }


class _Dense(tf.Module):
    def __init__(self, kernel: tf.Variable, bias: tf.Variable, activation=keras.activations.linear):
        super().__init__()
        self.kernel, self.bias = kernel, bias
        self._activation = _fusible_gelu if _is_exact_gelu(activation) else activation

    @property
    def dtype(self) -> tf.DType:
        return self.kernel.dtype

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        kernel, bias = (tf.cast(weight, x.dtype) for weight in (self.kernel, self.bias))
        return self._activation(tf.nn.bias_add(tf.matmul(x, kernel), bias))


class _LayerNorm(tf.Module):
    """Layer normalisation of [n, hidden].

    Gamma and beta are constants of the graph (and small): the pattern is recognised only so. The kernel that replaces
    it ignores the epsilon of the pattern and uses 0.001, which changes BERT's answers, whose epsilon is 1e-12. Hence
    the input is scaled first, by a power of two and so without rounding: LN(c x, c^2 epsilon) = LN(x, epsilon).
    """

    def __init__(self, layer: keras.layers.LayerNormalization, dtype: tf.DType):
        super().__init__()
        self._gamma, self._beta = (tf.cast(tf.convert_to_tensor(w), dtype).numpy() for w in (layer.gamma, layer.beta))
        self._scale = 2.0 ** round(np.log2(KERNEL_EPSILON / layer.epsilon) / 2)
        self._epsilon = self._scale**2 * layer.epsilon

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        values = (self._scale, self._epsilon, self._gamma, self._beta)
        scale, epsilon, gamma, beta = (np.asarray(value).astype(x.dtype.as_numpy_dtype) for value in values)
        x = x * scale
        mean = tf.reduce_mean(x, [1], keepdims=True)
        variance = tf.reduce_mean(tf.math.squared_difference(x, mean), [1], keepdims=True)
        slope = tf.math.rsqrt(variance + epsilon) * gamma
        return x * slope + (beta - mean * slope)


def _fusible_gelu(x: tf.Tensor) -> tf.Tensor:
    """x / 2 * (1 + erf(x / sqrt(2))) in the order of operations that is recognised; tf.nn.gelu's own is not."""
    half, one, root = (tf.constant(value, x.dtype) for value in (0.5, 1.0, 0.5**0.5))
    return (tf.math.erf(x * root) + one) * half * x


def _is_exact_gelu(activation) -> bool:
    """Whether a function is gelu with erf, told by its values: the tanh form differs by 5e-4, others by more."""
    x = tf.linspace(-4.0, 4.0, 65)
    return bool(np.abs(activation(x) - keras.activations.gelu(x, approximate=False)).max() < 1e-5)
