"""Small checkpoints of every format, written by hand, and what they compute, by an independent forward pass."""

import json
import math
import re

import numpy as np
import tensorflow as tf
from safetensors.numpy import save_file

from pipeline.backbone.load import load_backbone
from pipeline.config import ModelConfig, TextConfig

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmno"]
CONFIG = {
    "model_type": "bert",
    "vocab_size": len(VOCABULARY),
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 24,
    "max_position_embeddings": 12,
    "type_vocab_size": 2,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "hidden_dropout_prob": 0.2,
    "attention_probs_dropout_prob": 0.2,
}
_erf = np.vectorize(math.erf)
ACTIVATIONS = {
    "gelu": lambda x: x * 0.5 * (1 + _erf(x / math.sqrt(2))),
    "gelu_new": lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "relu": lambda x: np.maximum(x, 0),
    "silu": lambda x: x / (1 + np.exp(-x)),
}
TANH = CONFIG | {"hidden_act": "gelu_new"}
HIDDEN, ROWS = CONFIG["hidden_size"], CONFIG["vocab_size"]


def random_tensors(config, seed=0, pooler=True):
    """Tensors under BertModel's names, of values large enough that every part shows in the output.

    With an embedding_size in the config they are ElectraModel's.
    """
    random = np.random.default_rng(seed)
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    width = config.get("embedding_size", hidden)
    tensors = {}

    def dense(name, inputs, outputs):
        tensors[f"{name}.weight"] = random.normal(0, 0.3, (outputs, inputs))
        tensors[f"{name}.bias"] = random.normal(0, 0.3, outputs)

    def norm(name, size=hidden):
        tensors[f"{name}.weight"] = random.uniform(0.5, 1.5, size)
        tensors[f"{name}.bias"] = random.normal(0, 0.3, size)

    rows = ("vocab_size", "word"), ("max_position_embeddings", "position"), ("type_vocab_size", "token_type")
    for size, name in rows:
        tensors[f"embeddings.{name}_embeddings.weight"] = random.normal(0, 1, (config[size], width))
    norm("embeddings.LayerNorm", width)
    if width != hidden:
        dense("embeddings_project", width, hidden)
    for i in range(config["num_hidden_layers"]):
        layer = f"encoder.layer.{i}"
        for part in ("self.query", "self.key", "self.value", "output.dense"):
            dense(f"{layer}.attention.{part}", hidden, hidden)
        norm(f"{layer}.attention.output.LayerNorm")
        dense(f"{layer}.intermediate.dense", hidden, inner)
        dense(f"{layer}.output.dense", inner, hidden)
        norm(f"{layer}.output.LayerNorm")
    if pooler:
        dense("pooler.dense", hidden, hidden)
    return {name: value.astype(np.float32) for name, value in tensors.items()}


def write_folder(folder, tensors=None, tokenizer=None, **changes):
    """A Hugging Face folder; None as a value in `changes` removes the key from config.json."""
    config = {key: value for key, value in (CONFIG | changes).items() if value is not None}
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n")
    save_file(random_tensors(CONFIG | changes) if tensors is None else tensors, folder / "model.safetensors")
    if tokenizer is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    return folder


