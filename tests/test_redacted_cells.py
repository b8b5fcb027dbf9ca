"""Rows whose text is put together of several cells: each is redacted by itself, as it is stored and shown."""

import dataclasses

import pytest
import tensorflow as tf
from tiny import VOCABULARY

from pipeline.features import Features
from pipeline.features.columns import Category, Date, Number
from pipeline.features.rows import RowEncoder
from pipeline.redaction.kinds import Redaction
from pipeline.redaction.rows import redacted_texts
from pipeline.tokenizer_rules import BERT_RULES, AddedToken

DIGITS = "0123456789"


def encoder_of(features: Features, redaction: Redaction) -> RowEncoder:
    rules = dataclasses.replace(BERT_RULES, added_tokens=tuple(AddedToken(token) for token in redaction.placeholders))
    more = [*DIGITS, *(f"##{digit}" for digit in DIGITS), ".", "-", ":", *redaction.placeholders]
    vocabulary = [*VOCABULARY, *(token for token in more if token not in VOCABULARY)]
    return RowEncoder(features, vocabulary, rules=rules, redaction=redaction)


def tokens_of(encoder: RowEncoder, *cells: str) -> list[str]:
    (row,) = encoder(*([cell] for cell in cells))["token_ids"].numpy()
    return [encoder.vocabulary[number] for number in row]


# What stands before a cell, in the name of its column or in another cell, would make it what it is not alone, or hide
# what it is; and a cell's beginning and end are not those of the whole.
ROWS = [
    (("title", "version", "body"), Redaction.of(["ip"]), "10.1.2.3", "[IP]"),
    (("title", "phone", "body"), Redaction.of(["phone"]), "5551234567", "5551234567"),
    (("title", "ssn", "body"), Redaction.of(["id_us"]), "078051120", "078051120"),
    (("title", "ticket", "body"), Redaction.of(["phone"]), "3331234567", "[PHONE]"),
    (("call", "body", "reply"), Redaction.of(["phone"]), "5551234567", "5551234567"),
    (("title", "body", "reply"), Redaction.of([], {"person": "^the team$"}), "the team", "[PERSON]"),
]


@pytest.mark.parametrize(("names", "redaction", "cell", "seen"), ROWS)
def test_a_cell_is_read_as_it_is_stored_and_shown(names, redaction, cell, seen):
    encoder, cells = encoder_of(Features(names), redaction), ("the goal", cell, "the bank")
    (stored,) = redacted_texts([cells], redaction)
    shown = tuple(encoder.redacted([one]).numpy()[0].decode() for one in cells)
    assert stored == shown == ("the goal", seen, "the bank")
    assert tokens_of(encoder, *cells) == tokens_of(encoder, *stored)
    found = [token for token in tokens_of(encoder, *cells) if token in redaction.placeholders]
    assert found == [seen for seen in stored if seen in redaction.placeholders]


def test_what_is_read_is_redacted_and_its_pieces_are_in_their_places():
    encoder = encoder_of(Features(("title", "version", "body")), Redaction.of(["ip"]))
    cells = ["the goal", "goal"], ["10.1.2.3", ""], ["bank 10.1.2.3 team", "漢"]
    (read,) = encoder.texts(*cells)
    assert read.numpy()[0] == b"title: the goal version: [IP] body: bank [IP] team "
    tokens, begin, end = (values.to_list() for values in encoder.tokenize_with_offsets(read))
    ids = encoder.tokenize(read).to_list()
    assert [[token.decode() for token in row] for row in tokens] == [[encoder.vocabulary[i] for i in r] for r in ids]
    for text, *row in zip(read.numpy(), tokens, begin, end, strict=True):
        for token, first, last in zip(*row, strict=True):
            assert token == b"[UNK]" or text[first:last] == token


def test_columns_in_words_stay():
    columns = Date("seen"), Category("call", ("5551234567",))
    encoder = encoder_of(Features(("text",), columns, "text"), Redaction.of(["date", "phone"]))
    cells = [tf.constant([cell]) for cell in ("the goal 2024-05-31", "2024-05-31", "5551234567")]
    assert encoder.texts(*cells)[0].numpy()[0] == b"seen: 2024-05-31, call: 5551234567, the goal [DATE]"
    assert tokens_of(encoder, "the goal", "2024-05-31", "5551234567").count("[DATE]") == 0


def test_texts_that_are_read_as_they_are_sent_are_given_so():
    for names in (("text",), ("text_a", "text_b")):
        encoder = encoder_of(Features(names, (Number("price"),)), Redaction.of(["ip"]))
        cells = ["10.1.2.3"] * len(names)
        assert [text.numpy()[0] for text in encoder.texts(*([cell] for cell in cells), [1.0])] == [b"10.1.2.3"] * len(
            names
        )
        (ids,) = encoder(*([cell] for cell in cells), tf.constant([1.0]))["token_ids"].numpy()
        assert [encoder.vocabulary[i] for i in ids].count("[IP]") == len(names)
