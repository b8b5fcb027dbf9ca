"""Each run of a process begins with Keras and TensorFlow as in a fresh one, and leaves them as its caller had them."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
from tensorflow.python.framework import config as tensorflow_config
from tensorflow.python.framework import ops


@contextmanager
def fresh_session() -> Iterator[None]:
    """A context for one run, in which nothing of earlier runs decides names, seeds or numerics.

    At its end the caller's dtype policy and random states are back: a run seeds Python's and NumPy's generators, and a
    loop that draws settings between runs would draw the same ones each time.
    """
    policy, deterministic = keras.config.dtype_policy(), tensorflow_config.is_op_determinism_enabled()
    states = random.getstate(), np.random.get_state()
    rounded = tensorflow_config.tensor_float_32_execution_enabled()
    # What is left of earlier models is collected here, too.
    keras.utils.clear_session()
    gradients = _gradients()
    known = set(gradients)
    try:
        yield
    finally:
        for name in gradients.keys() - known:
            del gradients[name]
        tensorflow_config.enable_tensor_float_32_execution(rounded)
        keras.config.set_dtype_policy(policy)
        random.setstate(states[0])
        np.random.set_state(states[1])
        # TensorFlow has no public way back from enable_op_determinism.
        if not deterministic:
            tensorflow_config.disable_op_determinism()


def _gradients() -> dict[str, Any]:
    """TensorFlow's gradients by name. Each trace of a `tf.custom_gradient` adds one for ever, which holds the graph and
    with it all variables of the model: a search of many trials would run out of memory."""
    return ops.gradient_registry._registry
