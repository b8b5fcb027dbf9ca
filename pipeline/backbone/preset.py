"""A backbone from a keras-nlp preset: a folder written by `save_to_preset`, or a name that keras-nlp downloads."""

import json
from pathlib import Path

import keras
import keras_nlp

from pipeline.backbone.architecture import like
from pipeline.backbone.loaded import LoadedBackbone
from pipeline.errors import UserError


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
    if num_layers is not None:
        if num_layers > backbone.num_layers:
            raise UserError(f"model.num_layers {num_layers} exceeds the {backbone.num_layers} layers of {name}.")
        backbone = like(backbone, num_layers=num_layers, dtype=dtype)
    return LoadedBackbone(
        backbone,
        () if tokenizer is None else tuple(tokenizer.get_vocabulary()),
        None if tokenizer is None else tokenizer.lowercase,
        has_pooler=True,
        source=str(name),
        vocabulary_source=f"the tokenizer of {name}",
    )
