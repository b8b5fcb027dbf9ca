"""Redaction in the graph: what is found and what is not, tokens, offsets, bytes of any kind, server-side batching."""

import dataclasses
import gc
from functools import partial
from typing import get_args

import numpy as np
import pytest
import tensorflow as tf
from scheduler import serve
from test_batching import random_text
from tiny import VOCABULARY
from tiny_export import LABELS, tiny_model

from export.savedmodel import ServedModel
from export.signatures import SignatureOptions, build_signatures
from pipeline.backbone.config import TextConfig
from pipeline.backbone.loaded import LoadedBackbone
from pipeline.backbone.redacting import with_placeholders as with_placeholders_in
from pipeline.classifier import build_classifier
from pipeline.features import ONE_TEXT
from pipeline.redaction.kinds import KINDS, NOTHING, RULES, Redaction, pattern_fault
from pipeline.redaction.redactor import Redactor
from pipeline.redaction.separators import HYPHENS, SPACES, separated
from pipeline.settings.read import types_of
from pipeline.tasks.single_label import SingleLabel
from pipeline.text import TextEncoder
from pipeline.tokenizer_rules import BERT_RULES, AddedToken

EVERYTHING = Redaction.of(list(KINDS))

# Each text, and what becomes of it.
SENTENCES = {
    "Write to bob.müller+x@mail.example.co.uk, please.": "Write to [EMAIL], please.",
    "联系我zhang@qq.com谢谢": "联系我[EMAIL]谢谢",
    "See https://example.com/a?b=c@d.com. Or www.example.org/x_y!": "See [URL]. Or [URL]!",
    "见http://例子.cn": "见http://例子.cn",
    "Card 4111 1111 1111 1111 12/25": "Card [CARD] 12/25",
    "4111-1111-1111-1111, 378282246310005, 3782 822463 10005": "[CARD], [CARD], [CARD]",
    "a Maestro of twelve: 501854210371": "a Maestro of twelve: [CARD]",
    "4111 1111 1111 1111 123, 6222 0212 3456 7890 128": "[CARD] 123, [CARD]",
    "#4111-1111-1111-1111, $4111111111111111, USD 4111 1111 1111 1111": "#[CARD], $[CARD], USD [CARD]",
    "order #4111111111111111": "order #[CARD]",
    "IBAN DE89 3704 0044 0532 0130 00 BIC COBADEFF": "IBAN [IBAN] BIC COBADEFF",
    "FR76 3000 6000 0112 3456 7890 189 and FR44 4111 1111 1111 1111 128A B12": "[IBAN] and [IBAN]",
    "to GB29NWBK60161331926819 or no9386011117947": "to [IBAN] or [IBAN]",
    "from 192.168.0.1:80, fe80::1 and 2001:db8:85a3:0:0:8a2e:370:7334": "from [IP]:80, [IP] and [IP]",
    "身份证11010519491231002X号": "身份证[ID_CN]号",
    "SSN 078-05-1120, or ssn: 078051120": "SSN [ID_US], or ssn: [ID_US]",
    "on 2024-05-01T12:00:00Z, 1.5.2024, 05/31/24, May 1st, 2024, 1 mai 2024": "on " + ", ".join(["[DATE]"] * 5),
    "2024年5月1日": "[DATE]",
    "+49 (0) 9141 777631, (591)341-7776, 206.269.0743x9150": "[PHONE], [PHONE], [PHONE]",
    "call me at 5551234567": "call me at [PHONE]",
    "我的手机13812345678。": "我的手机[PHONE]。",
    "+49 30 1234567 or 31549765, call 31549765/530801199705069776 on": (
        "[PHONE] or 31549765, call 31549765/530801199705069776 on"
    ),
    "电话：０１０－６５１２３４５６。": "电话：[PHONE]。",
    "電話０３－１２３４－５６７８　０９０－１２３４－５６７８": "電話[PHONE]　[PHONE]",
    "手机１３８１２３４５６７８，身份证１１０１０５１９４９１２３１００２Ｘ": "手机[PHONE]，身份证[ID_CN]",
    "卡号４１１１　１１１１　１１１１　１１１１": "卡号[CARD]",
    "卡号４１１１　１１１１　１１１１　１１１２": "卡号４１１１　１１１１　１１１１　１１１２",
    "電話０９０ー１２３４ー５６７８": "電話[PHONE]",
    "携帯：５５５１２３４、第１２回、２０２４年５月１日": "携帯：[PHONE]、第１２回、[DATE]",
    "（＋８１）９０－１２３４－５６７８ 価格１２３４５６円": "[PHONE] 価格１２３４５６円",
    "(+49 30 12345)abc": "([PHONE])abc",
    "01 23 45 67 89 und 0171/1234567": "[PHONE] und [PHONE]",
    "(+49 30 1234567) TEL-555-123-4567": "([PHONE]) TEL-[PHONE]",
    "0711 1234 5678 90 or 030 123 4567 89": "[PHONE] or [PHONE]",
    "0711 1234 5678 030 1234567": "[PHONE] [PHONE]",
}  # fmt: skip

