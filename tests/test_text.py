"""TextEncoder against google-research/bert's rules."""

import json
import lzma
import subprocess
import sys
import unicodedata

import numpy as np
import pytest
import tensorflow as tf
from reference_tokenizer import basic_tokenize, full_tokenize, truncate_pair

from pipeline.errors import UserError
from pipeline.text import TextEncoder, load_vocabulary

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
LETTERS = "abcdefghijklmnopqrstuvwxyzABCσςδοé0123456789"
WORDS = [*SPECIAL, "the", "un", "##aff", "##able", "runn", "##ing", "!", "[", "]", "mask", "MASK", "#", "中", "国"]
VOCABULARY = list(dict.fromkeys([*WORDS, *LETTERS, *(f"##{c}" for c in LETTERS)]))


@pytest.fixture(scope="module")
def encoder():
    return TextEncoder(VOCABULARY, sequence_length=16)


def pieces(encoder, strings):
    return [[encoder.vocabulary[i] for i in row] for row in encoder.tokenize(strings).to_list()]


def character_encoder(words, lowercase):
    """An encoder in whose vocabulary every character of the words is a piece."""
    characters = sorted({c for word in words for c in word})
    return TextEncoder([*SPECIAL, *characters, *(f"##{c}" for c in characters)], lowercase=lowercase)


@pytest.mark.parametrize("lowercase", [True, False])
def test_every_assigned_code_point_is_treated_as_in_bert(lowercase):
    codes = [c for c in range(1, 0x110000) if unicodedata.category(chr(c)) not in ("Cs", "Cn", "Co")]
    texts = [f"a{chr(code)}b" for code in codes]
    expected = [basic_tokenize(text, lowercase) for text in texts]
    encoder = character_encoder([word for words in expected for word in words], lowercase)
    ids = {piece: number for number, piece in enumerate(encoder.vocabulary)}
    wanted = [[ids[p] for w in words for p in (w[0], *(f"##{c}" for c in w[1:]))] for words in expected]
    differing = [
        hex(c) for c, got, want in zip(codes, encoder.tokenize(texts).to_list(), wanted, strict=True) if got != want
    ]
    assert differing == []


@pytest.mark.parametrize("lowercase", [True, False])
def test_random_unicode_and_random_bytes(lowercase):
    random = np.random.default_rng(0)
    alphabet = [
        *"abAB .,!#-'[]ΣΑσé\u0301\u00ad\u0345\u200b中，\u3000İßĄŁ가힣",
        "\U0001f600",
        "\U00020000",
        "ﬁ",
        "①",
        "Σ",
    ]
    texts = ["".join(random.choice(alphabet, random.integers(0, 12))).encode() for _ in range(3000)]
    texts += [random.integers(0, 256, random.integers(0, 20), np.uint8).tobytes() for _ in range(3000)]
    for text in list(texts[:1000]):  # valid text with one byte broken
        broken = bytearray(text)
        if broken:
            broken[random.integers(len(broken))] ^= 1 << random.integers(8)
            texts.append(bytes(broken))
    expected = [basic_tokenize(text, lowercase) for text in texts]
    # Unicode's unassigned code points may be punctuation to a newer table than Python's.
    kept = [i for i, t in enumerate(texts) if all(unicodedata.category(c) != "Cn" for c in t.decode("utf-8", "ignore"))]
    encoder = character_encoder([word for words in expected for word in words], lowercase)
    got = pieces(encoder, texts)
    for i in kept:
        assert got[i] == full_tokenize(texts[i], set(encoder.vocabulary), lowercase), texts[i]


@pytest.mark.parametrize(
    "word", ["Σ", "ΑΣ", "ΑΣΑ", "ΑΣ.", "ΑΣ.Α", "ΑΣ\u00adΑ", "Α\u0301Σ", "ΑΣΣ ΑΣ", "ΣΑΣ中Σ", "1Σ", "aΣ'b", "ΑΣ\x00Α"]
)
def test_final_sigma(encoder, word):
    letters = character_encoder(["ασς.'ab中1"], True)
    assert pieces(letters, [word])[0] == full_tokenize(word, set(letters.vocabulary))


