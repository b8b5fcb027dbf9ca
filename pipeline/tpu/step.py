"""The training step that a run takes, as a program for a TPU: built as the run builds it, looked through, lowered."""

import dataclasses
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import keras
import tensorflow as tf

# They are not part of tf.raw_ops.
from tensorflow.compiler.tf2xla.ops.gen_xla_ops import xla_all_reduce, xla_replica_id

from pipeline import tasks
from pipeline.backbone.load import load_backbone
from pipeline.backbone.loaded import LoadedBackbone
from pipeline.classifier import build_classifier, over_chunks
from pipeline.config import Config, PhaseConfig
from pipeline.errors import UserError
from pipeline.long_texts import CHUNKS
from pipeline.pretraining.fit import example_settings
from pipeline.pretraining.model import build_pretraining_model
from pipeline.pretraining.pretrain import make_pretraining_optimizer
from pipeline.tokenizer_rules import SPECIAL_TOKENS
from pipeline.training.model import TrainableClassifier
from pipeline.training.optimizer import make_optimizer

# Made of shapes alone by operations that broadcast, and gone after lowering.
SHAPE_OPS = {"BroadcastGradientArgs"}


@dataclass
class Step:
    """A training step of one kind.

    Attributes:
        name: for what is printed.
        model: compiled.
        at_once: sequences that a core takes at once, or texts in chunks.
        parts: that a core takes one after the other before the update.
        spec: the shapes of a core's data, from the number of its sequences.
    """

    name: str
    model: keras.Model
    at_once: int
    parts: int
    spec: Callable[[int], tuple]

    def lower(self, at_once: int, cores: int) -> bytes:
        """The step on so many sequences at once as serialized StableHLO, with its sums over all cores.

        Raises:
            UserError: something in it has no place on a TPU.
        """

        @tf.function(jit_compile=True, autograph=False)
        def step(data):
            with OneOfMany(cores):
                return self.model.train_step(data)

        spec = self.spec(at_once * self.parts)
        audit(step.get_concrete_function(spec).graph)
        data = tf.nest.map_structure(lambda s: tf.zeros(s.shape, s.dtype), spec)
        return step.experimental_get_compiler_ir(data)(stage="stablehlo_serialized")


class OneOfMany(tf.distribute.ReplicaContext):
    """Stands for one of several replicas that are not there, while a step is traced: its sums become XLA's."""

    def __init__(self, replicas: int):
        super().__init__(tf.distribute.get_strategy(), 0)
        self.replicas = replicas

    @property
    def num_replicas_in_sync(self):
        return self.replicas

    @property
    def replica_id_in_sync_group(self):
        return 0 if self.replicas == 1 else xla_replica_id()

    def all_reduce(self, reduce_op, value, options=None):
        """Sparse gradients become dense, as TPUStrategy makes them."""
        if self.replicas == 1:
            return value
        groups = tf.constant([list(range(self.replicas))])
        return tf.nest.map_structure(
            lambda x: xla_all_reduce(tf.convert_to_tensor(x), groups, reduce_op="Add", mode="CrossReplica"), value
        )


def steps_of(config: Config, cores: int) -> Iterator[Step]:
    """The steps of all that a config trains.

    Args:
        config: from `target.adapt`.
        cores: among which batches are divided.
    """
    if config.corpus.train and config.stage != "finetune":
        yield from _pretraining_steps(config, cores)
    if config.stage != "pretrain":
        yield _finetuning_step(config, cores)


def audit(graph: tf.Graph) -> None:
    """Refuse a graph with a string tensor or a tensor of unknown shape, in itself or in a function that it calls."""
    functions = [graph._get_function(name) for name in graph._functions]
    for part in [graph, *(function.graph for function in functions if hasattr(function, "graph"))]:
        for operation in part.get_operations():
            # The condition of a loop has placeholders for what it does not look at.
            unused = operation.type == "Placeholder" and not any(t.consumers() for t in operation.outputs)
            for tensor in () if unused else operation.outputs:
                if tensor.dtype in (tf.resource, tf.variant) or operation.type in SHAPE_OPS:
                    continue
                if tensor.dtype == tf.string or not tensor.shape.is_fully_defined():
                    kind = "a string" if tensor.dtype == tf.string else f"of shape {tensor.shape}"
                    raise UserError(
                        f"the training step cannot go on a TPU: {operation.name} ({operation.type}) gives a tensor "
                        f"that is {kind}; all must be numbers of a fixed shape."
                    )


