"""A Hugging Face folder's tokenizer: read, kept by every format, or refused by name."""

import json

import pytest
import tokenizers
from checkpoints import CONFIG, VOCABULARY, load, random_tensors, write_folder, write_google
from tokenizers import AddedToken as Theirs
from tokenizers import models, normalizers, pre_tokenizers, processors

from pipeline.backbone import hub, huggingface, preset, tf_checkpoint
from pipeline.backbone.casing import has_capitals
from pipeline.backbone.convert import convert, different
from pipeline.backbone.load import load_checkpoint
from pipeline.backbone.tokenizer_files import read_tokenizer
from pipeline.errors import UserError
from pipeline.text import TextEncoder
from pipeline.tokenizer_rules import SPECIAL_TOKENS, AddedToken, TokenizerRules
from pipeline.vocabulary_file import load_vocabulary

PIECES = [*SPECIAL_TOKENS, "a", "b", "##a", "##b", "é", "中", "##中"]


def write(folder, pieces=PIECES, **files):
    """A folder of tokenizer files: each argument is a file's content, its name with _ for the dot of .json."""
    folder.mkdir(exist_ok=True)
    if pieces:
        (folder / "vocab.txt").write_text("".join(f"{piece}\n" for piece in pieces))
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def fast(pieces=PIECES, added=(), **normalizer):
    """tokenizer.json as Hugging Face's library writes it."""
    ids = {piece: number for number, piece in enumerate(pieces)}
    made = tokenizers.Tokenizer(models.WordPiece(ids, unk_token="[UNK]", max_input_chars_per_word=100))
    made.normalizer = normalizers.BertNormalizer(**normalizer)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.add_special_tokens([Theirs(token, normalized=False) for token in SPECIAL_TOKENS])
    made.add_tokens(list(added))
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])],
    )
    return json.loads(made.to_str())


def names(read, text):
    encoder = TextEncoder(read.vocabulary, read.lowercase is not False, 16, read.rules)
    return [encoder.vocabulary[i] for i in encoder.tokenize([text]).to_list()[0]]


def test_switches_of_tokenizer_config(tmp_path):
    said = {"do_lower_case": True, "strip_accents": False, "tokenize_chinese_chars": False, "never_split": ["a"]}
    read = read_tokenizer(write(tmp_path, tokenizer_config=said))
    assert read.lowercase is True and read.notes == ()
    assert read.rules == TokenizerRules(False, False, never_split=("a",))


def test_switches_of_tokenizer_json(tmp_path):
    content = fast(lowercase=False, strip_accents=True, handle_chinese_chars=False, clean_text=False)
    read = read_tokenizer(write(tmp_path, tokenizer=content))
    assert read.lowercase is False and read.rules == TokenizerRules(True, False, False)
    # tokenizer_config.json overrules it, unless the class is nothing but tokenizer.json.
    said = {"do_lower_case": True, "strip_accents": False}
    assert read_tokenizer(write(tmp_path, tokenizer_config=said)).rules == TokenizerRules(False, False, False)
    bare = said | {"tokenizer_class": "PreTrainedTokenizerFast"}
    again = read_tokenizer(write(tmp_path, tokenizer_config=bare))
    assert again.lowercase is False and again.rules.strip_accents is True


def test_longest_word_of_tokenizer_json(tmp_path):
    content = fast()
    assert read_tokenizer(write(tmp_path, tokenizer=content)).rules == TokenizerRules()
    content["model"]["max_input_chars_per_word"] = 50
    assert read_tokenizer(write(tmp_path, tokenizer=content)).rules.max_word_characters == 50


