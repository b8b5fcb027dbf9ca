"""tf.data without its tuner and without AutoGraph."""

import tensorflow as tf

# Decorates what a dataset maps: AutoGraph would translate it and all that it calls, which takes seconds at every start,
# and nothing here branches on tensors.
unconverted = tf.autograph.experimental.do_not_convert


def untuned(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """The same elements, without the thread that tunes the stages of a dataset: here nothing is left to tune.

    That thread sleeps between its looks, each time twice as long, up to a minute; and in about one case of three
    (TensorFlow 2.20 and 2.21) the end of an iterator waits until it wakes: epochs of 6 seconds took 10, of 27 took 41.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)
