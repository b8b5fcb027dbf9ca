"""Checkpoints of random weights, and made-up texts in their words: enough to time, where nothing can be fetched."""

from pathlib import Path

import numpy as np

VOCABULARY = 30522
MINILM_L6 = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536}
BERT_BASE = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}


def make_checkpoint(sizes: dict[str, int], folder: Path, random: np.random.Generator, labels: int = 2):
    """A Hugging Face folder of a BERT with a pooler and a classification layer, and PyTorch's model of it."""
    import torch  # pyright: ignore[reportMissingImports]  # extra bench
    import transformers  # pyright: ignore[reportMissingImports]  # extra bench

    torch.manual_seed(0)
    config = transformers.BertConfig(vocab_size=VOCABULARY, num_labels=labels, **sizes)
    model = transformers.BertForSequenceClassification(config)
    model.save_pretrained(folder)
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz"]
    letters = np.array(list("etaoinshrdlucmfw"))
    words = {"".join(random.choice(letters, random.integers(2, 10))) for _ in range(40_000)}
    (folder / "vocab.txt").write_text("\n".join([*pieces, *sorted(words)][:VOCABULARY]), "utf-8")
    return model


def make_texts(folder: Path, random: np.random.Generator, count: int = 8192, words: int | None = None) -> list[str]:
    """Random words of the vocabulary, so many a text; None: as many as in questions and short reviews, of which half
    have 6 to 14."""
    known = [piece for piece in (folder / "vocab.txt").read_text().split("\n")[40:] if piece]
    lengths = np.clip(np.exp(random.normal(np.log(9), 0.6, count)), 1, 80).astype(int)
    return [" ".join(random.choice(known, words or length)) for length in lengths]
