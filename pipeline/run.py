"""The road from raw text to a served classifier, top to bottom.

python -m pipeline.run                                   the quickstart: real checkpoint, real data
python -m pipeline.run --config from_scratch             nothing pre-trained: vocabulary, pre-training, fine-tuning
python -m pipeline.run --config trec --training.epochs 4 a recipe, with one setting changed
python -m pipeline.run --config my.yaml                  your own
"""

import contextlib
import hashlib
import json
import os
import platform
import sys
import time
from dataclasses import replace
from pathlib import Path

import yaml
from filelock import FileLock, Timeout

from pipeline.command_line import parse
from pipeline.config import Config, differences, to_yaml
from pipeline.errors import Stopped, UserError, WorkerLost
from pipeline.files import write_text
from pipeline.training.cluster import Cluster, find_cluster
from pipeline.training.rendezvous import rendezvous


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status: 0, 2 after one sentence on what is wrong, 69 when another worker of the
    cluster is lost, 75 when stopped by SIGTERM."""
    try:
        config = parse(arguments)
        cluster = find_cluster(config.training.strategy)
        run_dir = Path(config.run_dir)
        run_dir.mkdir(parents=True, exist_ok=True)
        follower = cluster is not None and cluster.index > 0
        with contextlib.ExitStack() as stack:
            stack.enter_context(FileLock(run_dir / (f".lock-{cluster.index}" if follower else ".lock"), timeout=0))
            if not follower:
                claim(run_dir, config)
            if cluster:
                # Imported first, for between this meeting and TensorFlow's own a worker that fails is not noticed.
                os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
                import pipeline.training.workers  # noqa: F401

                rendezvous(cluster, fingerprint(config), config.training.workers_timeout)
            if follower:
                # It says nothing that the chief does not say.
                silence = stack.enter_context(open(os.devnull, "w"))
                stack.enter_context(contextlib.redirect_stdout(silence))
            run(config, cluster)
    except Timeout:
        print(f"error: another process is working in {config.run_dir}.", file=sys.stderr)
        return 2
    except WorkerLost as loss:
        print(f"error: {loss}", file=sys.stderr)
        return 69
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except Stopped as request:
        print(request, file=sys.stderr)
        return 75
    return 0


def fingerprint(config: Config) -> str:
    """Equal for equal settings; where the run's folder is mounted may differ among workers."""
    return hashlib.sha256(to_yaml(replace(config, run_dir=None)).encode()).hexdigest()


def claim(run_dir: Path, config: Config) -> None:
    """Write the config of a new run; refuse to take up an old one under settings that decide other weights."""
    stored = run_dir / "config.yaml"
    if stored.is_file():
        changed = differences(yaml.safe_load(stored.read_text()), config)
        if changed:
            raise UserError(
                f"{run_dir} holds a run with other settings ({'; '.join(changed[:5])}): "
                "give another --run_dir, or delete the folder."
            )
    write_text(stored, to_yaml(config))


def run(config: Config, cluster: Cluster | None = None) -> dict:
    """Take one run from where it stands to its end, alone or as one of the workers of a cluster, who have met.

    Raises:
        UserError: one sentence on what is wrong with the input.
        Stopped: SIGTERM came; the state is saved.
        WorkerLost: another worker is gone.
    """
    # TensorFlow takes seconds to import: only now, when the settings are known to be good.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from pipeline.training.strategy import check, choose_strategy
    from pipeline.training.workers import Workers, lost_workers_named

    with lost_workers_named(cluster):
        strategy = choose_strategy(config.training.strategy, cluster, config.training.workers_timeout)
        check(strategy, config)
        workers = Workers(strategy, cluster)
        metrics = road(config, strategy, workers)
        # A worker is done when all are: should the chief be killed in its evaluation, all start again.
        workers.barrier()
        return metrics


