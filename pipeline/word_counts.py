"""How often each word of a corpus is met: the same whatever it is read in, in memory that does not grow with it."""

import heapq
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from typing import IO

# Beyond this number of distinct words the rarest are pruned; a few hundred bytes of memory each.
MOST_WORDS = 3_000_000
# Files that are merged at a time: a process may not open many more.
MOST_FILES = 256


@dataclass
class WordCounts:
    """Words with how often each is met in all, and characters.

    Beyond MOST_WORDS the rarest words are left out: all of the lowest counts, as few as needed. What stays follows from
    the counts alone, not from the order in which words come, or in which parts are merged.

    Attributes:
        words: with their counts.
        first, within: how often characters begin a word, and are met behind its first; of all words.
        rarest: words met so often or less are left out.
    """

    words: dict[str, int] = field(default_factory=dict)
    first: Counter[str] = field(default_factory=Counter)
    within: Counter[str] = field(default_factory=Counter)
    rarest: int = 0

    def add(self, totals: Iterable[tuple[str, int]]) -> "WordCounts":
        """Words that are not here yet, each with its count in the whole corpus; returns itself."""
        for word, count in totals:
            self.first[word[0]] += count
            for character in word[1:]:
                self.within[character] += count
            if count > self.rarest:
                self.words[word] = count
                # A quarter more, or each few words would have all of them looked at.
                if len(self.words) > MOST_WORDS + MOST_WORDS // 4:
                    self.prune()
        return self

    def merge(self, others: Iterable["WordCounts"]) -> "WordCounts":
        """Those of other words; returns itself."""
        for other in others:
            self.words |= other.words
            self.first.update(other.first)
            self.within.update(other.within)
            self.rarest = max(self.rarest, other.rarest)
            self.prune()
        return self

    def prune(self) -> "WordCounts":
        """Leave out what is to be left out; returns itself."""
        if len(self.words) > MOST_WORDS:
            self.rarest = max(self.rarest, sorted(self.words.values(), reverse=True)[MOST_WORDS])
        self.words = {word: count for word, count in self.words.items() if count > self.rarest}
        return self


def totals(stretches: Iterable[Mapping[str, int]]) -> Iterator[tuple[str, int]]:
    """Each word once with the sum of its counts, sorted; beyond MOST_WORDS distinct ones they lie on disk meanwhile.

    Args:
        stretches: counts of parts of the text, as WordCounter gives them.
    """
    words: Counter[str] = Counter()
    files: list[IO[bytes]] = []
    with ExitStack() as stack:
        for counted in stretches:
            words.update(counted)
            if len(words) > MOST_WORDS:
                files.append(stack.enter_context(_on_disk(sorted(words.items()))))
                words.clear()
            if len(files) == MOST_FILES:
                together = _on_disk(merged(map(read_counts, files)))
                stack.close()
                files = [stack.enter_context(together)]
        yield from merged([*map(read_counts, files), iter(sorted(words.items()))])


def merged(sorted_counts: Iterable[Iterator[tuple[str, int]]]) -> Iterator[tuple[str, int]]:
    """Each word once with the sum of its counts, out of several that are sorted by words."""
    for word, same in groupby(heapq.merge(*sorted_counts), key=itemgetter(0)):
        yield word, sum(count for _, count in same)


def merged_files(paths: Sequence[str]) -> Iterator[tuple[str, int]]:
    """The same of files, of which MOST_FILES are open at a time."""
    groups = [paths[start : start + MOST_FILES] for start in range(0, len(paths), MOST_FILES)]
    with ExitStack() as stack:
        if len(groups) > 1:
            files = [stack.enter_context(_on_disk(merged_files(group))) for group in groups]
        else:
            files = [stack.enter_context(open(path, "rb")) for path in paths]
        yield from merged(map(read_counts, files))


def write_counts(counts: Iterable[tuple[str, int]], file: IO[bytes]) -> None:
    """A line for each word, which holds no white space."""
    file.writelines(f"{word}\t{count}\n".encode() for word, count in counts)


def read_counts(file: Iterable[bytes]) -> Iterator[tuple[str, int]]:
    """What `write_counts` has written."""
    for line in file:
        word, _, count = line.decode().rpartition("\t")
        yield word, int(count)


def _on_disk(counts: Iterable[tuple[str, int]]) -> IO[bytes]:
    file = tempfile.TemporaryFile()  # noqa: SIM115
    write_counts(counts, file)
    file.seek(0)
    return file
