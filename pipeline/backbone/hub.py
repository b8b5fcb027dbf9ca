"""A backbone from and to a BERT encoder of TensorFlow Hub: a SavedModel of tensorflow/models' BertEncoder."""

import re
from collections.abc import Iterator
from pathlib import Path

import keras_nlp
import numpy as np
import tensorflow as tf

from pipeline.backbone.bert_config import OWN_KEY, build, config_of, hidden_act_of, own_family, own_settings
from pipeline.backbone.checkpoint_tensors import CheckpointTensors
from pipeline.backbone.heads import MASKED, PretrainingHeads, read_heads
from pipeline.backbone.hub_encoder import reusable_encoder
from pipeline.backbone.hub_preprocess import preprocessor
from pipeline.backbone.json_object import read_json
from pipeline.backbone.loaded import LoadedBackbone
from pipeline.backbone.parts import fill, parts
from pipeline.backbone.saving import new_folder, refuse_projection, write_json, write_vocabulary
from pipeline.errors import UserError
from pipeline.extras import require
from pipeline.tokenizer_rules import TokenizerRules
from pipeline.vocabulary_file import load_vocabulary

_HANDLES = ("https://tfhub.dev/", "https://www.kaggle.com/models/", "https://kaggle.com/models/")
_WORDS = "word_embeddings/embeddings"
_PARTS = ("word_embeddings/", "position_embedding/", "type_embeddings/", "embeddings/", "embedding_projection/",
          "transformer/", "pooler_transform/")  # fmt: skip
# A SavedModel's place for files that TensorFlow does not read.
_CONFIG = Path("assets.extra", "bert_config.json")
_LENGTH = 128  # of TF-Hub's preprocessors, where nothing else is asked for


def is_handle(source: str) -> bool:
    """Whether a source is the address of a model on TensorFlow Hub, which has moved to Kaggle."""
    return source.startswith(_HANDLES)


def resolve(handle: str) -> Path:
    """The folder of a model on TensorFlow Hub, downloaded at first use (to $TFHUB_CACHE_DIR).

    Raises:
        UserError: it cannot be had, or tensorflow-hub is not installed.
    """
    tensorflow_hub = require("hub", "tensorflow_hub")
    try:
        return Path(tensorflow_hub.resolve(handle))
    except Exception as error:  # whatever its download, its archive or its import raised
        reason = str(error).partition("\n")[0]
        raise UserError(
            f"{handle} cannot be fetched ({type(error).__name__}: {reason}): download and unpack it, and name the "
            "folder with its saved_model.pb."
        ) from error


def load(folder: Path, num_layers: int | None = None, dtype: str | None = None) -> LoadedBackbone:
    """Load the weights of an encoder's SavedModel; none of its code is run.

    Its activation is taken to be GELU's tanh form, and its epsilon 1e-12, as all that tensorflow/models exported,
    unless `save` has written it, which notes them.

    Args:
        folder: with saved_model.pb, variables/ and, in encoders that bring their tokenizer, assets/vocab.txt; or the
            folder that `save` has written.
        num_layers: keep only the first ones; None: all.
        dtype: Keras dtype policy; None: the current one.

    Raises:
        UserError: damaged files, or not such an encoder.
    """
    folder = folder_of(folder) or folder
    tensors = CheckpointTensors(folder / "variables" / "variables", str(folder))
    encoder = _EncoderTensors(tensors)
    ours = folder / _CONFIG
    config = (read_json(ours) if ours.is_file() else {}) | encoder.sizes()
    own = config.get(OWN_KEY, {})
    activation, epsilon = own.get("hidden_act", "gelu_new"), own.get("layer_norm_eps", 1e-12)
    backbone = build(config, folder / "saved_model.pb", activation, epsilon, num_layers, dtype)
    has_pooler, heads, notes, left_out = read_encoder(backbone, tensors, "the SavedModel")
    vocabulary = folder / "assets" / "vocab.txt"
    lowercase = tensors.attribute("do_lower_case")
    return LoadedBackbone(
        backbone,
        tuple(load_vocabulary(vocabulary)) if vocabulary.is_file() else (),
        None if lowercase is None else bool(lowercase),
        has_pooler,
        source=str(folder),
        vocabulary_source=str(vocabulary),
        notes=tuple(f"{folder}: {note}." for note in notes),
        heads=heads,
        rules=TokenizerRules.from_json(own.get("tokenizer", {})),
        family=own_family(own),
        left_out=left_out,
    )


def folder_of(folder: Path) -> Path | None:
    """Where in a folder the encoder's SavedModel is, if anywhere: there, or where `save` puts it."""
    return next((place for place in (folder, folder / "encoder") if (place / "saved_model.pb").is_file()), None)


