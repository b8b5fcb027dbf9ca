"""From a config and its data to a compiled model, with what turns its strings into tokens."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf

from pipeline.backbone.load import load_backbone, require_segments
from pipeline.backbone.loaded import LoadedBackbone
from pipeline.classifier import build_classifier, over_chunks, over_columns, pooled_model, take_head
from pipeline.config import Config, TrainingConfig
from pipeline.data.few import few_labels
from pipeline.data.load import DataSplits
from pipeline.data.reading import read_splits, token_lengths
from pipeline.data.split import Split
from pipeline.data.token_batches import TokenBatches, cut_by_tokens
from pipeline.errors import UserError
from pipeline.evaluation.predict import BatchForward, BatchPredictor
from pipeline.features import Features
from pipeline.fusion import Kind
from pipeline.identity import Identity, backbone_identity
from pipeline.methods import MANY_ROWS
from pipeline.methods import method as method_named
from pipeline.privacy.model import PrivateClassifier
from pipeline.privacy.optimizer import PrivateAdamW
from pipeline.tasks.task import Task
from pipeline.text import TextEncoder
from pipeline.training.checkpoint import Checkpoints, Progress
from pipeline.training.distillation import DistilledClassifier
from pipeline.training.model import ExactModel, TrainableClassifier
from pipeline.training.numerics import choose_dtype, serving_dtype
from pipeline.training.optimizer import AdamW, make_optimizer
from pipeline.training.pause import Pause
from pipeline.training.plan import total_updates
from pipeline.training.strategy import describe
from pipeline.training.teacher import Teacher, load_teacher
from pipeline.training.trainable import freeze
from pipeline.training.workers import Workers
from pipeline.training.xla import choose_xla


@dataclass
class Assembly:
    """A model ready to be trained.

    Attributes:
        config: of the run; its backbone is where the weights begin.
        data: all rows, with the task.
        loaded: the backbone with what its checkpoint says.
        model: compiled, where it is trained.
        strategy: in whose scope it was made.
        updates: of the training.
        encoder: strings to token ids, in training.
        serving_encoder: the same for what is served and evaluated, which may read longer or shorter texts.
        dtype: Keras dtype policy of training.
        serving_dtype: of what is served.
        devices: one line on them.
        teacher: None: there is none.
        pause: where to stop before the end of training; then its progress is not finished.
        forwards, own_predictor, trainers: made when they are first needed: see `forward` and `predictor`; models of
            methods that do not train `model` itself but share its variables.
        own_cut: of the rows that are learned from; see `cut`.
    """

    config: Config
    data: DataSplits
    loaded: LoadedBackbone
    model: TrainableClassifier
    strategy: tf.distribute.Strategy
    updates: int
    encoder: TextEncoder
    serving_encoder: TextEncoder
    dtype: str
    serving_dtype: str
    devices: str
    teacher: Teacher | None = None
    pause: Pause = field(default_factory=Pause)
    forwards: dict[str, BatchForward] = field(default_factory=dict)
    own_predictor: BatchPredictor | None = None
    trainers: dict[str, ExactModel] = field(default_factory=dict)
    own_cut: TokenBatches | None = None

    @property
    def identity(self) -> Identity:
        """What the model is."""
        return Identity(
            self.data.features.metadata(),
            self.data.task.metadata(),
            self.config.model.pooled_by,
            backbone_identity(self.loaded.backbone, self.loaded.source, self.loaded.family.model_type),
            self.config.model.dropout,
            self.dtype,
            self.encoder.sequence_length,
            self.encoder.fingerprint,
            self.config.model.pooled_layers,
            self.long,
            _fusion(self.config, self.data),
            self.encoder.redaction.metadata(),
        )

    @property
    def long(self) -> dict[str, Any]:
        """What is read of long texts, and how the vectors of their chunks become one."""
        pooling = {"pooling": self.config.model.chunk_pooling} if self.encoder.long.in_chunks else {}
        return self.encoder.long.metadata() | pooling

    @property
    def resume_identity(self) -> dict[str, str]:
        """What must not change between two processes of one run."""
        found = {"data": self.data.fingerprint, "tokenization": self.encoder.fingerprint}
        return found | ({"teacher": self.teacher.fingerprint} if self.teacher else {})

    @property
    def labelled_identity(self) -> dict[str, str]:
        """The same without the texts that a model has given labels."""
        return self.resume_identity | {"data": self.data.labelled_fingerprint or self.data.fingerprint}

    def warnings(self) -> list[str]:
        """What is to be said of the rows before they are learned from."""
        found = read_splits(self.data, self.encoder, self.loaded.backbone.max_sequence_length)
        # Other methods, which it advises, are not private.
        private = self.config.training.privacy.on
        return found if private else found + few_labels(self.config.training, self.data, self.updates)

    def lengths(self, split: Split) -> np.ndarray:
        """int64 [n], tokens of the rows of a split before any are cut."""
        return token_lengths(self.serving_encoder, split)

    def fit(self, task: Task, workers: Workers) -> Progress:
        """Train the model in the run's folder, from its newest checkpoint where there is one, and leave it with its
        best weights; where training.epochs is 0, leave it as it is.

        Args:
            task: as it is served, which scores the validation rows.
            workers: of the run; the chief writes identity.json.

        Raises:
            UserError: the loss is not finite any more (Diverged), or the checkpoint is of other data or tokens.
            Stopped: SIGTERM or Ctrl-C came, or the deadline of the pause; the state is saved.
        """
        run_dir, train, validation = Path(str(self.config.run_dir)), self.data.to_learn, self.data.validation
        if workers.chief:
            self.identity.save(run_dir)
        if train is None or not self.updates:
            return Progress(finished=True)
        model, identity = self.model, self.resume_identity
        checkpoints = Checkpoints(run_dir / "checkpoints", model, model.optimizer, identity, workers=workers)
        validate = self.predictor(model, self.encoder, workers)

        def score() -> dict:
            assert validation is not None
            values, predictions = validation.targets(), validate(validation)
            # With the answers that it would be served with, such as tuned thresholds.
            return task.calibrated(values, predictions).scores(values, predictions)

        learn = method_named(self.config.training.method)
        return learn(self, train, checkpoints, None if validation is None else score)

    @contextmanager
    def making(self, updates: int) -> Iterator[None]:
        """Within, a training makes so many updates, and its learning rate falls to its end over these."""
        if updates == self.updates:
            yield
            return
        whole = self.updates
        self._make(updates)
        try:
            yield
        finally:
            self._make(whole)

    def _make(self, updates: int) -> None:
        self.updates = updates
        self.model.optimizer.schedule.plan(updates, self.config.training.warmup)
        # What is traced has the schedule's numbers in it.
        for model in (self.model, *self.trainers.values()):
            model.make_train_function(force=True)

    def updates_of(self, rows: Split) -> int:
        """Of a training on these rows."""
        cut = self.cut(rows)
        return total_updates(self.config.training, len(rows), cut and cut.count)

    def cut(self, rows: Split) -> TokenBatches | None:
        """How training rows are cut into batches of tokens; None: they are batches of rows."""
        tokens = self.config.training.tokens_per_batch
        if tokens is None or rows is self.data.to_learn:
            return self.own_cut
        return cut_by_tokens(rows, self.encoder, tokens)

    def forward(self, kind: Literal["vectors", "logits"], workers: Workers) -> BatchForward:
        """Pooled vectors, [n, hidden], or logits, [n, outputs], of rows by the weights as they are; compiled once."""
        if kind not in self.forwards:
            model = self.model if kind == "logits" else pooled_model(self.model)
            config = self.config
            self.forwards[kind] = BatchForward(
                model, self.encoder, config.evaluation.batch_size, config.text.fixed_length, workers
            )
        return self.forwards[kind]

    def predictor(self, model: keras.Model, encoder: TextEncoder, workers: Workers | None = None) -> BatchPredictor:
        """Predictions of this model, which is compiled once, or of one like it."""
        size = self.config.evaluation.batch_size
        found = BatchPredictor(model, encoder, self.data.task, size, self.config.text.fixed_length, workers)
        if model is self.model:
            found.twin = self.own_predictor
            self.own_predictor = self.own_predictor or found
        return found


def seed_all(training: TrainingConfig) -> None:
    """Python's, NumPy's and TensorFlow's generators, and with training.deterministic every operation."""
    keras.utils.set_random_seed(training.seed)
    if training.deterministic:
        tf.config.experimental.enable_op_determinism()


