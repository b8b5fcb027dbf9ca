"""Vocabularies learned, extended and measured."""

import dataclasses
import json
import lzma
import random
import subprocess
import sys
from collections import Counter
from itertools import islice

import numpy as np
import pytest
import tensorflow as tf
from reference_tokenizer import basic_tokenize
from tokenizers import normalizers, pre_tokenizers

from pipeline import vocabulary, word_counts, words
from pipeline.backbone import huggingface
from pipeline.backbone.extend import added_tokens, extend_backbone
from pipeline.backbone.fresh import build
from pipeline.backbone.heads import PretrainingHeads
from pipeline.backbone.load import load_backbone
from pipeline.backbone.loaded import LoadedBackbone
from pipeline.config import ModelConfig, TextConfig
from pipeline.errors import UserError
from pipeline.text import TextEncoder
from pipeline.tokenizer_rules import SPECIAL_TOKENS
from pipeline.vocabulary import Coverage, coverage, extend, learn, main
from pipeline.vocabulary_file import load_vocabulary, save_vocabulary
from pipeline.words import WordCounter

CASES = pytest.mark.parametrize("lowercase", [True, False], ids=["uncased", "cased"])
LETTERS = "abcdefghijklmnopqrstuvwxyz"
OLD = [*SPECIAL_TOKENS, *LETTERS, *(f"##{c}" for c in LETTERS), "the", "was", "pain", "##ing", ".", "中"]


def made_up(seed=0, documents=60):
    """Documents of words of a few syllables, some far more frequent than others, and of other scripts."""
    chance = random.Random(seed)
    syllables = ["ka", "to", "Mi", "ré", "sun", "pol", "ix", "über"]
    words = ["".join(chance.choices(syllables, k=chance.randint(1, 4))) for _ in range(400)]
    words += ["中国", "人民，好。", "don't", "Ünï", "ΑΣ", "한국어", "x-ray!", "１２", "😀", "\u00adsoft", "a\u0301b"]
    weights = [1 / (i + 1) for i in range(len(words))]
    return [
        [" ".join(chance.choices(words, weights, k=12)) for _ in range(5)] + [" ".join(words)] for _ in range(documents)
    ]


CORPUS = made_up()


def pieces(encoder, strings):
    return [[encoder.vocabulary[i] for i in row] for row in encoder.tokenize(strings).to_list()]


def counted(documents, lowercase):
    return vocabulary._count(documents, WordCounter(lowercase)).words


@CASES
def test_words_are_those_of_bert_and_of_hugging_face(lowercase):
    sentences = [sentence for document in CORPUS for sentence in document]
    words = counted(CORPUS, lowercase)
    assert words == Counter(word for sentence in sentences for word in basic_tokenize(sentence, lowercase))
    normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    # Where the two agree: Hugging Face knows no final sigma.
    normal = [normalizer.normalize_str(sentence.replace("ΑΣ", "a")) for sentence in sentences]
    theirs = Counter(w for text in normal for w, _ in pre_tokenizers.BertPreTokenizer().pre_tokenize_str(text))
    assert counted([[sentence.replace("ΑΣ", "a")] for sentence in sentences], lowercase) == theirs


@CASES
def test_a_learned_vocabulary_spells_its_corpus(lowercase):
    learned = learn(CORPUS, 400, 1, lowercase)
    assert len(learned) == len(set(learned)) == 400
    assert tuple(learned[:5]) == SPECIAL_TOKENS
    encoder = TextEncoder(learned, lowercase)
    rows = pieces(encoder, [sentence for document in CORPUS for sentence in document])
    assert "[UNK]" not in {piece for row in rows for piece in row}
    # Most of what was merged is used, and makes the text shorter than its letters by far.
    used = {piece for row in rows for piece in row}
    merged = [piece for piece in learned if len(piece.removeprefix("##")) > 1]
    assert len(used.intersection(merged)) > 0.6 * len(merged) > 60
    letters = TextEncoder([piece for piece in learned[5:] if piece not in merged] + learned[:5], lowercase)
    assert coverage(encoder, CORPUS).tokens < 0.6 * coverage(letters, CORPUS).tokens
    # The commonest word of several letters is a piece.
    words = counted(CORPUS, lowercase)
    assert max((word for word in words if len(word) > 2), key=words.get) in learned


