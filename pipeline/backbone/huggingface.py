"""A backbone from a Hugging Face folder: config.json, model.safetensors, and vocab.txt or tokenizer.json."""

import json
import math
from collections.abc import Iterator
from pathlib import Path

import keras
import keras_nlp
import numpy as np
from safetensors import SafetensorError, safe_open

from pipeline.backbone.activations import ACTIVATIONS
from pipeline.backbone.architecture import configure
from pipeline.backbone.loaded import LoadedBackbone
from pipeline.errors import UserError
from pipeline.text import load_vocabulary

# BertModel's parts; other tensors of a file belong to heads (cls.predictions, classifier, qa_outputs).
_PARTS = ("embeddings.", "encoder.", "pooler.")
_BUFFERS = ("embeddings.position_ids", "embeddings.token_type_ids")


def load(folder: Path, num_layers: int | None = None, dtype: str | None = None) -> LoadedBackbone:
    """Load a BERT checkpoint.

    Args:
        folder: with config.json, safetensors weights (one file or shards with an index), and vocab.txt or
            tokenizer.json.
        num_layers: keep only the first ones; None: all.
        dtype: Keras dtype policy; None: the current one.

    Raises:
        UserError: not a BERT, a setting that is not known, or missing, unexpected or misshapen tensors.
    """
    config = _read_json(folder / "config.json")
    _check(config, folder)
    if num_layers is not None and num_layers > config["num_hidden_layers"]:
        raise UserError(f"model.num_layers {num_layers} exceeds the {config['num_hidden_layers']} layers of {folder}.")
    backbone = keras_nlp.models.BertBackbone(
        vocabulary_size=config["vocab_size"],
        num_layers=num_layers or config["num_hidden_layers"],
        num_heads=config["num_attention_heads"],
        hidden_dim=config["hidden_size"],
        intermediate_dim=config["intermediate_size"],
        dropout=config.get("hidden_dropout_prob", 0.1),
        max_sequence_length=config["max_position_embeddings"],
        num_segments=config.get("type_vocab_size", 2),
        dtype=dtype,
    )
    activation = ACTIVATIONS[config.get("hidden_act", "gelu")]
    configure(backbone, activation=activation, epsilon=config.get("layer_norm_eps", 1e-12))
    has_pooler = _assign(backbone, _Tensors(folder), config["num_hidden_layers"])
    vocabulary, vocabulary_file, lowercase, notes = _tokenizer(folder)
    dropouts = [config.get(f"{name}_dropout_prob", 0.1) for name in ("hidden", "attention_probs")]
    if dropouts[0] != dropouts[1]:
        notes.append(
            f"attention_probs_dropout_prob is {dropouts[1]}; hidden_dropout_prob, {dropouts[0]}, is used for both"
        )
    return LoadedBackbone(
        backbone,
        vocabulary,
        lowercase,
        has_pooler,
        source=str(folder),
        vocabulary_source=str(vocabulary_file),
        notes=tuple(f"{folder}: {note}." for note in notes),
    )


def _read_json(path: Path) -> dict:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}).") from error
    except ValueError as error:
        raise UserError(f"{path} is not JSON: {error}.") from error


def _check(config: dict, folder: Path) -> None:
    """Refuse a config.json that is not of a BERT encoder, before anything is built from it."""
    if config.get("model_type") != "bert":
        raise UserError(f"{folder}: its model_type is {config.get('model_type')!r}; only 'bert' can be loaded.")
    sizes = ("vocab_size", "num_hidden_layers", "num_attention_heads", "hidden_size", "intermediate_size",
             "max_position_embeddings")  # fmt: skip
    missing = [name for name in sizes if not isinstance(config.get(name), int)]
    if missing:
        raise UserError(f"{folder}/config.json lacks {', '.join(missing)}.")
    if config["hidden_size"] % config["num_attention_heads"]:
        raise UserError(
            f"{folder}/config.json: hidden_size {config['hidden_size']} is not a multiple of num_attention_heads "
            f"{config['num_attention_heads']}."
        )
    activation = config.get("hidden_act", "gelu")
    if activation not in ACTIVATIONS:
        raise UserError(f"{folder}: hidden_act {activation!r} is not one of {', '.join(ACTIVATIONS)}.")
    position = config.get("position_embedding_type") or "absolute"
    if position != "absolute":
        raise UserError(f"{folder}: position_embedding_type {position!r} is not 'absolute'.")
    if config.get("is_decoder"):
        raise UserError(f"{folder}: it is a decoder (is_decoder in config.json); an encoder is needed.")