def assemble(
    config: Config, data: DataSplits, strategy: tf.distribute.Strategy, pause: Pause | None = None
) -> Assembly:
    """Load the backbone, put a fresh head on it and compile it, in the strategy's scope; say what was made.

    Where nothing is trained the head is the checkpoint's, and nothing is compiled. None: training does not pause.

    Raises:
        UserError: settings, checkpoint, data and teacher that do not go together.
    """
    training = config.training
    dtype = choose_dtype(training.dtype)
    rows, by_tokens = data.to_learn or (), training.tokens_per_batch
    # Batches of tokens, whose number the tokenizer decides, and chunks come in too many shapes to compile for.
    few_shapes = not by_tokens and (config.text.fixed_length or config.text.long != "chunks")
    xla = few_shapes and choose_xla(training.xla, total_updates(training, len(rows)))
    devices = describe(strategy, training.batch_size, dtype, xla, by_tokens)
    print(devices)
    policy = serving_dtype(config.export.dtype, dtype)
    if (policy, config.export.weights) == ("bfloat16", "float32"):
        raise UserError("export.weights float32: the model is served in bfloat16; set export.dtype to float32 too.")
    teacher = None
    with strategy.scope():
        loaded = load_backbone(config.model, config.text, training.seed, dtype)
        model = _model(config, data, loaded, dtype)
        if config.distillation.teacher:
            teacher = load_teacher(config, loaded, data, dtype)
            model.learn_from(teacher.model, config.distillation, data.task, training.seed, dtype)
    encoder, serving_encoder = _encoders(config, loaded, data.features)
    cut = cut_by_tokens(rows, encoder, by_tokens) if by_tokens and training.epochs and rows else None
    updates = total_updates(training, len(rows), cut and cut.count)
    with strategy.scope():
        if updates:
            _compile(model, training, data.task, updates, xla)
        else:
            _finish(model, loaded)
    for note in loaded.notes:
        print(f"note: {note}")
    print(f"{model.count_params() / 1e6:.1f} M parameters, {'uncased' if encoder.lowercase else 'cased'} vocabulary")
    if teacher:
        print(f"taught by {config.distillation.teacher}, {teacher.model.count_params() / 1e6:.1f} M parameters")
    encoders = encoder, serving_encoder
    return Assembly(
        config, data, loaded, model, strategy, updates, *encoders, dtype, policy, devices, teacher, pause or Pause(),
        own_cut=cut,
    )  # fmt: skip


