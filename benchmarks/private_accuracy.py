"""Accuracy of private fine-tuning, by epsilon and by the weights that are trained.

python benchmarks/private_accuracy.py --train train.csv --test dev.csv --output found.jsonl --rows 3000 --arms head last

The checkpoint is the quickstart's. Gradients, clipping, noise, batches and claims are the pipeline's own; what lies
below all trained weights is computed once, without dropout, and a batch is worked through in parts of rows of like
length, which changes no sum. The rows are the first of one shuffled order; a seed is that of new weights, batches,
noise and, where it is not private, dropout. What the output has already is not trained again; without --arms its table
is printed.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

ARMS = ("head", "bias", "lora", "last", "all")
PART, CLIP = 128, 0.1
# Peak learning rates, private and ordinary.
RATES = {"head": 2e-2, "bias": 2e-3, "lora": 1e-3, "last": 5e-4, "all": 2e-4}
ORDINARY_RATES = {"head": 1e-2, "bias": 1e-3, "lora": 5e-4, "last": 2e-4, "all": 1e-4}


@dataclass(frozen=True)
class Trial:
    """One training. noise: "none" (ordinary, nothing clipped), "clipped" (without noise), or an epsilon."""

    arm: str
    rows: int
    noise: str
    seed: int
    batch: int
    passes: int
    rate: float
    length: int
    dtype: str

    @property
    def private(self) -> bool:
        """Whether gradients are clipped."""
        return self.noise != "none"

    @property
    def updates(self) -> int:
        """Of the weights."""
        return -(-self.rows * self.passes // self.batch)


def main() -> None:
    """Train what is asked for and not there, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", required=True, help="csv with the columns text and label; .xz too")
    parser.add_argument("--test", required=True, help="likewise, public rows")
    parser.add_argument("--output", type=Path, required=True, help="jsonl, a line a training")
    parser.add_argument("--rows", type=int, default=3000)
    parser.add_argument("--arms", nargs="*", default=[], choices=ARMS)
    parser.add_argument("--noise", nargs="+", default=["none", "clipped", "8", "3"], help="or an epsilon")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--batch", type=int, default=512, help="of private trainings, on average; of others 32")
    parser.add_argument("--passes", type=int, default=10, help="of private trainings; of others 3, of a head 20")
    parser.add_argument("--rate", type=float, help="learning rate, in place of the arm's")
    parser.add_argument("--length", type=int, default=32, help="tokens of a training row")
    parser.add_argument("--dtype", default="mixed_bfloat16", choices=("float32", "mixed_bfloat16"))
    options = parser.parse_args()
    known = [json.loads(line) for line in options.output.open()] if options.output.exists() else []
    done = [{each.name: row[each.name] for each in fields(Trial)} for row in known]
    wanted = [trial_of(a, n, s, options) for a in options.arms for s in options.seeds for n in options.noise]
    if wanted := [trial for trial in wanted if asdict(trial) not in done]:
        bench = Bench(options)
        for trial in wanted:
            before = time.process_time()
            row = asdict(trial) | {"accuracy": bench.accuracy(trial), "seconds": time.process_time() - before}
            known.append(row)
            with options.output.open("a") as file:
                print(json.dumps(row), file=file)
            print(row, flush=True)
    print(table(known))


def trial_of(arm: str, noise: str, seed: int, options: argparse.Namespace) -> Trial:
    """With the settings of its kind."""
    if noise == "none":
        size, passes, rate = 32, 20 if arm == "head" else 3, options.rate or ORDINARY_RATES[arm]
    else:
        size, passes, rate = options.batch, options.passes, options.rate or RATES[arm]
    return Trial(arm, options.rows, noise, seed, size, passes, rate, options.length, options.dtype)


def table(known: list[dict[str, Any]]) -> str:
    """Accuracy in per cent, mean and deviation over seeds, a line for each kind of training."""
    kinds: dict[tuple, list[dict[str, Any]]] = {}
    for row in known:
        key = ("rows", "arm", "noise", "batch", "passes", "rate", "length", "dtype")
        kinds.setdefault(tuple(row[name] for name in key), []).append(row)
    lines = [
        "| rows | trained | epsilon | batch | passes | learning rate | accuracy | seeds | CPU s |",
        "|---" * 9 + "|",
    ]
    for kind, rows in kinds.items():
        found = [100 * row["accuracy"] for row in rows]
        spread = f" ± {statistics.stdev(found):.1f}" if len(found) > 1 else ""
        seconds = statistics.mean(row["seconds"] for row in rows)
        cells = [*kind[:5], f"{kind[5]:g}", f"{statistics.mean(found):.1f}{spread}", len(found), f"{seconds:.0f}"]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


