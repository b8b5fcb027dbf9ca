"""Each run of a process begins with Keras and TensorFlow as in a fresh one, and leaves them as its caller had them."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import keras
import numpy as np
from tensorflow.python.framework import config as tensorflow_config


@contextmanager
def fresh_session() -> Iterator[None]:
    """A context for one run, in which nothing of earlier runs decides names, seeds or numerics.

    At its end the caller's dtype policy and random states are back: a run seeds Python's and NumPy's generators, and a
    loop that draws settings between runs would draw the same ones each time.
    """
    policy, deterministic = keras.config.dtype_policy(), tensorflow_config.is_op_determinism_enabled()
    states = random.getstate(), np.random.get_state()
    keras.utils.clear_session()
    try:
        yield
    finally:
        keras.config.set_dtype_policy(policy)
        random.setstate(states[0])
        np.random.set_state(states[1])
        # TensorFlow has no public way back from enable_op_determinism.
        if not deterministic:
            tensorflow_config.disable_op_determinism()