# What no kind takes, in whole or in part.
UNTOUCHED = [
    "4111 1111 1111 1112", "4111-1111-1111-1112", "DE89 3704 0044 0532 0130 01", "110105194912310021",
    "1234567890123456", "ordered 114-5551234-1234567", "PO 4500012345", "#555-123-4567", "order 12-555-123-4567",
    "RMA-2024-123-4567", "RMA-555-123-4567", "ISBN 978-3-16-148410-0", "v10.0.0.1", "version 1.2.3.4", "1.2.3.4.5",
    "3.14159", "1,234,567.89", "€ 612 345 678", "612 345 678 zł", "$1,234.50", "9:30", "2:1", "std::vector", "a::b",
    "@home", "me@home", "10:30:15",
    "3456 7890 1234", "3456 7890-12", "12 3456 7890", "1984 2001", "2019 2020", "3456-7890", "$3456 7890",
    "3456 7890 €", "A3456 7890", "[PHONE] 3456 7890", "3456 7890b", "550e8400-e29b-41d4-a716-446655440000",
    "2019-2020", "www", "300.1.2.3", "", "ISO 9001 2015", "DIN 4102 1998", "ISSN 2434 5619", "#4711 0815",
    "4100 3000 EUR",
]  # fmt: skip


@pytest.fixture(scope="module")
def redactor():
    return Redactor(EVERYTHING)


def redacted(redactor, texts) -> list[str]:
    return [text.decode() for text in redactor(texts).numpy()]


def test_each_kind_becomes_its_placeholder(redactor):
    assert dict(zip(SENTENCES, redacted(redactor, list(SENTENCES)), strict=True)) == SENTENCES


def test_what_only_looks_like_one_is_left_whole(redactor):
    assert redacted(redactor, UNTOUCHED) == UNTOUCHED


WRITTEN = [
    "card 4111 1111 1111 1111", "4111-1111-1111-1111", "3782 822463 10005", "DE89 3704 0044 0532 0130 00",
    "030 1234567", "(030) 1234567", "01 23 45 67 89", "555-123-4567", "+49 30 1234567", "call 555 1234567",
    "SSN 078-05-1120", "ssn 078051120", "2024-05-01 12:00", "1. Mai 2024", "May 1, 2024", "2024 年 5 月 1 日",
    # And none of these.
    "1 234 567 €", "order-555-123-4567", "4111 1111 1111 1112", "USD 100 200", "version 1.2.3.4",
]  # fmt: skip


@pytest.mark.parametrize("other", "\u00a0\u2007\u2009\u202f\u2010\u2011\u2012\u2013\u2014\u2015")
def test_other_spaces_and_hyphens_hide_nothing(redactor, other):
    common = "-" if "\u2010" <= other <= "\u2015" else " "
    given = [text.replace(common, other) for text in WRITTEN]
    assert [text.replace(other, common) for text in redacted(redactor, given)] == redacted(redactor, WRITTEN)
    # Among digits in full width too, as in the text as it was given.
    assert redacted(redactor, [f"４１１１{other}１１１１{other}１１１１{other}１１１１ {other}"]) == [f"[CARD] {other}"]


def test_every_separator_of_a_pattern_is_one_of_several():
    assert separated(r"a b-c\-[ -]") == f"a[{SPACES}]b[{HYPHENS}]c[{HYPHENS}][{SPACES}{HYPHENS}]"
    assert separated(r"[-./][ .\-/][0-9A-Z]") == f"[{HYPHENS}./][{SPACES}.{HYPHENS}/][0-9A-Z]"
    assert separated(r"\x{30FC}\[[^ -]\d") == r"\x{30FC}\[[^ -]\d"


