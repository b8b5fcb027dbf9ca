"""How much of what is to be redacted is found, what is taken for it wrongly, and what it costs.

    python benchmarks/redaction.py --each 200 --texts sst2.txt imdb.txt

Recall is on made sentences of 20 locales (tests/made_personal.py, which needs faker, of the extra `test`), with one
thing each: it counts where it is found whole and as its kind. Of real texts, one a line, all that is found is printed
with --show, to be judged by eye.
"""

import argparse
import os
import random
import statistics
import time
from collections import Counter
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import tensorflow as tf
from made_personal import LOCALES, false_of_kind, false_share, found_in, made_numbers, made_personal, recall, share

from pipeline.redaction.kinds import KINDS, Redaction
from pipeline.redaction.redactor import Redactor

BATCHES, REPEATS = (16, 64, 256), 9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--each", type=int, default=200, help="sentences a kind and locale (default: 200)")
    parser.add_argument("--texts", nargs="*", type=Path, default=[], help="real texts, one a line")
    parser.add_argument("--show", type=int, default=0, help="how many findings in each of them to print")
    options = parser.parse_args()
    redactor = Redactor(Redaction.of(list(KINDS)))
    _made(redactor, options.each)
    for path in options.texts:
        _real(redactor, path, options.show)


def _made(redactor: Redactor, each: int) -> None:
    made = made_personal(each)
    counts, false = recall(redactor, made), false_of_kind(redactor, made)
    print("recall on made sentences, and findings of another kind or extent")
    for kind in KINDS:
        total = sum(one.kind == kind for one in made)
        print(f"  {kind:6} {share(counts, kind):.3f} of {total:5}, {false.get(kind, 0)} false in {len(made)}")
    print("  phone:", ", ".join(f"{locale} {share(counts, 'phone', locale):.3f}" for locale in LOCALES))
    numbers = made_numbers(20 * each)
    without_dates = Redactor(Redaction.of([kind for kind in KINDS if kind != "date"]))
    for name, one in (("all kinds", redactor), ("without the kind date", without_dates)):
        wrong = ", ".join(f"{kind} {value:.2%}" for kind, value in false_share(one, numbers).items())
        print(f"sentences with a finding, {name}: {wrong}")
    chance = random.Random(0)
    for name, start, places in (("16 random digits", "", 16), ("an ISBN without hyphens", "978", 13)):
        texts = [start + _digits(chance, places - len(start)) for _ in range(20 * each)]
        print(f"{name}: {sum(map(bool, found_in(redactor, texts))) / len(texts):.2%} found")


def _digits(chance: random.Random, count: int) -> str:
    return str(chance.randint(10 ** (count - 1), 10**count - 1))


def _real(redactor: Redactor, path: Path, show: int) -> None:
    texts = [line for line in path.read_text(encoding="utf-8").splitlines() if line]
    found = [pair for pairs in found_in(redactor, texts) for pair in pairs]
    size = sum(len(text.encode()) for text in texts) / 1000
    print(f"{path.name}: {len(texts)} texts, {size:.0f} kB; {dict(Counter(kind for kind, _ in found))}")
    for batch in BATCHES:
        spent = _seconds(redactor, texts, batch)
        print(f"  in batches of {batch}: {1e6 * spent / size:.0f} us a kB, {1e6 * spent / len(texts):.1f} us a text")
    for kind, text in found[:show]:
        print(f"  {kind}: {text}")


def _seconds(redactor: Redactor, texts: list[str], batch: int) -> float:
    """Processor time beyond that of a graph that does nothing, the median of turns."""
    signature = [tf.TensorSpec([None], tf.string)]
    # tf.identity itself has a further argument, and each call would take longer for it.
    ways = (lambda texts: redactor(texts), lambda texts: tf.identity(texts))
    calls = [tf.function(way, input_signature=signature, autograph=False) for way in ways]
    batches = [tf.constant(texts[start : start + batch]) for start in range(0, len(texts), batch)]
    spent = []
    for _ in range(REPEATS + 1):
        began = [time.process_time()]
        for call in calls:
            for one in batches:
                call(one)
            began.append(time.process_time())
        spent.append(began[1] - began[0] - (began[2] - began[1]))
    # The first traces.
    return statistics.median(spent[1:])


if __name__ == "__main__":
    main()
