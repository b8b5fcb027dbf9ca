"""Small checkpoints of the families that compute as BERT does, as transformers saves their masked-token models."""

import json

import numpy as np
from checkpoints import CONFIG, HIDDEN, ROWS, distilbert, random_heads, random_tensors, write_folder

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