def test_redacted_text_stays_as_it_is(redactor):
    texts = redacted(redactor, [*SENTENCES, "[EMAIL] and [PHONE] 555-123-4567"])
    assert redacted(redactor, texts) == texts


def test_what_is_left_of_a_number_behind_a_word_is_looked_at_once_more(redactor):
    texts = [
        "call GB2905 5030 00158476 8388",
        "手机212-8788 5048 0693 6462 5984 03 72292961",
        "(04926 call 58784-558 1088 0520 6834 5320 04",
        "電話7357 2034\u3000００８７９\u3000４１/５.8088",
    ]
    once = redacted(redactor, texts)
    assert redacted(redactor, once) == once != texts
    found = redactor.found(texts)
    assert np.bincount(found.row.numpy()).tolist() == [text.count("[PHONE]") for text in once]


def test_a_kind_that_is_not_asked_for_is_not_taken_in_part_by_another():
    phones = Redactor(Redaction.of(["phone"]))
    texts = ["4111 1111 1111 1111", "DE89 3704 0044 0532 0130 00", "192.168.100.200", "01.02.2024 12:30"]
    assert redacted(phones, [*texts, "x@y.com 555-123-4567"]) == [*texts, "x@y.com [PHONE]"]


def test_own_patterns_come_first_and_keep_their_context():
    own = Redactor(Redaction.of(["phone"], {"ticket": r"\bT-\d{4}\b", "any_number": r"\d{3}-\d{3}-\d{4}"}))
    assert redacted(own, ["T-1234 T-12345", "555-123-4567 (555) 123-4567"]) == [
        "[TICKET] T-12345", "[ANY_NUMBER] [PHONE]",
    ]  # fmt: skip


def test_own_patterns_are_found_wherever_they_match():
    own = Redactor(Redaction.of([], {"ends": "(?i)^(?P<a>x)|z$", "any": "a.b", "group": "(?P<a>7)"}))
    texts = ["Xx z z", "a\nb a-b", "a 7", "\n", "nothing"]
    assert redacted(own, texts) == ["[ENDS]x z [ENDS]", "a\nb [ANY]", "a [GROUP]", "\n", "nothing"]


def test_what_is_found_is_told_with_its_text(redactor):
    found = redactor.found(["nothing", "a@b.com, 4111111111111111", b"\xffx@y.org"])
    names = [redactor.redaction.names[number] for number in found.kind.numpy()]
    told = set(zip(found.row.numpy().tolist(), names, found.text.numpy().tolist(), strict=True))
    assert told == {(1, "email", b"a@b.com"), (1, "card", b"4111111111111111"), (2, "email", b"x@y.org")}


def test_any_bytes_are_taken_and_hide_nothing(redactor):
    given = [b"", b"\x00", b"4111\xff 1111 1111\xed\xa0\x80 1111", b"a\x00 4111111111111111", b"\xf0\x9f", b"@" * 999]
    assert redactor(given).numpy().tolist() == [b"", b"\x00", b"[CARD]", b"a\x00 [CARD]", b"", b"@" * 999]
    random = np.random.default_rng(0)
    pieces = [
        random.bytes(5),
        "\U000bffff".encode(),
        b"4111 1111 1111 1111",
        b" a@b.com",
        b"\x00",
        b" +49 ",
        b"030 1234",
    ]
    noise = [b"".join(pieces[i] for i in random.integers(len(pieces), size=6)) for _ in range(300)]
    once = redactor(noise).numpy()
    assert redactor(once).numpy().tolist() == once.tolist()
    alone = [redactor([text]).numpy()[0] for text in noise[:40]]
    assert alone == once.tolist()[:40]


def test_what_most_texts_need_is_little(redactor):
    """What runs for every batch is not merged with what runs for a few texts, whose many operations would be passed
    over one by one."""
    function = tf.function(lambda texts: redactor(texts), autograph=False)
    graph = function.get_concrete_function(tf.TensorSpec([None], tf.string)).graph.as_graph_def()
    library = {each.signature.name: each for each in graph.library.function}

    def count(nodes) -> int:
        names = [value.func.name for node in nodes for value in node.attr.values() if value.HasField("func")]
        merged = [library[name] for name in names if not library[name].attr["_noinline"].b]
        return len(nodes) + sum(count(each.node_def) for each in merged)

    assert count(graph.node) < 60 < sum(len(each.node_def) for each in library.values())