def _finetuning_step(config: Config, cores: int) -> Step:
    if config.distillation.teacher:
        raise UserError("the step with a teacher cannot be checked yet: unset distillation.teacher.")
    training, length = config.training, config.text.length
    task = tasks.kind_of(config.data).stand_in(config.data)
    model = build_classifier(
        _backbone(config),
        task.outputs,
        pooling=config.model.pooled_by,
        pooled_layers=config.model.pooled_layers,
        dropout=config.model.dropout,
        seed=training.seed,
        dtype=training.dtype,
        model_class=TrainableClassifier,
    )
    each = 1
    if config.text.long == "chunks":
        each = config.text.max_chunks
        model = over_chunks(model, config.model.chunk_pooling, training.seed, training.dtype)
    model.accumulation, model.chunks_at_once = training.accumulation, None
    loss = task.loss(training.label_smoothing)
    # The number of updates is a constant of the schedule, no shape depends on it.
    model.compile(optimizer=make_optimizer(training, model, total_steps=1000), loss=loss, jit_compile=False)

    def spec(batch: int):
        inputs = _inputs(batch * each, length) | ({CHUNKS: _ints(batch)} if config.text.long == "chunks" else {})
        return inputs, _floats(batch, task.outputs), _floats(batch)

    at_once = training.batch_size // cores // training.accumulation
    name = f"fine-tuning, {length} tokens" + (f", {each} chunks a text" if config.text.long == "chunks" else "")
    return Step(name, model, at_once, training.accumulation, spec)


def _pretraining_steps(config: Config, cores: int) -> Iterator[Step]:
    pretraining = config.pretraining
    next_sentence = pretraining.objective != "none"
    model = build_pretraining_model(_backbone(config), next_sentence=next_sentence, dtype=config.training.dtype)
    model.accumulation, model.z_loss = pretraining.accumulation, pretraining.z_loss
    model.compile(optimizer=make_pretraining_optimizer(pretraining, model), jit_compile=False)

    def spec_of(phase: PhaseConfig):
        slots = example_settings(pretraining, phase).max_predictions

        def spec(batch: int):
            inputs = _inputs(batch, phase.sequence_length) | {"masked_positions": _ints(batch, slots)}
            targets = {"masked_ids": _ints(batch, slots), "next_sentence": _ints(batch)}
            weights = {"masked_weights": _floats(batch, slots), "next_sentence_weights": _floats(batch)}
            return inputs, targets, weights

        return spec

    kinds = {(phase.sequence_length, phase.batch_size): phase for phase in pretraining.phases}
    for phase in kinds.values():
        at_once = phase.batch_size // cores // pretraining.accumulation
        name = f"pre-training, {phase.sequence_length} tokens"
        yield Step(name, model, at_once, pretraining.accumulation, spec_of(phase))


def _backbone(config: Config) -> LoadedBackbone:
    """The backbone of a run; where its vocabulary or checkpoint is still to be made, one of the same shapes."""
    text, training = config.text, config.training
    if config.model.backbone or text.vocabulary:
        loaded = load_backbone(config.model, text, training.seed, training.dtype)
        return dataclasses.replace(loaded, has_pooler=loaded.has_pooler or bool(config.corpus.train))
    with tempfile.TemporaryDirectory() as folder:
        vocabulary = Path(folder) / "vocab.txt"
        count = config.pretraining.vocabulary_size - len(SPECIAL_TOKENS)
        vocabulary.write_text(
            "".join(f"{piece}\n" for piece in [*SPECIAL_TOKENS, *(f"piece{i}" for i in range(count))])
        )
        text = dataclasses.replace(text, vocabulary=str(vocabulary))
        loaded = load_backbone(config.model, text, training.seed, training.dtype)
    return dataclasses.replace(loaded, has_pooler=True)


def _ints(*shape: int) -> tf.TensorSpec:
    return tf.TensorSpec(shape, tf.int32)


def _floats(*shape: int) -> tf.TensorSpec:
    return tf.TensorSpec(shape, tf.float32)


def _inputs(batch: int, length: int) -> dict[str, tf.TensorSpec]:
    return {name: _ints(batch, length) for name in ("token_ids", "segment_ids", "padding_mask")}
