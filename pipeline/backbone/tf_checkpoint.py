"""A backbone from and to google-research/bert's layout: bert_config.json, vocab.txt and bert_model.ckpt.*."""

import re
from pathlib import Path

import tensorflow as tf

from pipeline.backbone import hub
from pipeline.backbone.architecture import epsilon_of
from pipeline.backbone.bert_config import (
    OWN_KEY,
    build,
    config_of,
    dropout_notes,
    hidden_act_of,
    own_family,
    own_settings,
)
from pipeline.backbone.casing import has_capitals
from pipeline.backbone.checkpoint_tensors import CheckpointTensors
from pipeline.backbone.heads import MASKED, NEXT_SENTENCE, TRANSPOSED_GOOGLE, head_arrays, read_heads
from pipeline.backbone.json_object import read_json
from pipeline.backbone.loaded import LoadedBackbone
from pipeline.backbone.parts import fill, parts
from pipeline.backbone.saving import new_folder, refuse_projection, write_json, write_vocabulary
from pipeline.errors import UserError
from pipeline.files import literal
from pipeline.tokenizer_rules import BERT_RULES, TokenizerRules
from pipeline.vocabulary_file import load_vocabulary

# What google-research/bert computes: its "gelu" is the tanh form, its epsilon is fixed.
_ACTIVATIONS = {"gelu": "gelu_new", "relu": "relu"}
_EPSILON = 1e-12


def load(folder: Path, num_layers: int | None = None, dtype: str | None = None) -> LoadedBackbone:
    """Load a checkpoint of google-research/bert, or one of tensorflow/models beside a bert_config.json.

    Slots of optimizers, global_step and heads for tasks are ignored. No such checkpoint records whether it is uncased:
    unless `save` has written it, its folder's name does (see `lowercase_by_name`), or else its pieces.

    Args:
        folder: with bert_config.json, vocab.txt and bert_model.ckpt.index (or, after further training, another
            checkpoint's) with its data.
        num_layers: keep only the first ones; None: all.
        dtype: Keras dtype policy; None: the current one.

    Raises:
        UserError: missing or damaged files, or missing, unexpected or misshapen tensors.
    """
    file = folder / "bert_config.json"
    config = read_json(file)
    own = config.get(OWN_KEY, {})
    activation = config.get("hidden_act", "gelu")
    activation = own.get("hidden_act", _ACTIVATIONS.get(activation, activation))
    backbone = build(config, file, activation, own.get("layer_norm_eps", _EPSILON), num_layers, dtype)
    tensors = CheckpointTensors(_prefix(folder), str(folder))
    if tensors.by_object:
        has_pooler, heads, notes, left_out = hub.read_encoder(backbone, tensors, "bert_config.json")
    else:
        has_pooler = "bert/pooler/dense/kernel" in tensors
        targets = {part.google: part for part in parts(backbone, has_pooler)}
        cut_off = tuple(f"bert/encoder/layer_{i}/" for i in range(backbone.num_layers, config["num_hidden_layers"]))
        unexpected = [
            name
            for name in tensors
            # A slot of an optimizer is named after its variable: .../kernel/adam_m.
            if name.startswith("bert/") and name not in targets and name.rpartition("/")[0] not in targets
            and not name.startswith(cut_off)
        ]  # fmt: skip
        fill(targets, tensors, unexpected, sizes="bert_config.json")
        names = {name.field: name.google for name in (*MASKED, *NEXT_SENTENCE)}
        heads, notes = read_heads(tensors, names, TRANSPOSED_GOOGLE, backbone)
        left_out = tensors.others({*targets, *(names.values() if heads else ())}, cut_off)
    pieces, lowercase, rules = read_tokens(folder)
    return LoadedBackbone(
        backbone,
        pieces,
        lowercase,
        has_pooler,
        source=str(folder),
        vocabulary_source=str(folder / "vocab.txt"),
        notes=tuple(f"{folder}: {note}." for note in (*notes, *dropout_notes(config))),
        heads=heads,
        rules=rules,
        family=own_family(own),
        left_out=left_out,
    )


