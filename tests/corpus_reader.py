"""A corpus for tests of prepare, in a module of its own: worker processes import it."""

import os
import signal
from pathlib import Path


def read_documents(files, part=(0, 1), die_at=None, marker=None, met=None):
    """Paragraphs are documents, lines sentences; part `die_at` kills the process while there is a file `marker`."""
    index, count = part
    for file in files:
        for paragraph in Path(file).read_text().split("\n\n")[index::count]:
            yield paragraph.split("\n")
            if index == die_at and Path(marker).exists():
                os.kill(os.getpid(), signal.SIGKILL)


def two_letters(text):
    """A word splitter: every two characters are a word."""
    return [text[i : i + 2] for i in range(0, len(text), 2)]


def endless_words(documents, sentences, words):
    """Documents made as they are read."""
    for i in range(documents):
        yield [" ".join(["goal", "match"][(i + j) % 2] for _ in range(words)) for j in range(sentences)]
