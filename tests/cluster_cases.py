"""Small trainings that one device, several devices and several workers must end alike.

Run as a program it is a worker of the cluster that TF_CONFIG describes, goes through all of them, and the chief writes
what came out: python cluster_cases.py OUTPUT [devices a worker]
"""

import json
import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf
from tiny import VOCABULARY, write_rows

from pipeline.backbone.dropout import without_dropout
from pipeline.backbone.encoder import speed_up
from pipeline.backbone.fresh import build as fresh_backbone
from pipeline.classifier import build_classifier
from pipeline.config import Config, DataConfig, ModelConfig, PhaseConfig, PretrainingConfig, TextConfig, TrainingConfig
from pipeline.data.batching import training_batches
from pipeline.data.load import load
from pipeline.data.token_batches import cut_by_tokens, maker
from pipeline.evaluation.predict import BatchPredictor
from pipeline.pretraining.fit import PretrainingProgress
from pipeline.pretraining.fit import fit as pretrain
from pipeline.pretraining.model import build_pretraining_model
from pipeline.pretraining.tokens import TokenCorpus, TokenStore, write_store
from pipeline.privacy.config import PrivacyConfig
from pipeline.privacy.layers import let_note
from pipeline.privacy.model import Mechanism, PrivateClassifier
from pipeline.privacy.sampling import PoissonSampling, units_of
from pipeline.privacy.sampling import maker as maker_of_sampled
from pipeline.text import TextEncoder
from pipeline.training import optimizer as optimizers
from pipeline.training.checkpoint import Checkpoints
from pipeline.training.cluster import find_cluster
from pipeline.training.fit import Lesson, fit
from pipeline.training.model import TrainableClassifier
from pipeline.training.plan import plan_of, total_updates
from pipeline.training.schedule import WarmupDecay
from pipeline.training.strategy import choose_strategy
from pipeline.training.workers import Workers

ROWS, BATCH, LENGTH = 50, 8, 24
SIZES = ModelConfig(num_layers=1, num_heads=2, hidden_dim=16, intermediate_dim=32, max_sequence_length=LENGTH)

# 50 rows in batches of 8: the last has 2, which is nothing at all for the second worker.
CASES = {
    "together": {
        "accumulation": 2,
        "steps_per_execution": 3,
        "class_weights": "balanced",
        "clip_norm": 0.05,
        "ema": 0.9,
    },
    "plain": {"clip_norm": 0.05},
    "accumulation": {"accumulation": 2, "clip_norm": 0.05},
    "steps_per_execution": {"steps_per_execution": 3},
    "class_weights": {"class_weights": "balanced", "bucket_by_length": False},
    "dense": {"embedding_update": "dense", "clip_norm": 0.05, "label_smoothing": 0.1},
    "ema": {"ema": 0.9, "clip_norm": 0.05},
    # Odd numbers of rows, which devices and parts do not divide.
    "tokens": {"tokens_per_batch": 73, "accumulation": 2, "class_weights": "balanced", "clip_norm": 0.05},
    "bfloat16": {"dtype": "mixed_bfloat16", "learning_rate": 1e-3},
    # Batches of random size, of which a worker may have nothing but filling; noise that is added once.
    "private": {"embedding_update": "dense", "accumulation": 2, "privacy": PrivacyConfig(epsilon=8.0, seed=3)},
    "pretraining": {"objective": "nsp", "optimizer": "adamw", "clip_norm": 0.5},
    "pretraining_several": {"objective": "none", "optimizer": "lamb", "accumulation": 2, "steps_per_execution": 4},
}


def run_case(name: str, strategy: tf.distribute.Strategy, workers: Workers, folder: Path) -> dict[str, np.ndarray]:
    """Weights, losses and scores at the end of a case.

    Args:
        name: of CASES.
        strategy, workers: as of a run.
        folder: for data and checkpoints, the same for all workers, and new.
    """
    settings = dict(CASES[name])
    folder.mkdir(parents=True, exist_ok=True)
    keras.config.set_dtype_policy("float32")
    keras.utils.set_random_seed(1)
    if name.startswith("pretraining"):
        return _pretrain(settings, strategy, workers, folder)
    return _finetune(settings, strategy, workers, folder)