def shard_weights(folder, tensors, files):
    """Put the weights of a folder of write_folder into several files, with an index."""
    (folder / "model.safetensors").unlink()
    weight_map = {}
    for file, names in zip(files, np.array_split(list(tensors), len(files)), strict=True):
        save_file({name: tensors[name] for name in names.tolist()}, folder / file)
        weight_map |= dict.fromkeys(names.tolist(), file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


def load(folder, num_layers=None, dtype=None, **text):
    model = ModelConfig(backbone=str(folder), num_layers=num_layers)
    return load_backbone(model, TextConfig(**({"sequence_length": 12} | text)), dtype=dtype)


def reference(config, tensors, inputs):
    """BERT (Devlin et al., 2019, as transformers' BertModel) in float64: sequence [batch, length, hidden], pooled.

    With embeddings_project among the tensors it is ElectraModel; without a pooler, pooled is None.
    """
    t = {name: value.astype(np.float64) for name, value in tensors.items()}
    ids, segments, mask = (inputs[name] for name in ("token_ids", "segment_ids", "padding_mask"))
    heads, epsilon = config["num_attention_heads"], config["layer_norm_eps"]

    def dense(x, name):
        return x @ t[f"{name}.weight"].T + t[f"{name}.bias"]

    def norm(x, name):
        x = x - x.mean(-1, keepdims=True)
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + epsilon) * t[f"{name}.weight"] + t[f"{name}.bias"]

    def split(x):
        return x.reshape(*x.shape[:2], heads, -1).transpose(0, 2, 1, 3)

    x = t["embeddings.word_embeddings.weight"][ids] + t["embeddings.token_type_embeddings.weight"][segments]
    x = norm(x + t["embeddings.position_embeddings.weight"][: ids.shape[1]], "embeddings.LayerNorm")
    if "embeddings_project.weight" in t:
        x = dense(x, "embeddings_project")
    for i in range(config["num_hidden_layers"]):
        layer = f"encoder.layer.{i}"
        query, key, value = (split(dense(x, f"{layer}.attention.self.{part}")) for part in ("query", "key", "value"))
        scores = query @ key.transpose(0, 1, 3, 2) / math.sqrt(query.shape[-1])
        scores = np.where(mask[:, None, None, :] == 1, scores, -1e30)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        context = weights / weights.sum(-1, keepdims=True) @ value
        context = context.transpose(0, 2, 1, 3).reshape(x.shape)
        x = norm(x + dense(context, f"{layer}.attention.output.dense"), f"{layer}.attention.output.LayerNorm")
        inner = ACTIVATIONS[config["hidden_act"]](dense(x, f"{layer}.intermediate.dense"))
        x = norm(x + dense(inner, f"{layer}.output.dense"), f"{layer}.output.LayerNorm")
    return x, np.tanh(dense(x[:, 0], "pooler.dense")) if "pooler.dense.weight" in t else None


def random_inputs(config, batch=5, length=9, seed=0):
    """Rows of several lengths, with a second segment and with other ids than 0 under the padding."""
    random = np.random.default_rng(seed)
    lengths = np.arange(batch) % (length - 2) + 3
    position = np.arange(length)
    return {
        "token_ids": random.integers(0, config["vocab_size"], (batch, length)).astype(np.int32),
        "segment_ids": np.broadcast_to(position >= 4, (batch, length)).astype(np.int32),
        "padding_mask": (position < lengths[:, None]).astype(np.int32),
    }


def assert_computes(backbone, config, tensors, tolerance=1e-4, inputs=None):
    inputs = random_inputs(config) if inputs is None else inputs
    outputs = backbone(inputs, training=False)
    sequence, pooled = reference(config, tensors, inputs)
    real = inputs["padding_mask"] == 1
    np.testing.assert_allclose(outputs["sequence_output"].numpy()[real], sequence[real], atol=tolerance)
    if pooled is not None:
        np.testing.assert_allclose(outputs["pooled_output"], pooled, atol=tolerance)


def random_heads(seed=1, width=HIDDEN):
    """Heads under BertForPreTraining's names, for word embeddings of a width."""
    random = np.random.default_rng(seed)
    shapes = {
        "cls.predictions.transform.dense.weight": (width, HIDDEN),
        "cls.predictions.transform.dense.bias": (width,),
        "cls.predictions.transform.LayerNorm.weight": (width,),
        "cls.predictions.transform.LayerNorm.bias": (width,),
        "cls.predictions.bias": (ROWS,),
        "cls.seq_relationship.weight": (2, HIDDEN),
        "cls.seq_relationship.bias": (2,),
    }
    return {name: random.normal(0, 0.5, shape).astype(np.float32) for name, shape in shapes.items()}


