"""Strings to padded int32 batches: TextEncoder beside keras-nlp and Hugging Face tokenizers.

    python benchmarks/tokenization.py                                   # texts made here, from a seed
    python benchmarks/tokenization.py --texts reviews.txt.xz --vocabulary vocab.txt

All make token ids, segment ids and mask of [batch, 128], int32, on one core: the TensorFlow tools in tf.data's map
(no parallel calls), Hugging Face through encode_batch and numpy. The tools take turns. tf.data
must not work ahead, or it would do so in the other tools' turns: its own prefetch is off. Times are of the processor,
which other processes disturb less than the clock. "exact" is the share of texts whose ids equal google-research/bert's
rules, written out in tests/reference_tokenizer.py; ratios are those of TextEncoder to each of the others.

The texts made here are random words: English from a list below with suffixes and punctuation, tweets from the same
with names, tags, links and emoji, Chinese, Russian and Thai from character ranges, with frequencies as uneven as in
language (Zipf). The vocabulary is then every character and the most frequent words and word ends.
"""

import argparse
import itertools
import lzma
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from tables import Comparison, Report, add_arguments, machine_before, publish
from turns import take_turns

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--texts", nargs="+", type=Path, help="files of one text a line, plain or .xz")
parser.add_argument("--vocabulary", type=Path, help="vocab.txt of an uncased checkpoint")
parser.add_argument("--batch-sizes", nargs="+", type=int, default=[32, 256, 1024])
parser.add_argument("--number", type=int, default=4096, help="texts of each language")
add_arguments(parser, repeats=5)
arguments = parser.parse_args()

if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "tests")]

import keras_nlp  # noqa: E402
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
import tensorflow_text as tf_text  # noqa: E402
import tokenizers  # noqa: E402
from reference_tokenizer import basic_tokenize, full_tokenize  # noqa: E402

from pipeline.text import TextEncoder  # noqa: E402
from pipeline.tokenizer_rules import SPECIAL_TOKENS  # noqa: E402

LENGTH = 128
ENGLISH = """the of and to in a is that for it was on are as with his they at be this have from or one had by word but
not what all were we when your can said there use an each which she do how their if will up other about out many then
them these so some her would make like him into time has look two more write go see number no way could people my than
first water been call who oil its now find long down day did get come made may part house world place live where after
back little only round man year came show every good great work sound never before line right too mean old any same
tell boy follow want also around form three small set put end does another well large must big even such because turn
here why ask went men read need land different home us move try kind hand picture again change off play spell air away
animal page letter mother answer found study still learn should country between"""


def made_texts(number: int) -> dict[str, list[str]]:
    random = np.random.default_rng(0)

    def zipf(items: list[str], size: int) -> list[str]:
        weights = 1 / np.arange(1, len(items) + 1)
        return random.choice(items, size, p=weights / weights.sum()).tolist()

    def characters(*ranges: tuple[int, int]) -> list[str]:
        found = [chr(c) for low, high in ranges for c in range(low, high)]
        return random.permutation(found).tolist()

    def words(letters: list[str], size: int) -> list[str]:
        return ["".join(random.choice(letters, n)) for n in random.integers(2, 10, size)]

    def lines(vocabulary: list[str], between: str, stops: list[str], low: int, high: int) -> list[str]:
        texts = []
        for size in random.integers(low, high, number):
            parts = zipf(vocabulary, size)
            for place in range(random.integers(8, 16), size, 12):
                parts[place] += random.choice(stops)
            texts.append(between.join(parts).capitalize())
        return texts

    stems = ENGLISH.split()
    english = [word + end for end in ("", "s", "ed", "ing", "er", "'s", "ly", "-up") for word in stems]
    names = [f"@{a}{b}" for a, b in zip(stems, stems[9:], strict=False)]
    links = [f"https://t.example/{word}" for word in stems]
    extras = [*names, *links, *(f"#{word.title()}" for word in stems), *characters((0x1F600, 0x1F640)), "café", "naïve"]
    return {
        "English": lines(english, " ", [",", ".", "?", ' "', ";", " (sic)"], 20, 60),
        "tweets": lines(random.permutation([*english, *extras]).tolist(), " ", ["!!", "...", "…", " ’"], 5, 25),
        "Chinese": lines(characters((0x4E00, 0x9000)), "", ["，", "。", "！", "？", "、"], 40, 160),
        "Russian": lines(words(characters((0x430, 0x450)), 5000), " ", [",", ".", " —", "!"], 20, 50),
        "Thai": lines(words(characters((0xE01, 0xE31), (0xE40, 0xE45)), 2000), "", [" ", " "], 20, 60),
    }


def read(path: Path, number: int) -> list[str]:
    with (lzma.open if path.suffix == ".xz" else open)(path, "rt", encoding="utf-8", newline="\n") as file:
        return [line.rstrip("\n") for line, _ in zip(file, range(number), strict=False)]


def made_vocabulary(texts: list[str]) -> list[str]:
    counts = Counter(word for text in texts for word in basic_tokenize(text))
    letters = sorted({letter for word in counts for letter in word})
    ends = Counter(f"##{word[-n:]}" for word in counts for n in (2, 3, 4) if len(word) > n)
    frequent = [word for word, _ in counts.most_common(20_000) if len(word) < 20]
    frequent += [end for end, _ in ends.most_common(5_000)]
    return list(dict.fromkeys([*SPECIAL_TOKENS, *letters, *(f"##{letter}" for letter in letters), *frequent]))