def test_sequences_that_mean_the_same_are_read(tmp_path):
    content = fast(lowercase=False)
    bert, cut = content["normalizer"], content["pre_tokenizer"]
    content["normalizer"] = {"type": "Sequence", "normalizers": [bert, {"type": "Lowercase"}]}
    content["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, cut]}
    read = read_tokenizer(write(tmp_path, tokenizer=content))
    assert read.lowercase is True and read.rules.strip_accents is False
    assert names(read, "A é") == ["a", "é"]


OTHERS = [
    ({"normalizer": {"type": "NFC"}}, "normalizer is NFC"),
    ({"normalizer": None}, "normalizer is none"),
    ({"pre_tokenizer": {"type": "WhitespaceSplit"}}, "pre_tokenizer is WhitespaceSplit"),
    ({"pre_tokenizer": None}, "pre_tokenizer is none"),
    ({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}}, "model is BPE"),
    ({"model": {"type": "WordPiece", "vocab": {"a": 0}, "continuing_subword_prefix": ""}}, "prefix is ''"),
    ({"model": {"type": "WordPiece", "vocab": {"b": 0}, "unk_token": "<u>"}}, "unk_token is '<u>'|has the id 0"),
    ({"post_processor": {"type": "RobertaProcessing"}}, "post_processor is RobertaProcessing"),
    ({"post_processor": {"type": "TemplateProcessing", "single": [], "pair": []}}, "post_processor is Template"),
]


@pytest.mark.parametrize(("change", "message"), OTHERS)
def test_parts_of_tokenizer_json_that_are_not_berts_are_named(tmp_path, change, message):
    folder = write(tmp_path, tokenizer=fast() | change)
    with pytest.raises(UserError, match=message) as error:
        read_tokenizer(folder)
    assert "\n" not in str(error.value)


KINDS = [
    ({"tokenizer_class": "BertJapaneseTokenizer"}, {}, "BertJapaneseTokenizer, which cuts Japanese"),
    ({}, {"tokenizer_class": "BertJapaneseTokenizer"}, r"config\.json: its tokenizer is a BertJapanese"),
    ({"word_tokenizer_type": "mecab"}, {}, "word_tokenizer_type is 'mecab'"),
    ({"subword_tokenizer_type": "character"}, {}, "subword_tokenizer_type is 'character'"),
    ({"tokenizer_class": "PhobertTokenizer"}, {}, "PhobertTokenizer, which takes words"),
    ({"tokenizer_class": "HerbertTokenizerFast"}, {}, "HerbertTokenizerFast, not BERT's"),
    ({"auto_map": {"AutoTokenizer": ["x.MyTokenizer", None]}}, {}, r"code of its own \(auto_map: x.MyTokenizer\)"),
    ({"do_basic_tokenize": False}, {}, "do_basic_tokenize is false"),
    ({"never_split": ["zz"]}, {}, "never_split has 'zz'"),
]


@pytest.mark.parametrize(("tokenizer", "model", "message"), KINDS)
def test_tokenizers_that_are_not_berts_are_named(tmp_path, tokenizer, model, message):
    with pytest.raises(UserError, match=message):
        read_tokenizer(write(tmp_path, tokenizer_config=tokenizer, config=model))


def test_sentencepiece_and_vocabularies_without_continuations(tmp_path):
    with pytest.raises(UserError, match=r"SentencePiece's \('▁ab'"):
        read_tokenizer(write(tmp_path, [*SPECIAL_TOKENS, "▁ab", "c"]))
    assert "begins with ##" in read_tokenizer(write(tmp_path, [*SPECIAL_TOKENS, "ab", "c"])).notes[0]
    assert read_tokenizer(write(tmp_path, [*SPECIAL_TOKENS, *"abc"])).notes == ()


