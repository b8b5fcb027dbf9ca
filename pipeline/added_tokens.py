"""Added tokens found in text, in the TensorFlow graph: each becomes one character, alone between spaces.

The characters that stand for tokens are of planes where Unicode has assigned none. The vocabulary of the wordpiece op
has them as pieces; where a text brings one of its own, it is replaced before.
"""

from collections.abc import Callable, Mapping, Sequence, Set
from itertools import pairwise, takewhile

import numpy as np
import tensorflow as tf

from pipeline.errors import UserError
from pipeline.fences import FENCE, cut, replaced_with_places
from pipeline.normalizer import word_ranges
from pipeline.tokenizer_rules import SPECIAL_TOKENS, TokenizerRules

_FIRST = 0xC0000
# RE2 ranges of the fence and of all that may stand for tokens.
RESERVED = r"\x{BFFFF}-\x{DFFFF}"
MOST = 0x20000
# RE2 compiles no more than about 600,000 bytes of tokens into one pattern, those that neighbours share counted once.
_MOST_BYTES = 500_000
# With more of them it is no longer fast: its automaton outgrows the memory that it may take.
_GROUP_BYTES = 8_000
# What may not touch a token that is never split.
_NOT_SPACE = r"^\s\x0B\p{Z}"


def stand_in(number: int) -> str:
    """The character for the token with a number, from 0 to MOST - 1."""
    return chr(_FIRST + number)


def characters_for(rules: TokenizerRules, vocabulary: Set[str], source: str) -> dict[str, str]:
    """Each token that is looked for in text, and the character that stands for it.

    Args:
        rules: the tokenizer's; special tokens among its added ones stay text.
        vocabulary: its tokens.
        source: where it is from, for messages.

    Raises:
        UserError: an added token that the vocabulary lacks, or too many.
    """
    listed = [*(token.content for token in rules.added_tokens), *rules.never_split]
    tokens = dict.fromkeys(token for token in listed if token not in SPECIAL_TOKENS)
    missing = [token for token in tokens if token not in vocabulary]
    if missing:
        raise UserError(f"{source} lacks the added token {missing[0]!r}: each needs an id.")
    if len(tokens) > MOST:
        raise UserError(f"{source} has {len(tokens)} added tokens: {MOST} at most are supported.")
    return {token: stand_in(number) for number, token in enumerate(tokens)}


def finders(
    rules: TokenizerRules, characters: Mapping[str, str], normalize: Callable[[tf.Tensor], tf.Tensor]
) -> tuple["Finder | None", "Finder | None"]:
    """For tokens in text as it is given, and in normalised text; None: there are none of that kind.

    Args:
        rules: the tokenizer's.
        characters: what `characters_for` gave.
        normalize: string [batch] to string [batch].
    """
    given = {token: _NOT_SPACE for token in rules.never_split if token in characters}
    late: dict[str, str] = {}
    for token in (token for token in rules.added_tokens if token.content in characters):
        # Hugging Face's normalised text has spaces round ideographs that are words.
        apart = word_ranges(not (token.normalized and rules.tokenize_chinese_chars)) if token.single_word else ""
        given.pop(token.content, None)
        (late if token.normalized else given)[token.content] = apart
    with tf.init_scope():
        forms = [form.decode() for form in normalize(tf.constant(list(late), tf.string)).numpy()] if late else []
    normalized: dict[str, str] = {}
    for form, token in zip(forms, late, strict=True):
        if form.strip():
            normalized.setdefault(form, token)
    return (
        Finder({token: characters[token] for token in given}, given) if given else None,
        Finder(
            {form: characters[token] for form, token in normalized.items()},
            {form: late[token] for form, token in normalized.items()},
        )
        if normalized
        else None,
    )


