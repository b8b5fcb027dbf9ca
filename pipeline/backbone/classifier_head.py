"""The layers of a finished classifier above its encoder, as plain arrays between a checkpoint and a model."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.backbone.families import Family
from pipeline.backbone.finished_config import is_finished, names_of, task_of


@dataclass(frozen=True)
class ClassifierHead:
    """Logits are pooled @ kernel + bias; float32 arrays, inputs first.

    `pooled` is what model.pooling says: cls is the encoder's own pooler; relu and gelu are a dense layer of their own
    on the first token's vector.
    """

    pooling: str
    """A file of pipeline/poolings: cls, relu or gelu."""
    kernel: np.ndarray
    """[hidden, outputs]"""
    bias: np.ndarray
    """[outputs]"""
    task: str
    """A file of pipeline/tasks."""
    names: tuple[str, ...]
    """Labels, in the order of the outputs."""
    pooler_kernel: np.ndarray | None = None
    """[hidden, hidden]; None: the pooler is the encoder's."""
    pooler_bias: np.ndarray | None = None
    """[hidden]"""
    sequence_length: int | None = None
    """Longest sequence in tokens that it was trained on; None: as many as it has positions."""


# What transformers calls the layers, by pooling: the dense one, where it is not the encoder's pooler, and the last.
_LAYERS = {
    "cls": (None, "classifier"),
    "relu": ("pre_classifier", "classifier"),
    "gelu": ("classifier.dense", "classifier.out_proj"),
}


def tensor_names(family: Family) -> set[str]:
    """The names of the tensors above a family's encoder."""
    layers = filter(None, _LAYERS[family.classifier_pooling])
    return {f"{layer}.{part}" for layer in layers for part in ("weight", "bias")}


def read_classifier(tensors, family: Family, config: dict[str, Any], hidden: int) -> ClassifierHead | None:
    """The head of a folder's classifier; None: it has none, or one of other layers.

    Args:
        tensors: a `parts.Tensors`.
        family: of the encoder.
        config: content of config.json.
        hidden: width of the encoder.
    """
    pooler, last = _LAYERS[family.classifier_pooling]
    names = names_of(config)
    shapes = {f"{last}.weight": (len(names), hidden), f"{last}.bias": (len(names),)}
    if pooler:
        shapes |= {f"{pooler}.weight": (hidden, hidden), f"{pooler}.bias": (hidden,)}
    fits = all(name in tensors and tensors.shape(name) == shape for name, shape in shapes.items())
    task = task_of(config) if is_finished(config) else None
    if task is None or not fits or (pooler is None and "pooler.dense.weight" not in tensors):
        return None
    arrays = {name: tensors.read(name) for name in shapes}
    return ClassifierHead(
        family.classifier_pooling,
        np.ascontiguousarray(arrays[f"{last}.weight"].T),
        arrays[f"{last}.bias"],
        task,
        names,
        np.ascontiguousarray(arrays[f"{pooler}.weight"].T) if pooler else None,
        arrays[f"{pooler}.bias"] if pooler else None,
    )


def classifier_tensors(head: ClassifierHead) -> dict[str, np.ndarray]:
    """The head as transformers names and keeps it."""
    pooler, last = _LAYERS[head.pooling]
    found = {f"{last}.weight": head.kernel.T, f"{last}.bias": head.bias}
    if pooler:
        assert head.pooler_kernel is not None and head.pooler_bias is not None
        found |= {f"{pooler}.weight": head.pooler_kernel.T, f"{pooler}.bias": head.pooler_bias}
    return {name: np.ascontiguousarray(value, np.float32) for name, value in found.items()}
