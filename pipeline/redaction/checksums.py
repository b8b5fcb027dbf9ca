"""Checksums of numbers, as arithmetic in the TensorFlow graph.

Each takes letters and digits, string [n] in capitals without anything between them, and gives bool [n].
"""

import numpy as np
import tensorflow as tf

_CARD, _IBAN, _ID_CN = 19, 34, 18  # places at most
_ID_CN_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2, 1)
# Of ten modulo 97; a letter has two digits.
_POWERS = np.array([pow(10, k, 97) for k in range(2 * _IBAN)], np.int32)


def luhn(strings: tf.Tensor) -> tf.Tensor:
    """Cards: every second digit from the right but the last, doubled, counts as the sum of its own digits."""
    digits, inside = _values(strings, _CARD)
    from_right = tf.reduce_sum(tf.cast(inside, tf.int32), axis=1, keepdims=True) - 1 - tf.range(_CARD)
    doubled = digits * 2
    counted = tf.where(from_right % 2 == 1, doubled - 9 * tf.cast(doubled > 9, tf.int32), digits)
    return tf.reduce_sum(tf.where(inside, counted, 0), axis=1) % 10 == 0


def iban(strings: tf.Tensor) -> tf.Tensor:
    """ISO 7064, MOD 97-10: the first four places go to the end, A is 10, Z is 35."""
    values, inside = _values(strings, _IBAN)
    size = tf.where(inside, tf.where(values > 9, 2, 1), 0)
    behind = tf.cumsum(size, axis=1, exclusive=True, reverse=True)
    first = tf.reduce_sum(size[:, :4], axis=1, keepdims=True)
    # Behind the first four places is nothing, behind the others are these four.
    behind = tf.where(tf.range(_IBAN) < 4, behind - behind[:, 3:4], behind + first)
    terms = tf.where(inside, values * tf.gather(tf.constant(_POWERS), behind), 0)
    return tf.reduce_sum(terms, axis=1) % 97 == 1


def id_cn(strings: tf.Tensor) -> tf.Tensor:
    """GB 11643, ISO 7064 MOD 11-2: X is 10."""
    values, _ = _values(strings, _ID_CN)
    values = tf.where(values > 9, 10, values)
    return tf.reduce_sum(values * tf.constant(_ID_CN_WEIGHTS), axis=1) % 11 == 1


def _values(strings: tf.Tensor, places: int) -> tuple[tf.Tensor, tf.Tensor]:
    """int32 [n, places], 0 to 9 and A as 10 to Z as 35, from the left; and which places a string has."""
    codes = tf.cast(tf.io.decode_raw(strings, tf.uint8, fixed_length=places), tf.int32)
    return tf.where(codes >= ord("A"), codes - (ord("A") - 10), codes - ord("0")), codes > 0


CHECKSUMS = {"luhn": luhn, "iban": iban, "id_cn": id_cn}
