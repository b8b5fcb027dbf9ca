"""What is left of a run in its process, which may do many: a search, a notebook."""

import gc
import weakref

import tensorflow as tf
from tiny import VOCABULARY

from pipeline.backbone.encoder import speed_up
from pipeline.backbone.fresh import build
from pipeline.config import ModelConfig
from pipeline.training.session import fresh_session

SIZES = ModelConfig(num_layers=1, num_heads=2, hidden_dim=16, intermediate_dim=32, max_sequence_length=16)


def traced() -> weakref.ref:
    """Of the graph of an update's gradients."""
    backbone = build(SIZES, VOCABULARY, seed=1).backbone
    speed_up(backbone)
    ids = tf.ones([2, 4], tf.int32)
    inputs = {"token_ids": ids, "segment_ids": ids * 0, "padding_mask": ids}

    @tf.function(autograph=False)
    def gradients():
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(backbone(inputs, training=True)["sequence_output"])
        return tape.gradient(loss, backbone.trainable_variables)

    assert all(gradient is not None for gradient in gradients()[:1])
    return weakref.ref(gradients.get_concrete_function().graph)


def test_no_graph_of_a_run_outlives_it():
    """It holds all variables: 200 MB a training of one layer of MiniLM, before."""
    with fresh_session():
        graph = traced()
    gc.collect()
    assert graph() is None