def test_ideographs_are_pieces_of_their_own():
    learned = learn([["中国人民", "中国x人", "，中"]] * 50, 30, 1)
    assert {"中", "国", "人", "民", "，"} < set(learned)
    assert not [piece for piece in learned[5:] if len(piece) > 1]


def test_the_same_corpus_gives_the_same_vocabulary():
    """Whatever the order of its documents; the trainer's own numbering changes with every call."""
    first = learn(CORPUS, 350, 2)
    assert all(learn(order, 350, 2) == first for order in (CORPUS, CORPUS[::-1], CORPUS[30:] + CORPUS[:30]))


def test_rare_characters_and_pairs_are_left_out():
    learned = learn([["abab abab abab cdcd", "é ж"]] * 2 + [["ж zz"]], 100, 3)
    assert {p for p in learned[5:] if len(p.removeprefix("##")) == 1} == {*"abcdж", "##a", "##b", "##c", "##d"}
    assert "abab" in learned and not {"cd", "##cd", "cdcd"}.intersection(learned)
    assert pieces(TextEncoder(learned), ["zz ж abab"]) == [["[UNK]", "ж", "abab"]]


def test_size_is_exact_where_there_is_text_and_refused_where_it_is_too_small():
    assert [len(learn(CORPUS, size, 1)) for size in (150, 151, 333)] == [150, 151, 333]
    assert len(learn([["one two"]], 1000, 1)) < 30
    with pytest.raises(UserError, match=r"size is 60, but the special tokens and the characters .* take"):
        learn(CORPUS, 60, 1)


@pytest.mark.parametrize(("documents", "min_count"), [([], 1), ([[" \u200b"]], 1), ([["a b"]], 2)])
def test_a_corpus_without_words(documents, min_count):
    with pytest.raises(UserError, match="The corpus has no"):
        learn(documents, 100, min_count)


def test_what_no_piece_can_spell_is_not_learned():
    # Unassigned (U+0378), and a word longer than the encoder takes.
    learned = learn([["ab \u0378 a\u0378 " + "é" * 201 + " " + "ก" * 150]] * 9, 400, 1)
    assert not [piece for piece in learned if "\u0378" in piece or "\U0010ffff" in piece or len(piece) > 66]
    assert pieces(TextEncoder(learned), ["ab ก"]) == [["ab", "ก"]]


def test_pruned_words_leave_their_characters(monkeypatch):
    whole = learn(CORPUS, 300, 1)
    monkeypatch.setattr(word_counts, "MOST_WORDS", 150)
    monkeypatch.setattr(words, "_LOOKED_AT", 1000)
    monkeypatch.setattr(words, "MOST_STRINGS", 10)
    assert 100 < len(counted(CORPUS, True)) <= 150
    learned = learn(CORPUS, 300, 1)
    assert learned != whole and learned == learn(CORPUS[::-1], 300, 1)
    assert [p for p in learned if len(p.removeprefix("##")) == 1] == [
        p for p in whole if len(p.removeprefix("##")) == 1
    ]
    assert coverage(TextEncoder(learned), CORPUS).unknown == 0


def test_files(tmp_path):
    path = tmp_path / "folder" / "vocab.txt"
    learned = learn(CORPUS, 200, 1)
    save_vocabulary(learned, path)
    assert load_vocabulary(path) == learned
    with pytest.raises(UnicodeEncodeError):
        save_vocabulary(["good", "\ud800"], path)
    assert load_vocabulary(path) == learned and list(path.parent.iterdir()) == [path]


NEW = [["The paining was nephritis.", "Dialysis, dialysis.", "肾 中 zzyzx"], ["Nephritis dialysis 肾 pain"]] * 5


def test_extension_takes_the_words_that_save_most():
    # dialysis 15 * 7 pieces, nephritis 10 * 8, zzyzx 5 * 4, 肾 10 * 1 (it was
    # unknown), the comma 5 * 1 (likewise), paining 5 * 1.
    order = ["dialysis", "nephritis", "zzyzx", "肾", ",", "paining"]
    assert extend(OLD, NEW, 100) == [*OLD, *order]
    assert extend(OLD, NEW, 2) == [*OLD, *order[:2]]
    assert extend(OLD, NEW, 100, min_count=10) == [*OLD, "dialysis", "nephritis", "肾"]
    assert extend(OLD, [["Xy xy"]] * 5, 9, lowercase=False) == [*OLD, "Xy", "xy"]
    assert extend(OLD, [["a\u0378 " + "ก" * 100 + " " + "b" * 201]] * 9, 9) == OLD


