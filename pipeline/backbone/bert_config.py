"""The keys that a google-research bert_config.json and a Hugging Face config.json have in common."""

from pathlib import Path

import keras_nlp

from pipeline.backbone.activations import ACTIVATIONS, name_of
from pipeline.backbone.architecture import (
    activation_of,
    configure,
    embedding_dim_of,
    epsilon_of,
    is_projected,
    new_backbone,
)
from pipeline.backbone.families import BERT, FAMILIES, Family
from pipeline.backbone.loaded import LoadedBackbone
from pipeline.backbone.unfilled import unfilled
from pipeline.errors import UserError

# Where a format has no place for a setting, it goes under this key, which other readers pass over.
OWN_KEY = "bert_pipeline"
_SIZES = (
    "vocab_size",
    "num_hidden_layers",
    "num_attention_heads",
    "hidden_size",
    "intermediate_size",
    "max_position_embeddings",
)


def build(
    config: dict, file: Path, activation: str, epsilon: float, num_layers: int | None, dtype: str | None
) -> keras_nlp.models.BertBackbone:
    """A backbone of a config's sizes, without weights but for its pooler's: whoever asks for it fills them.

    Args:
        config: content of `file`.
        file: for messages.
        activation: a key of ACTIVATIONS.
        epsilon: of layer normalisations.
        num_layers: keep only the first ones; None: all.
        dtype: Keras dtype policy; None: the current one.

    Raises:
        UserError: sizes that are missing or do not go together, or too many layers.
    """
    missing = [name for name in _SIZES if not isinstance(config.get(name), int)]
    if missing:
        raise UserError(f"{file} lacks {', '.join(missing)}.")
    if config["hidden_size"] % config["num_attention_heads"]:
        raise UserError(
            f"{file}: hidden_size {config['hidden_size']} is not a multiple of num_attention_heads "
            f"{config['num_attention_heads']}."
        )
    if activation not in ACTIVATIONS:
        raise UserError(f"{file}: hidden_act {activation!r} is not one of {', '.join(ACTIVATIONS)}.")
    if num_layers is not None and num_layers > config["num_hidden_layers"]:
        raise UserError(
            f"model.num_layers {num_layers} exceeds the {config['num_hidden_layers']} layers of {file.parent}."
        )
    with unfilled(config["hidden_size"]):
        backbone = new_backbone(
            vocabulary_size=config["vocab_size"],
            num_layers=num_layers or config["num_hidden_layers"],
            num_heads=config["num_attention_heads"],
            hidden_dim=config["hidden_size"],
            embedding_dim=config.get("embedding_size"),
            intermediate_dim=config["intermediate_size"],
            dropout=config.get("hidden_dropout_prob", 0.1),
            max_sequence_length=config["max_position_embeddings"],
            num_segments=config.get("type_vocab_size", 2),
            dtype=dtype,
        )
    configure(backbone, activation=ACTIVATIONS[activation], epsilon=epsilon)
    return backbone


def dropout_notes(config: dict) -> list[str]:
    """What is said where attention and the other layers have dropouts of their own."""
    dropouts = [config.get(f"{name}_dropout_prob", 0.1) for name in ("hidden", "attention_probs")]
    if dropouts[0] == dropouts[1]:
        return []
    return [f"attention_probs_dropout_prob is {dropouts[1]}; hidden_dropout_prob, {dropouts[0]}, is used for both"]


def config_of(backbone: keras_nlp.models.BertBackbone, activation: str) -> dict:
    """The keys of both formats for a backbone, with `activation` as its hidden_act."""
    width = {"embedding_size": embedding_dim_of(backbone)} if is_projected(backbone) else {}
    return width | {
        "attention_probs_dropout_prob": backbone.dropout,
        "hidden_act": activation,
        "hidden_dropout_prob": backbone.dropout,
        "hidden_size": backbone.hidden_dim,
        "initializer_range": 0.02,
        "intermediate_size": backbone.intermediate_dim,
        "max_position_embeddings": backbone.max_sequence_length,
        "num_attention_heads": backbone.num_heads,
        "num_hidden_layers": backbone.num_layers,
        "type_vocab_size": backbone.num_segments,
        "vocab_size": backbone.vocabulary_size,
    }


def own_settings(loaded: LoadedBackbone) -> dict:
    """What stands under OWN_KEY: settings that only this project reads there."""
    return {
        "hidden_act": hidden_act_of(loaded.backbone),
        "layer_norm_eps": epsilon_of(loaded.backbone),
        "do_lower_case": loaded.lowercase,
        "has_pooler": loaded.has_pooler,
        "tokenizer": loaded.rules.to_json(),
        "model_type": loaded.family.model_type,
    }


def own_family(own: dict) -> Family:
    """The family that `own_settings` has written; BERT where there is none."""
    return FAMILIES.get(own.get("model_type", ""), BERT)


def hidden_act_of(backbone: keras_nlp.models.BertBackbone) -> str:
    """The hidden_act of a backbone."""
    return name_of(activation_of(backbone))
