"""What columns beside the text cost a request: one checkpoint's model with and without them, asked in turns.

python benchmarks/columns_latency.py

Both models are the recipe own_csv's with a fresh head, which costs as much to ask as a trained one, exported as a run
does. The columns are those of benchmarks/columns.py: seven numbers, a date, and four categories, of which the largest
has 1,000 names. Asked are the SavedModels' serving_default, in one process, one after the other in each turn; time is
the processor's, of all threads, the median of the turns, beyond that of a SavedModel of the same inputs that does
nothing: Python takes longer to hand over thirteen inputs than the graph to compute with twelve of them.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from columns import CATEGORIES, NUMBERS

from export.savedmodel import ExportSettings, export_model
from export.signatures import SignatureOptions
from pipeline import read_config
from pipeline.backbone.load import load_backbone
from pipeline.classifier import build_classifier, over_columns
from pipeline.features import Features
from pipeline.features.columns import Category, Date, Number
from pipeline.fusion import Kind
from pipeline.tasks.single_label import SingleLabel

NAMES = (8, 200, 20, 1000)
FUSIONS: tuple[Kind, ...] = ("concat", "gated")
BATCHES, WORDS = (1, 32), (8, 100)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=40)
    options = parser.parse_args()
    columns = (
        *(Number(name, 1.0, 2.0, True) for name in NUMBERS),
        *(Category(name, tuple(f"{name} {i}" for i in range(size)), True, True)
          for name, size in zip(CATEGORIES, NAMES, strict=True)),
        Date("date", 9000.0, 4000.0, False, True),
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        asks = {"text alone": served(Features(), "concat", folder)}
        asks |= {fusion: served(Features(columns=columns, fusion=fusion), fusion, folder) for fusion in FUSIONS}
        print(f"| texts, words each | text alone, CPU ms | {' | '.join(FUSIONS)} |\n|---|---|{'---|' * len(FUSIONS)}")
        for words in WORDS:
            for size in BATCHES:
                print(line(asks, size, words, options.turns), flush=True)


def served(features: Features, kind: Kind, folder: str) -> Callable[[int, int], list[Callable[[], Any]]]:
    """From the number of texts and their words to a request of the exported model, and of one that does nothing."""
    config = read_config("own_csv")
    loaded = load_backbone(config.model, config.text)
    model = build_classifier(loaded, 7, pooling=config.model.pooled_by)
    if features.width:
        model = over_columns(model, features.width, kind, config.model.units_of_fusion("fine_tune"))
    encoder = loaded.text_encoder(None, config.text.length, config.text.long_texts, features)
    settings = ExportSettings(SignatureOptions([]))
    task = SingleLabel(tuple("abcdefg"))
    version = export_model(model, encoder, task, f"{folder}/{kind}-{features.width}", features, settings=settings)
    specs = encoder.cell_specs or [tf.TensorSpec([None], tf.string, "text")]
    idle = tf.Module()
    idle.answer = tf.function(lambda *inputs: {"label": inputs[0]}, input_signature=specs, autograph=False)
    tf.saved_model.save(idle, f"{version}-idle", signatures=idle.answer)
    asks = [tf.saved_model.load(path).signatures["serving_default"] for path in (str(version), f"{version}-idle")]

    def requests(size: int, words: int) -> list[Callable[[], Any]]:
        cells = [[" ".join(["the"] * words)] * size, *([value(column)] * size for column in features.columns)]
        inputs = dict(zip(features.inputs, map(tf.constant, cells), strict=True))
        return [lambda ask=ask: ask(**inputs)["label"].numpy() for ask in asks]

    return requests


def value(column: Any) -> Any:
    """A cell that is there."""
    return {"number": np.float32(3.5), "date": "1999-05-31"}.get(column.kind) or column.names[-1]


def line(asks: dict[str, Callable], size: int, words: int, turns: int) -> str:
    """A row of the table."""
    # A single request is too short for the processor's clock.
    times = max(1, 8 // size)
    requests = {name: ask(size, words) for name, ask in asks.items()}
    spent: dict[str, list[float]] = {name: [] for name in asks}
    for turn in range(turns + 3):
        for name, (request, idle) in requests.items():
            found = seconds(request, times) - seconds(idle, times)
            if turn >= 3:
                spent[name].append(1000 * found)
    first, *others = (statistics.median(values) for values in spent.values())
    more = " | ".join(f"{100 * (other / first - 1):+.1f} %" for other in others)
    return f"| {size}, {words} | {first:.2f} | {more} |"


def seconds(request: Callable[[], Any], times: int) -> float:
    """Of the processor, for one of so many requests."""
    started = time.process_time()
    for _ in range(times):
        request()
    return (time.process_time() - started) / times


if __name__ == "__main__":
    main()