def test_extension_leaves_other_text_as_it_was():
    new = extend(OLD, NEW, 3)
    before, after = TextEncoder(OLD), TextEncoder(new)
    assert pieces(after, ["Nephritis dialysis."]) == [["nephritis", "dialysis", "."]]
    chance = random.Random(0)
    texts = ["".join(chance.choices(LETTERS + " .中é", k=30)) for _ in range(2000)]
    assert pieces(after, texts) == pieces(before, texts)


def test_coverage_counts_words_as_often_as_they_occur(monkeypatch):
    encoder = TextEncoder(OLD)
    text = [["The pain was ab.", "ab é"], ["肾"]]  # é is e; ab is two pieces
    expected = Coverage(words=8, tokens=10, unknown=1, single=5)
    assert coverage(encoder, text) == expected
    assert (expected.tokens_a_word, expected.unknown_share, expected.single_share) == (1.25, 0.125, 0.625)
    many = coverage(encoder, NEW)
    monkeypatch.setattr(vocabulary, "MOST_WORDS", 2)
    monkeypatch.setattr(words, "_LOOKED_AT", 1)
    monkeypatch.setattr(words, "MOST_STRINGS", 1)
    assert coverage(encoder, NEW) == many
    assert coverage(encoder, []) == Coverage() and Coverage().tokens_a_word == 0


SIZES = ModelConfig(num_layers=2, num_heads=2, hidden_dim=16, intermediate_dim=32, max_sequence_length=32, dropout=0.0)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    path = tmp_path_factory.mktemp("old") / "vocab.txt"
    save_vocabulary(OLD, path)
    return load_backbone(SIZES, TextConfig(vocabulary=str(path), sequence_length=32), seed=3)


def table(loaded):
    return loaded.backbone.token_embedding.embeddings.numpy()


def test_new_rows_are_means_and_old_ones_stay(loaded):
    words = ["paining", "肾", "the1", "zzyzx"]
    before = table(loaded).copy()
    extended = extend_backbone(loaded, words, TextEncoder(OLD))
    assert extended.vocabulary == (*OLD, *words) and extended.backbone.vocabulary_size == len(OLD) + 4
    np.testing.assert_array_equal(table(extended)[: len(OLD)], before)
    row = {piece: before[i] for i, piece in enumerate(OLD)}
    expected = [
        (row["pain"] + row["##ing"]) / 2,
        row["[UNK]"],
        row["[UNK]"],
        (row["z"] + row["##z"] + row["##y"] + row["##z"] + row["##x"]) / 5,
    ]
    np.testing.assert_allclose(table(extended)[len(OLD) :], expected, rtol=1e-6)
    # The given one is left as it was.
    assert len(table(loaded)) == len(OLD) and loaded.vocabulary == tuple(OLD)


def test_text_without_new_words_is_computed_as_before(loaded):
    words = ["paining", "肾"]
    extended = extend_backbone(loaded, words, TextEncoder(OLD))
    old, new = TextEncoder(OLD), TextEncoder(extended.vocabulary)
    texts = ["The pain was abc.", "中", ""]
    for name, expected in loaded.backbone(old(texts)).items():
        np.testing.assert_array_equal(extended.backbone(new(texts))[name], expected)
    text = ["the paining"]
    outputs = extended.backbone(new(text))["sequence_output"]
    assert outputs.shape[1] == loaded.backbone(old(text))["sequence_output"].shape[1] - 1
    # And the new rows learn.
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(extended.backbone(new(text))["sequence_output"][:, 2] ** 3)
    gradient = tape.gradient(loss, extended.backbone.token_embedding.embeddings.value)
    assert np.abs(tf.convert_to_tensor(gradient)[len(OLD)]).max() > 0


def test_dtype_and_all_that_the_checkpoint_said_stay():
    backbone = build(SIZES, OLD, seed=0, dtype="mixed_bfloat16").backbone
    given = LoadedBackbone(
        backbone, tuple(OLD), True, True, source="there", vocabulary_source="vocab.txt", notes=("a note.",)
    )
    extended = extend_backbone(given, ["肾"], TextEncoder(OLD))
    assert extended == dataclasses.replace(given, backbone=extended.backbone, vocabulary=(*OLD, "肾"))
    assert extended.backbone.dtype_policy.name == "mixed_bfloat16"
    assert extended.backbone.transformer_layers[0].compute_dtype == "bfloat16"
    for a, b in zip(backbone.weights, extended.backbone.weights, strict=True):
        assert a.path.split("/")[-2:] == b.path.split("/")[-2:]
        if a is not backbone.token_embedding.embeddings:
            np.testing.assert_array_equal(a.numpy(), b.numpy())
    assert extend_backbone(given, [], TextEncoder(OLD)) is given


