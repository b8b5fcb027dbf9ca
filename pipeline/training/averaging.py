"""Evaluation with the moving averages of the weights, while training goes on with the weights themselves."""

from collections.abc import Iterator
from contextlib import contextmanager

import keras


@contextmanager
def averaged_weights(model: keras.Model) -> Iterator[None]:
    """Inside the block the model has the moving averages of its weights, where its optimizer keeps any."""
    if not model.optimizer.use_ema:
        yield
        return
    trained = model.get_weights()
    model.optimizer.overwrite_with_averages(model.trainable_variables)
    try:
        yield
    finally:
        model.set_weights(trained)
