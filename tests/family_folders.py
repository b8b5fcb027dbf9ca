"""Small checkpoints of the families that compute as BERT does, as transformers saves their masked-token models."""

import json

import numpy as np
from checkpoints import (
    ACTIVATIONS,
    CONFIG,
    HIDDEN,
    ROWS,
    distilbert,
    random_heads,
    random_tensors,
    reference,
    write_folder,
)
from safetensors.numpy import load_file, save_file
from tiny import VOCABULARY as TINY_VOCABULARY

FAMILIES = ["distilbert", "electra-base", "electra-small", "ernie"]
NARROW = 8
SMALL_ELECTRA = CONFIG | {"embedding_size": NARROW}
DISTILBERT_CONFIG = {
    "model_type": "distilbert", "vocab_size": ROWS, "dim": HIDDEN, "n_layers": 3, "n_heads": 4, "hidden_dim": 24,
    "max_position_embeddings": 12, "activation": "gelu", "dropout": 0.2, "attention_dropout": 0.2,
}  # fmt: skip


def write_family(folder, family):
    """A folder as transformers would save a masked-token model of the family; what BertModel's tensors would be."""
    if family == "distilbert":
        tensors = random_tensors(CONFIG, pooler=False)
        write_folder(folder, distilbert(tensors | random_heads()))
        (folder / "config.json").write_text(json.dumps(DISTILBERT_CONFIG))
        return tensors | {"embeddings.token_type_embeddings.weight": np.zeros((2, HIDDEN), np.float32)}
    if family.startswith("electra"):
        config = SMALL_ELECTRA if family == "electra-small" else CONFIG | {"embedding_size": HIDDEN}
        tensors = random_tensors(config, pooler=False)
        names = (
            ("cls.predictions.transform", "generator_predictions"),
            ("cls.predictions.bias", "generator_lm_head.bias"),
        )
        heads = random_heads(width=config["embedding_size"])
        renamed = {name.replace(*names[0]).replace(*names[1]): value for name, value in heads.items()}
        stored = {f"electra.{name}": value for name, value in tensors.items()}
        stored |= {name: value for name, value in renamed.items() if name.startswith("generator")}
        write_folder(folder, stored, **config | {"model_type": "electra"})
        return tensors
    tensors = random_tensors(CONFIG)
    write_folder(
        folder, {f"ernie.{name}": value for name, value in tensors.items()} | random_heads(), model_type="ernie"
    )
    return tensors


CLASSIFIERS = ["bert", "distilbert", "electra-base", "electra-small", "ernie"]


def write_classifier(folder, family, outputs=3, **settings):
    """A folder as transformers would save a classifier of the family, of fixed weights; what BertModel's tensors and
    the dense layers above them would be (the one before the last is None where it is the pooler)."""
    if family == "bert":
        tensors = random_tensors(CONFIG)
        write_folder(folder, {f"bert.{name}": value for name, value in tensors.items()})
    else:
        tensors = write_family(folder, family)
    stored = load_file(folder / "model.safetensors")
    stored = {name: value for name, value in stored.items() if not name.startswith(("vocab_", "generator", "cls."))}
    random = np.random.default_rng(7)

    def dense(rows):
        return random.normal(0, 1, (rows, HIDDEN)).astype(np.float32), random.normal(0, 1, rows).astype(np.float32)

    names = {"distilbert": ("pre_classifier", "classifier"), "electra": ("classifier.dense", "classifier.out_proj")}
    pooler, last = names.get(family.split("-")[0], (None, "classifier"))
    layers = (dense(HIDDEN) if pooler else None, dense(outputs))
    for name, layer in zip((pooler, last), layers, strict=True):
        if layer:
            stored |= {f"{name}.weight": layer[0], f"{name}.bias": layer[1]}
    save_file(stored, folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text())
    title = {"bert": "Bert", "distilbert": "DistilBert", "ernie": "Ernie"}.get(family, "Electra")
    labels = {str(i): name for i, name in enumerate(["good", "bad", "so so", "other"][:outputs])}
    config |= {"architectures": [f"{title}ForSequenceClassification"], "id2label": labels} | settings
    (folder / "config.json").write_text(json.dumps({key: value for key, value in config.items() if value is not None}))
    return tensors, layers


def classify(family, tensors, layers, inputs):
    """Logits, float64 [batch, outputs], of a classifier of `write_classifier`, as its class in transformers computes
    them."""
    sequence, pooled = reference(CONFIG, tensors, inputs)
    pooler, (kernel, bias) = layers
    if pooler:
        pooled = sequence[:, 0] @ pooler[0].T + pooler[1]
        pooled = ACTIVATIONS["relu" if family == "distilbert" else "gelu"](pooled)
    return pooled @ kernel.T + bias


def with_tiny_words(folder):
    """The vocabulary of tests/tiny.py in a folder of write_classifier, whose embeddings are new ones of that size."""
    config = json.loads((folder / "config.json").read_text())
    random, length = np.random.default_rng(3), 32
    tensors = load_file(folder / "model.safetensors")
    for name, value in tensors.items():
        for part, rows in (("word", len(TINY_VOCABULARY)), ("position", length)):
            if name.endswith(f"embeddings.{part}_embeddings.weight"):
                tensors[name] = random.normal(0, 1, (rows, value.shape[1])).astype(np.float32)
    save_file(tensors, folder / "model.safetensors")
    config |= {"vocab_size": len(TINY_VOCABULARY), "max_position_embeddings": length}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "vocab.txt").write_text("\n".join(TINY_VOCABULARY) + "\n")
    return folder
