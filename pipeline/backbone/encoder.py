"""keras-nlp's transformer layer, computed in fewer passes over memory; same variables, same outputs."""

import keras
import keras_nlp
import tensorflow as tf

from pipeline.backbone.dropout import Dropout, dropout_mask
from pipeline.backbone.low_rank import LowRankUpdates
from pipeline.backbone.notes import DenseNote, NormNote, note
from pipeline.backbone.transformer_parts import parts_of


def speed_up(backbone: keras_nlp.models.BertBackbone) -> None:
    """Let a backbone's layers compute as `EncoderLayer`, `WordEmbedding` and `Dropout` do; their variables stay."""
    # BertBackbone builds its layers itself, and takes no classes for them.
    for layer in backbone._flatten_layers():
        if type(layer) is keras.layers.Dropout:
            layer.__class__ = Dropout
    for layer in backbone.transformer_layers:
        layer.__class__ = EncoderLayer
    backbone.get_layer("token_embedding").__class__ = WordEmbedding


class WordEmbedding(keras.layers.Embedding):
    """Reads the rows that it is asked for.

    Keras' own reads the whole table, which TensorFlow copies at each update once single rows have been written to it.
    """

    def call(self, inputs):
        """int [...] to float [..., width]."""
        return tf.cast(tf.gather(self.embeddings.value, inputs), self.compute_dtype)