@cache
def noise_of(epsilon: float, rows: int, batch: int, updates: int) -> float:
    """Noise multiplier, with delta 1 / (2 rows)."""
    from pipeline.privacy.config import PrivacyConfig
    from pipeline.privacy.statement import planned

    return planned(PrivacyConfig(epsilon=epsilon), "row", rows, batch, updates, "").noise_multiplier


class Bench:
    """The rows, as tokens, and what frozen layers give of them."""

    def __init__(self, options: argparse.Namespace):
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
        from pipeline.backbone.load import load_backbone
        from pipeline.command_line import read_config

        self.config = read_config("quickstart")
        self.dtype = options.dtype
        self.load = lambda: load_backbone(self.config.model, self.config.text, 0, self.dtype)
        loaded = self.load()
        self.inputs, self.labels = {}, {}
        for name, path, length in (("train", options.train, options.length), ("test", options.test, 64)):
            rows = pd.read_csv(path, keep_default_na=False)
            if name == "train":
                rows = rows.iloc[np.random.default_rng(0).permutation(len(rows))[: options.rows]]
            encoder = loaded.text_encoder(None, length)
            self.inputs[name] = {key: value.numpy() for key, value in encoder(rows.text.astype(str).tolist()).items()}
            self.labels[name] = np.eye(2, dtype=np.float32)[rows.label]
        self.below: dict[tuple[str, str], dict[str, np.ndarray]] = {}

    def accuracy(self, trial: Trial) -> float:
        """Of the test rows, after training."""
        import keras
        import tensorflow as tf

        keras.utils.set_random_seed(trial.seed)
        model = self.model(trial)
        inputs = {name: self.given(trial.arm, name) for name in ("train", "test")}
        private = trial.private
        of_inputs = signature(inputs["train"])
        data_like = of_inputs, tf.TensorSpec([None, 2]), tf.TensorSpec([None])
        gradients = tf.function(model._gradients, autograph=False, input_signature=[data_like, [tf.TensorSpec([])]])
        update = tf.function(
            lambda found: model.optimizer.apply_gradients(
                zip(model.finished(found) if private else found, model.trainable_variables, strict=True)
            ),
            autograph=False,
        )
        for rows in batches(trial):
            total = tf.constant(float(trial.batch if private else len(rows)))
            sums = None
            for part in parts(rows, inputs["train"]):
                data = taken(inputs["train"], part), self.labels["train"][part], np.ones(len(part), np.float32)
                _, found = gradients(data, [total])
                found = [tf.convert_to_tensor(each) for each in found]
                sums = found if sums is None else [a + b for a, b in zip(sums, found, strict=True)]
            if sums is not None:
                update(sums)
        right = 0
        forward = tf.function(lambda some: model(some, training=False), autograph=False, input_signature=[of_inputs])
        for part in parts(np.arange(len(self.labels["test"])), inputs["test"]):
            logits = forward(taken(inputs["test"], part)).numpy()
            right += int((logits.argmax(1) == self.labels["test"][part].argmax(1)).sum())
        return right / len(self.labels["test"])

    def model(self, trial: Trial) -> Any:
        """Compiled; of the layers that are trained and those above them."""
        from pipeline.backbone.dropout import without_dropout
        from pipeline.classifier import build_classifier
        from pipeline.config import TrainingConfig
        from pipeline.privacy.layers import let_note
        from pipeline.privacy.model import Mechanism, PrivateClassifier
        from pipeline.privacy.optimizer import PrivateAdamW
        from pipeline.tasks.single_label import SingleLabel
        from pipeline.training.model import TrainableClassifier
        from pipeline.training.optimizer import AdamW, make_optimizer
        from pipeline.training.trainable import freeze

        kind = PrivateClassifier if trial.private else TrainableClassifier
        training = TrainingConfig(
            learning_rate=trial.rate, trainable=trial.arm, clip_norm=None if trial.private else 1.0,  # pyright: ignore[reportArgumentType]  # of ARMS
            embedding_update="dense", seed=trial.seed,
        )  # fmt: skip
        model: Any = build_classifier(
            self.load(), 2, pooling="mean", dtype=self.dtype, seed=trial.seed, model_class=kind
        )
        freeze(model, training)
        if trial.private:
            let_note(model.classifier_parts)
            without_dropout(model)
        model = above(model, trial.arm, kind)
        task = SingleLabel(("0", "1"))
        optimizer = make_optimizer(training, model, trial.updates, PrivateAdamW if trial.private else AdamW)
        model.compile(optimizer=optimizer, loss=task.loss(), jit_compile=False)
        if isinstance(model, PrivateClassifier):
            noisy = trial.noise != "clipped"
            noise = noise_of(float(trial.noise), trial.rows, trial.batch, trial.updates) if noisy else 0.0
            model.use(Mechanism(CLIP, noise, float(trial.batch), (trial.seed, 1)))
        return model

    def given(self, arm: str, split: str) -> dict[str, np.ndarray]:
        """What the model of an arm reads of a split's rows."""
        if arm not in ("head", "last"):
            return self.inputs[split]
        if (arm, split) not in self.below:
            self.below[arm, split] = self.computed(arm, split)
        return self.below[arm, split]

    def computed(self, arm: str, split: str) -> dict[str, np.ndarray]:
        """By the layers that are frozen."""
        import keras
        import tensorflow as tf

        from pipeline.classifier import build_classifier, pooled_model

        model: Any = build_classifier(self.load(), 2, pooling="mean", dtype=self.dtype)
        backbone = model.classifier_parts.backbone
        below = (
            pooled_model(model) if arm == "head" else keras.Model(model.input, backbone.transformer_layers[-3].output)
        )
        inputs = self.inputs[split]
        forward = tf.function(
            lambda some: below(some, training=False), autograph=False, input_signature=[signature(inputs)]
        )
        count, length = inputs["token_ids"].shape
        shape = (count, backbone.hidden_dim) if arm == "head" else (count, length, backbone.hidden_dim)
        states = np.zeros(shape, np.float32)
        for part in parts(np.arange(count), inputs):
            found = forward(taken(inputs, part)).numpy()
            if arm == "head":
                states[part] = found
            else:
                states[part, : found.shape[1]] = found
        return {"states": states} | ({} if arm == "head" else {"padding_mask": inputs["padding_mask"]})


