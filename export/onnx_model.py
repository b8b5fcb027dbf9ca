"""The served model as an ONNX file: token ids in, predictions out, for ONNX Runtime and what else reads ONNX.

It is written from the weights, node by node, in operations of the ONNX standard alone; the extra `onnx`.
"""

import json
import logging
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from export.savedmodel import HIDDEN, HeldOut
from export.verify import ExportDiffers
from export.versions import METADATA
from pipeline.backbone.activations import name_of
from pipeline.backbone.architecture import is_projected, last_embedding_layer
from pipeline.backbone.transformer_parts import parts_of as parts_of_layer
from pipeline.classifier import parts_of
from pipeline.errors import UserError
from pipeline.extras import require
from pipeline.poolings.attention import MASKED
from pipeline.tasks.task import Task
from pipeline.text import TextEncoder

INPUTS = ("token_ids", "segment_ids", "padding_mask")
# Of the ONNX standard: the first with GELU as one operation. ONNX Runtime has it since 1.17.
OPSET, IR_VERSION = 20, 9
# How far the mean prediction of int8 may be off, in the task's scale: more is a model that int8 does not suit.
INT8_MEAN = 0.03
FIRST_DENSE = ("cls", "fresh", "relu", "gelu")


def export_onnx(
    model: keras.Model, encoder: TextEncoder, task: Task, path: Path, held_out: HeldOut, version: Path, int8: bool
) -> float:
    """Write the ONNX form of an exported version, if and only if ONNX Runtime gets the same predictions out of it.

    Args:
        model, encoder, task: as of the export.
        path: of the file.
        held_out: with which it is compared.
        version: the exported folder, whose metadata it gets.
        int8: as `write_onnx`.

    Returns:
        The largest difference of a prediction.

    Raises:
        UserError: as `write_onnx`.
        ExportDiffers: as `verify_onnx`; the file has been removed.
    """
    write_onnx(model, task, path, json.loads((version / METADATA).read_text(encoding="utf-8")), int8)
    try:
        return verify_onnx(path, encoder, held_out, task.scale if int8 else None)
    except ExportDiffers:
        path.unlink()
        raise


def write_onnx(
    model: keras.Model, task: Task, path: Path, metadata: dict[str, Any] | None = None, int8: bool = False
) -> None:
    """Write a classifier as one file.

    Inputs: token_ids, segment_ids and padding_mask, int32 [batch, length]. Outputs: logits, float32 [batch, C], and
    predictions, float32 [batch, K], the task's activation of them. The metadata are JSON under the key "metadata".

    Args:
        model: from `build_classifier`.
        task: whose activation it gets.
        path: of the file, which is written whole or not at all.
        metadata: JSON-able.
        int8: weights of the dense layers as 8-bit numbers, a scale for each column; what is multiplied with them is
            rounded to 8 bits too, in the range of each call.

    Raises:
        UserError: the extra is missing, or the model has a part that has no ONNX form.
    """
    onnx = require("onnx", "onnx")
    graph = OnnxGraph(onnx)
    logits = graph.named("Identity", "logits", _logits(graph, model))
    graph.named("Identity", "predictions", graph.steps(logits, task.activation_steps))
    made = graph.model(dict.fromkeys(("logits", "predictions"), task.outputs), metadata or {})
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=HIDDEN) as folder:
        new = Path(folder) / "new.onnx"
        new.write_bytes(made.SerializeToString())
        if int8:
            new = _rounded(new)
        os.replace(new, path)


def _rounded(path: Path) -> Path:
    """The same in 8 bits, in a file beside it."""
    quantization = require("onnx", "onnxruntime.quantization")
    # Of the weights 7 bits: sums of two products of 8 bits overflow 16 on CPUs without VNNI. The last layer stays.
    # It advises a step for graphs that are not optimized; of this one nothing would be left out.
    logging.disable(logging.WARNING)
    try:
        quantization.quantize_dynamic(
            path, path.with_name("int8.onnx"), op_types_to_quantize=["MatMul"], per_channel=True, reduce_range=True,
            weight_type=quantization.QuantType.QInt8, nodes_to_exclude=["classification"],
        )  # fmt: skip
    finally:
        logging.disable(logging.NOTSET)
    return path.with_name("int8.onnx")


def verify_onnx(path: Path, encoder: TextEncoder, held_out: HeldOut, scale: float | None = None) -> float:
    """Ask ONNX Runtime, in one batch and text by text, and compare.

    Args:
        path: of the file.
        encoder: strings to token ids.
        held_out: texts with the served model's predictions and the largest difference that is taken as equal.
        scale: of an int8 file: Task.scale, of which INT8_MEAN is the largest mean difference, in place of that.

    Returns:
        The largest difference.

    Raises:
        UserError: the extra is missing.
        ExportDiffers: a larger one.
    """
    session, texts, predictions = onnx_session(path), held_out.texts, held_out.expected.predictions

    def ask(part: Sequence[Sequence[str]]) -> np.ndarray:
        inputs = {name: tensor.numpy() for name, tensor in encoder(*part, fixed_length=False).items()}
        return session.run(["predictions"], inputs)[0]

    single = [ask([[column[i]] for column in texts])[0] for i in range(min(8, len(predictions)))]
    off = [np.abs(ask(texts) - predictions), np.abs(np.array(single) - predictions[: len(single)])]
    largest = float(max(part.max() for part in off))
    found, allowed = (
        (largest, held_out.expected.tolerance) if scale is None else (float(off[0].mean()), INT8_MEAN * scale)
    )
    # A comparison with NaN is false: it must not pass.
    if not found <= allowed:
        kind = "a prediction is" if scale is None else "predictions are in the mean"
        raise ExportDiffers(f"{path}: {kind} {found:.3g} off the served model's where {allowed:.3g} is allowed.")
    return largest


