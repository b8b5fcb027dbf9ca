"""The emulation of TensorFlow Serving's batching, and the measure of memory."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from hand_made import HandMade, broken, save

from export.server import rules
from export.server.batching import BatchFails, Piece, ServerEnds, batches, joined, serve
from export.server.memory import Memory, measure, peaks
from export.server.sandbox import Limits
from export.versions import ModelError


def test_batches_are_filled_and_requests_cut_where_they_are_full():
    assert batches([3, 4, 1], 4) == [
        [Piece(0, 0, 3), Piece(1, 0, 1)],
        [Piece(1, 1, 4), Piece(2, 0, 1)],
    ]
    assert batches([9], 4) == [[Piece(0, 0, 4)], [Piece(0, 4, 8)], [Piece(0, 8, 9)]]
    assert batches([], 4) == []


@pytest.mark.parametrize("most", range(1, 9))
def test_every_request_gets_its_rows_wherever_it_is_cut(most):
    requests = [[1, 2, 3], [4], [5, 6, 7, 8, 9], [1]]
    found = serve(requests, most, lambda rows: [np.array(rows), np.array([[b"%d" % row] for row in rows], object)])
    assert [numbers.tolist() for numbers, _ in found] == requests
    assert [texts.ravel().tolist() for _, texts in found] == [[b"%d" % row for row in rows] for rows in requests]


def test_pieces_of_another_width_shift_rows_or_end_the_server():
    wide, narrow = np.array([[1, 2, 3]]), np.array([[4]])
    # As measured in Serving: the first says how wide all are, and nothing is compared.
    assert joined([wide, narrow]).tolist() == [[1, 2, 3], [4, 0, 0]]
    assert joined([np.array([[b"a", b"b"]], object), np.array([[b"c"]], object)]).tolist() == [
        [b"a", b"b"],
        [b"c", b""],
    ]
    with pytest.raises(ServerEnds, match=r"joining \[1, 1\] and \[1, 3\]"):
        joined([narrow, wide])


@pytest.mark.parametrize("output", [np.array(1.0), np.zeros([1, 2])])
def test_an_output_that_is_not_one_row_each_fails_its_batch(output):
    with pytest.raises(BatchFails, match="for 2 rows"):
        serve([[1, 2]], 2, lambda rows: [output])


class Hungry(HandMade):
    """With a signature that takes 64 MB for each row."""

    def hungry(self, text):
        much = tf.fill(tf.stack([tf.shape(text)[0], 16 << 20]), tf.cast(tf.strings.length(text)[0], tf.float32))
        return {"largest": tf.reduce_max(much, axis=1)}


@pytest.fixture(scope="module")
def hungry(tmp_path_factory) -> Path:
    model = Hungry()
    return save(model, tmp_path_factory.mktemp("hungry") / "1", hungry=model.hungry)


def test_memory_is_measured_for_each_signature_on_its_own(hungry):
    found = peaks(hungry, rows=16)
    assert set(found) == {"loaded", "serving_default", "classify", "hungry"}
    assert found["loaded"] > 100e6
    assert found["hungry"] - found["loaded"] > 16 * 64e6
    assert 0 < found["serving_default"] - found["loaded"] < 200e6
    broken(rules.memory, hungry, r"hungry takes \d\.\d times as much; 16 texts of 128 tokens",
           memory=Memory(16, 128, found.pop("loaded"), found))  # fmt: skip


def test_a_signature_that_takes_more_than_it_may_is_one_sentence(hungry):
    with pytest.raises(ModelError, match="OOM"):
        measure(hungry, 64, limits=Limits(memory_bytes=2 << 30))
