"""The activations that BERT checkpoints name, as `hidden_act` in a Hugging Face config."""

import math
from collections.abc import Callable

import keras
import tensorflow as tf

from pipeline.errors import UserError


def gelu(x):
    """The exact GELU, x * Phi(x) (Hendrycks and Gimpel, 2016), in float32 inside whatever the type of x.

    Keras' own goes through erfc in x's type, which under bfloat16 on a CPU takes several times as long as the matrix
    product before it. Here the slope is computed with the value, so that the backward pass is one product.

    Args:
        x: float tensor.

    Returns:
        A tensor like x.
    """
    return _gelu(tf.convert_to_tensor(x))


@tf.custom_gradient
def _gelu(x):
    wide = tf.cast(x, tf.float32)
    # Constants are where they cost no pass over memory of their own: x phi(x) = t exp(-t^2) / sqrt(pi).
    t = wide * math.sqrt(0.5)
    cdf = 0.5 + 0.5 * tf.math.erf(t)
    slope = tf.cast(cdf + t * tf.exp(-0.5 * math.log(math.pi) - tf.square(t)), x.dtype)
    return tf.cast(wide * cdf, x.dtype), lambda upstream: upstream * slope


def _gelu_tanh(x):
    return keras.activations.gelu(x, approximate=True)


ACTIVATIONS = {
    "gelu": gelu,
    "gelu_new": _gelu_tanh,
    "gelu_pytorch_tanh": _gelu_tanh,
    "relu": keras.activations.relu,
    "silu": keras.activations.silu,
    "swish": keras.activations.silu,
    # Other ways to write the two forms of GELU.
    "gelu_python": gelu,
    "gelu_fast": _gelu_tanh,
    "gelu_accurate": _gelu_tanh,
    "gelu_python_tanh": _gelu_tanh,
}


def name_of(activation: Callable) -> str:
    """The hidden_act of a layer's activation; of several names, the one that older releases of transformers know.

    Raises:
        UserError: an activation that no checkpoint names.
    """
    # BertBackbone's own is the tanh form, in a function that keras-nlp does not export.
    if getattr(activation, "__name__", "") == "gelu_approximate":
        return "gelu_new"
    for name, known in ACTIVATIONS.items():
        if activation is known:
            return name
    raise UserError(f"the activation {activation!r} has no name in checkpoints: one of {', '.join(ACTIVATIONS)} has.")