def save(loaded: LoadedBackbone, folder: Path) -> tuple[str, ...]:
    """Write the two SavedModels of TF-Hub's BERT: encoder/ (see `reusable_encoder`) and preprocess/ (`preprocessor`).

    Both compute what the backbone and TextEncoder do. The preprocessor's length is 128, or the most that the encoder
    takes; its bert_pack_inputs takes any other.

    Args:
        loaded: any backbone; weights are written in float32.
        folder: new or empty.

    Returns:
        What TF-Hub's encoders cannot hold, one sentence each.

    Raises:
        UserError: the folder is not empty, or there is no vocabulary that fits and has the special tokens.
    """
    refuse_projection(loaded, "TF-Hub's encoder")
    notes = []
    if not loaded.has_pooler:
        notes.append("The checkpoint has no pooler: the encoder has neither pooled_output nor default.")
    if loaded.lowercase is None:
        notes.append("The checkpoint does not record whether it is uncased; the preprocessor will lower-case.")
    if loaded.heads is not None and loaded.heads.next_sentence_kernel is not None:
        notes.append("The next-sentence head is left out: TF-Hub's encoders have no place for it.")
    with new_folder(folder) as hidden:
        encoder = hidden / "encoder"
        (encoder / "assets").mkdir(parents=True)
        (encoder / _CONFIG).parent.mkdir()
        write_vocabulary(loaded, encoder / "assets")
        # bert_config.json has one name for GELU, whichever form it is.
        activation = hidden_act_of(loaded.backbone).replace("gelu_new", "gelu")
        write_json(encoder / _CONFIG, config_of(loaded.backbone, activation) | {OWN_KEY: own_settings(loaded)})
        length = min(_LENGTH, loaded.backbone.max_sequence_length)
        text = loaded.text_encoder(sequence_length=length)
        model = reusable_encoder(loaded)
        if loaded.lowercase is not None:
            model.do_lower_case = tf.Variable(loaded.lowercase, trainable=False)
        # Without debug information: it holds paths of the machine that saves.
        options = tf.saved_model.SaveOptions(save_debug_info=False, experimental_custom_gradients=False)
        tf.saved_model.save(model, str(encoder), options=options)
        tf.saved_model.save(preprocessor(text), str(hidden / "preprocess"), options=options)
    return tuple(notes)


def read_encoder(
    backbone: keras_nlp.models.BertBackbone, checkpoint: CheckpointTensors, sizes: str
) -> tuple[bool, PretrainingHeads | None, list[str], tuple[str, ...]]:
    """Copy the variables of a BertEncoder into a backbone.

    Args:
        backbone: of its sizes, with as many or fewer layers.
        checkpoint: of the encoder or of a model around it.
        sizes: the file that the sizes are from, for messages.

    Returns:
        Whether there was a pooler, the heads, why there are none, and the checkpoint's other tensors.
    """
    tensors = _EncoderTensors(checkpoint)
    has_pooler = "pooler_transform/kernel" in tensors
    targets = {part.hub: part for part in parts(backbone, has_pooler)}
    cut_off = tuple(f"transformer/layer_{i}/" for i in range(backbone.num_layers, tensors.layers()))
    unexpected = [
        name
        for name in tensors
        if name.startswith(_PARTS) and name not in targets and name.rpartition("/")[0] not in targets
        and not name.startswith(cut_off)
    ]  # fmt: skip
    fill(targets, tensors, unexpected, sizes=sizes)
    # The masked-token head is saved under several models' names.
    names = {}
    for name in MASKED:
        ending = name.google.replace("output_bias", "output_bias/bias")
        names[name.field] = next((full for full in checkpoint if f"/{full}".endswith(f"/{ending}")), ending)
    heads, notes = read_heads(checkpoint, names, (), backbone)
    used = {tensors.stored[name] for name in targets} | set(names.values() if heads else ())
    return has_pooler, heads, notes, checkpoint.others(used, tuple(tensors.stored_prefix + name for name in cut_off))


class _EncoderTensors:
    """An encoder's tensors without the names of the models around it, and with attention's heads side by side."""

    def __init__(self, checkpoint: CheckpointTensors):
        self.source = checkpoint.source
        self._checkpoint = checkpoint
        words = [name for name in checkpoint if f"/{name}".endswith(f"/{_WORDS}")]
        if not words:
            raise UserError(
                f"{self.source}: there is no variable {_WORDS}: is it an encoder, and not the preprocessing of one?"
            )
        self.stored_prefix = prefix = min(words, key=len).removesuffix(_WORDS)
        self.stored = {name.removeprefix(prefix): name for name in checkpoint if name.startswith(prefix)}

    def __iter__(self) -> Iterator[str]:
        return iter(self.stored)

    def __contains__(self, name: str) -> bool:
        return name in self.stored

    def shape(self, name: str) -> tuple[int, ...]:
        shape = self._checkpoint.shape(self.stored[name])
        if "/self_attention/" not in name:
            return shape
        if len(shape) == 3 and name.endswith("attention_output/kernel"):
            return shape[0] * shape[1], shape[2]
        if len(shape) == 3:
            return shape[0], shape[1] * shape[2]
        if len(shape) == 2 and name.endswith("/bias"):
            return (shape[0] * shape[1],)
        return shape

    def read(self, name: str) -> np.ndarray:
        return self._checkpoint.read(self.stored[name]).reshape(self.shape(name))

    def layers(self) -> int:
        """The number of layers."""
        numbers = [int(match[1]) for name in self if (match := re.match(r"transformer/layer_(\d+)/", name))]
        return max(numbers, default=-1) + 1

    def sizes(self) -> dict:
        """The sizes as bert_config.json has them, from the variables' shapes."""
        layer = "transformer/layer_0"
        query, inner = f"{layer}/self_attention/query/kernel", f"{layer}/intermediate/kernel"
        tables = [_WORDS, "position_embedding/embeddings", "type_embeddings/embeddings"]
        ranks = dict.fromkeys([*tables, inner], 2) | {query: 3}
        for name, rank in ranks.items():
            if name not in self:
                raise UserError(f"{self.source}: there is no variable {name}: it is not a BERT encoder.")
            if len(self._checkpoint.shape(self.stored[name])) != rank:
                shape = self._checkpoint.shape(self.stored[name])
                raise UserError(f"{self.source}: {name} has shape {shape}: it is not a BERT encoder.")
        words, positions, segments = (self.shape(name)[0] for name in tables)
        return {
            "vocab_size": words,
            "hidden_size": self.shape(_WORDS)[1],
            "num_hidden_layers": self.layers(),
            "num_attention_heads": self._checkpoint.shape(self.stored[query])[1],
            "intermediate_size": self.shape(inner)[1],
            "max_position_embeddings": positions,
            "type_vocab_size": segments,
        }
