"""The families of encoders that compute as BERT does: what transformers calls their settings and tensors.

A family is BERT under other names. What it lacks is there as what computes the same: DistilBERT has no segments, which
is a table of zeros that is not trained; and neither it nor ELECTRA has a pooler.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import UserError

Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Family:
    """One family, as its model_type in config.json tells."""

    model_type: str
    title: str
    """What the names of its classes in transformers begin with."""
    settings: Pairs = ()
    """BERT's key in config.json, and its own, where they differ; the settings that it lacks have no key."""
    fixed: tuple[tuple[str, Any], ...] = ()
    """BERT's settings that it has no key for: always these values."""
    tensors: Pairs = ()
    """A piece of BERT's name of a tensor, and its own, in the order of replacement."""
    modules: tuple[str, ...] = ("embeddings.", "encoder.", "pooler.")
    """What the names of its encoder's tensors begin with."""
    has_pooler: bool = True
    has_segments: bool = True

    def tensor(self, name: str) -> str:
        """Its name of one of BERT's tensors."""
        for berts, own in self.tensors:
            name = name.replace(berts, own)
        return name

    def read_settings(self, config: dict) -> dict:
        """Its config.json with BERT's keys."""
        return config | {berts: config[own] for berts, own in self.settings if own in config} | dict(self.fixed)

    def write_settings(self, config: dict) -> dict:
        """BERT's config.json with its keys."""
        own = dict(self.settings)
        return {own.get(key, key): value for key, value in config.items() if key not in dict(self.fixed)}


_MASKED_HEAD = "cls.predictions.transform."
BERT = Family("bert", "Bert")
DISTILBERT = Family(
    "distilbert",
    "DistilBert",
    settings=(
        ("hidden_size", "dim"),
        ("num_hidden_layers", "n_layers"),
        ("num_attention_heads", "n_heads"),
        ("intermediate_size", "hidden_dim"),
        ("hidden_act", "activation"),
        ("hidden_dropout_prob", "dropout"),
        ("attention_probs_dropout_prob", "attention_dropout"),
    ),
    fixed=(("layer_norm_eps", 1e-12), ("type_vocab_size", 2)),
    tensors=(
        ("encoder.layer.", "transformer.layer."),
        ("attention.self.query.", "attention.q_lin."),
        ("attention.self.key.", "attention.k_lin."),
        ("attention.self.value.", "attention.v_lin."),
        ("attention.output.dense.", "attention.out_lin."),
        ("attention.output.LayerNorm.", "sa_layer_norm."),
        ("intermediate.dense.", "ffn.lin1."),
        (".output.dense.", ".ffn.lin2."),
        (".output.LayerNorm.", ".output_layer_norm."),
        (f"{_MASKED_HEAD}dense.", "vocab_transform."),
        (f"{_MASKED_HEAD}LayerNorm.", "vocab_layer_norm."),
        ("cls.predictions.decoder.", "vocab_projector."),
        ("cls.predictions.bias", "vocab_projector.bias"),
    ),
    modules=("embeddings.", "transformer."),
    has_pooler=False,
    has_segments=False,
)
ELECTRA = Family(
    "electra",
    "Electra",
    # The head is the generator's: a discriminator's finds replaced tokens, which nothing here is trained to.
    tensors=(
        (_MASKED_HEAD, "generator_predictions."),
        ("cls.predictions.decoder.", "generator_lm_head."),
        ("cls.predictions.bias", "generator_lm_head.bias"),
    ),
    modules=("embeddings.", "embeddings_project.", "encoder."),
    has_pooler=False,
)
ERNIE = Family("ernie", "Ernie")
FAMILIES = {family.model_type: family for family in (BERT, DISTILBERT, ELECTRA, ERNIE)}

# Why others stay out, by model_type.
_ROTARY = "its positions are rotated into the attention (RoPE)"
_ROBERTA = "it counts positions from 2, has no segments, and its text is cut by byte-level BPE"
_SENTENCEPIECE = "it counts positions from 2, has no segments, and its text is cut by SentencePiece"
_REASONS = {
    "roberta": _ROBERTA,
    "camembert": _SENTENCEPIECE,
    "xlm-roberta": _SENTENCEPIECE,
    "albert": "its layers share their weights, and its text is cut by SentencePiece",
    "mobilebert": "its layers have bottlenecks and several feed-forward parts",
    "deberta": "its attention is over relative positions",
    "deberta-v2": "its attention is over relative positions",
    "modernbert": f"{_ROTARY}, its feed-forward parts are gated, and its text is cut by byte-level BPE",
    "mpnet": "its attention has a bias for relative positions",
    "nomic_bert": f"{_ROTARY}, and its feed-forward parts are gated",
    "megatron-bert": "its layers normalise before they compute, and not after",
    "roformer": _ROTARY,
    "convbert": "its attention is mixed with convolutions",
    "nezha": "its attention is over relative positions",
}


def family_of(config: dict, folder: Path) -> Family | None:
    """The family of a config.json; None where it does not say.

    Raises:
        UserError: it is none of FAMILIES, or computes otherwise than they do.
    """
    if code := _own_code(config):
        raise UserError(
            f"{folder}: the model is computed by code of its own ({code}, auto_map in config.json), which is not run "
            "here: where it computes what BERT does, take auto_map out of config.json."
        )
    model_type = config.get("model_type")
    if model_type is not None and model_type not in FAMILIES:
        reason = _REASONS.get(model_type, "it is another architecture")
        raise UserError(
            f"{folder}: its model_type is {model_type!r}, which cannot be loaded, for {reason}; {', '.join(FAMILIES)} "
            "can."
        )
    position = config.get("position_embedding_type") or "absolute"
    if position != "absolute":
        raise UserError(f"{folder}: position_embedding_type {position!r} is not 'absolute'.")
    if config.get("is_decoder"):
        raise UserError(f"{folder}: it is a decoder (is_decoder in config.json); an encoder is needed.")
    return FAMILIES.get(model_type) if model_type else None


def other_family(prefix: str) -> bool:
    """Whether the prefix of tensors, such as "roberta.", names a family that cannot be loaded."""
    return not {part.replace("_", "-") for part in prefix.split(".")}.isdisjoint(_REASONS)


def _own_code(config: dict) -> str | None:
    """The class of its own that a config.json names for the model, if it does."""
    classes = config.get("auto_map") or {}
    return next((str(named) for key, named in classes.items() if key.startswith("AutoModel")), None)
