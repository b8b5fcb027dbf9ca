"""Predictions of the rows of a split by the model that is trained or served."""

import numpy as np
import tensorflow as tf
from tiny_export import TEXTS, tiny_model

from pipeline.evaluation.predict import BatchPredictor
from pipeline.tasks.single_label import SingleLabel

LABELS = ("a", "b", "c")


def test_batches_of_all_sizes_have_one_graph_and_many_predictors_no_warning(caplog, monkeypatch):
    monkeypatch.setattr(tf.get_logger(), "propagate", True)
    model, encoder = tiny_model(len(LABELS))
    traced = []

    def forward(inputs, training):
        traced.append(inputs["token_ids"].shape.as_list())
        return model(inputs, training=training)

    batches = [TEXTS[:1], TEXTS[:2], TEXTS[1:4], TEXTS[:7]]
    for _ in range(6):
        predict = BatchPredictor(forward, encoder, SingleLabel(LABELS), batch_size=2)
        found = [predict.texts((list(texts),)) for texts in batches]
        for texts, rows in zip(batches, found, strict=True):
            alone = np.concatenate([predict.texts(([text],)) for text in texts])
            np.testing.assert_allclose(rows, alone, atol=1e-6)
    assert traced == [[None, None]] * 6
    assert caplog.messages == []
