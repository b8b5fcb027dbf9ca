"""Raw text to documents of sentences."""

import bz2
import gzip
import json
import lzma
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from itertools import islice

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from pipeline.config import CorpusConfig
from pipeline.data import corpus
from pipeline.data.corpus import documents, files_of, read_files, reader, training_documents
from pipeline.data.sentences import split_sentences
from pipeline.errors import UserError

DOCUMENTS = [["The cat sat.", "It was here!"], ["中文句子。", "第二句？", "Ends without a mark"], ["Café é."]]
COMPRESS = {
    ".gz": gzip.compress, ".xz": lzma.compress, ".bz2": bz2.compress,
    ".zst": partial(pa.compress, codec="zstd", asbytes=True),
}  # fmt: skip


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    content = content.encode() if isinstance(content, str) else content
    path.write_bytes(COMPRESS.get(path.suffix, bytes)(content))
    return str(path)


def read(source, **settings):
    return list(documents(source, CorpusConfig(**settings)))


SENTENCES = [
    ["Mr. Smith met Dr. J. A. Jones in Washington, D.C. on Jan. 3.", "It cost $4.50!"],
    ["He moved to the U.S. Army base.", "She is from the U.S.", "They left at 5 p.m.", "The end."],
    ["She asked, “Is it?” and left.", "“No!” he cried.", '"Go."', "(They had gone.)", "Then what?!"],
    ["It ended... but not really...", "Yes… or no.", "Wow!!!", "Great"],
    ["Fruit, e.g. apples, i.e. Fuji, cf. Fig. 3 and No. 5 of vol. 2.", "No.", "Never!"],
    ["See www.example.org or v2.0.1 at 3.14 for more.", "Yahoo! is old."],
    ["1. The first.", "2. The second."],
    ["J. K. Rowling and J.R.R. Tolkien wrote.", "So do I.", "He does not."],
    ["Apple Inc. Chief Cook of St. Paul's spoke.", "Bush et al. (2001) agreed."],
    ["a spaced word .", "another one !"],
    ["it was all lower-cased.", "how odd?", "e.g. this"],
]


@pytest.mark.parametrize("sentences", SENTENCES, ids=lambda sentences: sentences[0][:20])
def test_sentences(sentences):
    assert split_sentences("  ".join(sentences)) == sentences


@pytest.mark.parametrize(
    "sentences",
    [
        ["他说：“你好！”", "然后走了。", "真的吗？！", "“是的。”", "不知道……", "好吧；", "再见"],
        ["他说“好！”，就走了。", "圆周率是3.14。", "好!", "他来了。", "Really?", "是"],
        ["《红楼梦》（第一回。）", "完"],
    ],
    ids=["marks", "mixed", "brackets"],
)
def test_chinese_sentences_have_no_spaces_between(sentences):
    assert split_sentences("".join(sentences)) == sentences


def test_no_character_is_lost():
    text = " ".join(f"{s} .{s}. \t{s}!”\u3000({s}?) 。{s}" for sentences in SENTENCES for s in sentences)
    assert "".join("".join(split_sentences(text)).split()) == "".join(text.split())
    assert split_sentences("a long text without marks " * 9999) == [("a long text without marks " * 9999).strip()]
    assert split_sentences(" \u3000 ") == []


@pytest.mark.slow
def test_time_is_linear():
    def seconds(text):
        start = time.process_time()
        split_sentences(text)
        return time.process_time() - start

    for text in ("Mr. ", 'a."', '. "'):
        # The best of three: what else the machine does is no work of ours.
        many, few = (min(seconds(text * count) for _ in range(3)) for count in (300_000, 30_000))
        assert many < 20 * few


def texts(mode):
    if mode == "sentences":
        return "\n\n".join("\n".join(document) for document in DOCUMENTS)
    lines = [" ".join(document) for document in DOCUMENTS]
    return ("\n \n\n" if mode == "paragraphs" else "\n").join(lines) + "\n"


@pytest.mark.parametrize("mode", ["sentences", "paragraphs", "documents"])
@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz", "a.txt.xz", "a.txt.bz2", "a.txt.zst", "noname", "a.log"])
def test_plain_text(tmp_path, name, mode):
    assert read(write(tmp_path / name, texts(mode)), lines=mode) == DOCUMENTS


def test_blank_lines_within_a_document_that_is_a_file(tmp_path):
    path = write(tmp_path / "a.txt", "One. Two.\n\nThree.\n \nFour.\n")
    assert read(path) == [["One.", "Two."], ["Three."], ["Four."]]
    assert read(path, document_per_file=True) == [["One.", "Two.", "Three.", "Four."]]


def test_lines_of_sentences_are_left_whole(tmp_path):
    path = write(tmp_path / "a.txt", "\ufeffOne. Two.\r\n  Three \n\n\n")
    assert read(path, lines="sentences") == [["One. Two.", "Three"]]
    assert read(path) == [["One.", "Two.", "Three"]]


ROWS = [DOCUMENTS[0][0] + "\n" + DOCUMENTS[0][1], " ".join(DOCUMENTS[1]), "", DOCUMENTS[2][0]]