def test_a_graph_outlives_its_redactor():
    redact = tf.function(Redactor(EVERYTHING).__call__, input_signature=[tf.TensorSpec([None], tf.string)])
    graph = redact.get_concrete_function()
    dataset = tf.data.Dataset.from_tensors(["a@b.com"]).map(Redactor(Redaction.of(["email"])).__call__)
    del redact
    gc.collect()
    assert graph(tf.constant(["a@b.com"])).numpy().tolist() == [b"[EMAIL]"]
    assert [texts.tolist() for texts in dataset.as_numpy_iterator()] == [[b"[EMAIL]"]]


def test_any_number_of_redactors_is_made_without_a_warning(caplog):
    for kind in ("email", "phone", "ip", "url", "date", "card"):
        assert redacted(Redactor(Redaction.of([kind])), ["a@b.com nothing"])
    assert caplog.records == []


def test_a_rehearsal_has_everything_looked_for_and_finds_nothing(redactor):
    assert redactor._concerned(tf.constant([EVERYTHING.rehearsal, "nothing"])).numpy().tolist() == [True, False]
    assert redacted(redactor, [EVERYTHING.rehearsal]) == [EVERYTHING.rehearsal]
    assert Redaction.of([], {"x": "y"}).rehearsal == ""


def test_no_text_at_all(redactor):
    assert redactor([]).shape == (0,)


def with_placeholders(redaction: Redaction) -> TextEncoder:
    tokens = tuple(AddedToken(token) for token in redaction.placeholders)
    rules = dataclasses.replace(BERT_RULES, added_tokens=tokens)
    return TextEncoder([*VOCABULARY, "##s", *redaction.placeholders], rules=rules, redaction=redaction)


@pytest.fixture(scope="module")
def encoder():
    return with_placeholders(EVERYTHING)


def tokens_of(encoder, texts) -> list[list[str]]:
    return [[encoder.vocabulary[i] for i in row] for row in encoder.tokenize(texts).to_list()]


def test_a_placeholder_is_one_token(encoder):
    texts = ["the team , mail a@b.com .", "goal4111 1111", "bank 4111-1111-1111-1111 GOAL", "[EMAIL]"]
    assert tokens_of(encoder, texts) == [
        ["the", "team", ",", "[UNK]", "[EMAIL]", "."], ["[UNK]", "[UNK]"], ["bank", "[CARD]", "goal"], ["[EMAIL]"],
    ]  # fmt: skip


def test_offsets_are_those_of_the_text_as_it_was_sent(encoder):
    texts = ["the tëam 4111 1111 1111 1111, a@b.com", "漢 +49 30 1234567", "goal", b"\xffbank \xfex@y.org!"]
    texts.append("漢 ０３－１２３４－５６７８ 漢")
    tokens, begin, end = encoder.tokenize_with_offsets(texts)
    given = [text.encode() if isinstance(text, str) else text for text in texts]
    found = [
        [(token.decode(), text[b:e]) for token, b, e in zip(*row, strict=True)]
        for text, *row in zip(given, tokens.to_list(), begin.to_list(), end.to_list(), strict=True)
    ]
    assert found == [
        [("the", b"the"), ("team", "tëam".encode()), ("[CARD]", b"4111 1111 1111 1111"), (",", b","),
         ("[EMAIL]", b"a@b.com")],
        [("[UNK]", "漢".encode()), ("[PHONE]", b"+49 30 1234567")],
        [("goal", b"goal")],
        [("bank", b"bank"), ("[EMAIL]", b"x@y.org"), ("[UNK]", b"!")],
        [("[UNK]", "漢".encode()), ("[PHONE]", "０３－１２３４－５６７８".encode()), ("[UNK]", "漢".encode())],
    ]  # fmt: skip


def test_offsets_and_tokens_agree(encoder):
    texts = [*SENTENCES, *UNTOUCHED, "\U000bffff a@b.com \U000c0000"]
    assert [[t.decode() for t in row] for row in encoder.tokenize_with_offsets(texts)[0].to_list()] == tokens_of(
        encoder, texts
    )


def test_nothing_redacted_leaves_tokens_and_fingerprint(encoder):
    plain, before = TextEncoder(VOCABULARY, redaction=NOTHING), TextEncoder(VOCABULARY)
    assert plain.fingerprint == before.fingerprint != encoder.fingerprint
    assert plain.redacted(["a@b.com"]).numpy().tolist() == [b"a@b.com"]
    operations = tf.function(plain.tokenize).get_concrete_function(tf.TensorSpec([None], tf.string)).graph
    assert not any("raw" in operation.type.lower() for operation in operations.get_operations())