def tools(vocabulary: list[str]) -> dict:
    """Name to a function of (texts, batch size) to an endless iterator of token ids [batch, LENGTH]."""
    options = tf.data.Options()
    options.autotune.enabled = False
    options.experimental_optimization.inject_prefetch = False

    def mapped(encode):
        def build(texts: list[str], size: int):
            # The steady state: strings are cut into batches once, and one iterator serves all turns.
            batches = list(tf.data.Dataset.from_tensor_slices(texts).batch(size, drop_remainder=True))
            dataset = tf.data.Dataset.from_tensor_slices(tf.stack(batches)).repeat().map(encode).with_options(options)
            return iter(batch["token_ids"] for batch in dataset)

        return build

    encoder = TextEncoder(vocabulary, lowercase=True, sequence_length=LENGTH)
    fast = tf_text.FastBertTokenizer(vocabulary, token_out_type=tf.int32, lower_case_nfd_strip_accents=True)
    keras_tokenizer = keras_nlp.tokenizers.BertTokenizer(vocabulary, lowercase=True, strip_accents=True)
    packer = keras_nlp.layers.MultiSegmentPacker(
        LENGTH, start_value=encoder.cls_id, end_value=encoder.sep_id, pad_value=encoder.pad_id
    )
    rust = tokenizers.BertWordPieceTokenizer({piece: i for i, piece in enumerate(vocabulary)}, lowercase=True)
    rust.enable_truncation(LENGTH)
    rust.enable_padding(length=LENGTH, pad_id=encoder.pad_id)
    # The newer call leaves out the offsets, and with them half of the work.
    encode_batch = getattr(rust._tokenizer, "encode_batch_fast", rust.encode_batch)

    def keras_encode(texts):
        token_ids, segment_ids = packer(keras_tokenizer(texts))
        return {
            "token_ids": token_ids,
            "segment_ids": segment_ids,
            "padding_mask": tf.cast(token_ids != encoder.pad_id, tf.int32),
        }

    def stock_encode(texts):
        rows = fast.tokenize(texts)[:, : LENGTH - 2]
        edge = tf.ones([rows.nrows(), 1], tf.int32)
        token_ids = tf.concat([edge * encoder.cls_id, rows, edge * encoder.sep_id], 1).to_tensor(shape=[None, LENGTH])
        return {
            "token_ids": token_ids,
            "segment_ids": tf.zeros_like(token_ids),
            "padding_mask": tf.cast(token_ids != encoder.pad_id, tf.int32),
        }

    def rust_batches(texts: list[str], size: int):
        for start in itertools.cycle(range(0, len(texts) - size + 1, size)):
            found = encode_batch(texts[start : start + size])
            np.array([row.type_ids for row in found], np.int32)
            np.array([row.attention_mask for row in found], np.int32)
            yield np.array([row.ids for row in found], np.int32)

    return {
        "TextEncoder": mapped(lambda texts: encoder(texts, fixed_length=True)),
        "keras-nlp": mapped(keras_encode),
        "tokenizers": rust_batches,
        "FastBertTokenizer": mapped(stock_encode),
    }


def expected_ids(texts: list[str], vocabulary: list[str]) -> list[list[int]]:
    ids = {piece: number for number, piece in enumerate(vocabulary)}
    rows = ([ids[p] for p in full_tokenize(text, ids)][: LENGTH - 2] for text in texts)
    return [[ids["[CLS]"], *row, ids["[SEP]"], *[ids["[PAD]"]] * (LENGTH - 2 - len(row))] for row in rows]


def main() -> None:
    if arguments.texts:
        languages = {path.name: read(path, arguments.number) for path in arguments.texts}
    else:
        languages = made_texts(arguments.number)
    if arguments.vocabulary:
        vocabulary = arguments.vocabulary.read_text("utf-8").rstrip("\n").split("\n")
    else:
        vocabulary = made_vocabulary([text for texts in languages.values() for text in texts])
    contenders = tools(vocabulary)
    machine, comparisons = machine_before(), []
    for language, texts in languages.items():
        exact = {name: f"{share:.1%}" for name, share in exactness(contenders, texts[:500], vocabulary).items()}
        letters = sum(map(len, texts)) // len(texts)
        for size in arguments.batch_sizes:
            batches = max(len(texts) // size, 8)
            asked = {name: partial(rate, build(texts, size), size, batches) for name, build in contenders.items()}
            for ask in asked.values():
                ask(-1)  # warms up
            values, _ = take_turns(asked, arguments.repeats, arguments.first_turn)
            title = f"Tokenization, {language}, {letters} letters, batches of {size}"
            comparisons.append(Comparison(title, "texts/s", values, facts={"exact": exact}))
    notes = [f"One core, {len(vocabulary)} pieces, seconds of processor time."]
    publish(Report(comparisons, notes=notes, machine=machine), arguments)


def exactness(contenders: dict, texts: list[str], vocabulary: list[str]) -> dict[str, float]:
    """By tool, the share of texts whose ids are BERT's."""
    reference = np.array(expected_ids(texts, vocabulary))
    found = {name: np.asarray(next(build(texts, len(texts)))) for name, build in contenders.items()}
    return {name: float((ids == reference).all(axis=1).mean()) for name, ids in found.items()}


def rate(iterator: Iterator, size: int, batches: int, turn: int) -> float:
    """Texts a second of processor time."""
    start = time.process_time()
    for _ in range(batches):
        next(iterator)
    return batches * size / (time.process_time() - start)


if __name__ == "__main__":
    main()