def road(config: Config, strategy, workers) -> dict:
    """Take one run from where it stands to its end: pre-training where there is a corpus, then data, model, training,
    evaluation, report, export.

    Args:
        config: checked, with run_dir set.
        strategy: tf.distribute.Strategy over all devices.
        workers: of the strategy. The chief alone writes files, and alone goes on after training.

    Returns:
        What metrics.json holds.
    """
    import keras
    import tensorflow as tf

    from export.labels import LabelRule
    from pipeline.backbone.load import load_backbone
    from pipeline.classifier import build_classifier, serving_copy
    from pipeline.data.batching import steps_per_epoch
    from pipeline.data.load import load
    from pipeline.evaluation.evaluate import evaluate, scores
    from pipeline.evaluation.predict import BatchPredictor
    from pipeline.evaluation.report import write_report
    from pipeline.evaluation.table import print_table
    from pipeline.pretraining.pretrain import pretrain
    from pipeline.text import TextEncoder
    from pipeline.training.checkpoint import Checkpoints
    from pipeline.training.distillation import DistilledClassifier
    from pipeline.training.fit import fit
    from pipeline.training.model import TrainableClassifier, example_loss
    from pipeline.training.numerics import choose_dtype, serving_dtype
    from pipeline.training.optimizer import make_optimizer
    from pipeline.training.strategy import describe
    from pipeline.training.teacher import load_teacher
    from pipeline.training.workers import Workers

    run_dir = Path(config.run_dir)
    training = config.training
    keras.utils.set_random_seed(training.seed)
    if training.deterministic:
        tf.config.experimental.enable_op_determinism()

    # Pre-training: raw text to a checkpoint, which fine-tuning begins with.
    model_config, text_config, metrics = config.model, config.text, {}
    if config.corpus.train:
        if config.stage != "finetune":
            checkpoint, metrics["pretraining"] = pretrain(config, run_dir, strategy, workers)
        else:
            checkpoint, metrics["pretraining"] = pretrained(run_dir)
        model_config = replace(config.model, backbone=str(checkpoint), num_layers=None)
        text_config = replace(config.text, vocabulary=None)
        # The same draws below whether or not pre-training has just run in this process.
        keras.utils.set_random_seed(training.seed)
    if config.stage == "pretrain":
        if not workers.chief:
            return metrics
        write_text(run_dir / "metrics.json", json.dumps(metrics, indent=1, allow_nan=False))
        write_report(
            run_dir / "report.html",
            title=run_dir.name,
            metrics=metrics,
            config_yaml=to_yaml(config),
            environment=environment_of(tf, keras),
        )
        print(f"next:\n  python -m pipeline.run --model.backbone {checkpoint} --data.train FILE")
        return metrics

    # Data: any source to rows on disk, split, with integer labels.
    with workers.chief_first():
        data = load(config.data, run_dir / "data")
    for warning in data.warnings:
        print(f"warning: {warning}")
    sizes = ", ".join(f"{len(split)} {split.name}" for split in (data.train, data.validation, data.test) if split)
    print(f"{sizes} rows, {len(data.label_names)} labels")

    # Refused now rather than after training, if the names do not allow it.
    below, label = config.export.abstain_below, config.export.abstain_label
    LabelRule(tuple(data.label_names), abstain_below=below, abstain_label=label)

    # Model: a backbone from its checkpoint, a fresh head, and the checkpoint's own vocabulary as the text encoder.
    dtype = choose_dtype(training.dtype)
    devices = describe(strategy, training.batch_size, dtype, training.xla)
    print(devices)
    policy = serving_dtype(config.export.dtype, dtype)
    if (policy, config.export.weights) == ("bfloat16", "float32"):
        raise UserError("export.weights float32: the model is served in bfloat16; set export.dtype to float32 too.")
    with strategy.scope():
        loaded = load_backbone(model_config, text_config, training.seed, dtype)
        model = build_classifier(
            loaded,
            len(data.label_names),
            pooling=config.model.pooling,
            dropout=config.model.dropout,
            seed=training.seed,
            dtype=dtype,
            model_class=DistilledClassifier if config.distillation.teacher else TrainableClassifier,
        )
        if config.distillation.teacher:
            teacher = load_teacher(config, loaded, data, dtype)
            model.learn_from(teacher.model, config.distillation, data.multi_label, training.seed, dtype)
        model.accumulation, model.xla = training.accumulation, training.xla
        total_steps = training.epochs * steps_per_epoch(len(data.train), training.batch_size)
        optimizer = make_optimizer(training, model, total_steps)
        loss = example_loss(data.multi_label, training.label_smoothing)
        model.compile(
            optimizer=optimizer, loss=loss, jit_compile=False, steps_per_execution=training.steps_per_execution
        )
    for note in loaded.notes:
        print(f"note: {note}")
    lowercase = config.text.lowercase if config.text.lowercase is not None else loaded.lowercase
    encoder = TextEncoder(loaded.vocabulary, lowercase is not False, config.text.sequence_length)
    serving_encoder = encoder
    if config.export.sequence_length not in (None, encoder.sequence_length):
        longest = loaded.backbone.max_sequence_length
        if config.export.sequence_length > longest:
            raise UserError(
                f"export.sequence_length {config.export.sequence_length} exceeds the {longest} positions of "
                f"{loaded.source}."
            )
        serving_encoder = TextEncoder(loaded.vocabulary, encoder.lowercase, config.export.sequence_length)
    print(f"{model.count_params() / 1e6:.1f} M parameters, {'uncased' if encoder.lowercase else 'cased'} vocabulary")
    if config.distillation.teacher:
        print(f"taught by {config.distillation.teacher}, {teacher.model.count_params() / 1e6:.1f} M parameters")

    # Training: from the newest checkpoint, if there is one; ends with the best epoch's weights.
    def predictor(of: keras.Model, encoder: TextEncoder, by: Workers | None = None) -> BatchPredictor:
        size = config.evaluation.batch_size
        return BatchPredictor(of, encoder, data.multi_label, size, config.text.fixed_length, by)

    validate = predictor(model, encoder, workers)
    identity = {"data": data.fingerprint, "tokenization": encoder.fingerprint}
    if config.distillation.teacher:
        identity["teacher"] = teacher.fingerprint
    checkpoints = Checkpoints(run_dir / "checkpoints", model, optimizer, identity, workers=workers)

    def validation_scores() -> dict:
        return scores(data.validation, validate(data.validation), data, config.evaluation.threshold)

    score = validation_scores if data.validation else None
    progress = fit(model, data.train, encoder, training, config.text, checkpoints, run_dir / "logs", score)

    if not workers.chief:
        return metrics

    # Evaluation: of the model that will be served, in the numerics that it will be served in.
    served = serving_copy(model, policy, config.export.weights)
    predict = predictor(served, serving_encoder)
    found, mistakes = evaluate(predict, data, config.evaluation, config.export.abstain_below)
    metrics |= found
    seconds = sum(row["seconds"] for row in progress.history)
    metrics["train"] = {
        "seconds": seconds,
        "examples_per_second": len(progress.history) * len(data.train) / max(seconds, 1e-9),
        "epochs": len(progress.history),
        "best_epoch": None if progress.best_epoch is None else progress.best_epoch + 1,
        "history": progress.history,
    }
    environment = {
        **environment_of(tf, keras),
        "devices": devices,
        "served_dtype": policy,
    }
    write_text(run_dir / "metrics.json", json.dumps({**metrics, "environment": environment}, indent=1, allow_nan=False))
    write_report(
        run_dir / "report.html",
        title=run_dir.name,
        metrics=metrics,
        label_names=data.label_names,
        mistakes=mistakes,
        data_summary=data.summary,
        warnings=data.warnings,
        config_yaml=to_yaml(config),
        environment=environment,
    )
    last = data.test or data.validation
    if last is not None:
        print_table(metrics[last.name], last.name)

    # Export: a SavedModel from string to label, refused unless a fresh process gets the same answers from it.
    if config.export.enabled:
        export(config, served, serving_encoder, data, predict, policy, metrics)
        print(f'next:\n  python -m export.predict {run_dir} "some text"\n  open {run_dir / "report.html"}')
        print(f"  tensorboard --logdir {run_dir / 'logs'}\n  python -m export.kit {run_dir}")
    return metrics