def test_redactions_are_told_apart(encoder):
    one, other = Redaction.of(["email"]), Redaction.of(["email"], {"x": "y"})
    assert len({with_placeholders(one).fingerprint, with_placeholders(other).fingerprint, encoder.fingerprint}) == 3
    assert Redaction.from_metadata(other.metadata()) == other
    assert Redaction.of(["phone", "email"]) == Redaction.of(["email", "phone"])
    assert NOTHING.metadata() == {}


def test_rules_that_find_something_else_are_told_apart(monkeypatch):
    kinds, own = Redaction.of(["email"]), Redaction.of([], {"x": "y"})
    before = [with_placeholders(one).fingerprint for one in (kinds, own)]
    monkeypatch.setattr("pipeline.text.RULES", RULES + 1)
    assert with_placeholders(kinds).fingerprint != before[0]
    # Own patterns are what the settings say.
    assert with_placeholders(own).fingerprint == before[1]


def test_the_setting_names_all_kinds():
    (kinds,) = get_args(types_of(TextConfig)["redact"])
    assert get_args(kinds) == tuple(KINDS)


def test_patterns_that_cannot_be_used_are_told():
    assert pattern_fault(r"T-\d+") is None
    assert "is no RE2 pattern" in (pattern_fault("(?=x)") or "")
    assert "is no RE2 pattern" in (pattern_fault(r"\Qa.b") or "")
    assert pattern_fault(r"\Qa.b\E") is None
    assert "empty text" in (pattern_fault("x*") or "")


@pytest.fixture(scope="module")
def asked():
    """Signatures of a model whose texts are redacted."""
    redaction = Redaction.of(["email", "card", "phone"])
    loaded = LoadedBackbone(tiny_model(3)[0].classifier_parts.backbone, tuple(VOCABULARY), True, True)
    loaded = with_placeholders_in(loaded, redaction, True)
    model = build_classifier(loaded, 3, pooling="mean", dtype="float32")
    served = ServedModel(model, loaded.text_encoder(True, 16), SingleLabel(LABELS))
    found = build_signatures(served, ONE_TEXT, SignatureOptions(explain_steps=2))
    # The functions hold the model's weights only as long as it lives.
    return served, {name: found[name] for name in ("serving_default", "explain")}


def test_requests_are_answered_alike_alone_and_in_company(asked):
    functions = asked[1]
    random, secrets = np.random.default_rng(0), [b"a@b.com", b"4111 1111 1111 1111", b"\xff+49 30 1234567", b"4111\x00"]
    known = [
        b" ".join([random_text(random)[:60], secrets[random.integers(len(secrets))]][:: random.choice([1, -1])])
        for _ in range(6)
    ]

    def run(name, inputs):
        return {key: values.numpy() for key, values in functions[name](**inputs).items()}

    for name in functions:
        alone = [run(name, {"text": np.array([text], object)}) for text in known]
        chosen = [random.integers(len(known), size=random.integers(1, 9)) for _ in range(4)]
        requests = [{"text": np.array(known, object)[own]} for own in chosen]
        for own, answer in zip(chosen, serve(partial(run, name), requests, 8), strict=True):
            for key, values in answer.items():
                expected = np.concatenate([alone[row][key] for row in own])
                if values.dtype == object:
                    assert values.tolist() == expected.tolist(), key
                else:
                    np.testing.assert_allclose(values, expected, rtol=1e-4, atol=1e-5, err_msg=key)


def test_what_is_served_sees_placeholders_and_explains_the_text_as_sent(asked):
    functions = asked[1]
    sent, seen = b"the card 4111-1111-1111-1111 goal", b"the card [CARD] goal"
    answers = functions["serving_default"](text=tf.constant([sent, seen, b"the card 4111-1111-1111-1112 goal"]))
    one, other, failed = answers["probabilities"].numpy()
    np.testing.assert_allclose(one, other, rtol=1e-5)
    assert np.abs(one - failed).max() > 1e-4
    explained = functions["explain"](text=tf.constant([sent]))
    place = explained["pieces"].numpy()[0].tolist().index(b"[CARD]")
    begin, end = (int(explained[key].numpy()[0, place]) for key in ("begin", "end"))
    assert sent[begin:end] == b"4111-1111-1111-1111"
