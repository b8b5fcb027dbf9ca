"""Batches of equal tokens: which rows they have, and each device of them; what they do not go with.

That several devices end with the weights of one: cluster_cases.
"""

import numpy as np
import pytest
import tensorflow as tf
from tiny import VOCABULARY, write_config, write_rows

from pipeline.command_line import parse
from pipeline.config import DataConfig, TrainingConfig
from pipeline.data.batching import BatchOptions
from pipeline.data.load import load
from pipeline.data.token_batches import TokenBatches, batches_by_tokens, cut_by_tokens
from pipeline.errors import UserError
from pipeline.run import main
from pipeline.tasks.single_label import SingleLabel
from pipeline.text import TextEncoder
from pipeline.training.plan import plan_of, total_updates

TOKENS = 90
TASK = SingleLabel(("a", "b", "c"))


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """303 rows of 6 to 23 tokens, their encoder, and how they are cut."""
    folder = tmp_path_factory.mktemp("data")
    config = DataConfig(train=str(write_rows(folder / "rows.csv", 303)), validation_fraction=0, test_fraction=0)
    split, encoder = load(config, folder / "cache").train, TextEncoder(VOCABULARY, sequence_length=24)
    return split, encoder, cut_by_tokens(split, encoder, TOKENS)


def epoch_of(rows, epoch=0, skip=0, **settings):
    split, encoder, cut = rows
    options = BatchOptions(4, **settings)
    return list(batches_by_tokens(cut, split, encoder, TASK, options, epoch=epoch, skip=skip).as_numpy_iterator())


def real_rows(batches):
    """(tokens, target) of each row that counts."""
    return [
        (tuple(ids[mask > 0]), tuple(target))
        for inputs, targets, weights in batches
        for ids, mask, target, weight in zip(inputs["token_ids"], inputs["padding_mask"], targets, weights, strict=True)
        if weight > 0
    ]


def test_an_epoch_has_every_row_once_in_batches_of_at_most_so_many_tokens(rows):
    split, encoder, cut = rows
    batches = epoch_of(rows)
    every = np.arange(len(split))
    encoded = {name: tensor.numpy() for name, tensor in encoder(split.texts(every)[0]).items()}
    whole = [(encoded, np.eye(3)[split.targets(every)], np.ones(len(split)))]
    assert sorted(real_rows(batches)) == sorted(real_rows(whole))
    assert len(batches) == cut.count
    sizes = [inputs["token_ids"].size for inputs, *_ in batches]
    assert max(sizes) <= TOKENS
    # As many rows as there is room for, but for the last and those left out for a multiple of 8.
    assert np.median(sizes) > 0.8 * TOKENS
    padding = 1 - np.mean([inputs["padding_mask"].mean() for inputs, *_ in batches])
    assert padding < 0.1


def test_many_rows_are_a_multiple_that_devices_divide():
    cut = TokenBatches(np.array([3] * 100 + [16] * 5), 64)
    assert np.diff(cut.ends, prepend=0).tolist() == [4, 4, *[16] * 6, 1]


def test_a_text_of_its_own_where_it_is_longer_than_the_others_together():
    assert TokenBatches(np.array([64, 2, 2]), 64).ends.tolist() == [1, 3]


def test_each_epoch_has_as_many_batches_in_an_order_that_seed_and_epoch_decide(rows):
    first = real_rows(epoch_of(rows))
    assert real_rows(epoch_of(rows)) == first
    for other in (epoch_of(rows, epoch=1), epoch_of(rows, seed=1)):
        assert len(other) == rows[2].count
        assert real_rows(other) != first and sorted(real_rows(other)) == sorted(first)
    assert len(epoch_of(rows, passes=2)) == 2 * rows[2].count


@pytest.mark.parametrize("skip", [1, 17])
def test_skipping_batches_is_as_if_they_had_been_drawn(rows, skip):
    for a, b in zip(epoch_of(rows)[skip:], epoch_of(rows, skip=skip), strict=True):
        tf.nest.map_structure(np.testing.assert_array_equal, a, b)


def test_workers_and_devices_have_the_rows_of_one(rows):
    whole = epoch_of(rows)
    shares = [epoch_of(rows, parts=6, shard=(index, 2)) for index in range(2)]
    for batch, *parts in zip(whole, *shares, strict=True):
        assert [len(weights) % 3 for *_, weights in parts] == [0, 0]
        assert real_rows(parts) == real_rows([batch])


def test_updates_are_counted_in_these_batches():
    training = TrainingConfig(epochs=3, batch_size=4, tokens_per_batch=100)
    assert total_updates(training, 1000, 17) == 51
    plan = plan_of(training, 1000, 51, 17)
    assert (plan.passes, plan.steps, plan.epochs) == (1, 17, 3)
    plan = plan_of(training, 1000, 400, 17)
    assert (plan.passes, plan.steps) == (2, 34)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (("training.method", "auto"), "needs training.method fine_tune"),
        (("training.bucket_by_length", "false"), "needs training.bucket_by_length true"),
        (("text.fixed_length", "true"), "needs text.fixed_length false"),
        (("training.xla", "true"), "too many shapes for training.xla true"),
    ],
)
def test_what_it_does_not_go_with(tmp_path, setting, message):
    config = str(write_config(tmp_path))
    with pytest.raises(UserError, match=message):
        parse(["--config", config, "--training.tokens_per_batch", "100", f"--{setting[0]}", setting[1]])


def test_fewer_tokens_than_one_text_may_have(rows):
    split, encoder, _ = rows
    with pytest.raises(UserError, match="tokens_per_batch 20 is less than the 24 tokens of one text"):
        cut_by_tokens(split, encoder, 20)


@pytest.mark.slow
def test_a_run_by_tokens(tmp_path, capsys):
    training = {"tokens_per_batch": 400, "epochs": 1}
    config = write_config(tmp_path, training=training, export={"enabled": False}, evaluation={"baseline": "none"})
    assert not main(["--config", str(config), "--run_dir", str(tmp_path / "run")])
    assert "batch of 400 tokens" in capsys.readouterr().out
