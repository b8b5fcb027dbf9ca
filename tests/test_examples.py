"""Texts out of tf.Examples: those that tf.io.parse_example finds, and never a failure."""

import time

import numpy as np
import pytest
import tensorflow as tf

from export.examples import MAX_FIELDS, texts_of

NAMES = ("text", "other")
READ = tf.function(lambda rows: texts_of(rows, NAMES), [tf.TensorSpec([None], tf.string)], autograph=False)


def read(*rows: bytes) -> list[tuple[bytes, ...]]:
    """The texts of each row."""
    return list(zip(*(column.numpy().tolist() for column in READ(tf.constant(list(rows), tf.string))), strict=True))


def parsed(row: bytes) -> tuple[bytes, ...] | None:
    """What TensorFlow's parser reads in a row; None: it fails."""
    try:
        found = tf.io.parse_example([row], {name: tf.io.FixedLenFeature([], tf.string, "") for name in NAMES})
    except (tf.errors.InvalidArgumentError, UnicodeDecodeError):  # the latter where the message is no text
        return None
    return tuple(found[name].numpy()[0] for name in NAMES)


def field(tag: int, content: bytes) -> bytes:
    return bytes([tag]) + varint(len(content)) + content


def varint(number: int) -> bytes:
    return bytes([number & 127 | 128]) + varint(number >> 7) if number > 127 else bytes([number])


def entry(name: bytes, *texts: bytes) -> bytes:
    return field(10, field(10, name) + field(18, field(10, b"".join(field(10, text) for text in texts))))


def example(*entries: bytes) -> bytes:
    return field(10, b"".join(entries))


def random_feature(random: np.random.Generator) -> tf.train.Feature:
    kind = random.choice(["bytes"] * 5 + ["floats", "integers", "nothing"])
    count = int(random.choice([1] * 8 + [0, 2]))
    if kind == "bytes":
        sizes = random.choice([0, 1, 5, 126, 127, 128, 129, 300, 20_000], count)
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[random.bytes(int(size)) for size in sizes]))
    if kind == "floats":
        return tf.train.Feature(float_list=tf.train.FloatList(value=random.normal(size=count)))
    if kind == "integers":
        return tf.train.Feature(int64_list=tf.train.Int64List(value=random.integers(-9, 1 << 40, count)))
    return tf.train.Feature()


def random_example(random: np.random.Generator) -> bytes:
    """As a client's library writes it: features in any order and of any kind, in one message or several."""
    names = ["text", "other", "", "tex", "text ", "é" * 70, "label"]
    messages = []
    for _ in range(random.choice([0, 1, 1, 1, 1, 2])):
        chosen = random.permutation(names)[: random.integers(1, 8)]
        features = {str(name): random_feature(random) for name in chosen}
        messages.append(tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString())
        # A field that a later tf.Example may have: a number, 4 or 8 bytes, a message.
        later = [
            b"\x10" + varint(1 << 40),
            b"\x1d1234",
            b"\x1912345678",
            field(18, b"\x0a\x03abc"),
            b"\xa8\x01\x05",
            b"",
        ]
        messages.append(later[random.integers(len(later))])
    return b"".join(messages)


def test_examples_are_read_as_by_tensorflow():
    random = np.random.default_rng(0)
    rows = [random_example(random) for _ in range(200)]
    known = [parsed(row) for row in rows]
    found = read(*rows)
    for row, expected, texts in zip(rows, known, found, strict=True):
        assert expected in (None, texts), row
    assert 100 < sum(expected is not None for expected in known) < 200
    assert sum(any(texts) for texts in found) > 60


def test_spoilt_examples_are_read_without_failing_or_changing_others():
    random = np.random.default_rng(1)
    rows, expected = [], []
    for _ in range(200):
        row = bytearray(random_example(random)[:400])
        for _ in range(random.integers(1, 4)):
            if row and random.random() < 0.7:
                row[random.integers(len(row))] = random.choice([0, 1, 10, 18, 26, 127, 128, 255, random.integers(256)])
            row = row[: random.integers(len(row) + 1)] if random.random() < 0.3 else row
        rows += [bytes(row), random.bytes(int(random.integers(30)))]
    sound = example(entry(b"text", b"kept"))
    found = read(*(part for row in rows for part in (row, sound)))
    assert set(found[1::2]) == {(b"kept", b"")}
    for row, texts in zip(rows, found[::2], strict=True):
        assert parsed(row) in (None, texts), row
        expected += [texts]
    assert [read(row)[0] for row in rows[:60]] == expected[:60]


@pytest.mark.parametrize(
    ("row", "text"),
    [
        (b"", b""),
        (example(entry(b"text", b"a")), b"a"),
        (example(entry(b"text", b"a"), entry(b"text", b"b")), b"b"),
        (example(entry(b"text", b"a")) + example(entry(b"text", b"b")), b"b"),
        (example(entry(b"text", b"a", b"b")), b""),
        (example(entry(b"text")), b""),
        (example(entry(b"text", b"x" * 300_000)), b"x" * 300_000),
        (example(field(10, field(10, b"text") + field(18, field(18, b"\x0a\x04abcd")))), b""),
        (example(entry(b"text", b"a"), field(10, field(10, b"text") + field(18, field(26, b"\x0a\x01\x01")))), b""),
        (example(field(10, field(18, field(10, field(10, b"a"))) + field(10, b"text"))), b"a"),
        (example(entry(b"text", b"a"))[:-1], b""),
        (example(entry(b"text", b"a")) + b"\x0a", b""),
        (example(entry(b"text", b"a")) + b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", b""),
        (b"\x0a" + b"\xff" * 20, b""),
        (b"\xff" * 20, b""),
        (b"not an example", b""),
        (example(entry(b"text", b"a")) + b"\x13\x14", b""),
    ],
    ids=lambda value: str(value[:12]),
)
def test_single_examples(row, text):
    assert read(row, example(entry(b"text", b"kept"))) == [(text, b""), (b"kept", b"")]


def test_work_is_bounded():
    many = lambda count: example(entry(b"text", b"a"), *(entry(b"%d" % i, b"b") for i in range(count - 1)))  # noqa: E731
    assert read(many(MAX_FIELDS), many(MAX_FIELDS + 1)) == [(b"a", b""), (b"", b"")]
    begin = time.process_time()
    tiny = b"\x10\x00" * 500_000
    assert read(tiny, example(field(10, b"") * 500_000), example(entry(b"text", b"a"))) == [(b"", b"")] * 2 + [
        (b"a", b"")
    ]
    assert time.process_time() - begin < 5


def test_no_rows():
    assert read() == []
