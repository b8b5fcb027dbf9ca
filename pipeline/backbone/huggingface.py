"""A backbone from and to a Hugging Face folder: config.json, model.safetensors, and vocab.txt or tokenizer.json."""

import stat
from collections.abc import Iterator
from pathlib import Path

import keras_nlp
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from pipeline.backbone.architecture import epsilon_of
from pipeline.backbone.bert_config import build, config_of, dropout_notes, hidden_act_of, read_json
from pipeline.backbone.heads import (
    MASKED,
    NEXT_SENTENCE,
    TRANSPOSED_HUGGINGFACE,
    PretrainingHeads,
    head_arrays,
    read_heads,
)
from pipeline.backbone.loaded import LoadedBackbone
from pipeline.backbone.parts import fill, parts
from pipeline.backbone.saving import new_folder, write_json
from pipeline.backbone.tokenizer_files import read_tokenizer, write_tokenizer
from pipeline.errors import UserError

# BertModel's parts; other tensors of a file belong to heads (cls.predictions, classifier, qa_outputs).
_PARTS = ("embeddings.", "encoder.", "pooler.")
_BUFFERS = ("embeddings.position_ids", "embeddings.token_type_ids")
_DECODER, _DECODER_BIAS = "cls.predictions.decoder.weight", "cls.predictions.decoder.bias"


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
    config = read_json(folder / "config.json")
    _check(config, folder)
    activation, epsilon = config.get("hidden_act", "gelu"), config.get("layer_norm_eps", 1e-12)
    backbone = build(config, folder / "config.json", activation, epsilon, num_layers, dtype)
    tensors = _Tensors(folder)
    has_pooler = _assign(backbone, tensors, config["num_hidden_layers"])
    heads, notes = _heads(backbone, tensors)
    tokenizer = read_tokenizer(folder)
    return LoadedBackbone(
        backbone,
        tokenizer.vocabulary,
        tokenizer.lowercase,
        has_pooler,
        source=str(folder),
        vocabulary_source=str(tokenizer.source),
        notes=tuple(f"{folder}: {note}." for note in (*notes, *tokenizer.notes, *dropout_notes(config))),
        heads=heads,
        rules=tokenizer.rules,
    )


def save(loaded: LoadedBackbone, folder: Path) -> tuple[str, ...]:
    """Write a folder that transformers' from_pretrained and `load` take.

    With the masked-token head it is a BertForMaskedLM, with both heads a BertForPreTraining, else a BertModel.

    Args:
        loaded: any backbone; weights are written in float32.
        folder: new or empty.

    Returns:
        What other readers of the format pass over, one sentence each.

    Raises:
        UserError: the folder is not empty, or there is no vocabulary that fits.
    """
    backbone, heads = loaded.backbone, loaded.heads
    prefix = "bert." if heads else ""
    tensors = {
        f"{prefix}{part.huggingface}": np.ascontiguousarray(part.value().T if part.is_kernel else part.value())
        for part in parts(backbone, loaded.has_pooler)
    }
    architecture = "BertModel"
    if heads:
        tensors |= {name.huggingface: value for name, value in head_arrays(heads, TRANSPOSED_HUGGINGFACE)}
        architecture = "BertForMaskedLM" if heads.next_sentence_kernel is None else "BertForPreTraining"
    config = {
        "architectures": [architecture],
        "model_type": "bert",
        **config_of(backbone, hidden_act_of(backbone)),
        "layer_norm_eps": epsilon_of(backbone),
        "pad_token_id": loaded.vocabulary.index("[PAD]") if "[PAD]" in loaded.vocabulary else 0,
        "position_embedding_type": "absolute",
    }
    with new_folder(folder) as hidden:
        write_json(hidden / "config.json", config)
        notes = write_tokenizer(loaded, hidden)
        # transformers before 5 refuses a file that does not name its framework's layout.
        save_file(tensors, hidden / "model.safetensors", metadata={"format": "pt"})
        # Which safetensors leaves readable to its owner alone.
        (hidden / "model.safetensors").chmod(stat.S_IMODE((hidden / "vocab.txt").stat().st_mode))
    return notes


def _check(config: dict, folder: Path) -> None:
    """Refuse a config.json that is not of a BERT encoder, before anything is built from it."""
    if config.get("model_type") != "bert":
        raise UserError(f"{folder}: its model_type is {config.get('model_type')!r}; only 'bert' can be loaded.")
    position = config.get("position_embedding_type") or "absolute"
    if position != "absolute":
        raise UserError(f"{folder}: position_embedding_type {position!r} is not 'absolute'.")
    if config.get("auto_map"):
        code = ", ".join(sorted(map(str, config["auto_map"].values())))
        raise UserError(
            f"{folder}: it is computed by code of its own (auto_map in config.json: {code}), which is not run here: "
            "use a checkpoint that transformers computes as a BertModel."
        )
    if config.get("is_decoder"):
        raise UserError(f"{folder}: it is a decoder (is_decoder in config.json); an encoder is needed.")


class _Tensors:
    """The tensors of a folder under BertModel's names: without prefix "bert.", LayerNorm.weight and not gamma."""

    def __init__(self, folder: Path):
        self.source = str(folder)
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

    def __iter__(self) -> Iterator[str]:
        return iter(self.where)

    def __contains__(self, name: str) -> bool:
        return name in self.where

    def shape(self, name: str) -> tuple[int, ...]:
        handle, stored = self.where[name]
        return tuple(handle.get_slice(stored).get_shape())

    def read(self, name: str) -> np.ndarray:
        handle, stored = self.where[name]
        return handle.get_tensor(stored).numpy().astype(np.float32)


def _weight_files(folder: Path) -> list[Path]:
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        files = [folder / name for name in sorted(set(read_json(index)["weight_map"].values()))]
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
    has_pooler = "pooler.dense.weight" in tensors
    targets = {part.huggingface: part for part in parts(backbone, has_pooler)}
    cut_off = tuple(f"encoder.layer.{i}." for i in range(backbone.num_layers, all_layers))
    unexpected = [
        name
        for name in tensors
        if name.startswith(_PARTS) and name not in targets and name not in _BUFFERS and not name.startswith(cut_off)
    ]
    fill(targets, tensors, unexpected, transposed=True, sizes="config.json")
    return has_pooler


def _heads(backbone: keras_nlp.models.BertBackbone, tensors: _Tensors) -> tuple[PretrainingHeads | None, list[str]]:
    names = {name.field: name.huggingface for name in (*MASKED, *NEXT_SENTENCE)}
    if names["output_bias"] not in tensors:
        names["output_bias"] = _DECODER_BIAS
    heads, notes = read_heads(tensors, names, TRANSPOSED_HUGGINGFACE, backbone.hidden_dim, backbone.vocabulary_size)
    if heads is not None and _DECODER in tensors:
        words = next(iter(parts(backbone)))
        if not np.array_equal(tensors.read(_DECODER), tensors.read(words.huggingface)):
            return None, [f"its pre-training heads are left out: {_DECODER} is not the word embeddings"]
    return heads, notes