@pytest.mark.parametrize("letter", ["a", "é", "ก", "ა", "𐐨", "가"])
@pytest.mark.parametrize("length", [66, 67, 199, 200, 201, 500])
def test_words_are_limited_in_characters_not_in_bytes(letter, length):
    word = letter * length
    letters = character_encoder([*basic_tokenize(letter), "x,"], True)
    text = f"x {word}, x"
    assert pieces(letters, [text])[0] == full_tokenize(text, set(letters.vocabulary))


def test_long_chinese_text_is_not_one_word(encoder):
    assert pieces(encoder, ["中国" * 300])[0] == ["中", "国"] * 300


def test_wordpiece_takes_the_longest_piece(encoder):
    assert pieces(encoder, ["unaffable Running, the!"]) == [
        ["un", "##aff", "##able", "runn", "##ing", "[UNK]", "the", "!"]
    ]


def test_user_text_never_becomes_a_special_token(encoder):
    ids = {encoder.cls_id, encoder.sep_id, encoder.pad_id, encoder.vocabulary.index("[MASK]")}
    rows = encoder.tokenize(["[CLS] [SEP] [PAD] [MASK] [mask]", "##able"])
    assert not ids & set(rows.values.numpy())
    assert pieces(encoder, ["[MASK]"]) == [["[", "mask", "]"]]


def test_any_bytes_give_an_answer_and_leave_the_others_alone(encoder):
    hard = [b"\xff\xfe", b"", b"\xed\xa0\x80", b"a" * 10_000_000, "😀".encode() * 100_000, b"\x00", b"\xe4\xb8"]
    outputs = encoder([b"the", *hard])
    np.testing.assert_array_equal(outputs["token_ids"][0][:3], encoder(["the"])["token_ids"][0])
    assert outputs["token_ids"].shape[0] == 1 + len(hard)


def test_single_texts(encoder):
    outputs = {name: tensor.numpy() for name, tensor in encoder(["the", "", "the " * 100]).items()}
    the, cls, sep = encoder.vocabulary.index("the"), encoder.cls_id, encoder.sep_id
    assert outputs["token_ids"].shape == (3, 16)
    assert outputs["token_ids"][0].tolist() == [cls, the, sep] + [0] * 13
    assert outputs["token_ids"][1].tolist() == [cls, sep] + [0] * 14
    assert outputs["token_ids"][2].tolist() == [cls] + [the] * 14 + [sep]
    assert outputs["padding_mask"].sum(axis=1).tolist() == [3, 2, 16]
    assert not outputs["segment_ids"].any()
    assert {tensor.dtype for tensor in outputs.values()} == {np.dtype("int32")}
    assert encoder(["the"])["token_ids"].shape == (1, 3)
    assert encoder(["the"], fixed_length=True)["token_ids"].shape == (1, 16)


@pytest.mark.parametrize("length", [4, 5, 8, 9, 16])
def test_pairs_lose_tokens_as_in_bert(length):
    encoder = TextEncoder(VOCABULARY, sequence_length=length)
    cases = [(a, b) for a in (0, 1, 2, 5, 6, 7, 20) for b in (0, 1, 2, 5, 6, 7, 20)]
    outputs = encoder(["a " * a for a, _ in cases], ["b " * b for _, b in cases], fixed_length=True)
    for row, (a, b) in enumerate(cases):
        first, second = ["a"] * a, ["b"] * b
        truncate_pair(first, second, length - 3)
        expected = ["[CLS]", *first, "[SEP]", *second, "[SEP]"]
        segments = [0] * (len(first) + 2) + [1] * (len(second) + 1)
        padding = [0] * (length - len(expected))
        assert outputs["token_ids"][row].numpy().tolist() == [encoder.vocabulary.index(p) for p in expected] + padding
        assert outputs["segment_ids"][row].numpy().tolist() == segments + padding
        assert outputs["padding_mask"][row].numpy().tolist() == [1] * len(expected) + padding