def save(loaded: LoadedBackbone, folder: Path) -> tuple[str, ...]:
    """Write a checkpoint that google-research/bert's code reads, with the names of its variables and no object graph.

    Args:
        loaded: any backbone; weights are written in float32.
        folder: new or empty.

    Returns:
        What google-research/bert's code would compute otherwise, one sentence each. `load` reads it from a key of
        bert_config.json that others pass over, and computes what the backbone does.

    Raises:
        UserError: the folder is not empty, there is no vocabulary that fits, or an activation that google-research/bert
            has not.
    """
    refuse_projection(loaded, "google-research/bert's layout")
    backbone = loaded.backbone
    activation, epsilon, notes = hidden_act_of(backbone), epsilon_of(backbone), []
    if activation not in ("gelu", *_ACTIVATIONS.values()):
        raise UserError(
            f"{loaded.source} has the activation {activation}, which google-research/bert has not: "
            "save it as a Hugging Face folder."
        )
    if activation == "gelu":
        notes.append("google-research/bert computes the tanh form of GELU, where this checkpoint has the exact one.")
    if loaded.rules != BERT_RULES:
        rules = ", ".join(loaded.rules.to_json())
        notes.append(f"google-research/bert's tokenizer knows nothing of {rules}; this project reads them here.")
    if epsilon != _EPSILON:
        notes.append(f"google-research/bert normalises with epsilon 1e-12, where this checkpoint has {epsilon}.")
    arrays = {part.google: part.value() for part in parts(backbone, loaded.has_pooler)}
    if loaded.heads:
        arrays |= {name.google: value for name, value in head_arrays(loaded.heads, TRANSPOSED_GOOGLE)}
    config = config_of(backbone, "relu" if activation == "relu" else "gelu") | {OWN_KEY: own_settings(loaded)}
    with new_folder(folder) as hidden:
        write_json(hidden / "bert_config.json", config)
        write_vocabulary(loaded, hidden)
        names = sorted(arrays)
        tf.raw_ops.SaveV2(
            prefix=str(hidden / "bert_model.ckpt"),
            tensor_names=names,
            shape_and_slices=[""] * len(names),
            tensors=[tf.constant(arrays[name]) for name in names],
        )
    return tuple(notes)


def read_tokens(folder: Path) -> tuple[tuple[str, ...], bool | None, TokenizerRules]:
    """Tokens (none without a vocab.txt), casing (None: not said) and rules of a folder, as `load` takes them."""
    own = read_json(folder / "bert_config.json").get(OWN_KEY, {})
    vocabulary = folder / "vocab.txt"
    pieces = tuple(load_vocabulary(vocabulary)) if vocabulary.is_file() else ()
    lowercase = own["do_lower_case"] if "do_lower_case" in own else _lowercase(folder.resolve().name, pieces)
    return pieces, lowercase, TokenizerRules.from_json(own.get("tokenizer", {}))


def lowercase_by_name(name: str) -> bool | None:
    """Whether a folder's name is of an uncased checkpoint, by the names that google-research/bert gave its own.

    "uncased" is, "cased" is not; its Chinese and its first multilingual checkpoint lower-case too. None: any other.
    """
    match = re.search("uncased|cased|chinese|multilingual", name.lower())
    if match is None:
        return None
    return "uncased" in name.lower() or "cased" not in name.lower()


def _lowercase(name: str, pieces: tuple[str, ...]) -> bool | None:
    """As the folder's name says, unless it only names languages and the pieces have capitals."""
    found = lowercase_by_name(name)
    return None if "cased" not in name.lower() and has_capitals(pieces) else found


def _prefix(folder: Path) -> Path:
    """The one checkpoint in a folder, without .index."""
    prefixes = sorted(path.with_suffix("") for path in folder.glob("*.index"))
    usual = folder / "bert_model.ckpt"
    if usual in prefixes:
        return usual
    if not prefixes:
        raise UserError(f"{usual}.index is missing: is it the folder of a checkpoint?")
    if len(prefixes) > 1:
        with literal(folder) as readable:
            latest = tf.train.latest_checkpoint(str(readable))
        if latest is None or folder / Path(latest).name not in prefixes:
            names = ", ".join(prefix.name for prefix in prefixes[:3])
            raise UserError(f"{folder} has {len(prefixes)} checkpoints ({names} ...): keep one in it.")
        return folder / Path(latest).name
    return prefixes[0]