def _finetune(settings, strategy, workers, folder):
    config = TrainingConfig(**{"epochs": 2, "batch_size": BATCH, "learning_rate": 0.01, "dtype": "float32"} | settings)
    text = TextConfig(sequence_length=LENGTH)
    encoder = TextEncoder(VOCABULARY, True, LENGTH)
    with workers.chief_first():
        csv = folder / "train.csv"
        if workers.chief:
            write_rows(csv, ROWS)
        data = load(DataConfig(train=str(csv), validation_fraction=0.0, test_fraction=0.0), folder / "data")
    kind = PrivateClassifier if config.privacy.on else TrainableClassifier
    with strategy.scope():
        loaded = fresh_backbone(SIZES, VOCABULARY, 1, config.dtype)
        if config.privacy.on:
            # What notes its calls.
            speed_up(loaded.backbone)
        model = build_classifier(loaded, data.task.outputs, dropout=0.0, seed=1, dtype=config.dtype, model_class=kind)
        # Devices draw masks of their own, as they should: nothing to compare there.
        without_dropout(model)
        model.accumulation = config.accumulation
        optimizer = optimizers.make_optimizer(config, model, total_steps=14)
        model.compile(
            optimizer=optimizer,
            loss=data.task.loss(config.label_smoothing),
            jit_compile=False,
            steps_per_execution=config.steps_per_execution,
        )
    checkpoints = Checkpoints(folder / "checkpoints", model, optimizer, {}, workers=workers)
    predict = BatchPredictor(model, encoder, data.task, batch_size=3, workers=workers)
    every = np.arange(ROWS)

    def score():
        right = predict(data.train).argmax(axis=1) == data.train.targets(every)
        return {"macro_f1": float(right.mean())}

    tokens = config.tokens_per_batch
    cut = None if tokens is None else cut_by_tokens(data.train, encoder, tokens)
    count = cut and cut.count
    plan = plan_of(config, ROWS, total_updates(config, ROWS, count), count)
    make = training_batches if cut is None else maker(cut)
    if isinstance(model, PrivateClassifier):
        config.bucket_by_length = False
        let_note(model.classifier_parts)
        model.mechanism = Mechanism(0.1, 0.5, BATCH, (3, 4))
        members, starts = units_of(data.train)
        make = maker_of_sampled(PoissonSampling(members, starts, BATCH / ROWS, plan.total, 5))
    lesson = Lesson(data.train, encoder, data.task, config, text, plan, score, batches=make)
    progress = fit(model, lesson, checkpoints)
    return {
        "probabilities": predict(data.train),
        # A private training tells none.
        "losses": np.array([row.get("loss", 0.0) for row in progress.history]),
        "scores": np.array([row["validation_macro_f1"] for row in progress.history]),
        **weights_of(model),
    }


def _pretrain(settings, strategy, workers, folder):
    several = settings.pop("steps_per_execution", 1)
    encoder = TextEncoder(VOCABULARY, True, LENGTH)
    with workers.chief_first():
        if workers.chief:
            texts = np.random.default_rng(0).choice(VOCABULARY[5:], (12, 5, 7))
            documents = [[" ".join(sentence) for sentence in document] for document in texts.tolist()]
            write_store(documents, encoder, folder / "store")
    corpus = TokenCorpus([TokenStore(folder / "store")])
    pretraining = PretrainingConfig(
        phases=[PhaseConfig(steps=9, sequence_length=16, batch_size=8), PhaseConfig(3, LENGTH, 4)],
        evaluate_every=5, evaluation_examples=15, evaluation_batch_size=4, **settings,
    )  # fmt: skip
    config = Config(pretraining=pretraining, training=TrainingConfig(seed=0, checkpoint_seconds=1e9))
    kind = optimizers.Lamb if pretraining.optimizer == "lamb" else optimizers.AdamW
    with strategy.scope():
        loaded = fresh_backbone(SIZES, VOCABULARY, 1, "float32")
        model = build_pretraining_model(loaded, next_sentence=pretraining.objective != "none", dtype="float32")
        without_dropout(model)
        model.accumulation, model.z_loss = pretraining.accumulation, 0.01
        optimizer = kind(WarmupDecay(0.01, 12, 2), weight_decay=0.01, clip_norm=pretraining.clip_norm)
        optimizer = optimizers.build(optimizer, model)
        model.compile(optimizer=optimizer, jit_compile=False, steps_per_execution=several)
    checkpoints = Checkpoints(folder / "checkpoints", model, optimizer, {}, PretrainingProgress, workers)
    progress = pretrain(model, corpus, corpus, encoder, config, checkpoints, folder / "logs")
    return {
        "losses": np.array([row["masked_loss"] for row in progress.history]),
        "scores": np.array([row["validation_masked_loss"] for row in progress.history]),
        **weights_of(model),
    }


def weights_of(model: keras.Model) -> dict[str, np.ndarray]:
    return {f"weight {i}": value for i, value in enumerate(model.get_weights())}


def main() -> None:
    output, devices = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1
    tf.config.threading.set_intra_op_parallelism_threads(1)
    if devices > 1:
        _several_devices(devices)
    cluster = find_cluster("multiworker")
    strategy = choose_strategy("multiworker", cluster)
    assert strategy.num_replicas_in_sync == devices * len(cluster.addresses)
    workers = Workers(strategy, cluster)
    for name in json.loads(os.environ.get("CASES", "null")) or CASES:
        result = run_case(name, strategy, workers, output / name)
        if workers.chief:
            np.savez(output / f"{name}.npz", **result)
    workers.barrier()


def _several_devices(count: int) -> None:
    """Of a CPU, which a worker has one of: for the sake of the test only."""
    from tensorflow.python.distribute.collective_all_reduce_strategy import CollectiveAllReduceExtended

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * count)
    CollectiveAllReduceExtended._initialize_local_devices = lambda self, resolver, worker: (
        tuple(f"{worker}/device:CPU:{i}" for i in range(count)),
        "CPU",
    )


if __name__ == "__main__":
    main()
