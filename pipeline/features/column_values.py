"""Columns beside the text as numbers, in the graph: the same in training and serving, whatever is sent.

Core operations alone, without tables that have a state. Nothing that a client sends makes a value that is not finite:
what is no number, no date or no vector is a missing one, and no value is further than FURTHEST deviations from the
mean.
"""

import math
from collections.abc import Sequence
from itertools import groupby

import numpy as np
import tensorflow as tf

from pipeline.features.columns import DATE_PATTERN, Category, Column, Date, Number, Vector

FURTHEST = 10.0
# Of a column's names; the fingerprints of 8,000 columns are numbers of one table.
BUCKETS = 1 << 50
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


def all_numbers(columns: Sequence[Column], values: Sequence[tf.Tensor]) -> tf.Tensor:
    """float32 [batch, width], of several columns one after the other.

    Numbers and categories that follow each other are computed together: of a small request each operation costs as much
    as its numbers.
    """
    found = []
    for kind, group in groupby(zip(columns, values, strict=True), lambda pair: type(pair[0])):
        own, given = zip(*group, strict=True)
        if kind is Number:
            found.append(_of_numbers(own, tf.stack(given, axis=1)))
        elif kind is Category:
            found += _one_hots(own, tf.stack(given, axis=1))
        else:
            found += [_beside_missing(*pair) for pair in zip(own, given, strict=True)]
    return tf.concat(found, axis=1)


def _of_numbers(columns: Sequence[Number], values: tf.Tensor) -> tf.Tensor:
    """float32 [batch, width], of float32 [batch, columns]."""
    means = tf.constant([column.mean for column in columns], tf.float32)
    scales = tf.constant([column.scale for column in columns], tf.float32)
    missing = ~tf.math.is_finite(values)
    size = tf.where(missing, 0.0, values)
    found = tf.where(missing, 0.0, (tf.sign(size) * tf.math.log1p(tf.abs(size)) - means) / scales)
    found = tf.clip_by_value(found, -FURTHEST, FURTHEST)
    # Behind the number of each column, whether it is missing, where the model reads that.
    count = len(columns)
    order = [place for i, column in enumerate(columns) for place in (i, count + i)[: column.width]]
    return tf.gather(tf.concat([found, tf.cast(missing, tf.float32)], axis=1), order, axis=1)


def _beside_missing(column: Date | Vector, values: tf.Tensor) -> tf.Tensor:
    """float32 [batch, column.width]: its numbers, and whether they are missing, where the model reads that."""
    if isinstance(column, Vector):
        missing = ~tf.reduce_all(tf.math.is_finite(values), axis=1)
        found = (values - tf.constant(column.means, tf.float32)) / column.scale
    else:
        missing = ~tf.strings.regex_full_match(values, f"^{DATE_PATTERN}$")
        found = _of_date(column, tf.where(missing, "1970-01-01", values))
    missing = missing[:, tf.newaxis]
    found = tf.clip_by_value(tf.where(missing, 0.0, found), -FURTHEST, FURTHEST)
    return tf.concat([found, tf.cast(missing, tf.float32)], axis=1) if column.missing else found


def words_of(column: Column, values: tf.Tensor) -> tf.Tensor:
    """string [batch], "name: value, " of what `value_of` gives; "" where it is missing."""
    if isinstance(column, Number):
        missing, shown = ~tf.math.is_finite(values), tf.strings.as_string(values, shortest=True)
    else:
        missing, shown = values == "", values
    return tf.where(missing, "", tf.strings.join([f"{column.name}: ", shown, ", "]))


def _or_nan(cells: tf.Tensor) -> tf.Tensor:
    return tf.where(cells == "", "nan", cells)


def _one_hots(columns: Sequence[Category], values: tf.Tensor) -> list[tf.Tensor]:
    """float32 [batch, width] of each column, of string [batch, columns].

    By fingerprints of the names, which are searched for in order: a model has no table that a server must fill. One
    list has those of all columns, one column after the other.
    """
    names = [name for column in columns for name in column.names]
    firsts = np.arange(len(columns)) * BUCKETS
    places = [place for column in columns for place in range(len(column.names))]
    # -1, of what no training row had, is no one's place.
    rare = [len(column.names) if column.rare else -1 for column in columns]
    none = [len(column.names) + column.rare if column.missing else rare[i] for i, column in enumerate(columns)]
    chosen = tf.where(values == "", none, rare)
    if names:
        with tf.init_scope():
            known = tf.strings.to_hash_bucket_fast(names, BUCKETS).numpy()
        known += np.repeat(firsts, [len(column.names) for column in columns])
        order = np.argsort(known)
        prints = tf.strings.to_hash_bucket_fast(values, BUCKETS) + firsts
        found = tf.searchsorted(tf.constant(known[order]), tf.reshape(prints, [-1]))
        place = tf.reshape(tf.minimum(found, len(names) - 1), tf.shape(prints))
        is_known = tf.gather(tf.constant(known[order]), place) == prints
        chosen = tf.where(is_known, tf.gather(tf.constant(np.array(places)[order], tf.int32), place), chosen)
    return [tf.one_hot(own, c.width) for c, own in zip(columns, tf.unstack(chosen, len(columns), axis=1), strict=True)]


def _of_date(column: Date, values: tf.Tensor) -> tf.Tensor:
    """Day and place in the year, the week and the day, float32 [batch, 5 or 7], of dates that are written right."""

    def parts(values: tf.Tensor, begins: list[int], sizes: list[int]) -> list[tf.Tensor]:
        found = tf.strings.substr(values[:, tf.newaxis], [begins], [sizes])
        return tf.unstack(tf.strings.to_number(found, tf.int32), len(begins), axis=1)

    year, month, day = parts(values, [0, 5, 8], [4, 2, 2])
    # Days since 1970 by Howard Hinnant's algorithm ("chrono-Compatible Low-Level Date Algorithms"): years begin in
    # March, so that the day that some years have more is their last.
    begun = year - tf.cast(month <= 2, tf.int32)
    since = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    days = 365 * begun + begun // 4 - begun // 100 + begun // 400 + since - 719468
    circles = [(since, 365.25), ((days + 3) % 7, 7.0)]
    if column.clock:
        timed = tf.strings.regex_full_match(values, _TIME)
        hour, minute = parts(tf.where(timed, values, "1970-01-01T00:00"), [11, 14], [2, 2])
        circles.append((60 * hour + minute, 24 * 60.0))
    angles = tf.cast(tf.stack([place for place, _ in circles], axis=1), tf.float32)
    angles *= tf.constant([2 * math.pi / size for _, size in circles], tf.float32)
    # The sine and the cosine of one circle, then of the next.
    around = tf.reshape(tf.stack([tf.sin(angles), tf.cos(angles)], axis=2), [-1, 2 * len(circles)])
    return tf.concat([(tf.cast(days, tf.float32)[:, tf.newaxis] - column.mean) / column.scale, around], axis=1)
