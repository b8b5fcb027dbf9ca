"""What labelled rows show before any model has seen them: labels that look alike, equal texts under several labels,
splits smaller than asked for. Each finding is one sentence with its number."""

import unicodedata
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

GROUPS_SHOWN = 5
# A split may differ from what was asked for by rounding, a row or so a label; from here on it is said.
SIZE_TOLERANCE = 0.25


def look_alike_labels(names: Sequence[str], rows: Sequence[int] | np.ndarray) -> list[list[int]]:
    """Groups of labels that a reader takes for one.

    They are equal but for case, Unicode's composition (é in one character or in two), characters that show nothing
    (zero-width spaces, soft hyphens, marks of direction) and the kind and number of spaces.

    Args:
        names: all labels.
        rows: how many rows have each.

    Returns:
        Numbers of the labels of each group, of two labels or more; the labels of most rows first.
    """
    groups = defaultdict(list)
    for number, name in enumerate(names):
        groups[_folded(name)].append(number)
    found = [sorted(group, key=lambda number: -rows[number]) for group in groups.values() if len(group) > 1]
    return sorted(found, key=lambda group: -sum(rows[number] for number in group))


def look_alike_warning(groups: Sequence[Sequence[int]], names: Sequence[str], rows: Sequence[int] | np.ndarray) -> str:
    """One sentence that names the `groups` of `look_alike_labels` with the rows of each label."""
    shown = []
    for group in groups[:GROUPS_SHOWN]:
        # Where two would print the same, the characters are named.
        same = len({_visible(names[number]) for number in group}) < len(group)
        labels = [f"{(ascii if same else repr)(names[number])} ({_count(rows[number], 'row')})" for number in group]
        shown.append(" and ".join(labels))
    more = f"; and {len(groups) - GROUPS_SHOWN} more such groups" if len(groups) > GROUPS_SHOWN else ""
    total = sum(map(len, groups))
    return (
        f"{total} labels look like another and are learned as different ones: {'; '.join(shown)}{more}; "
        "if they mean the same, spell them in one way."
    )


def label_set_keys(counts: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """uint64 [n], equal for rows of equal labels.

    Args:
        counts: int [n], how many labels each row has.
        classes: int, the classes of all rows, one after the other.
    """
    ends = np.cumsum(counts)
    # A sum of hashes does not ask for the order; differences of the running sum wrap around and stay right.
    with np.errstate(over="ignore"):
        values = (classes.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        sums = np.concatenate([[np.uint64(0)], np.cumsum(values ^ (values >> np.uint64(27)), dtype=np.uint64)])
        return sums[ends] - sums[ends - counts]


def conflicting_rows(hashes: np.ndarray, answers: np.ndarray) -> tuple[int, np.ndarray, tuple[int, int] | None]:
    """Rows of equal text and different answers.

    Args:
        hashes: uint64 [n], equal for equal texts.
        answers: [n] of any integers, equal for equal labels (`label_set_keys`).

    Returns:
        Number of different texts with more than one answer; bool [n], the rows of these texts; two such rows of one
        text, the first of the source and the first that contradicts it, None where there are none.
    """
    order = np.lexsort((answers, hashes))
    sorted_hashes, sorted_answers = hashes[order], answers[order]
    contradicts = (sorted_hashes[1:] == sorted_hashes[:-1]) & (sorted_answers[1:] != sorted_answers[:-1])
    texts = np.unique(sorted_hashes[1:][contradicts])
    rows = np.isin(hashes, texts)
    if not len(texts):
        return 0, rows, None
    first = int(np.argmax(rows))
    other = int(np.argmax((hashes == hashes[first]) & (answers != answers[first])))
    return len(texts), rows, (first, other)


def conflict_warning(name: str, texts: int, rows: int, total: int, examples: Sequence[tuple[str, str]]) -> str:
    """The sentence on `conflicting_rows`.

    Args:
        name: of the source, "train" for example.
        texts, rows: different texts with more than one answer, and the rows that have one of them.
        total: all rows of the source.
        examples: (place, answer) of two rows of one text.
    """
    (place, answer), (other_place, other) = examples
    are, they = ("stands", "it") if texts == 1 else ("stand", "they")
    return (
        f"{_count(texts, 'text')} of the {name} source {are} under more than one label, in {rows} of {total} rows "
        f"({rows / total:.1%}): {place} says {answer}, {other_place} says {other}; no model can answer {they} right "
        "each time."
    )


def size_warnings(name: str, asked: float, got: int, rows: int, texts: int, reason: str | None = None) -> list[str]:
    """A sentence where much less or more was split off than was asked for; none where it is about right.

    Args:
        name: of the split, "test" for example.
        asked: rows that its fraction asks for.
        got: rows that were split off.
        rows, texts: of the source, and how many different texts these are.
        reason: what else than texts and labels keeps rows together.
    """
    if abs(got - asked) <= SIZE_TOLERANCE * asked + 1:
        return []
    if reason is None:
        reason = "each label keeps a text to train on"
        if texts < rows:
            reason = f"the {rows} rows hold {texts} different texts, equal ones stay on one side, and {reason}"
    return [
        f"data.{name}_fraction asks for {asked:.0f} {name} rows, and {got} could be split off: {reason}; "
        f"name a data.{name} source for a score that means more."
    ]


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", _visible(name).casefold())


def _visible(name: str) -> str:
    """What of a name is seen: composed characters, without those that show nothing, and one kind of space."""
    kept = (c for c in name if unicodedata.category(c) != "Cf" and c not in "\ufe0e\ufe0f")
    return unicodedata.normalize("NFC", " ".join("".join(kept).split()))


def _count(number: int, unit: str) -> str:
    return f"{number} {unit}" + ("" if number == 1 else "s")
