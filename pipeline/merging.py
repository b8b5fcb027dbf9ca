"""Byte-pair merging: the two neighbouring tokens that are met most become one token, again and again."""

import heapq
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

from pipeline.errors import UserError

WITHIN = "##"
"""Begins a token that does not begin a word."""
# Each token stands as one character.
MOST_TOKENS = 0x110000

Places = dict[str, list[int]]
"""Numbers of the words that hold something, each as often as the word holds it."""


def merge_pairs(
    words: Iterable[tuple[str, int]], tokens: Sequence[str], size: int, min_count: int, longest: int
) -> list[str]:
    """The given tokens, then merged ones in the order in which they came, up to the size.

    The merges are those of Hugging Face's BpeTrainer, ties included (the pair whose tokens came first), which takes no
    counts, only all the text.

    Args:
        words: with how often each is met; their characters, with WITHIN before all but the first, are tokens.
        tokens: to begin with.
        size: of the vocabulary; fewer tokens where no more pairs are met often enough.
        min_count: how often a pair must be met.
        longest: characters of two tokens that are not merged any more.

    Raises:
        UserError: a size beyond MOST_TOKENS.
    """
    if size > MOST_TOKENS:
        raise UserError(f"size is {size}: a vocabulary has at most {MOST_TOKENS} tokens.")
    tokens = list(tokens)
    numbers = {token: number for number, token in enumerate(tokens)}
    text = _Text(words, numbers, longest)
    queue = list(text.waiting(text.pairs()))
    heapq.heapify(queue)
    while queue and len(tokens) < size:
        known, pair, places = queue[0]
        count = text.counts[pair]
        if count != -known:  # since it was queued, merges took some of its places
            heapq.heapreplace(queue, (-count, pair, places))
            continue
        if count < max(min_count, 1):
            break
        heapq.heappop(queue)
        token = tokens[ord(pair[0])] + tokens[ord(pair[1])].removeprefix(WITHIN)
        if token not in numbers:  # several pairs may make the same one
            numbers[token] = len(tokens)
            tokens.append(token)
        for entry in text.waiting(text.merge(pair, chr(numbers[token]), places)):
            heapq.heappush(queue, entry)
    return tokens


class _Text:
    """Words in tokens. A token is a character and a pair a string of two: to find it in a word and to replace it is one
    call each, and a word takes two bytes a token.

    Attributes:
        counts: how often each pair is met. That of a pair that was merged stays.
    """

    def __init__(self, words: Iterable[tuple[str, int]], numbers: dict[str, int], longest: int):
        heads = {ord(token): chr(number) for token, number in numbers.items() if len(token) == 1}
        within = {ord(token[-1]): chr(n) for token, n in numbers.items() if len(token) == 3 and token[:2] == WITHIN}
        self._words, self._word_counts = [], []
        for word, count in words:
            self._words.append(heads[ord(word[0])] + word[1:].translate(within))
            self._word_counts.append(count)
        self._lengths = {chr(number): len(token.removeprefix(WITHIN)) for token, number in numbers.items()}
        self._longest = longest
        self.counts: defaultdict[str, int] = defaultdict(int)

    def pairs(self) -> Places:
        """All pairs, counted."""
        found: Places = defaultdict(list)
        for place, word in enumerate(self._words):
            for pair in map("".join, pairwise(word)):
                found[pair].append(place)
        for pair, places in found.items():
            self.counts[pair] = self._times(places)
        return found

    def waiting(self, found: Places) -> Iterator[tuple[int, str, list[int]]]:
        """Entries of a queue whose first is the next pair to merge."""
        return ((-self.counts[pair], pair, places) for pair, places in found.items() if self.counts[pair] > 0)

    def merge(self, pair: str, new: str, places: list[int]) -> Places:
        """Put one token in place of two, and count the pairs that fall away and those that form, which are returned."""
        first, second = pair
        before: Places = defaultdict(list)
        after: Places = defaultdict(list)
        between: list[int] = []
        for place in places:
            parts = self._words[place].split(pair)
            if len(parts) == 1:  # another merge was there first
                continue
            self._words[place] = new.join(parts)
            for left, right in pairwise(parts):
                if left:
                    before[left[-1]].append(place)
                if right:
                    after[right[0]].append(place)
            between += [place] * parts[1:-1].count("")

        length = self._lengths[new] = self._lengths[first] + self._lengths[second]
        formed: Places = {}
        changes = [(left + first, left + new, places, left) for left, places in before.items()]
        changes += [(second + right, new + right, places, right) for right, places in after.items()]
        if between:
            changes.append((second + first, new + new, between, new))
        for old, pair, places, neighbour in changes:
            times = self._times(places)
            self.counts[old] -= times
            if length + self._lengths[neighbour] < self._longest:
                self.counts[pair] += times
                formed[pair] = formed.get(pair, []) + places
        return formed

    def _times(self, places: list[int]) -> int:
        return sum(map(self._word_counts.__getitem__, places))
