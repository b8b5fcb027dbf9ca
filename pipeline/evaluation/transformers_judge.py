"""Does a finished checkpoint answer here as it does in transformers? Asked where that and torch are installed."""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from pipeline.errors import UserError
from pipeline.tasks.task import Task
from pipeline.text import TextEncoder

BATCH = 16


def judge(
    folder: Path,
    texts: Sequence[Sequence[str]],
    predictions: np.ndarray,
    encoder: TextEncoder,
    task: Task,
    tolerance: float,
) -> dict[str, Any]:
    """Compare predictions with those of transformers.

    Args:
        folder: of the checkpoint, as transformers loads it.
        texts: lists of n strings, as the encoder takes them.
        predictions: ours, float32 [n, K].
        encoder: of ours.
        task: what the logits mean.
        tolerance: largest difference of a prediction, where the tokens are the same.

    Returns:
        For the report: the texts, those that transformers cuts into other tokens (which the documentation explains),
        and the largest difference of the others; {}: it is not installed.

    Raises:
        UserError: a larger difference.
    """
    read = [[text.decode() for text in column.numpy()] for column in encoder.texts(*map(list, texts))]
    found = _answers(folder, read, encoder.sequence_length)
    if found is None:
        return {}
    tokens, logits = found
    theirs = np.asarray(task.activation(tf.constant(logits)))
    inputs = encoder(*(tf.constant(column, tf.string) for column in texts))
    lengths = np.asarray(inputs["padding_mask"]).sum(axis=1)
    ours = [row[:length].tolist() for row, length in zip(np.asarray(inputs["token_ids"]), lengths, strict=True)]
    same = np.array([a == b for a, b in zip(ours, tokens, strict=True)])
    differences = np.where(same, np.abs(predictions - theirs).max(axis=1), 0.0)
    worst = int(np.argmax(differences))
    if not differences[worst] <= tolerance:
        raise UserError(
            f"{folder} answers otherwise here than in transformers, by {differences[worst]:.2g} where {tolerance:.2g} "
            f"is allowed, for {' / '.join(column[worst] for column in texts)[:80]!r}: nothing was exported."
        )
    return {
        "texts": len(tokens),
        "texts of other tokens": int((~same).sum()),
        "largest difference": float(differences[worst]),
    }


def _answers(folder: Path, texts: Sequence[Sequence[str]], length: int) -> tuple[list[list[int]], np.ndarray] | None:
    """Token ids of each row, and logits, float32 [n, outputs]; None: transformers or torch is not installed."""
    try:
        torch, transformers = (import_module(name) for name in ("torch", "transformers"))
    except ImportError:
        return None
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(folder))
    model = transformers.AutoModelForSequenceClassification.from_pretrained(str(folder)).float().eval()
    tokens, logits = [], []
    for start in range(0, len(texts[0]), BATCH):
        columns = [list(column[start : start + BATCH]) for column in texts]
        inputs = tokenizer(*columns, truncation=True, max_length=length, padding=True, return_tensors="pt")
        with torch.inference_mode():
            logits.append(model(**inputs).logits.numpy())
        pairs = zip(inputs["input_ids"].tolist(), inputs["attention_mask"].sum(dim=1).tolist(), strict=True)
        tokens += [row[:count] for row, count in pairs]
    return tokens, np.concatenate(logits)
