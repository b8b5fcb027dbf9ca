"""Pre-training batches from prepared tokens beside tokenization on the fly: sequences a second on one core.

    python benchmarks/pretraining_input.py                                     # texts made here, from a seed
    python benchmarks/pretraining_input.py --texts reviews.txt.xz --vocabulary vocab.txt

All give batches of token ids, segment ids and mask int32 [batch, length], with 15 % of the tokens masked by
pipeline.pretraining.masking, through tf.data:
- prepared, nsp and none: pretraining_batches from a token store, written before (its time is printed);
- on the fly, packed: texts are tokenized whole as they come, and their tokens cut into full sequences; no pairs;
- on the fly, cut: one text a sequence, what is beyond its end is not looked at.

The contenders take turns, and medians are shown. Times are of the processor, of all threads together. Of a turn's
batches, pretraining_batches makes up to four ahead, in nobody's time: take many batches a turn.
"""

import argparse
import itertools
import lzma
import os
import re
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--texts", type=Path, help="a file of one text a line, plain or .xz")
parser.add_argument("--vocabulary", type=Path, help="vocab.txt of an uncased checkpoint")
parser.add_argument("--number", type=int, default=10_000, help="texts to take")
parser.add_argument("--length", type=int, default=128)
parser.add_argument("--batch-size", type=int, default=256)
parser.add_argument("--batches", type=int, default=200, help="batches a turn")
parser.add_argument("--repeats", type=int, default=7)
arguments = parser.parse_args()

if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

from pipeline.pretraining import masking  # noqa: E402
from pipeline.pretraining.examples import ExampleSettings, pretraining_batches  # noqa: E402
from pipeline.pretraining.plan import Objective  # noqa: E402
from pipeline.pretraining.tokens import TokenCorpus, write_store  # noqa: E402
from pipeline.text import TextEncoder  # noqa: E402
from pipeline.tokenizer_rules import SPECIAL_TOKENS  # noqa: E402

MOST = 20  # predictions a sequence
SENTENCE = re.compile(r"(?<=[.!?])\s+")


def read(path: Path, number: int) -> list[str]:
    with (lzma.open if path.suffix == ".xz" else open)(path, "rt", encoding="utf-8", newline="\n") as file:
        return [line.strip() for line in itertools.islice(file, number)]


def made_texts(number: int) -> list[str]:
    """Sentences of made-up words with frequencies as uneven as in language (Zipf)."""
    random = np.random.default_rng(0)
    words = ["".join(random.choice(list("etaoinshrdlu"), n)) for n in random.integers(1, 9, 8000)]
    weights = 1 / np.arange(1, len(words) + 1)
    taken = iter(random.choice(words, number * 240, p=weights / weights.sum()).tolist())
    return [" ".join(" ".join(itertools.islice(taken, 20)) + "." for _ in range(12)) for _ in range(number)]


def made_vocabulary(texts: list[str]) -> list[str]:
    words = sorted({word for text in texts for word in re.findall(r"\w+", text.lower())})
    letters = sorted({letter for text in texts for letter in text.lower() if not letter.isspace()})
    return list(dict.fromkeys([*SPECIAL_TOKENS, *letters, *(f"##{x}" for x in letters), *words[::2][:25_000]]))


def on_the_fly(texts: list[str], encoder: TextEncoder, whole_words: bool, packed: bool):
    """An endless dataset of batches made from strings."""
    pieces = masking.VocabularyMasks.of(encoder.vocabulary)
    size, length = arguments.batch_size, arguments.length

    def pack(strings: tf.Tensor) -> tf.data.Dataset:
        tokens = encoder.tokenize(strings).values
        count = tf.size(tokens) // (length - 2)
        rows = tf.reshape(tokens[: count * (length - 2)], [count, length - 2])
        edge = tf.ones([count, 1], tf.int32)
        ids = tf.concat([edge * encoder.cls_id, rows, edge * encoder.sep_id], axis=1)
        row = {"token_ids": ids, "segment_ids": tf.zeros_like(ids), "padding_mask": tf.ones_like(ids)}
        return tf.data.Dataset.from_tensor_slices(row)

    def masked(number: np.ndarray, ids: np.ndarray) -> tuple:
        text = (ids != encoder.cls_id) & (ids != encoder.sep_id) & (ids != encoder.pad_id)
        begins_word = pieces.begins_word[ids] if whole_words else None
        draws = masking.draws(0, 0, int(number) * size, len(ids), length)
        return masking.mask(ids, text, begins_word, draws, pieces, 0.15, MOST)

    def finish(number: tf.Tensor, inputs: dict) -> tuple:
        kinds = (tf.int32, tf.int32, tf.int32, tf.float32)
        ids, *rest = tf.numpy_function(masked, [number, inputs["token_ids"]], kinds, stateful=False)
        return {**inputs, "token_ids": ids}, tuple(rest)

    strings = tf.data.Dataset.from_tensor_slices(texts).repeat().batch(size, drop_remainder=True)
    if packed:
        batches = strings.flat_map(pack).batch(size, drop_remainder=True)
    else:
        batches = strings.map(lambda batch: encoder(batch, fixed_length=True))
    return batches.enumerate().map(finish)


def main() -> None:
    texts = read(arguments.texts, arguments.number) if arguments.texts else made_texts(arguments.number)
    vocabulary = str(arguments.vocabulary) if arguments.vocabulary else made_vocabulary(texts)
    encoder = TextEncoder(vocabulary, sequence_length=arguments.length)
    documents = [SENTENCE.split(text) for text in texts]
    with tempfile.TemporaryDirectory() as folder:
        start = time.process_time()
        store = write_store(documents, encoder, Path(folder, "tokens"))
        seconds = time.process_time() - start
        print(f"one core, {len(texts)} texts, {store.meta.tokens:,} tokens, {len(encoder.vocabulary)} pieces")
        print(f"prepared once in {seconds:.1f} s: {store.meta.tokens / seconds:,.0f} tokens per second")
        corpus = TokenCorpus([store])

        def prepared(objective: Objective, whole_words: bool):
            settings = ExampleSettings(
                arguments.batch_size, arguments.length, MOST, objective=objective, whole_words=whole_words
            )
            for epoch in itertools.count():
                yield from pretraining_batches(corpus, encoder, settings, seed=0, epoch=epoch)

        options = tf.data.Options()
        options.autotune.enabled = False
        options.experimental_optimization.inject_prefetch = False
        print(f"{'':>12}" + "".join(f"{name:>20}" for name in ("nsp", "none", "on the fly, packed", "on the fly, cut")))
        for whole_words in (False, True):
            iterators = [
                prepared("nsp", whole_words),
                prepared("none", whole_words),
                iter(on_the_fly(texts, encoder, whole_words, packed=True).with_options(options)),
                iter(on_the_fly(texts, encoder, whole_words, packed=False).with_options(options)),
            ]
            taken: list[list[float]] = [[] for _ in iterators]
            for turn in range(arguments.repeats + 1):
                for iterator, seconds in zip(iterators, taken, strict=True):
                    time.sleep(0.2)
                    start = time.process_time()
                    for _ in range(arguments.batches):
                        next(iterator)
                    if turn:  # the first turn warms up
                        seconds.append(time.process_time() - start)
            rates = [arguments.batches * arguments.batch_size / median(seconds) for seconds in taken]
            print(f"{'whole words' if whole_words else 'tokens':>12}" + "".join(f"{rate:>20,.0f}" for rate in rates))


if __name__ == "__main__":
    main()