class EncoderLayer(keras_nlp.layers.TransformerEncoder):
    """A TransformerEncoder of BERT's kind (normalisation after the sum).

    On a CPU most of the time beside the matrix products goes into many small passes over memory, so

    - query, key and value are one product of matrices, in place of three of higher rank;
    - attention and normalisation have their gradients written out, without the steps for shapes that might broadcast;
    - dropout draws 16 random bits a value, in place of a 32-bit float (its rate is rounded to 1/65536).
    """

    low_rank = LowRankUpdates({})
    """Of its kernels, while they are trained so (training.trainable lora)."""

    def call(self, inputs, padding_mask=None, attention_mask=None, training=None, return_attention_scores=False):
        """float [batch, length, hidden] to the same; padding_mask: [batch, length], 0 or False where padding is."""
        if self.normalize_first or attention_mask is not None or return_attention_scores:
            return super().call(inputs, padding_mask, attention_mask, training, return_attention_scores)
        return self.compute(inputs, padding_mask, training)

    def compute(self, inputs, padding_mask=None, training=None, first_only: bool = False):
        """As `call`; with first_only, of the first token alone: [batch, length, hidden] to [batch, 1, hidden]."""
        parts = parts_of(self)
        hidden, heads = inputs.shape[-1], self.num_heads
        batch, length = tf.unstack(tf.shape(inputs)[:2])
        asking = inputs[:, :1] if first_only else inputs

        def projected(states, *names):
            """[batch, heads, tokens, size] of each, by one product."""
            projections = [getattr(parts, name) for name in names]
            kernel = tf.concat([tf.reshape(part.kernel, [hidden, -1]) for part in projections], axis=1)
            bias = tf.concat([tf.reshape(part.bias, [-1]) for part in projections], axis=0)
            states = tf.reshape(states, [-1, hidden])
            product = _dense(states, kernel, bias)
            kernels, biases = zip(*((part.kernel, part.bias) for part in projections), strict=True)
            note(DenseNote(product, states, kernels, biases))
            if any(name in self.low_rank.of for name in names):
                product += tf.concat([self._added(name, states, hidden) for name in names], axis=1)
            product = tf.reshape(product, [batch, -1, len(projections), heads, hidden // heads])
            return tf.unstack(tf.transpose(product, [2, 0, 3, 1, 4]))

        if first_only:
            (query,), (key, value) = projected(asking, "query"), projected(inputs, "key", "value")
        else:
            query, key, value = projected(inputs, "query", "key", "value")
        ignored = None
        if padding_mask is not None:
            ignored = tf.cast(tf.where(tf.cast(padding_mask, tf.bool), 0.0, -1e9), inputs.dtype)[:, None, None]
        shape = [batch, heads, 1 if first_only else length, length]
        context = _attend(query, key, value, ignored, dropout_mask(parts.score_dropout, shape, inputs.dtype, training))
        context = tf.reshape(tf.transpose(context, [0, 2, 1, 3]), [-1, hidden])
        y = self._apply("attention_output", parts.attention_output, context)
        x = tf.reshape(asking, [-1, hidden])
        x = _add_and_normalize(x, y, parts.attention_dropout, parts.attention_norm, training)

        inner = parts.intermediate.activation(self._apply("intermediate", parts.intermediate, x))
        y = self._apply("output", parts.output, inner)
        x = _add_and_normalize(x, y, parts.output_dropout, parts.output_norm, training)
        return tf.reshape(x, tf.shape(asking))

    def _added(self, name: str, x, width: int):
        """What the low-rank update of a kernel adds, [rows, width]; zeros where there is none."""
        update = self.low_rank.of.get(name)
        return tf.zeros([tf.shape(x)[0], width], x.dtype) if update is None else update(x)

    def _apply(self, name: str, layer, x):
        """A layer's kernel, [..., out], and bias on [rows, in], without its activation."""
        kernel = tf.reshape(layer.kernel, [x.shape[-1], -1])
        y = _dense(x, kernel, tf.convert_to_tensor(layer.bias))
        note(DenseNote(y, x, [layer.kernel], [layer.bias]))
        return y + self.low_rank.of[name](x) if name in self.low_rank.of else y


@tf.custom_gradient
def _dense(x, kernel, bias):
    """x @ kernel + bias, of [rows, in], [in, out] and [out]."""

    def gradient(upstream):
        ones = tf.ones([1, tf.shape(upstream)[0]], upstream.dtype)
        # The sum over rows as a product: it adds in float32, and bfloat16 has fast products only.
        return (
            tf.matmul(upstream, kernel, transpose_b=True),
            tf.matmul(x, upstream, transpose_a=True),
            tf.matmul(ones, upstream)[0],
        )

    # On a CPU as a batch of one: TensorFlow joins a plain product and its bias into one operation of oneDNN's, which
    # rearranges the kernel anew at each update and in bfloat16 takes up to twice as long (benchmarks/README.md).
    plain = tf.config.get_visible_devices("GPU")
    product = tf.matmul(x, kernel) if plain else tf.matmul(x[None], kernel[None])[0]
    return tf.nn.bias_add(product, bias), gradient


def _attend(query, key, value, ignored, mask):
    """Scaled dot-product attention (Vaswani et al., 2017) of [batch, heads, length, size] tensors.

    `ignored` is added to the scores; `mask` is multiplied with the probabilities.
    """
    scale = tf.constant(query.shape[-1] ** -0.5, query.dtype)

    @tf.custom_gradient
    def attend(query, key, value):
        scores = tf.matmul(query, key, transpose_b=True) * scale
        probabilities = tf.nn.softmax(scores if ignored is None else scores + ignored)
        kept = probabilities if mask is None else probabilities * mask

        def gradient(upstream):
            slope = tf.matmul(upstream, value, transpose_b=True)
            slope = probabilities * (slope if mask is None else slope * mask)
            slope = (slope - probabilities * tf.reduce_sum(slope, -1, keepdims=True)) * scale
            return (
                tf.matmul(slope, key),
                tf.matmul(slope, query, transpose_a=True),
                tf.matmul(kept, upstream, transpose_a=True),
            )

        return tf.matmul(kept, value), gradient

    return attend(query, key, value)


def _add_and_normalize(x, y, dropout, norm, training):
    """Layer normalisation (Ba et al., 2016) of x + dropout(y), in float32; [rows, hidden] to the same."""
    mask = dropout_mask(dropout, tf.shape(y), y.dtype, training)

    @tf.custom_gradient
    def compute(x, y, gamma, beta):
        total = tf.cast(x + (y if mask is None else y * mask), tf.float32)
        centred = total - tf.reduce_mean(total, -1, keepdims=True)
        inverse = tf.math.rsqrt(tf.reduce_mean(tf.square(centred), -1, keepdims=True) + norm.epsilon)
        normal = centred * inverse

        def gradient(upstream, _):
            upstream = tf.cast(upstream, tf.float32)
            product, slope = upstream * normal, upstream * gamma
            along = tf.reduce_mean(slope * normal, -1, keepdims=True)
            slope = tf.cast((slope - tf.reduce_mean(slope, -1, keepdims=True) - normal * along) * inverse, x.dtype)
            return slope, slope if mask is None else slope * mask, tf.reduce_sum(product, 0), tf.reduce_sum(upstream, 0)

        return (tf.cast(normal * gamma + beta, x.dtype), normal), gradient

    # In pure bfloat16 gamma and beta are of that type, and so are their gradients.
    gamma, beta = (tf.cast(tf.convert_to_tensor(weight), tf.float32) for weight in (norm.gamma, norm.beta))
    outputs, normal = compute(x, y, gamma, beta)
    note(NormNote(outputs, normal, norm.gamma, norm.beta))
    return outputs