def export(config: Config, served, encoder, data, predict, dtype: str, metrics: dict) -> None:
    """Write the next version to `saved_model/`, verified on held-out texts.

    Args:
        config: of the run.
        served: keras.Model that was evaluated.
        encoder: its TextEncoder.
        data: all splits.
        predict: BatchPredictor of `served`.
        dtype: Keras dtype policy of `served`.
        metrics: the scores, for the metadata.
    """
    from export.savedmodel import export_verified
    from export.signatures import SignatureOptions
    from export.verify import rounding_tolerance
    from pipeline.classifier import serving_copy
    from pipeline.evaluation.predict import BatchPredictor

    options, run_dir = config.export, Path(config.run_dir)
    held_out = data.test or data.validation or data.train
    every = -(-len(held_out) // options.verify_examples)
    texts = tuple([text.decode() for text in column] for column in held_out.texts(slice(None, None, every)))
    answers = predict.texts(texts)
    tolerance = options.tolerance or 1e-4
    if options.tolerance is None and dtype == "bfloat16":
        exact = BatchPredictor(serving_copy(served, "float32"), encoder, data.multi_label, len(answers))
        tolerance = rounding_tolerance(answers, exact.texts(texts))
    version = export_verified(
        served,
        encoder,
        data.label_names,
        run_dir / "saved_model",
        texts=texts,
        probabilities=answers,
        tolerance=tolerance,
        multi_label=data.multi_label,
        threshold=config.evaluation.threshold,
        separator=config.data.label_separator or "|",
        metadata={
            "name": run_dir.resolve().name,
            "data": data.fingerprint,
            "dtype": dtype,
            "scores": headline(metrics),
        },
        warmup_batch_sizes=options.warmup_batch_sizes,
        recorded_examples=options.recorded_examples,
        abstain_below=options.abstain_below,
        abstain_label=options.abstain_label,
        signatures=SignatureOptions(options.signatures, options.top_k, options.explain_steps),
        weights=options.weights,
    )
    print(f"exported and verified: {version}")
    for i in sorted({0, len(answers) // 2, len(answers) - 1}):
        name, text = data.label_names[answers[i].argmax()], (" ".join(column[i].split())[:70] for column in texts)
        print(f"  {name} {answers[i].max():.3f}  {' | '.join(text)}")


def pretrained(run_dir: Path) -> tuple[Path, dict]:
    """What an earlier `--stage pretrain` of this run has made."""
    folder, scores = run_dir / "pretrained", run_dir / "pretraining.json"
    if not folder.is_dir():
        raise UserError(f"stage finetune: {folder} is not there yet; run --stage pretrain, or --stage all, first.")
    return folder, json.loads(scores.read_text())


def environment_of(tf, keras) -> dict:
    """Names and versions for the report."""
    return {
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "finished": time.strftime("%Y-%m-%d %H:%M:%S"),
    }


def headline(metrics: dict) -> dict:
    """Accuracy and macro F1 of each split, for the model's metadata."""
    names = ("accuracy", "macro_f1")
    return {split: {n: metrics[split][n] for n in names} for split in ("validation", "test") if split in metrics}


if __name__ == "__main__":
    status = main()
    if status == 69:
        # TensorFlow's own end waits for workers that are gone.
        sys.stdout.flush()
        os._exit(status)
    sys.exit(status)
