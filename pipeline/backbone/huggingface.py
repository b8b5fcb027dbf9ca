"""A backbone from and to a Hugging Face folder: config.json, weights, and vocab.txt or tokenizer.json."""

import stat
from pathlib import Path

import keras_nlp
import numpy as np
from safetensors.numpy import save_file

from pipeline.backbone.architecture import epsilon_of
from pipeline.backbone.bert_config import build, config_of, dropout_notes, hidden_act_of
from pipeline.backbone.families import BERT, ERNIE, Family, family_of, other_family
from pipeline.backbone.folder_tensors import FolderTensors
from pipeline.backbone.heads import (
    MASKED,
    NEXT_SENTENCE,
    TRANSPOSED_HUGGINGFACE,
    PretrainingHeads,
    head_arrays,
    read_heads,
)
from pipeline.backbone.json_object import read_json
from pipeline.backbone.loaded import LoadedBackbone
from pipeline.backbone.parts import Part, fill, parts
from pipeline.backbone.saving import new_folder, write_json
from pipeline.backbone.tokenizer_files import read_tokenizer, write_tokenizer
from pipeline.errors import UserError

_BUFFERS = ("embeddings.position_ids", "embeddings.token_type_ids")
_SEGMENTS, _TASKS = "embeddings.token_type_embeddings.weight", "embeddings.task_type_embeddings.weight"
_QUERY = "encoder.layer.0.attention.self.query.weight"
_DECODER, _DECODER_BIAS = "cls.predictions.decoder.weight", "cls.predictions.decoder.bias"


def load(folder: Path, num_layers: int | None = None, dtype: str | None = None) -> LoadedBackbone:
    """Load a checkpoint of BERT or of a family that computes as it does (see `families`).

    Args:
        folder: with config.json (or, of the first releases, bert_config.json), safetensors weights or
            pytorch_model.bin (one file or shards with an index), and vocab.txt or tokenizer.json.
        num_layers: keep only the first ones; None: all.
        dtype: Keras dtype policy; None: the current one.

    Raises:
        UserError: not of such a family, a setting that is not known, or missing, unexpected or misshapen tensors.
    """
    file = folder / "config.json"
    file = file if file.is_file() else folder / "bert_config.json"
    config = read_json(file)
    family = family_of(config, folder)
    tensors = FolderTensors(folder)
    notes = []
    if family is None:
        family = _assumed(tensors, file)
        notes.append("config.json has no model_type: taken for a BERT, whose tensors it has")
    config = family.read_settings(config)
    activation, epsilon = config.get("hidden_act", "gelu"), config.get("layer_norm_eps", 1e-12)
    backbone = build(config, file, activation, epsilon, num_layers, dtype)
    has_pooler = family.has_pooler and "pooler.dense.weight" in tensors
    used = _assign(backbone, tensors, family, has_pooler, config["num_hidden_layers"])
    if family is ERNIE and config.get("use_task_id") and _TASKS in tensors:
        backbone.get_layer("segment_embedding").embeddings.assign_add(tensors.read(_TASKS)[:1])
        notes.append("its embedding of task 0 is added to those of segments, which computes the same")
    heads, more = _heads(backbone, tensors, family)
    used |= _names_of_heads(tensors, family) if heads else set()
    tokenizer = read_tokenizer(folder)
    return LoadedBackbone(
        backbone,
        tokenizer.vocabulary,
        tokenizer.lowercase,
        has_pooler,
        source=str(folder),
        vocabulary_source=str(tokenizer.source),
        notes=tuple(f"{folder}: {note}." for note in (*notes, *more, *tokenizer.notes, *dropout_notes(config))),
        heads=heads,
        rules=tokenizer.rules,
        family=family,
        left_out=_left_out(tensors, used, config),
    )


def save(loaded: LoadedBackbone, folder: Path) -> tuple[str, ...]:
    """Write a folder that transformers' from_pretrained and `load` take, of the family that the weights came in.

    With the masked-token head it is a BertForMaskedLM, with both heads a BertForPreTraining, else a BertModel; other
    families' likewise.

    Args:
        loaded: any backbone; weights are written in float32.
        folder: new or empty.

    Returns:
        What other readers of the format pass over, one sentence each.

    Raises:
        UserError: the folder is not empty, or there is no vocabulary that fits.
    """
    backbone, heads, family = loaded.backbone, loaded.heads, loaded.family
    prefix = f"{family.model_type}." if heads else ""
    tensors = {
        prefix + name: np.ascontiguousarray(part.value().T if part.is_kernel else part.value())
        for name, part in _named_parts(backbone, family, loaded.has_pooler and family.has_pooler).items()
    }
    if heads:
        arrays = head_arrays(heads, TRANSPOSED_HUGGINGFACE)
        tensors |= {family.tensor(name.huggingface): value for name, value in arrays}
    with new_folder(folder) as hidden:
        write_json(hidden / "config.json", _config(loaded))
        notes = write_tokenizer(loaded, hidden)
        # transformers before 5 refuses a file that does not name its framework's layout.
        save_file(tensors, hidden / "model.safetensors", metadata={"format": "pt"})
        # Which safetensors leaves readable to its owner alone.
        (hidden / "model.safetensors").chmod(stat.S_IMODE((hidden / "vocab.txt").stat().st_mode))
    return notes


