"""A BERT backbone from wherever its weights are."""

import dataclasses
from pathlib import Path
from types import ModuleType

import keras

from pipeline import model_hub
from pipeline.backbone import fresh, hub, huggingface, preset, tf_checkpoint
from pipeline.backbone.architecture import embed_in_float32
from pipeline.backbone.casing import with_casing
from pipeline.backbone.encoder import speed_up
from pipeline.backbone.extend import added_tokens, extend_backbone
from pipeline.backbone.folder_tensors import SAFETENSORS, TORCH
from pipeline.backbone.json_object import read_json
from pipeline.backbone.loaded import LoadedBackbone
from pipeline.backbone.places import MODULES, checkpoint_folder, model_folder, modules
from pipeline.backbone.redacting import with_placeholders
from pipeline.backbone.saving import check_vocabulary, notes_on_rows, use_vocabulary
from pipeline.backbone.tokenizer_files import read_tokenizer
from pipeline.config import ModelConfig, TextConfig
from pipeline.errors import UserError
from pipeline.tokenizer_rules import TokenizerRules
from pipeline.vocabulary_file import load_vocabulary
from pipeline.wheel import local_path


def load_backbone(model: ModelConfig, text: TextConfig, seed: int = 0, dtype: str | None = None) -> LoadedBackbone:
    """Build the backbone that a config names, in the current strategy scope.

    Args:
        model: the model section; `model.backbone` is None (fresh weights) or what `load_checkpoint` takes.
        text: the text section, for `vocabulary` and `sequence_length`.
        seed: of fresh weights and of the dropout layers; sets the global seeds of Keras.
        dtype: Keras dtype policy; None: the current one.

    Raises:
        UserError: what the source is or lacks, and what to do.
    """
    if model.backbone is None:
        if text.vocabulary is None:
            raise UserError("A model with fresh weights (no model.backbone) needs text.vocabulary: name a vocab.txt.")
        loaded = fresh.build(model, load_vocabulary(text.vocabulary), seed, dtype)
    else:
        # Of the dropout layers.
        keras.utils.set_random_seed(seed)
        loaded = load_checkpoint(model.backbone, model.num_layers, dtype, model.revision)
    if text.vocabulary is not None:
        loaded = _with_vocabulary(loaded, text.vocabulary, text.lowercase)
    if text.lowercase is None:
        loaded = with_casing(loaded)
    _check(loaded, text)
    if text.redaction:
        loaded = with_placeholders(loaded, text.redaction, text.lowercase)
    loaded = dataclasses.replace(loaded, notes=loaded.notes + notes_on_rows(loaded))
    embed_in_float32(loaded.backbone)
    speed_up(loaded.backbone)
    return loaded


def _with_vocabulary(loaded: LoadedBackbone, path: str, lowercase: bool | None) -> LoadedBackbone:
    """The backbone with the vocabulary of the config: another file of the same tokens, or one that adds words."""
    vocabulary = tuple(load_vocabulary(path))
    own, rows = len(loaded.vocabulary), loaded.backbone.vocabulary_size
    # Another file of all rows need not begin with the checkpoint's tokens.
    if own and len(vocabulary) > own and (len(vocabulary) != rows or vocabulary[:own] == loaded.vocabulary):
        added = added_tokens(loaded.vocabulary, vocabulary, path)
        loaded = extend_backbone(loaded, added, loaded.text_encoder(lowercase))
        if rows > own:
            note = (
                f"{loaded.source}: its {rows - own} rows of no token give way to those of the {len(added)} words that "
                f"{path} adds."
            )
            loaded = dataclasses.replace(loaded, notes=(*loaded.notes, note))
    return use_vocabulary(loaded, path, vocabulary)


def load_checkpoint(
    source: str, num_layers: int | None = None, dtype: str | None = None, revision: str | None = None
) -> LoadedBackbone:
    """Load a checkpoint of any format, told by what its folder holds; cased where only its pieces say so.

    Args:
        source: a folder, wheel:..., a name on the Hugging Face Hub (see `pipeline.model_hub`), the address of an
            encoder on TensorFlow Hub, or the name of a keras-nlp preset.
        num_layers: keep only the first ones; None: all.
        dtype: Keras dtype policy; None: the current one.
        revision: commit of a checkpoint on the Hugging Face Hub; None: the revision that `source` names, as it is now.

    Raises:
        UserError: what the source is or lacks, and what to do.
    """
    loaded = with_casing(_load_checkpoint(source, num_layers, dtype, revision))
    if not loaded.family.has_segments:
        # The zeros in their place are what the family computes with.
        loaded.backbone.get_layer("segment_embedding").trainable = False
    return loaded


