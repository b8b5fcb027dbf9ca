"""Columns beside the text as numbers, in the graph: the same in training and serving, whatever is sent.

Core operations alone, without tables that have a state. Nothing that a client sends makes a value that is not finite:
what is no number, no date or no vector is a missing one, and no value is further than FURTHEST deviations from the
mean.
"""

import math

import numpy as np
import tensorflow as tf

from pipeline.features.columns import Category, Column, Date, Number, Vector

FURTHEST = 10.0
BUCKETS = 1 << 62
# As Python's datetime reads it, and what else may stand behind the day is cut off.
_DATE = r"^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])([T ].*)?$"
_TIME = r"^[0-9-]{10}[T ]([01][0-9]|2[0-3]):[0-5][0-9].*$"


def spec_of(column: Column, name: str) -> tf.TensorSpec:
    """What a signature takes of a column; missing: NaN, or "".

    Numbers are float32 [batch], vectors float32 [batch, size], of which one NaN makes all missing; categories and dates
    string [batch].
    """
    if isinstance(column, Vector):
        return tf.TensorSpec([None, column.size], tf.float32, name)
    return tf.TensorSpec([None], tf.float32 if isinstance(column, Number) else tf.string, name)


def value_of(column: Column, cells: tf.Tensor) -> tf.Tensor:
    """Cells as a signature takes them, of cells as they are kept (string [batch]), or of what it takes already."""
    if cells.dtype != tf.string:
        return tf.cast(cells, tf.float32)
    if isinstance(column, Number):
        return tf.strings.to_number(_or_nan(cells))
    if isinstance(column, Vector):
        # A missing one has as many NaN as others have numbers.
        cells = tf.where(cells == "", " ".join(["nan"] * column.size), cells)
        return tf.reshape(tf.strings.to_number(tf.strings.split(cells).flat_values), [-1, column.size])
    return tf.strings.strip(cells)


def numbers_of(column: Column, values: tf.Tensor) -> tf.Tensor:
    """float32 [batch, column.width], of what `value_of` gives."""
    if isinstance(column, Number):
        missing = ~tf.math.is_finite(values)
        size = tf.where(missing, 0.0, values)
        found = [(tf.sign(size) * tf.math.log1p(tf.abs(size)) - column.mean) / column.scale]
    elif isinstance(column, Category):
        return _one_hot(column, values)
    elif isinstance(column, Vector):
        missing = ~tf.reduce_all(tf.math.is_finite(values), axis=1)
        centred = (values - tf.constant(column.means, tf.float32)) / column.scale
        found = tf.unstack(tf.transpose(centred), num=column.size)
    else:
        missing = ~tf.strings.regex_full_match(values, _DATE)
        found = _of_date(column, tf.where(missing, "1970-01-01", values))
    found = [tf.clip_by_value(tf.where(missing, 0.0, one), -FURTHEST, FURTHEST) for one in found]
    if column.missing:
        found.append(tf.cast(missing, tf.float32))
    return tf.stack(found, axis=1)


def words_of(column: Column, values: tf.Tensor) -> tf.Tensor:
    """string [batch], "name: value, " of what `value_of` gives; "" where it is missing."""
    if isinstance(column, Number):
        missing, shown = ~tf.math.is_finite(values), tf.strings.as_string(values, shortest=True)
    else:
        missing, shown = values == "", values
    return tf.where(missing, "", tf.strings.join([f"{column.name}: ", shown, ", "]))


def _or_nan(cells: tf.Tensor) -> tf.Tensor:
    return tf.where(cells == "", "nan", cells)


def _one_hot(column: Category, values: tf.Tensor) -> tf.Tensor:
    """By fingerprints of the names, which are searched for in order: a model has no table that a server must fill."""
    missing, count = values == "", len(column.names)
    rare, none = (count if column.rare else -1), count + column.rare
    chosen = tf.fill(tf.shape(values), tf.constant(rare, tf.int32))
    if count:
        with tf.init_scope():
            known = tf.strings.to_hash_bucket_fast(list(column.names), BUCKETS).numpy()
        order = np.argsort(known)
        prints = tf.strings.to_hash_bucket_fast(values, BUCKETS)
        place = tf.minimum(tf.searchsorted(tf.constant(known[order]), prints), count - 1)
        is_known = tf.gather(tf.constant(known[order]), place) == prints
        chosen = tf.where(is_known, tf.gather(tf.constant(order, tf.int32), place), chosen)
    if column.missing:
        chosen = tf.where(missing, none, chosen)
    # -1, of what no training row had, is no one's place.
    return tf.one_hot(chosen, column.width)


def _of_date(column: Date, values: tf.Tensor) -> list[tf.Tensor]:
    """Day and place in the year, the week and the day of dates that are written right."""

    def part(begin: int, size: int) -> tf.Tensor:
        return tf.strings.to_number(tf.strings.substr(values, begin, size), tf.int32)

    def circle(place: tf.Tensor, size: float) -> list[tf.Tensor]:
        angle = tf.cast(place, tf.float32) * (2 * math.pi / size)
        return [tf.sin(angle), tf.cos(angle)]

    year, month, day = part(0, 4), part(5, 2), part(8, 2)
    # Days since 1970 by Howard Hinnant's algorithm ("chrono-Compatible Low-Level Date Algorithms"): years begin in
    # March, so that the day that some years have more is their last.
    begun = year - tf.cast(month <= 2, tf.int32)
    since = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    days = 365 * begun + begun // 4 - begun // 100 + begun // 400 + since - 719468
    found = [(tf.cast(days, tf.float32) - column.mean) / column.scale]
    found += circle(since, 365.25) + circle((days + 3) % 7, 7)
    if column.clock:
        timed = tf.strings.regex_full_match(values, _TIME)
        clock = tf.strings.substr(tf.where(timed, values, "1970-01-01T00:00"), 11, 5)
        minutes = 60 * tf.strings.to_number(tf.strings.substr(clock, 0, 2), tf.int32)
        found += circle(minutes + tf.strings.to_number(tf.strings.substr(clock, 3, 2), tf.int32), 24 * 60)
    return found
