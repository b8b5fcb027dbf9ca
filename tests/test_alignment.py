"""The bytes of a text that its pieces come from."""

import functools

import numpy as np
import pytest
import tensorflow as tf
from reference_tokenizer import basic_tokenize

from pipeline.text import TextEncoder
from pipeline.tokenizer_rules import SPECIAL_TOKENS

LETTERS = [*"abcdefghijklmnopqrstuvwxyzABCéαςσ中国，.!'ßﬁ", "\u1112", "\u1161", "\u11ab"]
VOCABULARY = [*SPECIAL_TOKENS, *LETTERS, *(f"##{c}" for c in LETTERS), "the", "##ing"]
CASES = pytest.mark.parametrize("lowercase", [True, False], ids=["uncased", "cased"])
# Over all texts of a call, so that rows meet as they do in a server's batch.
ALPHABET = [
    *"aaabcdABCxyz   ..,!'\t\n\0", *"éÉàÀＡσΣΣςßﬁ中国，。가한ЖЯ😀", "e\u0301", "\u0301", "\u200b", "\u00ad", "\u3000",
    "the", "ing",
]  # fmt: skip


@functools.cache
def encoder(lowercase: bool) -> TextEncoder:
    return TextEncoder(VOCABULARY, lowercase)


@functools.cache
def as_function(encoder: TextEncoder):
    return tf.function(encoder.tokenize_with_offsets, input_signature=[tf.TensorSpec([None], tf.string)])


def aligned(encoder: TextEncoder, texts: list[bytes]) -> list[list[tuple[str, int, int]]]:
    columns = as_function(encoder)(tf.constant(texts, tf.string))
    rows = zip(*(column.to_list() for column in columns), strict=True)
    return [[(piece.decode(), begin, end) for piece, begin, end in zip(*row, strict=True)] for row in rows]


def slices(encoder: TextEncoder, text: str | bytes) -> list[tuple[str, bytes]]:
    text = text if isinstance(text, bytes) else text.encode()
    return [(piece, text[begin:end]) for piece, begin, end in aligned(encoder, [text])[0]]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Àb the", [("a", "À"), ("##b", "b"), ("the", "the")]),
        ("e\u0301x", [("e", "e\u0301"), ("##x", "x")]),
        ("中，国", [("中", "中"), ("，", "，"), ("国", "国")]),
        ("한a", [("\u1112", "한"), ("##\u1161", "한"), ("##\u11ab", "한"), ("##a", "a")]),
        ("\0a\u200bb  c", [("a", "a\u200b"), ("##b", "b"), ("c", "c")]),
        ("ΑΣ", [("α", "Α"), ("##ς", "Σ")]),
        ("Жa b", [("[UNK]", "Жa"), ("b", "b")]),
        ("b" * 201 + " a", [("[UNK]", "b" * 201), ("a", "a")]),
        ("a" + "b" * 199 + ".", [("a", "a"), *[("##b", "b")] * 199, (".", ".")]),
        ("", []),
        ("\u0301 ", []),
    ],
)
def test_pieces_and_their_bytes(text, expected):
    assert slices(encoder(True), text) == [(piece, surface.encode()) for piece, surface in expected]


def test_cased_text_keeps_its_marks():
    assert slices(encoder(False), "éA e\u0301") == [("é", "é".encode()), ("##A", b"A"), ("[UNK]", "e\u0301".encode())]


def test_bytes_that_are_not_utf8_belong_to_what_they_follow():
    assert slices(encoder(True), b"\xffa\xe4\xbdb \xed\xa0\x80c") == [("a", b"a\xe4\xbd"), ("##b", b"b"), ("c", b"c")]


def test_no_texts():
    assert aligned(encoder(True), []) == []


@CASES
def test_random_texts(lowercase):
    """Every slice holds the characters of its piece, and what no slice holds, no piece is made of."""
    random = np.random.default_rng(3)
    texts = ["".join(random.choice(ALPHABET, n)).encode() for n in random.integers(0, 30, 1500)]
    for text in texts[::3]:
        # Bytes that are not UTF-8, anywhere.
        place = random.integers(len(text) + 1)
        texts.append(text[:place] + random.choice([b"\xff", b"\xe4\xbd", b"\xed\xa0\x80", b"\x80"]) + text[place:])
    texts += [b"x" * n + b" the " + "é".encode() * n for n in (199, 200, 201, 250)]
    text_encoder = encoder(lowercase)
    ids = text_encoder.tokenize(texts).to_list()
    for text, row, expected in zip(texts, aligned(text_encoder, texts), ids, strict=True):
        assert [piece for piece, _, _ in row] == [VOCABULARY[i] for i in expected]
        rest, last = b"", 0
        for piece, begin, end in row:
            assert 0 <= begin < end <= len(text)
            surface = basic_tokenize(text[begin:end], lowercase)
            if piece == "[UNK]":
                assert len(surface) == 1
            elif len(surface[0]) == len(piece.removeprefix("##")):
                # Alone, a sigma is never final.
                assert [surface[0].replace("ς", "σ")] == [piece.removeprefix("##").replace("ς", "σ")]
            else:
                assert piece.removeprefix("##") in surface[0]  # some of the letters of a Korean syllable
            assert begin >= last or text[begin:end].decode(errors="ignore")[0] in "가한"
            rest, last = rest + b" " + text[last:begin], end
        assert basic_tokenize(rest + b" " + text[last:], lowercase) == []
