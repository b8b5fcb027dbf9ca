"""Few lengths for many batches."""

import numpy as np
import pytest

from pipeline.data.ladder import SLACK, STEP, ladder


def padded(longest, lengths):
    steps = np.asarray(lengths)
    return steps[np.searchsorted(steps, longest)].sum()


@pytest.mark.parametrize("median", [9, 40, 200])
def test_no_more_tokens_than_allowed_and_no_step_to_spare(median):
    random = np.random.default_rng(median)
    longest = np.clip(np.exp(random.normal(np.log(median), 0.6, 500)), 3, 512).astype(int)
    lengths = ladder(longest, 512)
    allowed = (1 + SLACK) * (-(-longest // STEP) * STEP).sum()
    assert padded(longest, lengths) <= allowed
    assert len(lengths) < len(np.unique(-(-longest // STEP)))
    # The best of all ladders with a step less, by trying pairs and triples of what it could be made of.
    for without in range(len(lengths) - 1):
        assert padded(longest, lengths[:without] + lengths[without + 1 :]) > allowed


def test_one_length_where_all_batches_have_it():
    assert ladder(np.array([9, 11, 16]), 128) == (16,)


def test_no_length_beyond_the_tokenizers():
    assert ladder(np.array([127]), 127) == (127,)