def onnx_session(path: Path, threads: int = 0) -> Any:
    """An onnxruntime.InferenceSession on the CPU; threads 0: as many as it likes."""
    runtime = require("onnx", "onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    return runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


class OnnxGraph:
    """Nodes of a graph, in the order of their computation; values go by their names."""

    def __init__(self, onnx: Any):
        self.onnx = onnx
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def named(self, operation: str, name: str, *inputs: str, **attributes: Any) -> str:
        """Add a node of one output, which is called as the node; returns the name."""
        self.nodes.append(self.onnx.helper.make_node(operation, inputs, [name], name=name, **attributes))
        return name

    def add(self, operation: str, *inputs: str, **attributes: Any) -> str:
        """Add a node; returns the name of its output."""
        return self.named(operation, f"{operation}_{len(self.nodes)}", *inputs, **attributes)

    def constant(self, value: Any, dtype: type = np.float32) -> str:
        """The name of a constant."""
        array, name = np.array(value, dtype, order="C"), f"constant_{len(self.constants)}"
        self.constants.append(self.onnx.numpy_helper.from_array(array, name))
        return name

    def ints(self, *values: int) -> str:
        """The name of a constant of shapes and axes."""
        return self.constant(values, np.int64)

    def steps(self, x: str, steps: Sequence[tuple[str, float | None]]) -> str:
        """One operation after the other, on x and a number."""
        for operation, value in steps:
            x = self.add(operation, x, *(() if value is None else (self.constant(value),)))
        return x

    def dense(self, x: str, kernel: Any, bias: Any, name: str | None = None) -> str:
        """x @ kernel + bias."""
        return self.add("Add", self.named("MatMul", name or f"MatMul_{len(self.nodes)}", x, self.constant(kernel)),
                        self.constant(bias))  # fmt: skip

    def layer(self, x: str, layer: keras.layers.Dense, name: str | None = None) -> str:
        """A dense layer with its activation."""
        return self.activate(self.dense(x, array(layer.kernel), array(layer.bias), name), layer.activation)

    def activate(self, x: str, activation: Callable) -> str:
        """One of the activations of checkpoints and poolings."""
        if activation is keras.activations.linear:
            return x
        name = "tanh" if activation is keras.activations.tanh else name_of(activation)
        if name == "silu":
            return self.add("Mul", x, self.add("Sigmoid", x))
        if name.startswith("gelu"):
            return self.add("Gelu", x, approximate="none" if name == "gelu" else "tanh")
        return self.add({"tanh": "Tanh", "relu": "Relu"}[name], x)

    def norm(self, x: str, layer: keras.layers.LayerNormalization) -> str:
        """Layer normalisation."""
        weights = (self.constant(array(weight)) for weight in (layer.gamma, layer.beta))
        return self.add("LayerNormalization", x, *weights, axis=-1, epsilon=layer.epsilon)

    def first(self, x: str, axis: int) -> str:
        """Along an axis, the first place alone, whose axis stays."""
        return self.add("Slice", x, self.ints(0), self.ints(1), self.ints(axis))

    def model(self, outputs: dict[str, int], metadata: dict[str, Any]) -> Any:
        """The whole as an onnx.ModelProto."""
        helper, kinds = self.onnx.helper, self.onnx.TensorProto
        graph = helper.make_graph(
            self.nodes,
            "classifier",
            [helper.make_tensor_value_info(name, kinds.INT32, ["batch", "length"]) for name in INPUTS],
            [helper.make_tensor_value_info(name, kinds.FLOAT, ["batch", size]) for name, size in outputs.items()],
            self.constants,
        )
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
        made.producer_name = "bert-pipeline"
        helper.set_model_props(made, {"metadata": json.dumps(metadata, ensure_ascii=False)})
        self.onnx.checker.check_model(made)
        return made


def array(weight: Any) -> np.ndarray:
    """A weight as float32."""
    return keras.ops.convert_to_numpy(keras.ops.cast(weight, "float32"))


def _logits(graph: OnnxGraph, model: keras.Model) -> str:
    parts = parts_of(model)
    if parts is None or any(layer.normalize_first for layer in parts.backbone.transformer_layers):
        raise UserError("export.onnx: the model is not laid out as BERT is.")
    first_only = parts.pooling.first_only
    x, ignored, states = _embedded(graph, parts.backbone), _ignored(graph), []
    for number, layer in enumerate(parts.backbone.transformer_layers, 1):
        last = first_only and number == parts.backbone.num_layers
        x = _layer(graph, layer, x, ignored, last)
        states.append(graph.first(x, 1) if first_only and not last else x)
    states = states[-parts.pooled_layers :]
    pooled = states[0] if len(states) == 1 else graph.add("Mean", *states)
    return graph.layer(_pooled(graph, parts, pooled), parts.head, "classification")


def _embedded(graph: OnnxGraph, backbone: Any) -> str:
    token, position, segment = (
        graph.constant(array(backbone.get_layer(f"{name}_embedding").weights[0]))
        for name in ("token", "position", "segment")
    )
    length = graph.add("Slice", graph.add("Shape", "token_ids"), graph.ints(1), graph.ints(2))
    places = graph.add("Slice", position, graph.ints(0), length, graph.ints(0))
    x = graph.add("Add", graph.add("Gather", token, "token_ids"), graph.add("Gather", segment, "segment_ids"))
    x = graph.norm(graph.add("Add", x, places), backbone.get_layer("embeddings_layer_norm"))
    return graph.layer(x, last_embedding_layer(backbone)) if is_projected(backbone) else x


def _ignored(graph: OnnxGraph) -> str:
    """What is added to scores, float32 [batch, 1, 1, length]."""
    padding = graph.add("Sub", graph.constant(1.0), graph.add("Cast", "padding_mask", to=graph.onnx.TensorProto.FLOAT))
    return graph.add("Unsqueeze", graph.add("Mul", padding, graph.constant(MASKED)), graph.ints(1, 2))


def _layer(graph: OnnxGraph, layer: Any, x: str, ignored: str, first_only: bool) -> str:
    """[batch, length, hidden] to the same, or to [batch, 1, hidden]."""
    parts, heads = parts_of_layer(layer), layer.num_heads
    kernels = [array(part.kernel) for part in (parts.query, parts.key, parts.value)]
    biases = [array(part.bias) for part in (parts.query, parts.key, parts.value)]
    hidden, size = kernels[0].shape[0], kernels[0].shape[-1]
    # The scores are scaled in the query's weights.
    kernels[0], biases[0] = kernels[0] * size**-0.5, biases[0] * size**-0.5
    product = graph.dense(
        x, np.concatenate([k.reshape(hidden, -1) for k in kernels], 1), np.concatenate([b.ravel() for b in biases])
    )
    product = graph.add("Reshape", product, graph.ints(0, 0, 3, heads, size))
    product = graph.add("Transpose", product, perm=[2, 0, 3, 1, 4])
    query, key, value = (graph.add("Gather", product, graph.constant(i, np.int64), axis=0) for i in range(3))
    if first_only:
        query, x = graph.first(query, 2), graph.first(x, 1)
    scores = graph.add("MatMul", query, graph.add("Transpose", key, perm=[0, 1, 3, 2]))
    shares = graph.add("Softmax", graph.add("Add", scores, ignored), axis=-1)
    context = graph.add("Transpose", graph.add("MatMul", shares, value), perm=[0, 2, 1, 3])
    context = graph.add("Reshape", context, graph.ints(0, 0, hidden))
    output = parts.attention_output
    y = graph.dense(context, array(output.kernel).reshape(hidden, -1), array(output.bias))
    x = graph.norm(graph.add("Add", y, x), parts.attention_norm)
    y = graph.layer(graph.layer(x, parts.intermediate), parts.output)
    return graph.norm(graph.add("Add", y, x), parts.output_norm)


def _pooled(graph: OnnxGraph, parts: Any, states: str) -> str:
    """[batch, hidden] of [batch, length, hidden], or of [batch, 1, hidden] where only the first token is pooled."""
    name = parts.pooling_name
    if parts.pooling.first_only:
        x = graph.add("Squeeze", states, graph.ints(1))
        if name == "first":
            return x
        if name in FIRST_DENSE:
            return graph.layer(x, parts.backbone.pooled_dense if name == "cls" else parts.pooling.layers[0])
    mask = graph.add("Cast", "padding_mask", to=graph.onnx.TensorProto.FLOAT)
    if name == "mean":
        shares = graph.add("Div", mask, graph.add("ReduceSum", mask, graph.ints(1), keepdims=1))
        shares = graph.add("Unsqueeze", shares, graph.ints(1))
    elif name == "attention":
        attention = parts.pooling.layers[0]
        scores = graph.layer(graph.layer(states, attention.projection), attention.score)
        scores = graph.add("Transpose", scores, perm=[0, 2, 1])
        ignored = graph.add("Squeeze", _ignored(graph), graph.ints(1))
        shares = graph.add("Softmax", graph.add("Add", scores, ignored), axis=-1)
    else:
        raise UserError(f"export.onnx: model.pooling {name} has no ONNX form; leave export.onnx at none.")
    return graph.add("Squeeze", graph.add("MatMul", shares, states), graph.ints(1))
