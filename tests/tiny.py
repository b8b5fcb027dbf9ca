"""A data set and a config so small that a whole run takes seconds."""

import csv
import random
from pathlib import Path

import yaml

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
SUBJECTS = {
    "sport": ["goal", "match", "team", "coach", "league", "score"],
    "money": ["bank", "market", "price", "trade", "stock", "profit"],
    "space": ["star", "orbit", "rocket", "moon", "planet", "comet"],
}
FILLER = ["the", "a", "of", "and", "in", "on", "with", "was", "very", "new", "old", "big", "small", "two", "three"]
VOCABULARY = [*SPECIAL, *(word for words in SUBJECTS.values() for word in words), *FILLER, ".", ","]


def write_rows(path: Path, rows: int, seed: int = 0) -> Path:
    """A csv of texts of 3 to 20 words whose label is the subject of a third of them."""
    chance = random.Random(seed)
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for i in range(rows):
            label = chance.choice(list(SUBJECTS))
            words = [chance.choice(SUBJECTS[label] if chance.random() < 0.34 else FILLER) for _ in range(3 + i % 18)]
            writer.writerow([" ".join([chance.choice(SUBJECTS[label]), *words]), label])
    return path


def write_config(folder: Path, rows: int = 240, **sections: dict) -> Path:
    """tiny.yaml beside its data and vocabulary; keyword arguments override keys of the sections of the same name."""
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = folder / "vocab.txt"
    vocabulary.write_text("\n".join(VOCABULARY) + "\n")
    train = write_rows(folder / "train.csv", rows)
    config = {
        "data": {"train": str(train), "test_fraction": 0.2, "validation_fraction": 0.2},
        "text": {"vocabulary": str(vocabulary), "sequence_length": 24},
        "model": {"num_layers": 1, "num_heads": 2, "hidden_dim": 16, "intermediate_dim": 32, "max_sequence_length": 32},
        "training": {"epochs": 2, "batch_size": 8, "learning_rate": 0.003, "dtype": "float32", "strategy": "one"},
        # To explain takes longest to export and to verify; tests/test_signatures.py looks after it.
        "export": {"verify_examples": 8, "signatures": ["predict_tokens", "top_k"], "warmup_batch_sizes": [1]},
    }
    for section, values in sections.items():
        config[section] = config.get(section, {}) | values
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def write_long_config(folder, **sections):
    """Half of the texts have what tells their label behind many sentences of filler."""
    chance = random.Random(0)
    text = {"sequence_length": 16, "long": "chunks", "max_chunks": 6} | sections.pop("text", {})
    path = write_config(folder, text=text, **sections)
    with open(folder / "train.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for i in range(240):
            label = chance.choice(list(SUBJECTS))
            filler = [word for _ in range(10 if i % 2 else 0) for word in (*chance.choices(FILLER, k=4), ".")]
            writer.writerow([" ".join([*filler, *chance.choices(SUBJECTS[label], k=2)]), label])
    return path