def _model(config: Config, data: DataSplits, loaded: LoadedBackbone, dtype: str) -> TrainableClassifier:
    """A fresh head on the backbone, over all that a row has."""
    seed = config.training.seed
    if data.features.texts_read > 1:
        require_segments(loaded, f"data.text_columns [{', '.join(config.data.text_columns)}]")
    model = build_classifier(
        loaded,
        data.task.outputs,
        pooling=config.model.pooled_by,
        pooled_layers=config.model.pooled_layers,
        dropout=config.model.dropout,
        seed=seed,
        dtype=dtype,
        model_class=_model_class(config),
    )
    if config.text.long == "chunks":
        model = over_chunks(model, config.model.chunk_pooling, seed, dtype)
    if fusion := _fusion(config, data):
        model = over_columns(model, **fusion, seed=seed)
    return model  # pyright: ignore[reportReturnType]  Of model_class.


def _model_class(config: Config) -> type[TrainableClassifier]:
    if config.training.privacy.on:
        return PrivateClassifier
    return DistilledClassifier if config.distillation.teacher else TrainableClassifier


def _compile(model: TrainableClassifier, training: TrainingConfig, task: Task, total_steps: int, xla: bool) -> None:
    """Ready to be trained."""
    freeze(model, training)
    model.accumulation, model.xla = training.accumulation, xla
    if isinstance(model.distribute_strategy, tf.distribute.TPUStrategy):
        # What fits is known before (python -m pipeline.tpu check), and training.accumulation says it.
        model.chunks_at_once = None
    model.compile(
        optimizer=make_optimizer(training, model, total_steps, PrivateAdamW if training.privacy.on else AdamW),
        loss=task.loss(training.label_smoothing),
        jit_compile=False,
        steps_per_execution=training.steps_per_execution,
    )


def _finish(model: TrainableClassifier, loaded: LoadedBackbone) -> None:
    """With the head of the checkpoint."""
    if loaded.classifier is None:
        raise UserError(
            f"training.epochs 0: {loaded.source} has no head of a {loaded.family.title} classifier among its weights, "
            "or one of other sizes than its id2label says."
        )
    take_head(model, loaded.classifier)


def _fusion(config: Config, data: DataSplits) -> dict[str, Any]:
    """Identity.fusion."""
    method = config.training.method
    # Then auto, which chooses by the labelled rows, tries nothing.
    method = "fine_tune" if method == "auto" and len(data.train or ()) >= MANY_ROWS else method
    width = data.features.width
    if not width:
        return {}
    kind: Kind = "gated" if config.model.fusion == "gated" else "concat"
    return {"kind": kind, "units": config.model.units_of_fusion(method), "width": width}


def _encoders(config: Config, loaded: LoadedBackbone, features: Features) -> tuple[TextEncoder, TextEncoder]:
    """The encoders of training and of serving, of the checkpoint's own vocabulary."""
    encoder = loaded.text_encoder(config.text.lowercase, config.text.length, config.text.long_texts, features)
    served_length = config.export.sequence_length
    if served_length in (None, encoder.sequence_length):
        return encoder, encoder
    longest = loaded.backbone.max_sequence_length
    if served_length > longest:
        raise UserError(f"export.sequence_length {served_length} exceeds the {longest} positions of {loaded.source}.")
    return encoder, loaded.text_encoder(encoder.lowercase, served_length, encoder.long, features)
