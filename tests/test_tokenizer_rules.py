"""The switches of BERT's tokenizers and added tokens, against Hugging Face's `tokenizers`."""

import itertools
import json
import lzma
import random

import numpy as np
import pytest
import tensorflow as tf
import tokenizers
from tokenizers import models, normalizers, pre_tokenizers

from export.server.releases import OLDEST, minimum_version
from pipeline.added_tokens import RESERVED, Finder, stand_in
from pipeline.errors import UserError
from pipeline.text import TextEncoder
from pipeline.tokenizer_rules import SPECIAL_TOKENS, AddedToken, TokenizerRules

TEXTS = [
    "Hello World!", "naïve café RÉSUMÉ Ångström", "Straße GROẞE Ärger", "İstanbul ISPARTA ığdır",
    "Привет, МИР! Ёж Й", "안녕하세요 한글", "日本語のガギグ パピプ", "ｶﾞｷﾞ ＡＢＣ１２３",
    "我爱北京天安门，你好！東京都", "السَّلامُ عَلَيْكُمْ", "שלום עוֹלָם", "हिन्दी में", "Nguyễn Đặng",
    "e\u0301 A\u0308 o\u0336x", "zero\u200bwidth soft\u00adhyphen bom\ufefftext",
    "a\u00a0b\u2009c\u3000d\u2028e", "tab\there\nnew\rline\x0bx\x0cy\x85z", "ctrl\x00\x01\x07x\x1fy \ufffd?",
    "ﬁ ⅷ ① ½ ™ Å K", "𐐀𐐨 𝐁 𠀀𠀁 豈更", "“a” — b… c", "", "  . ", "天安門ab東京x", "中文中文ΐ ǅ ϔ", "[MASK] [x]",
    "Ab" * 40, "é" * 60, "ab中" * 60,
]  # fmt: skip
ADDED = [
    AddedToken("<user>"), AddedToken("covid-19", normalized=True), AddedToken("Tok", single_word=True),
    AddedToken("naïve", normalized=True, single_word=True), AddedToken("@@"), AddedToken("@@@"),
    AddedToken("中文", normalized=True), AddedToken("東京"), AddedToken("[E1]"),
]  # fmt: skip
PLACES = ["{}", "a {} b", "x{}y", "{}{}", "{},{}.", "中{}文", "Ａ{} ", "é{}é", "_{}", "{} {}{}!"]


def vocabulary(added=()):
    """Every character of the texts in every form, and words that the switches would take apart."""
    words = [
        "hello",
        "Hello",
        "naïve",
        "naive",
        "東京都",
        "天安門",
        "中文",
        "covid",
        "cafe",
        "café",
        "soft",
        "##hyphen",
    ]
    normals = [
        normalizers.BertNormalizer(True, False, strip, lower) for strip in (True, False) for lower in (True, False)
    ]
    forms = {c for text in TEXTS for c in text} | {c for n in normals for text in TEXTS for c in n.normalize_str(text)}
    letters = sorted(c for c in forms if (c.strip() and c.isprintable()) or c in "\u200b\u00ad\x07")
    letters += [*"ok<>@_Е1-,."]
    pieces = [*SPECIAL_TOKENS, *words, *letters, *(f"##{c}" for c in letters), *(token.content for token in added)]
    return list(dict.fromkeys(pieces))