def test_jsonl_csv_and_parquet(tmp_path):
    lines = "".join(json.dumps({"body": row, "n": 1}) + "\n" for row in [*ROWS, None])
    assert read(write(tmp_path / "a.jsonl.xz", lines), text_column="body") == DOCUMENTS
    assert read(write(tmp_path / "noname", lines), text_column="body", format="jsonl") == DOCUMENTS
    cells = "label,text\n" + "".join(f'1,"{row}"\n' for row in ROWS)
    assert read(write(tmp_path / "a.csv", cells)) == DOCUMENTS
    pq.write_table(pa.table({"text": ROWS}), tmp_path / "a.parquet")
    assert read(str(tmp_path / "a.parquet")) == DOCUMENTS


@pytest.mark.parametrize("suffix", ["", *COMPRESS])
def test_tfrecord(tmp_path, suffix):
    with tf.io.TFRecordWriter(str(tmp_path / "a.tfrecord")) as writer:
        for row in ROWS:
            value = tf.train.Feature(bytes_list=tf.train.BytesList(value=[row.encode()]))
            writer.write(tf.train.Example(features=tf.train.Features(feature={"text": value})).SerializeToString())
    content = (tmp_path / "a.tfrecord").read_bytes()
    assert read(write(tmp_path / f"b.tfrecord{suffix}", content)) == DOCUMENTS


def test_tfds(tmp_path):
    import tensorflow_datasets as tfds

    tfds.dataset_builders.store_as_tfds_dataset(
        name="little",
        version="1.0.0",
        features=tfds.features.FeaturesDict({"text": tfds.features.Text()}),
        split_datasets={"train": tf.data.Dataset.from_tensor_slices({"text": ROWS})},
        data_dir=str(tmp_path),
    )
    assert sorted(read("tfds:little", data_dir=str(tmp_path))) == sorted(DOCUMENTS)
    with pytest.raises(UserError, match="no split 'test'"):
        read("tfds:little/test", data_dir=str(tmp_path))


def test_folders_globs_lists_and_wheels(tmp_path, monkeypatch):
    write(tmp_path / "texts/b.txt", "Two.")
    write(tmp_path / "texts/a/z.txt.zst", "One.")
    write(tmp_path / "texts/c.md", "No text file.")
    assert read(str(tmp_path / "texts")) == [["One."], ["Two."]]
    assert read(str(tmp_path / "texts/*.*")) == [["Two."], ["No text file."]]
    assert read([str(tmp_path / "texts/b.txt"), str(tmp_path / "texts/a")]) == [["Two."], ["One."]]
    # A wheel that was fetched before.
    write(tmp_path / "cache/some-data-1.0/some_data/b.txt", "Out of a wheel.")
    write(tmp_path / "cache/some-data-1.0.sha256", "a" * 64)
    monkeypatch.setenv("BERT_PIPELINE_CACHE", str(tmp_path / "cache"))
    uri = "wheel:some-data==1.0/some_data"
    named = f"{uri}/b.txt#sha256={'a' * 64}"
    assert read(named) == read(uri) == read([named, uri]) == [["Out of a wheel."]]


@pytest.fixture
def numbered(tmp_path):
    """Three files of 100 documents; the pattern that names them."""
    for file in range(3):
        write(tmp_path / f"{file}.txt", "\n".join(f"Text {file} {i}." for i in range(100)))
    return str(tmp_path / "?.txt")


def held_out(config, part=(0, 1)):
    files, read = reader(config, "validation")
    return list(read(files, part))


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_parts_are_a_partition_of_each_file(numbered, count):
    config, files = CorpusConfig(lines="documents"), files_of(numbered)
    parts = [list(read_files(files, (index, count), config=config)) for index in range(count)]
    assert sorted(text for part in parts for text in part) == sorted(documents(numbered, config))
    for file in range(3):
        sizes = [sum(f"Text {file}" in text[0] for text in part) for part in parts]
        assert sum(sizes) == 100 and max(sizes) - min(sizes) <= 1
    with pytest.raises(ValueError, match="part 3 of 3 is none"):
        list(read_files(files, (3, 3), config=config))


def test_held_out_documents_are_a_share_that_seed_and_text_decide(numbered, tmp_path):
    config = CorpusConfig(train=numbered, lines="documents", validation_fraction=0.2)
    found = held_out(config)
    assert 30 < len(found) < 90
    assert sorted(found + list(training_documents(config))) == sorted(documents(numbered, config))
    parts = [held_out(config, (index, 3)) for index in range(3)]
    assert sorted(text for part in parts for text in part) == sorted(found)
    # Wherever a document stands, whatever stands before it.
    write(tmp_path / "more" / "a.txt", "\n".join(f"Text {file} {i}." for file in (2, 0, 1) for i in range(100)))
    config.train = str(tmp_path / "more")
    assert sorted(held_out(config)) == sorted(found)
    config.split_seed = 1
    assert sorted(held_out(config)) != sorted(found)
    config.validation_fraction = 0
    assert len(list(training_documents(config))) == 300