class _Tensors:
    """The tensors of a folder under BertModel's names: without prefix "bert.", LayerNorm.weight and not gamma."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.where = {}
        for file in _weight_files(folder):
            try:
                # TensorFlow has a bfloat16 of its own.
                handle = safe_open(file, framework="tf")
            except SafetensorError as error:
                raise UserError(f"{file} is not a safetensors file ({error}): was it downloaded as a whole?") from error
            for name in handle.keys():  # noqa: SIM118, not a dict
                plain = name.removeprefix("bert.").replace("LayerNorm.gamma", "LayerNorm.weight")
                self.where[plain.replace("LayerNorm.beta", "LayerNorm.bias")] = handle, name

    def shape(self, name: str) -> tuple[int, ...]:
        handle, stored = self.where[name]
        return tuple(handle.get_slice(stored).get_shape())

    def read(self, name: str) -> np.ndarray:
        handle, stored = self.where[name]
        return handle.get_tensor(stored).numpy().astype(np.float32)


def _weight_files(folder: Path) -> list[Path]:
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        files = [folder / name for name in sorted(set(_read_json(index)["weight_map"].values()))]
    else:
        files = [folder / "model.safetensors"]
    for file in files:
        if file.is_file():
            continue
        if (folder / "pytorch_model.bin").is_file():
            raise UserError(
                f"{folder} has only pytorch_model.bin, which can run code when it is read: convert it to "
                "model.safetensors with transformers (from_pretrained, then save_pretrained)."
            )
        raise UserError(f"{file} is missing: weights are read from safetensors.")
    return files


def _assign(backbone: keras_nlp.models.BertBackbone, tensors: _Tensors, all_layers: int) -> bool:
    """Copy all tensors into the backbone's variables; returns whether there was a pooler."""
    has_pooler = "pooler.dense.weight" in tensors.where
    targets = {name: target for name, *target in _targets(backbone) if has_pooler or not name.startswith("pooler.")}
    missing = [name for name in targets if name not in tensors.where]
    if missing:
        found = f"; it has {', '.join(list(tensors.where)[:3])} ..." if len(missing) == len(targets) else ""
        raise UserError(f"{tensors.folder}: the weights lack {_some(missing)}{found}")
    cut_off = tuple(f"encoder.layer.{i}." for i in range(backbone.num_layers, all_layers))
    unexpected = [
        f"{name} {tensors.shape(name)}"
        for name in tensors.where
        if name.startswith(_PARTS) and name not in targets and name not in _BUFFERS and not name.startswith(cut_off)
    ]
    if unexpected:
        raise UserError(f"{tensors.folder}: the weights have what config.json does not speak of: {_some(unexpected)}")
    for name, (variable, shape) in targets.items():
        if tensors.shape(name) != shape:
            raise UserError(f"{tensors.folder}: {name} has shape {tensors.shape(name)}, config.json asks for {shape}.")
        value = tensors.read(name)
        # PyTorch keeps kernels as [out, in]; Keras as [in, out], attention's split into [heads, size].
        kernel = variable.name == "kernel"
        variable.assign((value.T if kernel else value).reshape(variable.shape))
    return has_pooler