def test_a_config_names_a_checkpoint_and_its_extended_vocabulary(tmp_path, loaded):
    """The words are added when the two are loaded; the bias of the masked-token head grows with the table."""
    bias = np.arange(len(OLD), dtype=np.float32)
    heads = PretrainingHeads(np.eye(16, dtype=np.float32), *(np.zeros(16, np.float32),) * 3, bias)
    huggingface.save(dataclasses.replace(loaded, heads=heads, lowercase=True), tmp_path / "checkpoint")
    save_vocabulary([*OLD, "paining"], tmp_path / "more.txt")
    model = ModelConfig(backbone=str(tmp_path / "checkpoint"))
    found = load_backbone(model, TextConfig(vocabulary=str(tmp_path / "more.txt"), sequence_length=8))
    assert found.vocabulary == (*OLD, "paining")
    places = [OLD.index("pain"), OLD.index("##ing")]
    np.testing.assert_allclose(table(found)[-1], table(loaded)[places].mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(found.heads.output_bias, [*bias, np.mean(places)])
    save_vocabulary([*OLD[:5], "z9", *OLD[5:]], tmp_path / "other.txt")
    with pytest.raises(UserError, match="'z9' in line 6"):
        load_backbone(model, TextConfig(vocabulary=str(tmp_path / "other.txt"), sequence_length=8))


def test_pieces_that_cannot_be_added(loaded):
    with pytest.raises(UserError, match="has 'the' already"):
        extend_backbone(loaded, ["new", "the"], TextEncoder(OLD))
    with pytest.raises(UserError, match="has 'new' already"):
        extend_backbone(loaded, ["new", "new"], TextEncoder(OLD))
    with pytest.raises(UserError, match="not the vocabulary of the encoder"):
        extend_backbone(loaded, ["new"], TextEncoder([*OLD, "other"]))
    assert added_tokens(OLD, [*OLD, "x"], "new.txt") == ["x"]
    with pytest.raises(UserError, match=r"new\.txt has 'x' in line 6, but the checkpoint's vocabulary has 'a'"):
        added_tokens(OLD, [*OLD[:5], "x", *OLD[6:]], "new.txt")
    with pytest.raises(UserError, match=r"new\.txt has 5 tokens"):
        added_tokens(OLD, OLD[:5], "new.txt")


def test_the_command_line(tmp_path, capsys):
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("\n\n".join("\n".join(document) for document in CORPUS), encoding="utf-8")
    common = ["--source", str(corpus), "--corpus.lines", "sentences"]
    old, new = str(tmp_path / "vocab.txt"), str(tmp_path / "new" / "vocab.txt")
    assert main(["learn", *common, "--size", "200", "--min_count", "1", "--cased", "--output", old]) == 0
    assert load_vocabulary(old) == learn(CORPUS, 200, 1, lowercase=False)
    assert "200 tokens, cased" in capsys.readouterr().out
    assert main(["learn", *common, "--size", "99999", "--output", new]) == 0
    assert load_vocabulary(new) == learn(CORPUS, 99999, 2)
    assert "warning: the corpus gives only" in capsys.readouterr().out
    assert main(["extend", *common, "--vocabulary", old, "--cased", "--count", "7", "--output", new]) == 0
    assert load_vocabulary(new) == extend(load_vocabulary(old), CORPUS, 7, lowercase=False)
    before, after = capsys.readouterr().out.splitlines()[-2:]
    found = [coverage(TextEncoder(path, lowercase=False), CORPUS) for path in (old, new)]
    assert before.split()[:3] == ["before", f"{found[0].words:,}", f"{found[0].tokens_a_word:.4f}"]
    assert after.split()[:3] == ["after", f"{found[1].words:,}", f"{found[1].tokens_a_word:.4f}"]
    assert found[1].tokens < found[0].tokens
    assert main(["coverage", *common, "--vocabulary", new, "--cased"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].split()[1:] == after.split()[1:]


def write_tokenizer(folder, pieces, **files):
    folder.mkdir()
    save_vocabulary(pieces, folder / "vocab.txt")
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def test_new_words_come_behind_the_added_tokens_of_a_folder(tmp_path):
    """Special tokens have BERT's names, as where the checkpoint is loaded."""
    pieces = ["<pad>", *OLD[1:]]
    folder = write_tokenizer(
        tmp_path / "from", pieces, added_tokens={"<user>": len(OLD)}, tokenizer_config={"pad_token": "<pad>"}
    )
    (tmp_path / "corpus.txt").write_text("paining <user> paining\n")
    common = ["--source", str(tmp_path / "corpus.txt"), "--vocabulary", str(folder)]
    assert main(["extend", *common, "--min_count", "2", "--output", str(tmp_path / "new.txt")]) == 0
    assert load_vocabulary(tmp_path / "new.txt") == [*OLD, "<user>", "paining"]


@pytest.mark.parametrize("kind", ["said", "pieces", "google"])
def test_a_folder_says_whether_it_is_cased(tmp_path, capsys, kind):
    folder = write_tokenizer(tmp_path / "cased_from", [*OLD, *(["Pain"] if kind == "pieces" else [])])
    if kind == "said":
        (folder / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": False}))
    elif kind == "google":
        (folder / "bert_config.json").write_text("{}")
        (folder / "bert_model.ckpt.index").touch()
    (tmp_path / "corpus.txt").write_text("The THE the\n")

    def unknown(*more):
        assert main(["coverage", "--source", str(tmp_path / "corpus.txt"), "--vocabulary", str(folder), *more]) == 0
        return capsys.readouterr().out.split()[-1]

    assert unknown() == unknown("--cased") == "66.667%"
    assert unknown("--lowercase") == "0.000%"


def test_a_folder_with_rules_that_make_other_words_is_refused(tmp_path, capsys):
    said = {"do_lower_case": False, "strip_accents": False}
    plain = write_tokenizer(tmp_path / "plain", OLD, tokenizer_config=said)
    own = write_tokenizer(tmp_path / "own", OLD, tokenizer_config=said | {"tokenize_chinese_chars": False})
    (tmp_path / "corpus.txt").write_text("the\n")
    for folder, status in ((plain, 0), (own, 2), (own / "vocab.txt", 0)):
        given = ["coverage", "--source", str(tmp_path / "corpus.txt"), "--vocabulary", str(folder)]
        assert main(given) == status
    assert "rules of its own (tokenize_chinese_chars)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["learn", "--source", "none.txt", "--output", "v.txt"], "none.txt: no such file"),
        (["extend", "--source", "a.txt", "--vocabulary", "none.txt", "--output", "v.txt"], "none.txt: the vocabulary"),
        (["learn", "--source", "a.txt", "--size", "6", "--output", "v.txt", "--min_count", "1"], "size is 6"),
        (["extend", "--source", "a.txt", "--vocabulary", "v", "--count", "-1", "--output", "v.txt"], "count is -1"),
        (["learn", "--source", "empty.txt", "--output", "v.txt"], "there is no text"),
        (["learn", "--source", "a.txt", "--output", "v.txt", "--corpus.max_documents", "0"], "max_documents is 0: it"),
    ],
)
def test_errors_are_one_sentence_and_status_2(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text("Some text.")
    (tmp_path / "empty.txt").write_text("\n")
    save_vocabulary(OLD, "v")
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and error.count("\n") == 1
    assert not (tmp_path / "v.txt").exists()


def test_help_does_not_import_tensorflow():
    code = (
        "import sys, pipeline.vocabulary as v\n"
        "try: v.main(sys.argv[1:])\nexcept SystemExit as e: print('status', e.code, 'tensorflow' in sys.modules)"
    )
    for arguments, status in ((["extend", "--help"], "0"), (["learn", "--siz", "1"], "2")):
        process = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
        assert process.stdout.splitlines()[-1] == f"status {status} False"


def test_real_chinese_text(shared):
    with lzma.open(shared / "data/corpora/clue_corpus_small_bert_sampled_zh.txt.xz", "rt", encoding="utf-8") as file:
        lines = [[line] for line in islice(file, 4000) if line.strip()]
    learned = learn(lines, 21128, 2)
    found = coverage(TextEncoder(learned), lines)
    # Unknown are the words with a character that occurs once, and no others.
    words = counted(lines, True)
    characters = Counter("".join(word * count for word, count in words.items()))
    once = sum(count for word, count in words.items() if any(characters[c] == 1 for c in word))
    assert found.unknown == once > 0
    assert found.single_share > 0.95