def distilbert(tensors):
    """Tensors of a BertModel and of its masked-token head, as DistilBertForMaskedLM names them; it has no segments."""
    found = {}
    for name, value in tensors.items():
        for old, new in (
            (r"^encoder\.layer\.(\d+)\.attention\.self\.([qkv])\w+\.", r"transformer.layer.\1.attention.\2_lin."),
            (r"^encoder\.layer\.(\d+)\.attention\.output\.dense\.", r"transformer.layer.\1.attention.out_lin."),
            (r"^encoder\.layer\.(\d+)\.attention\.output\.LayerNorm\.", r"transformer.layer.\1.sa_layer_norm."),
            (r"^encoder\.layer\.(\d+)\.intermediate\.dense\.", r"transformer.layer.\1.ffn.lin1."),
            (r"^encoder\.layer\.(\d+)\.output\.dense\.", r"transformer.layer.\1.ffn.lin2."),
            (r"^encoder\.layer\.(\d+)\.output\.LayerNorm\.", r"transformer.layer.\1.output_layer_norm."),
            (r"^cls\.predictions\.transform\.dense\.", "vocab_transform."),
            (r"^cls\.predictions\.transform\.LayerNorm\.", "vocab_layer_norm."),
            (r"^cls\.predictions\.bias$", "vocab_projector.bias"),
        ):
            name = re.sub(old, new, name)
        if not name.startswith(("pooler.", "cls.", "embeddings.token_type")):
            found[name if name.startswith("vocab_") else f"distilbert.{name}"] = value
    return found


def with_heads(tensors, heads=None):
    """As BertForPreTraining saves them."""
    return {f"bert.{name}": value for name, value in tensors.items()} | (random_heads() if heads is None else heads)


def google(tensors):
    """Tensors of BertModel and of heads, as google-research/bert would have saved them; written out rule by rule."""
    found = {}
    for name, value in tensors.items():
        new = name.replace(".", "/").replace("layer/", "layer_")
        if "cls/" not in new:
            new = f"bert/{new}"
        if new.endswith("_embeddings/weight"):
            new = new.removesuffix("/weight")
        elif "LayerNorm" in new:
            new = new.replace("/weight", "/gamma").replace("/bias", "/beta")
        elif "seq_relationship" in new:
            new = new.replace("/weight", "/output_weights").replace("/bias", "/output_bias")
        elif new == "cls/predictions/bias":
            new = "cls/predictions/output_bias"
        elif new.endswith("/weight"):
            new, value = new.replace("/weight", "/kernel"), value.T
        found[new] = value
    return found


def encoder_of_models(tensors, prefix=""):
    """Tensors of BertModel and the masked-token head, as the BertEncoder of tensorflow/models names and shapes them."""
    heads, found = CONFIG["num_attention_heads"], {}
    for name, value in google(tensors).items():
        new = name.removeprefix("bert/").replace("encoder/", "transformer/")
        for old, other in (
            ("embeddings/word_embeddings", "word_embeddings/embeddings"),
            ("embeddings/token_type_embeddings", "type_embeddings/embeddings"),
            ("embeddings/position_embeddings", "position_embedding/embeddings"),
            ("embeddings/LayerNorm", "embeddings/layer_norm"),
            ("attention/self", "self_attention"),
            ("attention/output/dense", "self_attention/attention_output"),
            ("attention/output/LayerNorm", "self_attention_layer_norm"),
            ("intermediate/dense", "intermediate"),
            ("output/dense", "output"),
            ("output/LayerNorm", "output_layer_norm"),
            ("pooler/dense", "pooler_transform"),
            ("cls/predictions/output_bias", "bert/cls/predictions/output_bias/bias"),
            ("cls/predictions/transform", "bert/cls/predictions/transform"),
        ):
            new = re.sub(f"(^|(?<=/)){old}(?=/|$)", other, new)
        if "attention_output/kernel" in new:
            value = value.reshape(heads, -1, HIDDEN)
        elif re.search(r"self_attention/(query|key|value)/", new):
            value = value.reshape(*value.shape[:-1], heads, -1)
        found[prefix + new] = value
    return found


