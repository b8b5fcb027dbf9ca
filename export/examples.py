"""Texts out of serialized tf.Examples, in the graph, whatever the bytes are.

tf.io.parse_example fails a whole batch for one row that it cannot read, and a server's batches are of several clients.
Here such a row has empty texts instead; what tf.io.parse_example reads is read to the same texts. The format is that
of protocol buffers: Example { features { entry { key, value { bytes_list { text } } } entry ... } }, each of these a
field: a tag, a length, and as many bytes.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

# Features of an Example, with the fields beside them, that are read; one of more is taken for no Example, to save time.
MAX_FIELDS = 100
# Of a tag (there is none so long), of a length, and of both or of a tag and a number.
TAG_BYTES, LENGTH_BYTES, HEAD_BYTES = 4, 5, 14
# Tags of fields 1 and 2 that have a length.
FIRST, SECOND, THIRD = 0x0A, 0x12, 0x1A
# Tags of a float and of an integer in field 1, and the bytes that an integer has at most.
FIXED, VARINT, MOST_VARINT = 0x0D, 0x08, 10
# Behind the end of any string: where a field ends that is none.
NOWHERE = 1 << 40


class _Field(NamedTuple):
    """One field of each row, int64 [batch] each, as one that has a length."""

    tag: tf.Tensor
    after_tag: tf.Tensor
    begin: tf.Tensor
    end: tf.Tensor


def cells_of(serialized: tf.Tensor, specs: Sequence[tf.TensorSpec]) -> list[tf.Tensor]:
    """Features of tf.Examples as the inputs of a signature have them.

    Args:
        serialized: string [batch].
        specs: of the inputs, named as the features are: strings, or float32 [batch] and [batch, size].

    Returns:
        A tensor for each. Strings: as `texts_of`. Numbers: NaN where a text would be empty; a number may be a float or
        an int64, a vector has floats alone.
    """
    places, sound = _places(serialized, [spec.name for spec in specs])
    found = []
    for number, spec in enumerate(specs):
        place = serialized, places[:, number, 0], places[:, number, 1], sound
        found.append(_text(*place) if spec.dtype == tf.string else _numbers(*place, spec))
    return found


def texts_of(serialized: tf.Tensor, names: Sequence[str]) -> list[tf.Tensor]:
    """Features of tf.Examples.

    Args:
        serialized: string [batch].
        names: of the features.

    Returns:
        string [batch] for each name. A text is empty where the feature is missing, has numbers in place of bytes, or
        not exactly one value, and where the row is no tf.Example. Of several features of one name the last counts that
        is not empty.
    """
    values, sound = _places(serialized, names)
    return [_text(serialized, values[:, number, 0], values[:, number, 1], sound) for number in range(len(names))]


def _places(serialized: tf.Tensor, names: Sequence[str]) -> tuple[tf.Tensor, tf.Tensor]:
    """Where the Features of these names begin and end, int64 [batch, names, 2]; and which rows are tf.Examples."""
    size = tf.cast(tf.strings.length(serialized), tf.int64)

    def step(at, stop, sound, values):
        """One field of the Example, and one entry of its features, which end at `stop`."""
        field = _field(serialized, at)
        outside, running = at >= stop, sound & (at < size)
        enters = running & outside & (field.tag == FIRST)
        next_field = _after(field)
        sound &= ~(running & outside) | (next_field <= size)
        at = tf.where(enters, field.begin, tf.where(running & outside, next_field, at))
        stop = tf.where(enters, field.end, stop)

        inside = running & sound & (at < stop)
        entry = _field(serialized, at)
        one = _field(serialized, entry.begin)
        other = _field(serialized, one.end)
        swapped = one.tag == SECOND
        key, value = _chosen(swapped, other, one), _chosen(swapped, one, other)
        whole = (entry.tag == FIRST) & (key.tag == FIRST) & (value.tag == SECOND)
        sound &= ~inside | (whole & (entry.end <= stop) & (other.end == entry.end))
        counts = inside & sound & (value.end > value.begin)
        key = _part(serialized, key.begin, key.end)
        named = counts[:, tf.newaxis] & (key[:, tf.newaxis] == tf.constant(list(names)))
        values = tf.where(named[..., tf.newaxis], tf.stack([value.begin, value.end], axis=1)[:, tf.newaxis], values)
        return tf.where(inside, entry.end, at), stop, sound, values

    start = tf.zeros_like(size)
    values = tf.zeros([tf.size(size), len(names), 2], tf.int64)
    at, _, sound, values = tf.while_loop(
        lambda at, stop, sound, values: tf.reduce_any(sound & (at < size)),
        step,
        (start, start, start == 0, values),
        maximum_iterations=MAX_FIELDS,
    )
    return values, sound & (at >= size)


def _text(serialized: tf.Tensor, begin: tf.Tensor, end: tf.Tensor, sound: tf.Tensor) -> tf.Tensor:
    """The only value of each Feature of bytes, else ""."""
    values = _field(serialized, begin)
    value = _field(serialized, values.begin)
    sound &= (values.tag == FIRST) & (values.end <= end) & (value.tag == FIRST) & (value.end == values.end)
    return _part(serialized, value.begin, tf.where(sound, value.end, 0))


def _numbers(
    serialized: tf.Tensor, begin: tf.Tensor, end: tf.Tensor, sound: tf.Tensor, spec: tf.TensorSpec
) -> tf.Tensor:
    """As many floats of each Feature as the spec has, or an int64; else NaN."""
    count = int(spec.shape[1]) if len(spec.shape) == 2 else 1
    values = _field(serialized, begin)
    packed = _field(serialized, values.begin)
    sound &= values.end <= end
    is_packed = (packed.tag == FIRST) & (packed.end == values.end)
    has_floats = sound & (values.tag == SECOND)
    floats = _floats(serialized, packed.begin, 4 * count)
    found = tf.where((has_floats & is_packed & (packed.end - packed.begin == 4 * count))[:, tf.newaxis], floats, np.nan)
    # Not packed, as old writers have it: a tag before each.
    alone = tf.reshape(_bytes(serialized, values.begin, 5 * count), [-1, count, 5])
    is_alone = tf.reduce_all(alone[..., 0] == FIXED, axis=1) & (values.end - values.begin == 5 * count)
    floats = tf.bitcast(alone[..., 1:], tf.float32)
    found = tf.where((has_floats & is_alone)[:, tf.newaxis], floats, found)
    if len(spec.shape) == 2:
        return found
    begins = tf.where(is_packed, packed.begin, values.begin + 1)
    whole = tf.cast(_bytes(serialized, begins, MOST_VARINT), tf.int64)
    own = tf.cumsum(tf.cast(whole < 128, tf.int32), axis=1, exclusive=True) == 0
    bits = tf.bitwise.left_shift(tf.bitwise.bitwise_and(whole, 127), 7 * tf.range(MOST_VARINT, dtype=tf.int64))
    integer = tf.reduce_sum(tf.where(own, bits, 0), axis=1)
    ends = begins + tf.reduce_sum(tf.cast(own, tf.int64), axis=1)
    tagged = is_packed | (_bytes(serialized, values.begin, 1)[:, 0] == VARINT)
    is_integer = sound & (values.tag == THIRD) & tagged & (ends == values.end)
    return tf.where(is_integer, tf.cast(integer, tf.float32), found[:, 0])


def _floats(serialized: tf.Tensor, begin: tf.Tensor, size: int) -> tf.Tensor:
    return tf.bitcast(tf.reshape(_bytes(serialized, begin, size), [-1, size // 4, 4]), tf.float32)


def _bytes(serialized: tf.Tensor, begin: tf.Tensor, size: int) -> tf.Tensor:
    """uint8 [batch, size] from these places on, zeros behind the end."""
    begin = tf.minimum(begin, tf.cast(tf.strings.length(serialized), tf.int64))
    part = tf.strings.substr(serialized, begin, tf.fill(tf.shape(begin), tf.constant(size, tf.int64)))
    return tf.io.decode_raw(part, tf.uint8, fixed_length=size)


def _field(serialized: tf.Tensor, at: tf.Tensor) -> _Field:
    """The fields at these places."""
    at = tf.minimum(at, tf.cast(tf.strings.length(serialized), tf.int64))
    head = tf.strings.substr(serialized, at, tf.fill(tf.shape(at), tf.constant(HEAD_BYTES, tf.int64)))
    head = tf.cast(tf.io.decode_raw(head, tf.uint8, fixed_length=HEAD_BYTES), tf.int64)
    # A number has seven bits in a byte, the lowest first; all its bytes but the last have the eighth bit too.
    number = tf.cumsum(tf.cast(head < 128, tf.int32), axis=1, exclusive=True)[:, tf.newaxis]
    own = number == [[0], [1]]
    weights = tf.constant([128 ** min(place, TAG_BYTES + LENGTH_BYTES - 1) for place in range(HEAD_BYTES)], tf.int64)
    values = tf.where(own, (tf.bitwise.bitwise_and(head, 127) * weights)[:, tf.newaxis], 0)
    tag, length = tf.unstack(tf.reduce_sum(values, axis=2), axis=1)
    tag_bytes, length_bytes = tf.unstack(tf.reduce_sum(tf.cast(own, tf.int64), axis=2), axis=1)
    after_tag = at + tag_bytes
    begin = after_tag + length_bytes
    end = begin + tf.bitwise.right_shift(length, 7 * tag_bytes)
    is_field = (tag_bytes <= TAG_BYTES) & (length_bytes <= LENGTH_BYTES)
    return _Field(tag, after_tag, begin, tf.where(is_field, end, NOWHERE))


def _after(field: _Field) -> tf.Tensor:
    """Where the next field begins. The last three bits of a tag say what follows it: 0 a number, 2 a length, ..."""
    kind = tf.bitwise.bitwise_and(field.tag, 7)
    fixed = tf.gather(tf.constant([0, 8, 0, NOWHERE, NOWHERE, 4, NOWHERE, NOWHERE], tf.int64), kind)
    return tf.where(kind == 2, field.end, tf.where(kind == 0, field.begin, field.after_tag + fixed))


def _chosen(condition: tf.Tensor, yes: _Field, no: _Field) -> _Field:
    return _Field(*(tf.where(condition, a, b) for a, b in zip(yes, no, strict=True)))


def _part(serialized: tf.Tensor, begin: tf.Tensor, end: tf.Tensor) -> tf.Tensor:
    """Bytes of each string; none where the end is not behind the beginning."""
    begin = tf.minimum(begin, tf.cast(tf.strings.length(serialized), tf.int64))
    return tf.strings.substr(serialized, begin, tf.maximum(end - begin, 0))