def above(model: Any, arm: str, kind: type) -> Any:
    """A classifier, or the part of it that is trained, of what `Bench.computed` gives."""
    import keras

    from pipeline.classifier import Parts

    parts: Parts = model.classifier_parts
    width = parts.backbone.hidden_dim
    if arm == "head":
        inputs = {"states": keras.Input((width,), name="states")}
        return kind(inputs=inputs, outputs=parts.head(parts.dropout(inputs["states"])))
    if arm == "last":
        mask = keras.Input((None,), dtype="int32", name="padding_mask")
        inputs = {"states": keras.Input((None, width), name="states"), "padding_mask": mask}
        states = inputs["states"]
        for layer in parts.backbone.transformer_layers[-2:]:
            states = layer(states, padding_mask=mask)
        pooled = parts.pooling({"sequence_output": states}, mask)
        return kind(inputs=inputs, outputs=parts.head(parts.dropout(pooled)))
    return model


def signature(inputs: dict[str, np.ndarray]) -> dict[str, Any]:
    """Of any number of rows, of any length."""
    import tensorflow as tf

    shapes = {name: [None, value.shape[1]] if value.ndim == 2 and name == "states" else [None, None, *value.shape[2:]]
              for name, value in inputs.items()}  # fmt: skip
    return {name: tf.TensorSpec(shapes[name], value.dtype) for name, value in inputs.items()}


def batches(trial: Trial) -> Iterator[np.ndarray]:
    """Rows of each update: by Poisson sampling, or shuffled."""
    from pipeline.privacy.sampling import PoissonSampling

    if trial.private:
        rate = trial.batch / trial.rows
        drawn = PoissonSampling(np.arange(trial.rows), np.arange(trial.rows + 1), rate, trial.updates, trial.seed)
        yield from (drawn.rows(number) for number in range(trial.updates))
        return
    chance = np.random.default_rng(trial.seed)
    for _ in range(trial.passes):
        yield from np.array_split(chance.permutation(trial.rows), -(-trial.rows // trial.batch))


def parts(rows: np.ndarray, inputs: dict[str, np.ndarray]) -> Iterator[np.ndarray]:
    """Of like length."""
    mask = inputs.get("padding_mask")
    ordered = rows if mask is None else rows[np.argsort(mask[rows].sum(1), kind="stable")]
    size = len(rows) if mask is None else PART
    yield from (ordered[start : start + size] for start in range(0, len(rows), max(size, 1)))


def taken(inputs: dict[str, np.ndarray], rows: np.ndarray) -> dict[str, np.ndarray]:
    """As long as their longest."""
    mask = inputs.get("padding_mask")
    longest = None if mask is None else max(int(mask[rows].sum(1).max()), 1)
    return {
        name: value[rows] if value.ndim == 1 or mask is None else value[rows, :longest]
        for name, value in inputs.items()
    }


if __name__ == "__main__":
    main()
