"""What privacy costs: processor time and memory of an ordinary and of a private update, in turns.

python benchmarks/privacy.py --rows 32 --lengths 32 128

The checkpoint is the quickstart's. Each contender is a process of its own; the first updates, in which TensorFlow makes
its graphs, are not counted. Times are of all threads, user and system.
"""

import argparse
import json
import resource
import sys
import time
from functools import partial
from typing import Any

from commands import answer
from tables import Comparison, Report, add_arguments, machine_before, publish
from turns import take_turns

CONTENDERS = ("ordinary", "dense", "private", "ordinary_bfloat16", "private_bfloat16", "loop")
UNCOUNTED = 2


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=32, help="of a batch")
    parser.add_argument("--lengths", type=int, nargs="+", default=[32, 128], help="tokens of each row")
    parser.add_argument("--updates", type=int, default=5, help="that are counted")
    add_arguments(parser, repeats=3)
    parser.add_argument("--turns", type=int, dest="repeats", help="the same as --repeats")
    parser.add_argument("--trainable", default="all", choices=("all", "head", "bias", "last"))
    parser.add_argument("--contenders", nargs="+", default=CONTENDERS[:3], choices=CONTENDERS)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        print(
            json.dumps(measured(options.worker, options.rows, options.lengths[0], options.updates, options.trainable))
        )
        return
    machine, report = machine_before(), Report([])
    for length in options.lengths:
        asked_for = {name: partial(asked, name, length, options) for name in options.contenders}
        found, failed = take_turns(asked_for, options.repeats, options.first_turn)
        seconds = {name: [row["seconds"] if row else None for row in rows] for name, rows in found.items()}
        memory = {
            name: f"{max(row['gigabytes'] for row in rows if row):.2f}" for name, rows in found.items() if any(rows)
        }
        title = f"An update of {options.rows} rows of {length} tokens"
        facts = {"peak memory, GB": memory}
        report.comparisons.append(Comparison(title, "s of the processor", seconds, more_is_better=False, facts=facts))
        report.failed |= failed
    report.machine = machine
    publish(report, options)


def asked(name: str, length: int, options: argparse.Namespace, turn: int) -> dict[str, float]:
    """What `measured` gives in a process of its own."""
    words = ["--worker", name, "--lengths", length, "--rows", options.rows, "--updates", options.updates]
    command = [sys.executable, __file__, *map(str, words), "--trainable", options.trainable]
    return answer(command, {"TF_CPP_MIN_LOG_LEVEL": "3"})


def measured(name: str, rows: int, length: int, updates: int, trainable: Any) -> dict[str, float]:
    """CPU seconds an update, and the process's peak of memory.

    Args:
        name: of CONTENDERS: with lazy embedding updates, with dense ones, private, both in bfloat16, and private by an
            update of one row after the other, without noise or clipping, as what it takes at least.
    """
    import numpy as np
    import tensorflow as tf

    from pipeline.assemble import seed_all
    from pipeline.backbone.dropout import without_dropout
    from pipeline.backbone.load import load_backbone
    from pipeline.classifier import build_classifier
    from pipeline.command_line import read_config
    from pipeline.privacy.layers import let_note
    from pipeline.privacy.model import Mechanism, PrivateClassifier
    from pipeline.privacy.optimizer import PrivateAdamW
    from pipeline.tasks.single_label import SingleLabel
    from pipeline.training.model import TrainableClassifier
    from pipeline.training.optimizer import AdamW, make_optimizer
    from pipeline.training.trainable import freeze

    config = read_config("quickstart")
    seed_all(config.training)
    name, _, rounded = name.partition("_")
    dtype = "mixed_bfloat16" if rounded else "float32"
    loaded = load_backbone(config.model, config.text, 0, dtype)
    kind = PrivateClassifier if name == "private" else TrainableClassifier
    model = build_classifier(loaded, 2, pooling="mean", dtype=dtype, model_class=kind)
    training = config.training
    training.trainable = trainable
    freeze(model, training)
    training.embedding_update = "lazy" if name == "ordinary" else "dense"
    if isinstance(model, PrivateClassifier):
        let_note(model.classifier_parts)
        without_dropout(model)
        training.clip_norm = None
    if name == "loop":
        model.accumulation = rows
    task = SingleLabel(("a", "b"))
    optimizer = make_optimizer(training, model, 100, PrivateAdamW if name == "private" else AdamW)
    model.compile(optimizer=optimizer, loss=task.loss(), jit_compile=False)
    if isinstance(model, PrivateClassifier):
        model.use(Mechanism(0.1, 1.0, float(rows), (1, 2)))
    chance = np.random.default_rng(0)
    ids = chance.integers(1000, 20000, (rows, length)).astype(np.int32)
    inputs = {"token_ids": ids, "segment_ids": np.zeros_like(ids), "padding_mask": np.ones_like(ids)}
    targets = np.eye(2, dtype=np.float32)[chance.integers(0, 2, rows)]
    batch = tf.data.Dataset.from_tensors((inputs, targets, np.ones(rows, np.float32))).repeat()
    step, batches = model.make_train_function(), iter(batch)
    for _ in range(UNCOUNTED):
        step(batches)
    before = time.process_time()
    for _ in range(updates):
        step(batches)
    seconds = (time.process_time() - before) / updates
    return {"seconds": seconds, "gigabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}


if __name__ == "__main__":
    main()
