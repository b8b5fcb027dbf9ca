"""A corpus in which each token occurs once, and its piece tells its place."""

import random

import numpy as np
from tiny import SPECIAL

MOST = 30_000
UNUSED = [f"[unused{i}]" for i in range(20)]
VOCABULARY = [*SPECIAL, *UNUSED, *(f"w{i}" for i in range(MOST)), *(f"##p{i}" for i in range(MOST))]
FIRST = len(SPECIAL) + len(UNUSED)


def place_of(ids):
    """The place in the corpus of each piece; special tokens are negative."""
    ids = np.asarray(ids, np.int64) - FIRST
    return np.where(ids >= MOST, ids - MOST, ids)


def make_documents(number=190, seed=0, sentences=(1, 16), words=(1, 12)):
    """Documents of sentences of words of one to four pieces; token i of the corpus is w<i> or ##p<i>."""
    chance, place, documents = random.Random(seed), 0, []
    for _ in range(number):
        document = []
        for _ in range(chance.randint(*sentences)):
            sentence = []
            for _ in range(chance.randint(*words) if chance.random() < 0.97 else 100):
                pieces = chance.choice([1, 1, 1, 2, 3, 4])
                sentence.append(f"w{place}" + "".join(f"p{place + i}" for i in range(1, pieces)))
                place += pieces
            document.append(" ".join(sentence))
        documents.append(document)
    assert place < MOST
    return documents
