"""A backbone from and to a keras-nlp preset: a folder as `save_to_preset` writes it, or a name to download."""

import json
from pathlib import Path

import keras
import keras_nlp

from pipeline.backbone.activations import ACTIVATIONS
from pipeline.backbone.architecture import configure, epsilon_of, like
from pipeline.backbone.bert_config import OWN_KEY, hidden_act_of, own_family, own_settings
from pipeline.backbone.json_object import read_json
from pipeline.backbone.loaded import LoadedBackbone
from pipeline.backbone.saving import check_vocabulary, new_folder, refuse_projection, write_json
from pipeline.errors import UserError
from pipeline.tokenizer_rules import BERT_RULES, TokenizerRules


def is_preset(folder: Path) -> bool:
    """Whether a config.json is keras-nlp's and not Hugging Face's."""
    try:
        return "registered_name" in json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except ValueError:
        return False


def load(name: str | Path, num_layers: int | None = None, dtype: str | None = None) -> LoadedBackbone:
    """Load a BERT preset with its tokenizer's vocabulary, where it has one.

    Args:
        name: a folder, or a name such as "bert_tiny_en_uncased" (which needs the network at first use).
        num_layers: keep only the first ones; None: all.
        dtype: Keras dtype policy; None: the current one.

    Raises:
        UserError: no such preset, or not a BERT.
    """
    # Without a dtype, the one that the preset was saved in would be used.
    dtype = dtype or keras.config.dtype_policy().name
    tokenizer = None
    try:
        backbone = keras_nlp.models.Backbone.from_preset(str(name), dtype=dtype)
        if not isinstance(backbone, keras_nlp.models.BertBackbone):
            raise UserError(f"model.backbone {name} is a {type(backbone).__name__}: only BERT checkpoints can be used.")
        if not isinstance(name, Path) or (name / "tokenizer.json").is_file():
            tokenizer = keras_nlp.models.BertTokenizer.from_preset(str(name))
    except UserError:
        raise
    except Exception as error:  # keras-nlp raises whatever its download or its JSON raised
        reason = str(error).partition("\n")[0]
        raise UserError(
            f"model.backbone {name}: neither a checkpoint folder nor a keras-nlp preset ({reason})"
        ) from error
    own = read_json(name / "config.json").get(OWN_KEY, {}) if isinstance(name, Path) else {}
    activation = own.get("hidden_act")
    if activation is not None and activation not in ACTIVATIONS:
        raise UserError(f"{name}/config.json: hidden_act {activation!r} is not one of {', '.join(ACTIVATIONS)}.")
    configure(backbone, activation=activation and ACTIVATIONS[activation], epsilon=own.get("layer_norm_eps"))
    if num_layers is not None:
        if num_layers > backbone.num_layers:
            raise UserError(f"model.num_layers {num_layers} exceeds the {backbone.num_layers} layers of {name}.")
        backbone = like(backbone, num_layers=num_layers, dtype=dtype)
    return LoadedBackbone(
        backbone,
        () if tokenizer is None else tuple(tokenizer.get_vocabulary()),
        None if tokenizer is None else own.get("do_lower_case", tokenizer.lowercase),
        has_pooler=own.get("has_pooler", True),
        source=str(name),
        vocabulary_source=f"the tokenizer of {name}",
        rules=TokenizerRules.from_json(own.get("tokenizer", {})),
        family=own_family(own),
    )


def save(loaded: LoadedBackbone, folder: Path) -> tuple[str, ...]:
    """Write a preset that keras-nlp's BertBackbone.from_preset and BertTokenizer.from_preset take.

    keras-nlp builds every BertBackbone with GELU's tanh form and epsilon 1e-12. Its own conversions of Hugging Face
    checkpoints, which mean the exact GELU, do so without a word (the outputs of a MiniLM of six layers move by up to
    0.0035). Here it is said, and a key of config.json that keras-nlp passes over keeps the two settings, so that `load`
    computes what the backbone does. Any other activation would be another model in keras-nlp, and is refused.

    Args:
        loaded: any backbone; weights are written in float32.
        folder: new or empty.

    Returns:
        What a preset cannot hold, one sentence each.

    Raises:
        UserError: the folder is not empty, there is no vocabulary that fits, or an activation other than GELU.
    """
    refuse_projection(loaded, "a keras-nlp preset")
    activation, epsilon, notes = hidden_act_of(loaded.backbone), epsilon_of(loaded.backbone), []
    if activation not in ("gelu", "gelu_new"):
        raise UserError(
            f"{loaded.source} has the activation {activation}, but keras-nlp's BertBackbone is fixed to GELU: "
            "save it as a Hugging Face folder."
        )
    if activation == "gelu":
        notes.append("keras-nlp computes the tanh form of GELU, where this checkpoint has the exact one.")
    if epsilon != 1e-12:
        notes.append(f"keras-nlp normalises with epsilon 1e-12, where this checkpoint has {epsilon}.")
    if loaded.lowercase is None:
        notes.append("The checkpoint does not record whether it is uncased; keras-nlp's tokenizer will lower-case.")
    if not loaded.has_pooler:
        notes.append("The checkpoint has no pooler; keras-nlp's pooled_output will be of random weights.")
    if loaded.rules != BERT_RULES:
        rules = ", ".join(loaded.rules.to_json())
        notes.append(f"keras-nlp's tokenizer knows nothing of {rules}; this project reads them from the preset.")
    if loaded.heads is not None:
        notes.append("The pre-training heads are left out: a preset has no place for them.")
    check_vocabulary(loaded)
    missing = [token for token in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]") if token not in loaded.vocabulary]
    if missing:
        raise UserError(
            f"{loaded.vocabulary_source} lacks {', '.join(missing)}, without which keras-nlp has no tokenizer."
        )
    # Weights are stored by the names of the layers' classes, and read into keras-nlp's own.
    backbone = like(loaded.backbone, dtype="float32", plain=True)
    tokenizer = keras_nlp.models.BertTokenizer(list(loaded.vocabulary), lowercase=loaded.lowercase is not False)
    with new_folder(folder) as hidden:
        backbone.save_to_preset(str(hidden))
        tokenizer.save_to_preset(str(hidden))
        config = read_json(hidden / "config.json")
        write_json(hidden / "config.json", config | {OWN_KEY: own_settings(loaded)})
    return tuple(notes)