def test_added_tokens_of_every_file(tmp_path):
    more = {"<user>": len(PIECES), "Covid-19": len(PIECES) + 1}
    read = read_tokenizer(write(tmp_path, added_tokens=more))
    assert read.vocabulary == (*PIECES, "<user>", "Covid-19")
    assert read.rules.added_tokens == (AddedToken("<user>", True), AddedToken("Covid-19", True))
    assert names(read, "a<USER>COVID-19 [MASK]")[:3] == ["a", "<user>", "Covid-19"]
    # An id between is a row that no text has.
    content = fast(added=[Theirs("<user>", single_word=True)])
    content["added_tokens"][-1]["id"] += 1
    read = read_tokenizer(write(tmp_path / "json", tokenizer=content))
    assert read.vocabulary == (*PIECES, f"[unused{len(PIECES)}]", "<user>")
    assert read.rules.added_tokens == (AddedToken("<user>", True, True),)
    decoder = {str(len(PIECES)): {"content": "[E1]", "normalized": False, "special": True}}
    read = read_tokenizer(write(tmp_path / "decoder", tokenizer_config={"added_tokens_decoder": decoder}))
    assert read.rules.added_tokens == (AddedToken("[E1]"),) and read.vocabulary[-1] == "[E1]"
    said = {"additional_special_tokens": ["[E1]", {"content": "b"}]}
    read = read_tokenizer(write(tmp_path / "special", special_tokens_map=said))
    assert read.vocabulary == (*PIECES, "[E1]") and len(read.rules.added_tokens) == 2
    with pytest.raises(UserError, match="the added token 'a' has the id 90, and 5 in the vocabulary"):
        read_tokenizer(write(tmp_path, added_tokens={"a": 90}))
    with pytest.raises(UserError, match="gives the id 5 to both 'a' and 'x'"):
        read_tokenizer(write(tmp_path, added_tokens={"x": 5}))


def test_special_tokens_by_the_names_of_their_roles(tmp_path):
    folder = write(
        tmp_path, tokenizer_config={"extra_special_tokens": {"image_token": "<image>", "eoi": {"content": "<eoi>"}}}
    )
    found = read_tokenizer(folder)
    assert found.vocabulary == (*PIECES, "<image>", "<eoi>")
    assert found.rules.added_tokens == (AddedToken("<image>"), AddedToken("<eoi>"))


def test_vocabularies_that_contradict_each_other(tmp_path):
    with pytest.raises(UserError, match=r"'b' has the id 5 in tokenizer.json and 6 in vocab.txt: delete"):
        read_tokenizer(write(tmp_path, tokenizer=fast([*SPECIAL_TOKENS, "b", "a"])))


def test_special_tokens_under_other_names(tmp_path):
    roles = {"pad_token": "<pad>", "unk_token": "<unk>", "cls_token": {"content": "<s>"}, "sep_token": "</s>"}
    pieces = ["<pad>", "<unk>", "<s>", "</s>", "[MASK]", *PIECES[5:]]
    read = read_tokenizer(write(tmp_path, pieces, special_tokens_map=roles))
    assert read.vocabulary == tuple(PIECES) and "<s> is [CLS]" in read.notes[0]


def test_blank_and_repeated_pieces_keep_their_rows(tmp_path):
    write(tmp_path, [*SPECIAL_TOKENS, "a", "", "a", "b", "", ""])
    assert load_vocabulary(tmp_path / "vocab.txt") == [*SPECIAL_TOKENS, "[unused5]", "[unused6]", "a", "b"]
    source = write_folder(tmp_path / "from")
    (source / "vocab.txt").write_text("\n".join([*VOCABULARY[:10], "", *VOCABULARY[11:-1], "a"]) + "\n")
    convert(str(source), tmp_path / "to")
    assert load(tmp_path / "to").vocabulary == load(source).vocabulary
    assert TextEncoder(load(source).vocabulary).tokenize(["a"]).to_list() == [[len(VOCABULARY) - 1]]


RULES = TokenizerRules(False, False, False, 150, ("b",), (AddedToken("l", False, True), AddedToken("mno", True)))


