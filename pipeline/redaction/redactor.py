"""What is to be redacted, found in texts and replaced by placeholders, in the TensorFlow graph.

Candidates of all kinds are found together by RE2, each is then settled as a whole, by its shape and its checksum: what
is no card after all is left as it is, and not taken in part for something else. Core string operations only.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import tensorflow as tf

from pipeline.fences import FENCE, cut, replaced_with_places
from pipeline.redaction import wide
from pipeline.redaction.checksums import CHECKSUMS
from pipeline.redaction.kinds import KINDS, NO_CONTEXT, WIDE, Redaction

NONE = -1
# Valid UTF-8 without the character of the fences.
_CLEAN = r"[^\x{D800}-\x{DFFF}\x{BFFFF}]*"
# Another noncharacter, of as many bytes.
_NO_FENCE = "\U0003ffff"


class Found(NamedTuple):
    """What was found in some texts, in their order: int64 [n], int32 [n] and string [n]."""

    row: tf.Tensor
    """Which of the texts it is in."""
    kind: tf.Tensor
    """Number of its name among Redaction.names."""
    text: tf.Tensor


class Redactor:
    """Replaces what a Redaction says by its placeholders.

    The outcome, redacted again, stays as it is, unless a pattern of one's own asks for what stood beside. Bytes that
    are not UTF-8 are dropped, for behind them a number would not be seen; a noncharacter U+BFFFF becomes U+3FFFF.

    Args:
        redaction: of at least one kind or pattern.
    """

    def __init__(self, redaction: Redaction) -> None:
        self.redaction = redaction
        self._own = [
            _Pass(redaction, "", pattern, lambda texts, number=number: _all(texts, number))
            for number, (_, pattern) in enumerate(redaction.patterns)
        ]
        self._wide, self._narrow = _searches(redaction)
        # A word may have had a part taken of a number that was left whole before: the rest is looked at once more.
        self._passes = [*self._own, *self._wide, *self._narrow, *self._wide, *self._narrow]
        self._search, self._search_again, self._search_wide = map(_apart, (self._closely, self._once, self._in_wide))

    def __call__(self, strings) -> tf.Tensor:
        """Redacted texts.

        Args:
            strings: string [batch], any bytes.
        """
        strings = tf.convert_to_tensor(strings, tf.string)
        return _changed(strings, self._concerned(strings), self._search)

    def _concerned(self, strings: tf.Tensor) -> tf.Tensor:
        """Most texts, and most batches of short ones, hold nothing that is worth a closer look: bool [batch]."""
        concerned = ~tf.strings.regex_full_match(strings, _CLEAN)
        for sign in self.redaction.signs:
            concerned |= _has(strings, sign)
        return concerned

    def _closely(self, strings: tf.Tensor) -> tf.Tensor:
        strings = _redacted(self._own, _clean(strings))
        found = self._once(strings)
        return _changed(found, (found != strings) & _has(found, self.redaction.unsettling), self._search_again)

    def _once(self, strings: tf.Tensor) -> tf.Tensor:
        strings = _changed(strings, _has(strings, f"[{wide.DIGITS}]"), self._search_wide)
        return _redacted(self._narrow, strings)

    def _in_wide(self, strings: tf.Tensor) -> tf.Tensor:
        return _redacted(self._wide, strings)

    def with_places(self, strings: tf.Tensor, places: tf.RaggedTensor) -> tuple[tf.Tensor, tf.RaggedTensor]:
        """Redacted texts and their places (see alignment.py).

        Args:
            strings: string [batch], valid UTF-8.
            places: of them.
        """
        strings = tf.strings.regex_replace(strings, FENCE, _NO_FENCE)
        for each in self._passes:
            strings, places = each.redacted_with_places(strings, places)
        return strings, places

    def found(self, strings) -> Found:
        """What is replaced.

        Args:
            strings: string [batch], any bytes.
        """
        strings = tf.convert_to_tensor(strings, tf.string)
        rows, parts = tf.where(self._concerned(strings))[:, 0], []
        strings = _clean(tf.gather(strings, rows))
        for each in self._passes:
            parts.append(each.found(strings))
            strings = each.redacted(strings)
        row, kind, text = (tf.concat(values, axis=0) for values in zip(*parts, strict=True))
        return Found(tf.gather(rows, row), kind, text)


class _Pass:
    """One search of all texts, and what it finds settled.

    Args:
        redaction: what is redacted, whose placeholders stay as they are.
        before: RE2 of what must stand before a candidate, and is left; "": anything.
        pattern: RE2 of candidates.
        kinds: candidates, string [n], to the numbers of their kinds, int32 [n], or NONE.
    """

    def __init__(self, redaction: Redaction, before: str, pattern: str, kinds: Callable[[tf.Tensor], tf.Tensor]):
        self._kinds = kinds
        self._settled = redaction.settled
        self._placeholders = redaction.placeholders
        if before:
            # What precedes a candidate has no group of its own.
            self._pattern, self._rewrite = f"({before})({pattern})", rf"\1{FENCE}\2{FENCE}"
        else:
            self._pattern, self._rewrite = f"{self._settled}|(?:{pattern})", rf"{FENCE}\0{FENCE}"

    def redacted(self, strings: tf.Tensor) -> tf.Tensor:
        fenced = self._fenced(strings)
        return _changed(fenced, fenced != strings, self._settled_parts)

    def _settled_parts(self, fenced: tf.Tensor) -> tf.Tensor:
        segments, accepted, stand_ins, _ = self._parts(fenced)
        values = segments.with_values(tf.where(accepted, stand_ins, segments.flat_values))
        return tf.strings.reduce_join(values, axis=1)

    def redacted_with_places(self, strings: tf.Tensor, places: tf.RaggedTensor) -> tuple[tf.Tensor, tf.RaggedTensor]:
        fenced = self._fenced(strings)
        _, accepted, stand_ins, _ = self._parts(fenced)
        return replaced_with_places(fenced, accepted, stand_ins, places)

    def found(self, strings: tf.Tensor) -> Found:
        segments, accepted, _, kinds = self._parts(self._fenced(strings))
        return Found(*(tf.boolean_mask(v, accepted) for v in (segments.value_rowids(), kinds, segments.flat_values)))

    def _fenced(self, strings: tf.Tensor) -> tf.Tensor:
        return tf.strings.regex_replace(strings, self._pattern, self._rewrite)

    def _parts(self, fenced: tf.Tensor) -> tuple[tf.RaggedTensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        """Segments, string [batch, segments], and of all in a row whether it is replaced, bool [n], by what, string
        [n], and its kind, int32 [n]."""
        segments, position = cut(fenced)
        flat = segments.flat_values
        odd = tf.where(position % 2 == 1)
        candidates = tf.gather_nd(flat, odd)
        kinds = self._kinds(candidates)
        untouched = (candidates == "") | tf.strings.regex_full_match(candidates, self._settled)
        kinds = tf.where(untouched, NONE, kinds)
        kinds = tf.tensor_scatter_nd_update(tf.fill(tf.shape(flat), NONE), odd, kinds)
        accepted = kinds != NONE
        return segments, accepted, tf.gather(tf.constant(self._placeholders), tf.maximum(kinds, 0)), kinds


def _searches(redaction: Redaction) -> tuple[list[_Pass], list[_Pass]]:
    """For all kinds: what is looked for in texts with full-width digits, and then in all."""
    if not redaction.kinds:
        return [], []
    kinds = [(redaction.names.index(name), KINDS[name]) for name in redaction.kinds]
    kinds_of = _apart(partial(_kinds_of, numbers={name: redaction.names.index(name) for name in redaction.kinds}))
    wides = [_Pass(redaction, "", pattern, lambda texts: kinds_of(_narrow(texts))) for pattern in wide.RUNS]
    whole = (*(kind.longer for _, kind in kinds if kind.longer), redaction.candidates)
    narrow = [_Pass(redaction, "", pattern, kinds_of) for pattern in whole]
    for number, kind in kinds:
        if kind.context:
            by_context = partial(_by_context, number=number)
            wides.append(_Pass(redaction, *wide.in_wide(kind.context), lambda texts, by=by_context: by(_narrow(texts))))
            narrow.append(_Pass(redaction, *kind.context, by_context))
    return wides, narrow


def _redacted(passes: list[_Pass], strings: tf.Tensor) -> tf.Tensor:
    for each in passes:
        strings = each.redacted(strings)
    return strings


def _apart(function: Callable[[tf.Tensor], tf.Tensor]) -> Callable[[tf.Tensor], tf.Tensor]:
    """The same, of string [n], as a function of its own in the graph, which is not merged into the caller's: where it
    is seldom called, to pass over its operations one by one would cost more than all the others."""
    signature = [tf.TensorSpec([None], tf.string)]
    # TensorFlow counts the traces of all redactors' methods together, and warns; not those of partials.
    return tf.function(partial(function), signature, autograph=False, experimental_attributes={"_noinline": True})


def _changed(strings: tf.Tensor, which: tf.Tensor, change: Callable[[tf.Tensor], tf.Tensor]) -> tf.Tensor:
    """Texts, string [batch], of which those that bool [batch] says are changed, and no others looked at."""
    rows = tf.where(which)

    def changed() -> tf.Tensor:
        return tf.tensor_scatter_nd_update(strings, rows, change(tf.gather_nd(strings, rows)))

    return tf.cond(tf.size(rows) > 0, changed, lambda: strings)


def _has(strings: tf.Tensor, pattern: str) -> tf.Tensor:
    """Whether RE2 matches anywhere in texts of any bytes: bool [batch]."""
    return tf.strings.regex_full_match(strings, rf"\C*(?:{pattern})\C*")


def _clean(strings: tf.Tensor) -> tf.Tensor:
    """Valid UTF-8 without fences."""
    return _changed(strings, ~tf.strings.regex_full_match(strings, _CLEAN), _cleaned)


def _cleaned(strings: tf.Tensor) -> tf.Tensor:
    texts = tf.strings.unicode_transcode(strings, "UTF-8", "UTF-8", errors="ignore", replace_control_characters=False)
    return tf.strings.regex_replace(texts, FENCE, _NO_FENCE)


def _narrow(candidates: tf.Tensor) -> tf.Tensor:
    """With ASCII in place of its full-width forms and of other spaces and hyphens."""
    code = tf.strings.unicode_decode(candidates, "UTF-8")
    values = code.flat_values
    values = tf.where((values >= 0xFF01) & (values <= 0xFF5E), values - 0xFEE0, values)
    spaces = (values >= 0x2000) & (values <= 0x200A)
    for other in (0xA0, 0x202F, 0x3000):
        spaces |= values == other
    values = tf.where(spaces, ord(" "), values)
    hyphens = (values >= 0x2010) & (values <= 0x2015)
    for other in (0x2212, 0x30FC, 0xFF70):
        hyphens |= values == other
    values = tf.where(hyphens, ord("-"), values)
    return tf.strings.unicode_encode(code.with_values(values), "UTF-8")


def _kinds_of(candidates: tf.Tensor, numbers: Mapping[str, int]) -> tf.Tensor:
    """Of each candidate the number of the first kind that it is of, int32 [n]; NONE of one that has none."""
    compact = tf.strings.upper(tf.strings.regex_replace(candidates, "[^0-9A-Za-z]+", ""))
    found = tf.fill(tf.shape(candidates), NONE)
    # What is of a kind that nobody asked for is of no other.
    for name in reversed([name for name in KINDS if name in numbers or name not in WIDE]):
        kind = KINDS[name]
        of_kind = tf.strings.regex_full_match(candidates, "|".join(kind.shapes))
        if kind.digits:
            of_kind &= tf.strings.regex_full_match(compact, kind.digits)
        if kind.checksum:
            of_kind &= CHECKSUMS[kind.checksum](compact)
        found = tf.where(of_kind, numbers.get(name, NONE), found)
    return found


def _by_context(candidates: tf.Tensor, number: int) -> tf.Tensor:
    return tf.where(tf.strings.regex_full_match(candidates, NO_CONTEXT), NONE, number)


def _all(candidates: tf.Tensor, number: int) -> tf.Tensor:
    return tf.fill(tf.shape(candidates), number)
