"""Texts that are longer than a sequence: their end, or their beginning and their end."""

import math

import pytest
import tensorflow as tf
from letters import TASK, VOCABULARY, live, make_model
from reference_tokenizer import full_tokenize, truncate_pair

from export.expected import Expected
from export.explain import pieces_of as pieces_at
from export.loading import Classifier
from export.savedmodel import ExportSettings, HeldOut, export_verified
from export.signatures import SignatureOptions
from pipeline.long_texts import HEAD, LongTexts
from pipeline.text import TextEncoder

LENGTHS = (0, 1, 5, 6, 7, 8, 13, 40)
TEXTS = [" ".join(chr(ord("a") + (i * 7 + n) % 26) for i in range(n)) for n in LENGTHS] + ["héllo wörld! " * 9]
MODES = {"tail": LongTexts.of("tail"), **{f"head_tail {s}": LongTexts.of("head_tail", s) for s in (0.25, 0.5, 0.8)}}
by_mode = pytest.mark.parametrize("long", MODES.values(), ids=MODES.keys())


def kept(tokens: list, count: int, share: float) -> list:
    """The reference: `count` of the tokens, a share of them from the beginning."""
    if len(tokens) <= count:
        return tokens
    head = math.floor(count * share + 0.5)
    return tokens[:head] + tokens[len(tokens) - (count - head) :]


def pieces_of(text: str) -> list[str]:
    return full_tokenize(text, set(VOCABULARY))


@by_mode
@pytest.mark.parametrize("length", [3, 4, 8, 9])
def test_tokens_are_those_of_the_reference(long, length):
    encoder = TextEncoder(VOCABULARY, sequence_length=length, long=long)
    firsts = [text for text in TEXTS for _ in TEXTS]
    seconds = TEXTS * len(TEXTS)
    single = encoder(TEXTS)["token_ids"].numpy()
    pairs = {name: values.numpy() for name, values in encoder(firsts, seconds).items()}
    for text, row in zip(TEXTS, single, strict=True):
        expected = ["[CLS]", *kept(pieces_of(text), length - 2, long.head_share), "[SEP]"]
        assert [VOCABULARY[i] for i in row[: len(expected)]] == expected
        assert not row[len(expected) :].any()
    for row, (first, second) in enumerate(zip(firsts, seconds, strict=True)):
        first, second = pieces_of(first), pieces_of(second)
        counts = list(first), list(second)
        truncate_pair(*counts, length - 3)
        first, second = (kept(t, len(n), long.head_share) for t, n in zip((first, second), counts, strict=True))
        expected = ["[CLS]", *first, "[SEP]", *second, "[SEP]"]
        size = pairs["padding_mask"][row].sum()
        assert [VOCABULARY[i] for i in pairs["token_ids"][row][:size]] == expected
        assert pairs["segment_ids"][row].sum() == len(second) + 1


def test_the_halves_of_sun_et_al():
    """128 tokens of the beginning and 382 of the end, of 510."""
    row = TextEncoder(VOCABULARY, sequence_length=512, long=LongTexts.of("head_tail", 0.25))(["a " * 128 + "b " * 999])
    ids = row["token_ids"][0].numpy()
    assert (ids == VOCABULARY.index("a")).sum() == 128 and (ids == VOCABULARY.index("b")).sum() == 382


def test_head_is_as_if_there_were_nothing_else():
    plain, same = TextEncoder(VOCABULARY), TextEncoder(VOCABULARY, long=LongTexts.of("head", 0.5, 3, 7))
    assert same.long == HEAD and same.fingerprint == plain.fingerprint and HEAD.metadata() == {}
    others = [TextEncoder(VOCABULARY, long=long).fingerprint for long in MODES.values()]
    assert len({plain.fingerprint, *others}) == len(others) + 1
    for long in (HEAD, *MODES.values()):
        assert LongTexts.from_metadata(long.metadata()) == long


@pytest.mark.parametrize("columns", [1, 2])
@by_mode
def test_the_bytes_of_a_piece_are_those_that_were_read(long, columns):
    encoder = TextEncoder(VOCABULARY, sequence_length=12, long=long)
    texts = [TEXTS, TEXTS[::-1]][:columns]
    tensors = [tf.constant(text) for text in texts]
    encoded = encoder(*tensors, fixed_length=True)
    found = zip(
        *(values.numpy() for values in (*pieces_at(encoder, tensors, encoded), encoded["segment_ids"])), strict=True
    )
    for row, (pieces, begins, ends, segments) in zip(zip(*texts, strict=True), found, strict=True):
        tokens = [pieces_of(text) for text in row]
        counts = [list(t) for t in tokens]
        truncate_pair(counts[0], counts[1] if columns == 2 else [], 11 - columns)
        expected = [piece for t, n in zip(tokens, counts, strict=True) for piece in kept(t, len(n), long.head_share)]
        of_text = ends > begins
        assert [piece.decode() for piece in pieces[of_text]] == expected
        for piece, begin, end, segment in zip(expected, begins[of_text], ends[of_text], segments[of_text], strict=True):
            surface = row[segment].encode()[begin:end].decode()
            assert pieces_of(surface)[0].removeprefix("##") == piece.removeprefix("##")
        if tokens[-1]:
            assert ends.max() == max(len(text.rstrip().encode()) for text in row[-1:]) or columns == 2


@pytest.mark.slow
def test_export_answers_as_the_model(tmp_path):
    model, long = make_model("mean"), LongTexts.of("head_tail", 0.25)
    encoder = TextEncoder(VOCABULARY, sequence_length=12, long=long)
    folder = export_verified(
        model, encoder, TASK, tmp_path, HeldOut([TEXTS], Expected(live(model, encoder, TEXTS), 1e-5)),
        settings=ExportSettings(SignatureOptions(["predict_tokens"]), warmup_batch_sizes=[1]),
    )  # fmt: skip
    metadata = Classifier(folder).metadata
    assert metadata["long"] == {"read": "head_tail", "head_share": 0.25}