def _config(loaded: LoadedBackbone) -> dict:
    backbone, heads, family = loaded.backbone, loaded.heads, loaded.family
    kind = "Model" if heads is None else "ForMaskedLM" if heads.next_sentence_kernel is None else "ForPreTraining"
    settings = config_of(backbone, hidden_act_of(backbone)) | {
        "layer_norm_eps": epsilon_of(backbone),
        "pad_token_id": loaded.vocabulary.index("[PAD]") if "[PAD]" in loaded.vocabulary else 0,
        "position_embedding_type": "absolute",
    }
    if family.model_type == "electra":
        # Where it is left out, transformers takes it for 128.
        settings.setdefault("embedding_size", backbone.hidden_dim)
    return {
        "architectures": [f"{family.title}{kind}"],
        "model_type": family.model_type,
        **family.write_settings(settings),
    }


def _assumed(tensors: FolderTensors, file: Path) -> Family:
    """BERT, where config.json does not say what the model is, and its tensors are BERT's."""
    if _QUERY not in tensors or other_family(tensors.prefix):
        raise UserError(
            f"{file} has no model_type, and the tensors ({', '.join(list(tensors)[:3])} ...) are not BERT's."
        )
    return BERT


def _named_parts(backbone: keras_nlp.models.BertBackbone, family: Family, pooler: bool) -> dict[str, Part]:
    """The parts that a family has, by its own names of them."""
    return {
        family.tensor(part.huggingface): part
        for part in parts(backbone, pooler)
        if family.has_segments or part.huggingface != _SEGMENTS
    }


def _assign(
    backbone: keras_nlp.models.BertBackbone, tensors: FolderTensors, family: Family, pooler: bool, all_layers: int
) -> set[str]:
    """Copy all tensors into the backbone's variables; returns the names of the encoder's tensors."""
    targets = _named_parts(backbone, family, pooler)
    cut_off = tuple(family.tensor(f"encoder.layer.{i}.") for i in range(backbone.num_layers, all_layers))
    known = {*targets, *_BUFFERS, *([_TASKS] if family is ERNIE else [])}
    known |= {name for name in tensors if name.startswith(cut_off)}
    unexpected = [name for name in tensors if name.startswith(family.modules) and name not in known]
    fill(targets, tensors, unexpected, transposed=True, sizes="config.json")
    if not family.has_segments:
        table = backbone.get_layer("segment_embedding").embeddings
        table.assign(np.zeros(table.shape))
    return known


def _heads(
    backbone: keras_nlp.models.BertBackbone, tensors: FolderTensors, family: Family
) -> tuple[PretrainingHeads | None, list[str]]:
    decoder = family.tensor(_DECODER)
    heads, notes = read_heads(tensors, _head_fields(tensors, family), TRANSPOSED_HUGGINGFACE, backbone)
    if heads is not None and decoder in tensors:
        words = next(iter(parts(backbone))).huggingface
        same = tensors.shape(decoder) == tensors.shape(words)
        if not (same and np.array_equal(tensors.read(decoder), tensors.read(words))):
            return None, [f"its pre-training heads are left out: {decoder} is not the word embeddings"]
    return heads, notes


def _head_fields(tensors: FolderTensors, family: Family) -> dict[str, str]:
    """The tensors of the pre-training heads, by PretrainingHeads' fields."""
    names = {name.field: family.tensor(name.huggingface) for name in (*MASKED, *NEXT_SENTENCE)}
    if names["output_bias"] not in tensors:
        names["output_bias"] = family.tensor(_DECODER_BIAS)
    return names


def _names_of_heads(tensors: FolderTensors, family: Family) -> set[str]:
    """The tensors of the pre-training heads, and second copies of what the heads share."""
    names = _head_fields(tensors, family)
    bias, second = names["output_bias"], family.tensor(_DECODER_BIAS)
    same = second in tensors and np.array_equal(tensors.read(bias), tensors.read(second))
    return {*names.values(), family.tensor(_DECODER), *([second] if same else [])}


def _left_out(tensors: FolderTensors, used: set[str], config: dict) -> tuple[str, ...]:
    """What of the folder is no part of the backbone: tensors of other heads, and the labels of a classifier."""
    found = [f"{tensors.stored[name]} {list(tensors.shape(name))}" for name in tensors if name not in used]
    labels = list((config.get("id2label") or {}).values())
    # transformers calls labels so that nobody has named.
    if labels != [f"LABEL_{i}" for i in range(len(labels))]:
        found.append(f"id2label ({', '.join(map(str, labels[:5]))}{' ...' if len(labels) > 5 else ''})")
    return tuple(found)