def write_google(folder, tensors=None, name="bert_model.ckpt", config=None, slots=True):
    """A folder as google-research/bert's run_pretraining.py leaves it; with slots, written by TensorFlow 1's Saver."""
    folder.mkdir(exist_ok=True)
    keys = {key: value for key, value in CONFIG.items() if key not in ("model_type", "layer_norm_eps")}
    (folder / "bert_config.json").write_text(json.dumps(keys | (config or {})))
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n")
    tensors = google(random_tensors(CONFIG) | random_heads()) if tensors is None else tensors
    if not slots:
        write = {"tensor_names": list(tensors), "shape_and_slices": [""] * len(tensors)}
        tf.raw_ops.SaveV2(
            prefix=str(folder / name), tensors=[tf.constant(value) for value in tensors.values()], **write
        )
        return folder
    extra = {f"{name}/adam_{slot}": value for name, value in tensors.items() for slot in "mv"}
    extra["global_step"] = np.int64(7)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        for key, value in (tensors | extra).items():
            tf.compat.v1.get_variable(key, initializer=tf.constant(value))
        session.run(tf.compat.v1.global_variables_initializer())
        tf.compat.v1.train.Saver().save(session, str(folder / name), write_meta_graph=False)
    return folder


def write_hub(folder, tensors=None, lowercase=True, vocabulary=True):
    """A SavedModel with the variables of an encoder on TensorFlow Hub."""
    module = tf.Module()
    tensors = encoder_of_models(random_tensors(CONFIG)) if tensors is None else tensors
    module.weights = [tf.Variable(value, name=name) for name, value in tensors.items()]
    if lowercase is not None:
        module.do_lower_case = tf.Variable(lowercase, trainable=False)
    if vocabulary:
        path = folder.parent / "vocab.txt"
        path.write_text("\n".join(VOCABULARY) + "\n")
        module.vocab_file = tf.saved_model.Asset(str(path))
    tf.saved_model.save(module, str(folder))
    return folder


def masked_scores(config, tensors, heads, inputs):
    """Scores of all pieces at all positions, float64, with the head as transformers' BertForMaskedLM computes it."""
    h = {name: value.astype(np.float64) for name, value in heads.items()}
    sequence, pooled = reference(config, tensors, inputs)
    dense, norm = "cls.predictions.transform.dense", "cls.predictions.transform.LayerNorm"
    x = ACTIVATIONS[config["hidden_act"]](sequence @ h[f"{dense}.weight"].T + h[f"{dense}.bias"])
    x = x - x.mean(-1, keepdims=True)
    x = x / np.sqrt((x**2).mean(-1, keepdims=True) + config["layer_norm_eps"])
    x = x * h[f"{norm}.weight"] + h[f"{norm}.bias"]
    words = tensors["embeddings.word_embeddings.weight"].astype(np.float64)
    pairs = pooled @ h["cls.seq_relationship.weight"].T + h["cls.seq_relationship.bias"]
    return x @ words.T + h["cls.predictions.bias"], pairs


def assert_heads(heads, names=None):
    """That the arrays of a PretrainingHeads are those of `random_heads`, inputs first."""
    expected = random_heads()
    np.testing.assert_array_equal(heads.transform_kernel, expected["cls.predictions.transform.dense.weight"].T)
    np.testing.assert_array_equal(heads.transform_bias, expected["cls.predictions.transform.dense.bias"])
    np.testing.assert_array_equal(heads.norm_gamma, expected["cls.predictions.transform.LayerNorm.weight"])
    np.testing.assert_array_equal(heads.norm_beta, expected["cls.predictions.transform.LayerNorm.bias"])
    np.testing.assert_array_equal(heads.output_bias, expected["cls.predictions.bias"])
    if names != "masked":
        np.testing.assert_array_equal(heads.next_sentence_kernel, expected["cls.seq_relationship.weight"].T)
        np.testing.assert_array_equal(heads.next_sentence_bias, expected["cls.seq_relationship.bias"])