@pytest.mark.parametrize("format", [huggingface, tf_checkpoint, preset, hub], ids=lambda format: format.__name__)
@pytest.mark.parametrize("rules", [TokenizerRules(), TokenizerRules(True, False), RULES])
def test_every_format_keeps_the_rules(tmp_path, format, rules):
    if format is hub and rules != TokenizerRules(True, False):
        pytest.skip("one SavedModel is enough")
    loaded = load(write_folder(tmp_path / "from", hidden_act="gelu_new"))
    loaded.vocabulary = (*VOCABULARY[:-1], "mno")
    loaded.rules, loaded.lowercase = rules, True
    notes = format.save(loaded, tmp_path / "to")
    again = format.load(tmp_path / "to")
    assert again.rules == rules and again.vocabulary == loaded.vocabulary
    assert different(loaded, again, heads=False) == []
    said = "never_split" in "".join(notes)
    assert said == (bool(rules.never_split) and format is not hub)


def test_what_is_written_is_what_hugging_faces_library_reads(tmp_path):
    loaded = load(write_folder(tmp_path / "from"))
    loaded.vocabulary, loaded.lowercase = (*VOCABULARY[:-1], "mno"), True
    loaded.rules = TokenizerRules(False, False, added_tokens=(AddedToken("mno", True), AddedToken("l", False, True)))
    huggingface.save(loaded, tmp_path / "to")
    theirs = tokenizers.Tokenizer.from_file(str(tmp_path / "to/tokenizer.json"))
    encoder = loaded.text_encoder(sequence_length=12)
    for text in ("a MNO b", "amnob l al l", "é A"):
        assert theirs.encode(text).ids == encoder([text])["token_ids"].numpy()[0].tolist()
        expected = encoder([text], [text])
        pair = theirs.encode(text, text)
        assert pair.ids[:12] == expected["token_ids"].numpy()[0].tolist()[:12] or len(pair.ids) > 12


def test_casing_that_nobody_states(tmp_path, capsys):
    assert has_capitals((*SPECIAL_TOKENS, "a", "##B")) and not has_capitals(
        (*SPECIAL_TOKENS, "[unused1]", "<USER>", "a")
    )
    assert not has_capitals((*(f"a{i}" for i in range(30_000)), "COVID"))
    folder = write_folder(tmp_path / "from")
    assert load_checkpoint(str(folder)).lowercase is None
    (folder / "vocab.txt").write_text("\n".join([*VOCABULARY[:-1], "O"]) + "\n")
    loaded = load_checkpoint(str(folder))
    assert loaded.lowercase is False and "taken as cased" in loaded.notes[-1]
    (folder / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": True}))
    assert load_checkpoint(str(folder)).lowercase is True
    google = write_google(tmp_path / "biobert_v1.1")
    (google / "vocab.txt").write_text("\n".join([*VOCABULARY[:-1], "O"]) + "\n")
    assert load_checkpoint(str(google)).lowercase is False
    assert load_checkpoint(str(google.rename(tmp_path / "uncased_x"))).lowercase is True


@pytest.mark.parametrize("format", ["huggingface", "tf_checkpoint"])
def test_a_folder_with_rules_that_does_not_say_its_casing_is_converted(tmp_path, format):
    folder = write_folder(tmp_path / "from", tokenizer={"strip_accents": False}, vocab_size=len(VOCABULARY) + 1)
    (folder / "added_tokens.json").write_text(json.dumps({"<user>": len(VOCABULARY)}))
    assert load_checkpoint(str(folder)).lowercase is None
    convert(str(folder), tmp_path / "to", format)
    assert load_checkpoint(str(tmp_path / "to")).lowercase is not False


def test_the_checkpoints_rules_reach_the_encoder(tmp_path):
    tensors = random_tensors(CONFIG)
    loaded = load(write_folder(tmp_path / "x", tensors, tokenizer={"do_lower_case": True, "strip_accents": False}))
    encoder = loaded.text_encoder(None, 12)
    assert encoder.lowercase and encoder.rules.strip_accents is False
    assert loaded.text_encoder(False).lowercase is False