def test_a_corpus_that_is_held_out_as_a_whole_is_refused(tmp_path):
    config = CorpusConfig(train=write(tmp_path / "a.txt", "One text."), validation_fraction=0.999)
    with pytest.raises(UserError, match=r"all documents are held out by corpus\.validation_fraction 0\.999"):
        list(training_documents(config))


def test_validation_files_leave_the_training_files_whole(numbered, tmp_path):
    config = CorpusConfig(
        train=numbered, validation=str(tmp_path / "1.txt"), lines="documents", validation_fraction=0.5
    )
    assert held_out(config) == [[f"Text 1 {i}."] for i in range(100)]
    assert len(list(training_documents(config))) == 300


def test_what_is_read_of_a_file_does_not_depend_on_the_other_files(numbered, tmp_path):
    """Or a file more would have all prepared anew."""
    config = CorpusConfig(train=numbered, lines="documents")
    one, two = reader(config, "train")[1], reader(replace(config, train=[str(tmp_path / "1.txt")]), "train")[1]
    assert repr(one) == repr(two)


@pytest.mark.parametrize("lines", ["paragraphs", "documents", "sentences"])
def test_without_sentences_documents_are_the_same_paragraphs(tmp_path, lines):
    path = write(tmp_path / "a.txt", "One. Two.\nThree? Four\n\nFive. Six.\n")
    config = CorpusConfig(lines=lines)
    whole, split = list(documents(path, config, split=False)), list(documents(path, config))
    assert [" ".join(document) for document in whole] == [" ".join(document) for document in split]
    assert whole[0][0] == "One. Two."


def test_most_documents_of_each_file(numbered):
    assert read(numbered, lines="documents", max_documents=1) == [[f"Text {file} 0."] for file in range(3)]


def test_files_are_streamed(tmp_path):
    """The first documents are there before the damage, far into the file, is met."""
    path = write(tmp_path / "a.txt", b"Good text.\n\n" * 100_000 + b"\xff\n")
    stream = documents(path, CorpusConfig())
    assert list(islice(stream, 90_000)) == [["Good text."]] * 90_000
    with pytest.raises(UserError, match=r"a\.txt, line 200001: the line is not valid utf-8.* set corpus\.encoding"):
        list(stream)


def test_a_file_without_blank_lines_comes_in_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(corpus, "MOST_CHARACTERS", 20)
    path = write(tmp_path / "a.txt", "One. Two. Three.\n" * 3)
    assert [len(document) for document in read(path)] == [6, 3]
    rows = write(tmp_path / "b.csv", 'text\n"' + "One. Two.\n" * 7 + '"')
    assert [len(document) for document in read(rows)] == [6, 6, 2]


@pytest.mark.parametrize(
    ("name", "content", "settings", "message"),
    [
        (
            "a.txt",
            "é\nü".encode("latin-1"),
            {},
            r"line 1: the line is not valid utf-8: byte 1 of .*; set corpus\.enc",
        ),
        ("a.txt", "x", {"encoding": "none such"}, r"corpus\.encoding 'none such' is not an encoding"),
        ("a.txt", " \n\n", {}, "there is no text"),
        ("a.txt", "", {}, "there is no text"),
        ("a.jsonl", "", {}, "there is no text"),
        ("a.jsonl", '{"text": "a"}\n{"text": 1}\n', {}, "line 2: the row has a int where text is expected"),
        ("a.jsonl", '{"text": "a"}\n{\n', {}, "line 2: the row is not JSON"),
        ("a.jsonl", '{"body": "a"}\n', {}, "has no column 'text'; it has 'body'"),
        ("a.csv", "text\na,b\n", {}, "line 2: the row has 2 cells"),
        ("folder/a.json", "{}", {}, "is a folder without"),
    ],
)
def test_what_is_wrong_is_one_sentence(tmp_path, name, content, settings, message):
    path = write(tmp_path / name, content)
    with pytest.raises(UserError, match=message):
        read(str(tmp_path / "folder") if name.startswith("folder") else path, **settings)


def test_damaged_compression(tmp_path):
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"some text" * 1000)[:-20])
    with pytest.raises(UserError, match="cannot be read"):
        read(str(tmp_path / "a.txt.gz"))


def test_a_missing_file_is_noticed_at_once(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        documents(str(tmp_path / "a.txt"), CorpusConfig())
    with pytest.raises(UserError, match=r"set corpus\.train"):
        training_documents(CorpusConfig())


def test_tensorflow_is_not_imported_for_plain_text(tmp_path):
    path = write(tmp_path / "a.txt", "Text.")
    code = (
        "import sys; from pipeline.data.corpus import *; import pipeline.vocabulary;"
        f"print(list(documents({path!r}, CorpusConfig())), 'tensorflow' in sys.modules)"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert process.stdout == "[['Text.']] False\n"


def test_real_text(shared):
    found = list(documents(str(shared / "data/corpora/nltk_brown.txt.xz"), CorpusConfig()))
    sentences = [sentence for document in found for sentence in document]
    # Brown has about 57,000 sentences.
    assert 50_000 < len(sentences) < 65_000