def _targets(backbone: keras_nlp.models.BertBackbone) -> Iterator[tuple[str, keras.Variable, tuple[int, ...]]]:
    """Name and shape in the file of every variable of a backbone."""

    def dense(name: str, layer):
        out = math.prod(layer.bias.shape)
        yield f"{name}.weight", layer.kernel, (out, math.prod(layer.kernel.shape) // out)
        yield f"{name}.bias", layer.bias, (out,)

    def norm(name: str, layer):
        yield f"{name}.weight", layer.gamma, tuple(layer.gamma.shape)
        yield f"{name}.bias", layer.beta, tuple(layer.beta.shape)

    for name, ours in (("word", "token"), ("position", "position"), ("token_type", "segment")):
        (table,) = backbone.get_layer(f"{ours}_embedding").weights
        yield f"embeddings.{name}_embeddings.weight", table, tuple(table.shape)
    yield from norm("embeddings.LayerNorm", backbone.get_layer("embeddings_layer_norm"))
    for i, layer in enumerate(backbone.transformer_layers):
        prefix, attention = f"encoder.layer.{i}", layer._self_attention_layer
        yield from dense(f"{prefix}.attention.self.query", attention.query_dense)
        yield from dense(f"{prefix}.attention.self.key", attention.key_dense)
        yield from dense(f"{prefix}.attention.self.value", attention.value_dense)
        yield from dense(f"{prefix}.attention.output.dense", attention.output_dense)
        yield from norm(f"{prefix}.attention.output.LayerNorm", layer._self_attention_layer_norm)
        yield from dense(f"{prefix}.intermediate.dense", layer._feedforward_intermediate_dense)
        yield from dense(f"{prefix}.output.dense", layer._feedforward_output_dense)
        yield from norm(f"{prefix}.output.LayerNorm", layer._feedforward_layer_norm)
    yield from dense("pooler.dense", backbone.get_layer("pooled_dense"))


def _some(names: list[str], count: int = 5) -> str:
    more = f" and {len(names) - count} more" if len(names) > count else ""
    return f"{', '.join(names[:count])}{more}."


def _tokenizer(folder: Path) -> tuple[tuple[str, ...], Path, bool | None, list[str]]:
    """Pieces in order and their file, whether the tokenizer lower-cases (None: not said), and notes."""
    files = {name: folder / f"{name}.json" for name in ("tokenizer_config", "tokenizer")}
    settings, tokenizer = (_read_json(file) if file.is_file() else {} for file in files.values())
    normalizer = tokenizer.get("normalizer") or {}

    def setting(name: str, other: str):
        # transformers lets tokenizer_config.json overrule tokenizer.json.
        value = settings.get(name)
        return normalizer.get(other) if value is None else value

    lowercase = setting("do_lower_case", "lowercase")
    notes = []
    accents = setting("strip_accents", "strip_accents")
    if accents is not None and accents != (lowercase is not False):
        notes.append(
            f"strip_accents is {accents}, but accents are stripped if and only if text is lower-cased, as in BERT"
        )
    if setting("tokenize_chinese_chars", "handle_chinese_chars") is False:
        notes.append("tokenize_chinese_chars is false, but Chinese characters are split, as in BERT")
    if (folder / "vocab.txt").is_file():
        return tuple(load_vocabulary(folder / "vocab.txt")), folder / "vocab.txt", lowercase, notes
    model = tokenizer.get("model", {})
    if model.get("type") != "WordPiece":
        raise UserError(f"{folder}: there is neither a vocab.txt nor a WordPiece tokenizer.json.")
    ids = {token["content"]: token["id"] for token in tokenizer.get("added_tokens", [])} | model["vocab"]
    if sorted(ids.values()) != list(range(len(ids))):
        raise UserError(
            f"{files['tokenizer']}: the ids of its {len(ids)} pieces are not 0 to {len(ids) - 1}, each once."
        )
    return tuple(sorted(ids, key=ids.get)), files["tokenizer"], lowercase, notes