def _load_checkpoint(source: str, num_layers: int | None, dtype: str | None, revision: str | None) -> LoadedBackbone:
    hub_model = model_hub.reference(source)
    if revision and not hub_model:
        raise UserError(f"model.backbone {source} is no name on the Hugging Face Hub here: unset model.revision.")
    if hub.is_handle(source):
        return hub.load(hub.resolve(source), num_layers, dtype)
    folder = model_hub.fetch(hub_model, revision) if hub_model else local_path(source)
    if not folder.is_dir():
        if folder.exists() or Path(f"{folder}.index").exists():
            raise UserError(f"model.backbone {source} is a file: name the folder of the checkpoint.")
        return preset.load(source, num_layers, dtype)
    inner = model_folder(folder)
    loaded = _format(inner).load(inner, num_layers, dtype)
    kinds = [module["type"] for module in modules(checkpoint_folder(folder)) if module["type"] != "Transformer"]
    if kinds:
        loaded.left_out += (f"{MODULES} ({', '.join(kinds)})",)
    return loaded


def _format(folder: Path) -> ModuleType:
    """The module that loads what a folder holds."""
    has = {name: (folder / name).is_file() for name in ("config.json", "bert_config.json")}
    if has["config.json"] and preset.is_preset(folder):
        return preset
    # Some folders hold a checkpoint twice: TensorFlow's, and PyTorch's.
    if has["bert_config.json"] and not any(folder.glob(f"{SAFETENSORS}*")):
        return huggingface if (folder / TORCH).is_file() and not any(folder.glob("*.index")) else tf_checkpoint
    if has["config.json"]:
        return huggingface
    if hub.folder_of(folder):
        return hub
    adapter = folder / "adapter_config.json"
    if adapter.is_file():
        base = read_json(adapter).get("base_model_name_or_path")
        raise UserError(
            f"model.backbone {folder} is an adapter on {base}: merge the two with peft (merge_and_unload, then "
            "save_pretrained), and name that folder."
        )
    raise UserError(
        f"model.backbone {folder} has no config.json, bert_config.json or saved_model.pb: "
        "is it the folder of a checkpoint?"
    )


def folder_tokens(folder: Path) -> tuple[tuple[str, ...], bool | None, TokenizerRules]:
    """Tokens, casing (None: not said) and rules of a folder of Hugging Face's or google-research/bert's layout, of
    whose weights nothing is read.

    Args:
        folder: of the model's own files (see `model_folder`); a vocab.txt is enough.

    Raises:
        UserError: it has no tokenizer, or one that is not BERT's.
    """
    if (folder / "bert_config.json").is_file() and _format(folder) is tf_checkpoint:
        return tf_checkpoint.read_tokens(folder)
    found = read_tokenizer(folder)
    return found.vocabulary, found.lowercase, found.rules


def require_segments(loaded: LoadedBackbone, setting: str) -> None:
    """Refuse a checkpoint that cannot tell the two texts of a pair apart.

    Args:
        loaded: the checkpoint.
        setting: that asks for pairs, with its value, for the message.

    Raises:
        UserError: it has embeddings of one segment alone.
    """
    if loaded.backbone.num_segments < 2:
        raise UserError(
            f"{setting} asks for pairs of texts, but {loaded.source} has one segment alone (type_vocab_size 1): give "
            "it one text a row."
        )


def _check(loaded: LoadedBackbone, text: TextConfig) -> None:
    if not loaded.vocabulary:
        raise UserError(f"{loaded.source} has no tokenizer: set text.vocabulary to its vocab.txt.")
    check_vocabulary(loaded)
    longest = loaded.backbone.max_sequence_length
    if text.length > longest:
        raise UserError(
            f"text.sequence_length {text.length} exceeds the {longest} positions of {loaded.source}: set it to "
            f"{longest} or less."
        )