def test_the_same_in_a_dataset_and_in_a_saved_model(encoder, tmp_path):
    texts = ["the unaffable", "中国 ΑΣ é", ""]
    expected = encoder(texts)["token_ids"].numpy()
    dataset = tf.data.Dataset.from_tensor_slices(texts).batch(3).map(encoder)
    np.testing.assert_array_equal(next(iter(dataset))["token_ids"], expected)
    module = tf.Module()
    module.encoder = encoder
    module.encode = tf.function(lambda text: encoder(text), input_signature=[tf.TensorSpec([None], tf.string)])
    tf.saved_model.save(module, str(tmp_path / "saved"))
    code = (
        "import json, sys, tensorflow as tf, tensorflow_text; module = tf.saved_model.load(sys.argv[1]);"
        "print(json.dumps(module.encode(tf.constant(json.loads(sys.argv[2])))['token_ids'].numpy().tolist()))"
    )
    process = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "saved"), json.dumps(texts)],
        capture_output=True, text=True, check=True, cwd=tmp_path,
    )  # fmt: skip
    assert json.loads(process.stdout.splitlines()[-1]) == expected.tolist()


def test_fingerprint_changes_with_all_that_decides_the_output(encoder):
    others = [
        TextEncoder(VOCABULARY, sequence_length=17),
        TextEncoder(VOCABULARY, lowercase=False, sequence_length=16),
        TextEncoder([*VOCABULARY, "new"], sequence_length=16),
    ]
    assert len({encoder.fingerprint, *(other.fingerprint for other in others)}) == 4
    assert TextEncoder(VOCABULARY, sequence_length=16).fingerprint == encoder.fingerprint


def test_vocabulary_files(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_bytes("\r\n".join([*SPECIAL, "a\u2028b", "c"]).encode() + b"\r\n\r\n")
    assert load_vocabulary(path) == [*SPECIAL, "a\u2028b", "c"]
    assert TextEncoder(path).vocabulary == (*SPECIAL, "a\u2028b", "c")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"[PAD]\n\n[UNK]", "line 2"),
        (b"\xff", "byte 0"),
        ("\n".join([*SPECIAL, "a", "a"]).encode(), "lines 6 and 7"),
        (b"[PAD]\n[UNK]\n[CLS]\na", r"\[SEP\]"),
    ],
)
def test_bad_vocabulary_is_one_sentence_with_the_file(tmp_path, content, message):
    path = tmp_path / "vocab.txt"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        TextEncoder(path)
    assert str(path) in str(error.value)


def test_missing_vocabulary_file(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        TextEncoder(tmp_path / "none.txt")


def test_golden_text(shared):
    with lzma.open(shared / "golden/wordpiece.jsonl.xz", "rt") as file:
        rows = [json.loads(line) for line in file]
    encoder = TextEncoder(shared / "golden/vocab.txt")
    got = encoder.tokenize([row["text"] for row in rows]).to_list()
    assert [row["text"] for row, ids in zip(rows, got, strict=True) if row["ids"] != ids] == []


@pytest.mark.parametrize("lowercase", [True, False])
def test_golden_code_points(shared, lowercase):
    with lzma.open(shared / "golden/codepoints.jsonl.xz", "rt") as file:
        rows = [json.loads(line) for line in file]
    expected = [row[1 if lowercase else 2] for row in rows]
    encoder = character_encoder([word for words in expected for word in words], lowercase)
    got = pieces(encoder, [f"a{chr(row[0])}b" for row in rows])
    wanted = [[p for w in words for p in (w[0], *(f"##{c}" for c in w[1:]))] for words in expected]
    assert [hex(row[0]) for row, a, b in zip(rows, got, wanted, strict=True) if a != b] == []