class Finder:
    """Finds tokens as Hugging Face's tokenizers do: from left to right, of two at one place the longer.

    Args:
        tokens: each as it stands in text, and the character for it.
        apart: RE2 ranges of characters that may not touch the token; empty: any may.

    Raises:
        UserError: more than RE2 finds.
    """

    def __init__(self, tokens: Mapping[str, str], apart: Mapping[str, str]) -> None:
        # So sorted, of two at one place the longer is first, and RE2 makes one of the beginnings that neighbours share.
        ordered = sorted(tokens, reverse=True)
        self._any = "|".join(map(_literal, ordered))
        groups = ["|".join(map(_literal, group)) for group in _grouped(ordered)]
        self._reserved_or_any = [rf"(?s).*(?:{group}|[{RESERVED}]).*" for group in groups]
        # Of what was found, its token: a hash table would have to be initialised where the model is loaded.
        found = list(tokens)
        with tf.init_scope(), tf.device("CPU:0"):
            hashes = _hash(tf.constant(found)).numpy()
            order = np.argsort(hashes)
            if len(np.unique(hashes)) < len(hashes):
                raise ValueError("two added tokens have one hash")
            found = [found[i] for i in order]
            self._hashes = tf.constant(hashes[order])
            self._characters = tf.constant([f" {tokens[token]} " for token in found])
            self._apart = [
                (ranges, tf.constant([apart[token] == ranges for token in found]))
                for ranges in sorted(set(apart.values()) - {""})
            ]

    def found(self, strings: tf.Tensor) -> tf.Tensor:
        """Whether a text may have a token, or has a character that stands for one: bool [batch]."""
        return tf.reduce_any([tf.strings.regex_full_match(strings, group) for group in self._reserved_or_any], axis=0)

    def replaced(self, strings: tf.Tensor) -> tf.Tensor:
        """Valid UTF-8 without reserved characters, with the characters for tokens: string [batch]."""
        segments, accepted, characters = self._segments(self._fenced(strings))
        values = tf.where(accepted, characters, segments.flat_values)
        return tf.strings.reduce_join(segments.with_values(values), axis=1)

    def replaced_with_places(self, strings: tf.Tensor, places: tf.RaggedTensor) -> tuple[tf.Tensor, tf.RaggedTensor]:
        """The same with the places of the outcome (see alignment.py)."""
        fenced = self._fenced(strings)
        _, accepted, stand_ins = self._segments(fenced)
        return replaced_with_places(fenced, accepted, tf.strings.strip(stand_ins), places, around=" ")

    def _fenced(self, strings: tf.Tensor) -> tf.Tensor:
        return tf.strings.regex_replace(strings, self._any, rf"{FENCE}\0{FENCE}")

    def _segments(self, fenced: tf.Tensor) -> tuple[tf.RaggedTensor, tf.Tensor, tf.Tensor]:
        """Texts cut at fences, [batch, segments]; of each segment whether it is a token, and the character for it."""
        segments, position = cut(fenced)
        flat, last = segments.flat_values, tf.size(self._hashes) - 1
        accepted = position % 2 == 1
        number = tf.minimum(tf.searchsorted(self._hashes, _hash(flat)), last)
        if self._apart:
            left = tf.repeat(segments.row_lengths(), segments.row_lengths()) - 1 - position
            before, after = _neighbours(flat, position), _neighbours(flat[::-1], left[::-1])[::-1]
        for ranges, concerned in self._apart:
            touched = tf.strings.regex_full_match(before, rf"(?s).*[{ranges}]")
            touched |= tf.strings.regex_full_match(after, rf"(?s)[{ranges}].*")
            accepted &= ~(touched & tf.gather(concerned, number))
        return segments, accepted, tf.gather(self._characters, number)


def _grouped(ordered: Sequence[str]) -> list[list[str]]:
    """Sorted tokens in groups of at most _GROUP_BYTES, what neighbours begin alike counted once.

    Raises:
        UserError: more than one pattern holds.
    """
    groups: list[list[str]] = []
    size, total = _GROUP_BYTES, 0
    for before, token in pairwise(["", *ordered]):
        alike = takewhile(lambda two: two[0] == two[1], zip(before.encode(), token.encode(), strict=False))
        more = len(token.encode()) - sum(1 for _ in alike)
        size, total = size + more, total + more
        if size > _GROUP_BYTES:
            groups.append([])
            size = len(token.encode())
        groups[-1].append(token)
    if total > _MOST_BYTES:
        raise UserError(
            f"The vocabulary's {len(ordered)} added tokens have {total} bytes, what they begin alike counted once: "
            f"{_MOST_BYTES} at most are supported. Make those that are words plain tokens of vocab.txt."
        )
    return groups


def _neighbours(segments: tf.Tensor, position: tf.Tensor) -> tf.Tensor:
    """Of each segment the one before it, or the one before that where it is empty; position is that in its row."""
    one, two = (tf.concat([[""] * n, segments[:-n]], axis=0)[: tf.size(segments)] for n in (1, 2))
    return tf.where((one == "") & (position > 1), two, one)


def _hash(strings: tf.Tensor) -> tf.Tensor:
    return tf.strings.to_hash_bucket_fast(strings, 1 << 62)


def _literal(text: str) -> str:
    return "".join(c if c.isalnum() else rf"\x{{{ord(c):X}}}" for c in text)