def hugging_face(pieces, lowercase, rules):
    """The same tokenizer by Hugging Face's library."""
    ids = {piece: number for number, piece in enumerate(pieces)}
    tokenizer = tokenizers.Tokenizer(
        models.WordPiece(ids, unk_token="[UNK]", max_input_chars_per_word=rules.max_word_characters)
    )
    tokenizer.normalizer = normalizers.BertNormalizer(
        rules.clean_text, rules.tokenize_chinese_chars, rules.strip_accents, lowercase
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    for token in rules.added_tokens:
        tokenizer.add_tokens(
            [tokenizers.AddedToken(token.content, single_word=token.single_word, normalized=token.normalized)]
        )
    return tokenizer


def assert_same(texts, lowercase, rules, strange=lambda text: "Σ" in text):
    """That both tokenizers give the same ids, and that tokens by name and with places are the same tokens."""
    pieces = vocabulary(rules.added_tokens)
    encoder = TextEncoder(pieces, lowercase, 64, rules)
    texts = [text for text in texts if not strange(text)]
    theirs = [row.ids for row in hugging_face(pieces, lowercase, rules).encode_batch(texts, add_special_tokens=False)]
    ours = encoder.tokenize(texts).to_list()
    different = {
        text: ([pieces[i] for i in a], [pieces[i] for i in b])
        for text, a, b in zip(texts, ours, theirs, strict=True)
        if a != b
    }
    assert different == {}
    names = encoder.tokenize_with_offsets(texts)[0].to_list()
    assert [[name.decode() for name in row] for row in names] == [[pieces[i] for i in row] for row in ours]


SWITCHES = [
    *itertools.product((True, False), (None, True, False), (True, False), (True, False)),
]


@pytest.mark.parametrize(("lowercase", "strip", "chinese", "clean"), SWITCHES)
def test_every_combination_of_switches(lowercase, strip, chinese, clean):
    rules = TokenizerRules(strip, chinese, clean)
    assert_same(TEXTS, lowercase, rules)


@pytest.mark.parametrize(("lowercase", "strip", "chinese"), [
    (True, None, True), (False, None, True), (True, False, False), (False, True, False), (True, False, True),
])  # fmt: skip
def test_added_tokens_are_found_as_hugging_face_finds_them(lowercase, strip, chinese):
    rules = TokenizerRules(strip, chinese, added_tokens=tuple(ADDED))
    contents = [form for token in ADDED for form in (token.content, token.content.upper(), token.content.lower())]
    texts = [place.format(*([content] * 3)) for content in contents for place in PLACES]
    random = np.random.default_rng(0)
    texts += ["".join(random.choice([*contents, *"ab ,中é_\t"], n)) for n in random.integers(1, 12, 400)]
    assert_same([*TEXTS, *texts], lowercase, rules)


def test_long_words_by_the_vocabularys_own_limit():
    for limit in (1, 7, 100, 999):
        texts = [letter * n + end for letter in "aé中" for n in (limit, limit + 1) for end in ("", " b", ".")]
        assert_same(texts, True, TokenizerRules(max_word_characters=limit))
        assert_same(texts, False, TokenizerRules(tokenize_chinese_chars=False, max_word_characters=limit))
    with pytest.raises(UserError, match="max_input_chars_per_word"):
        TokenizerRules(max_word_characters=1000)


def named(encoder, text):
    return [encoder.vocabulary[i] for i in encoder.tokenize([text]).to_list()[0]]


def test_never_split_tokens_are_whole_between_spaces():
    """BasicTokenizer of transformers 4: words by spaces, and those that are named are left as they are."""
    encoder = TextEncoder([*vocabulary(), "U.S.", "[x]"], True, 64, TokenizerRules(never_split=("U.S.", "[x]")))
    assert named(encoder, "U.S. [x] U.S.\tU.S.") == ["U.S.", "[x]", "U.S.", "U.S."]
    assert named(encoder, "u.s. (U.S.) a[x] [x],") == [
        "u", ".", "s", ".", "[UNK]", "u", ".", "s", ".", "[UNK]", "a", "[", "x", "]", "[", "x", "]", ",",
    ]  # fmt: skip


def test_special_tokens_in_text_stay_text_though_they_are_listed():
    rules = TokenizerRules(added_tokens=(AddedToken("[MASK]"), AddedToken("<user>")))
    encoder = TextEncoder(vocabulary(ADDED), True, 64, rules)
    assert named(encoder, "[MASK]<user>") == ["[", "m", "##a", "##s", "##k", "]", "<user>"]


def test_places_of_added_tokens_are_bytes_of_the_text_as_it_was_given():
    encoder = TextEncoder(vocabulary(ADDED), True, 64, TokenizerRules(added_tokens=tuple(ADDED)))
    texts = ["é<user>é COVID-19s", "@@@@ Tok Toka NAÏVE", b"\xff<user>\xff x", "中文<user>"]
    tokens, begins, ends = (part.to_list() for part in encoder.tokenize_with_offsets(texts))
    raw = [text if isinstance(text, bytes) else text.encode() for text in texts]
    spans = [[text[a:b] for a, b in zip(x, y, strict=True)] for text, x, y in zip(raw, begins, ends, strict=True)]
    assert [piece.decode() for piece in tokens[0]] == ["e", "<user>", "e", "covid-19", "s"]
    assert [piece.decode() for piece in spans[0]] == ["é", "<user>", "é", "COVID-19", "s"]
    assert [piece.decode() for piece in spans[1]] == ["@@@", "@", "Tok", "T", "o", "k", "a", "NAÏVE"]
    assert spans[2] == [b"<user>\xff", b"x"] and [piece.decode() for piece in spans[3]] == ["中文", "<user>"]


def test_text_cannot_bring_a_character_that_stands_for_a_token():
    encoder = TextEncoder(vocabulary(ADDED), True, 64, TokenizerRules(added_tokens=tuple(ADDED)))
    for text in (stand_in(0), f"a {stand_in(1)} <user>", "\U000bffff<user>\U000bffff", stand_in(70_000)):
        pieces = named(encoder, text)
        assert pieces.count("<user>") == text.count("<user>") and "[UNK]" in pieces
        assert [name.decode() for name in encoder.tokenize_with_offsets([text])[0].to_list()[0]] == pieces


def test_in_a_served_model_with_operations_that_servers_have(tmp_path):
    encoder = TextEncoder(vocabulary(ADDED), True, 16, TokenizerRules(False, False, added_tokens=tuple(ADDED)))
    texts = ["a <user> b", "COVID-19 Tok.", "plain", "", "中文 東京都"]
    module = tf.Module()
    module.encoder = encoder
    module.encode = tf.function(encoder.__call__, input_signature=[tf.TensorSpec([None], tf.string)] * 2)
    tf.saved_model.save(module, str(tmp_path / "saved"))
    again = tf.saved_model.load(str(tmp_path / "saved"))
    for name, tensor in encoder(texts, texts[::-1]).items():
        np.testing.assert_array_equal(again.encode(tf.constant(texts), tf.constant(texts[::-1]))[name], tensor)
    definition = module.encode.get_concrete_function().graph.as_graph_def()
    nodes = [*definition.node, *(node for function in definition.library.function for node in function.node_def)]
    assert not [node.op for node in nodes if "TFText>" in node.op or "Table" in node.op or "PyFunc" in node.op]
    assert minimum_version(node.op for node in nodes) == OLDEST


def test_thousands_of_added_tokens():
    words = [f"<w{number}>" for number in range(5000)]
    encoder = TextEncoder(
        [*SPECIAL_TOKENS, "a", *words], True, 64, TokenizerRules(added_tokens=tuple(map(AddedToken, words)))
    )
    assert named(encoder, "a<w17>a<w4999><w49999>") == ["a", "<w17>", "a", "<w4999>", "[UNK]", "[UNK]", "[UNK]"]


def test_an_added_token_may_be_longer_than_a_word():
    token = "abcdefghabcdefgh"
    pieces = [*SPECIAL_TOKENS, "a", "b", token]
    encoder = TextEncoder(
        pieces, True, 64, TokenizerRules(max_word_characters=12, added_tokens=(AddedToken(token, normalized=True),))
    )
    assert named(encoder, f"a {token} b") == ["a", token, "b"]
    # Neither are a long word and a character that is of no token.
    assert named(encoder, f"{'a' * 13} \u0378") == ["[UNK]", "[UNK]"]


def made_words(count):
    chance = random.Random(0)
    words = {"".join(chance.choices("abcdefghij", k=chance.randint(4, 9))) for _ in range(count)}
    return sorted(words)


def test_thousands_of_added_words_are_found_from_the_left_the_longest_first():
    words = made_words(20_000)
    finder = Finder(dict.fromkeys(words, "1"), dict.fromkeys(words, ""))
    chance, known = random.Random(1), set(words)
    texts = ["".join(chance.choices("abcdefghij", k=300)) for _ in range(8)]

    def plain(text):
        found, place = [], 0
        while place < len(text):
            size = next((n for n in range(9, 3, -1) if text[place : place + n] in known), 0)
            found.append(" 1 " if size else text[place])
            place += size or 1
        return "".join(found)

    expected = [plain(text) for text in texts]
    assert all(" 1 " in text for text in expected)
    assert [text.decode() for text in finder.replaced(tf.constant(texts)).numpy()] == expected


def test_what_added_words_begin_alike_is_once_in_the_pattern():
    """RE2 compiles no pattern that has each of these whole."""
    chance = random.Random(0)
    stems = ["".join(chance.choices("abcdefghij", k=40)) for _ in range(1000)]
    words = [stem + "k" * number for stem in stems for number in range(20)]
    finder = Finder(dict.fromkeys(words, "1"), dict.fromkeys(words, ""))
    assert finder.replaced(tf.constant([f"{words[19]}k", stems[1][1:]])).numpy().tolist() == [
        b" 1 k",
        stems[1][1:].encode(),
    ]


def test_more_added_words_than_one_pattern_holds_are_refused():
    words = [f"{number:06}{'x' * 60}" for number in range(10_000)]
    with pytest.raises(UserError, match=r"10000 added tokens have .* bytes, .*: 500000 at most"):
        Finder(dict.fromkeys(words, "1"), dict.fromkeys(words, ""))


def test_an_added_token_that_is_a_piece_too_is_found_as_a_piece_as_well():
    rules = TokenizerRules(added_tokens=(AddedToken("Hello", single_word=True),), strip_accents=False)
    assert_same(["Hello hello Hellohello HELLO", "xHello", "Hello-Hello"], False, rules)


def test_rules_that_do_not_fit_the_vocabulary():
    with pytest.raises(UserError, match="lacks the added token '<new>'"):
        TextEncoder(vocabulary(), rules=TokenizerRules(added_tokens=(AddedToken("<new>"),)))


def test_fingerprint_changes_with_every_rule_and_not_without():
    pieces = vocabulary(ADDED)
    plain = TextEncoder(pieces).fingerprint
    assert TextEncoder(pieces, rules=TokenizerRules()).fingerprint == plain
    others = [
        TokenizerRules(strip_accents=False), TokenizerRules(False, False), TokenizerRules(clean_text=False),
        TokenizerRules(max_word_characters=100), TokenizerRules(never_split=("hello",)),
        TokenizerRules(added_tokens=(ADDED[0],)), TokenizerRules(added_tokens=(ADDED[0], ADDED[2])),
    ]  # fmt: skip
    assert len({plain, *(TextEncoder(pieces, rules=rules).fingerprint for rules in others)}) == 8


def test_fingerprint_of_the_default_rules_is_that_of_earlier_versions():
    """Finished runs are resumed by it; Unicode's version is part of the table."""
    import hashlib

    from pipeline.normalizer import Switches, normalizer_table

    encoder = TextEncoder([*SPECIAL_TOKENS, "a"], True, 128)
    digest = hashlib.sha256(normalizer_table(Switches(True, True), encoder.unknown_character))
    digest.update(repr((encoder.vocabulary, True, 128)).encode())
    assert encoder.fingerprint == digest.hexdigest()


def test_rules_through_json():
    rules = TokenizerRules(False, False, False, 99, ("x",), tuple(ADDED))
    assert TokenizerRules.from_json(json.loads(json.dumps(rules.to_json()))) == rules
    assert TokenizerRules().to_json() == {} and TokenizerRules.from_json({}) == TokenizerRules()


def test_finder_alone():
    finder = Finder({"ab": "1", "abc": "2"}, {"ab": "", "abc": ""})
    assert finder.replaced(tf.constant(["xababcab", "", "a b"])).numpy().tolist() == [b"x 1  2  1 ", b"", b"a b"]
    assert finder.found(tf.constant(["xabx", "x", "a\U000c0000"])).numpy().tolist() == [True, False, True]
    assert RESERVED


@pytest.mark.parametrize(("lowercase", "strip", "chinese", "clean"), SWITCHES)
@pytest.mark.slow
def test_twenty_thousand_texts(shared, lowercase, strip, chinese, clean):
    with lzma.open(shared / "golden/wordpiece.jsonl.xz", "rt") as file:
        texts = [json.loads(line)["text"] for line in file][:20000]
    rules = TokenizerRules(strip, chinese, clean)
    pieces = vocabulary()
    encoder, theirs = TextEncoder(pieces, lowercase, 64, rules), hugging_face(pieces, lowercase, rules)

    def different(texts):
        rows = theirs.encode_batch(texts, add_special_tokens=False)
        return [text for text, a, b in zip(texts, encoder.tokenize(texts).to_list(), rows, strict=True) if a != b.ids]

    found = different(texts)
    # Characters that the two know by other versions of Unicode, of private use, and a sigma at the end of a word.
    known = {text[1] for text in different(sorted({f"a{c}b" for text in found for c in text}))} | {"Σ"}
    assert [text for text in found if known.isdisjoint(text)] == []
