"""Raw text as documents of sentences, streamed from files of any size; no TensorFlow but for TFRecord and tfds."""

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

from pipeline.config import CorpusConfig, DataConfig
from pipeline.data import sources
from pipeline.data.sentences import split_sentences
from pipeline.errors import UserError

# A file without a blank line would be one document as large as the file: longer documents are cut.
MOST_SENTENCES = 10_000


def documents(source: str | list[str], config: CorpusConfig, shard: tuple[int, int] = (0, 1)) -> Iterator[list[str]]:
    """The documents of a corpus in order, each a list of sentences: stripped, none empty.

    Memory holds one document. One of more than MOST_SENTENCES sentences comes in several.

    Args:
        source: as `CorpusConfig.train` describes.
        config: how to read it.
        shard: (index, count), for readers that share the work. Each takes every count-th file, or every count-th
            document where there are fewer files than readers.

    Raises:
        UserError: at once, no such file; on iteration, a file that cannot be read or decoded (with its line), a
            damaged row, or no text at all.
    """
    return (document for _, document in _numbered(source, config, shard))


def training_documents(config: CorpusConfig, shard: tuple[int, int] = (0, 1)) -> Iterator[list[str]]:
    """`documents` of `config.train` without those held out."""
    fraction = 0 if config.validation else config.validation_fraction
    found = _numbered(config.train, config, shard)
    return (document for number, document in found if not _is_held_out(number, fraction, config.split_seed))


def validation_documents(config: CorpusConfig, shard: tuple[int, int] = (0, 1)) -> Iterator[list[str]]:
    """`documents` of `config.validation`, or those of `config.train` that are held out: none, if none fell to it."""
    if config.validation:
        return documents(config.validation, config, shard)
    found = _numbered(config.train, config, shard)
    held_out = config.validation_fraction, config.split_seed
    return (document for number, document in found if _is_held_out(number, *held_out))


def files_of(source: str | list[str]) -> list[str]:
    """The files and tfds: names of a corpus, in order; of a folder all *.txt and *.txt.gz (.xz, .bz2) below it.

    Raises:
        UserError: a path or glob that matches no file, or a folder without such files.
    """
    found = []
    for item in sources.matches(source):
        if item.startswith("tfds:") or not Path(item).is_dir():
            found.append(item)
            continue
        below = (path for path in sorted(Path(item).rglob("*.txt*")) if path.is_file())
        files = [str(path) for path in below if sources.suffixes(path.name)[0] == ".txt"]
        if not files:
            raise UserError(f"{item} is a folder without *.txt files: name its files ({item}/*.jsonl).")
        found += files
    if not found:
        raise UserError("The corpus names no source: set corpus.train.")
    return found


def _numbered(
    source: str | list[str] | None, config: CorpusConfig, shard: tuple[int, int]
) -> Iterator[tuple[tuple[int, int], list[str]]]:
    """Documents with their number: (place of the file in the corpus, place in the file), whatever the shard."""
    files = files_of(source or [])
    index, count = shard
    if not 0 <= index < count:
        raise ValueError(f"shard {index} of {count} is none")

    # Not a generator itself, so that a missing file is noticed at once.
    def generate():
        by_file, seen = len(files) >= count, 0
        for place, file in enumerate(files):
            if by_file and place % count != index:
                continue
            for number, document in enumerate(_of_file(file, config)):
                if config.max_documents is not None and number >= config.max_documents:
                    break
                seen += 1
                if by_file or (seen - 1) % count == index:
                    yield (place, number), document
        if not seen and (not by_file or count == 1):
            raise UserError(f"{', '.join(files[:5])}{', ...' if files[5:] else ''}: there is no text.")

    return generate()


def _is_held_out(number: tuple[int, int], fraction: float, seed: int) -> bool:
    if not fraction:
        return False
    digest = hashlib.blake2b(repr((seed, *number)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") < fraction * 2**64


def _of_file(file: str, config: CorpusConfig) -> Iterator[list[str]]:
    if file.startswith("tfds:"):
        return _rows(file, config)
    suffix, compression = sources.suffixes(file)
    known = None if suffix == ".txt" else sources.FORMATS.get(suffix)
    if (config.format or known or "text") != "text":
        # An empty file among others is none to complain of.
        return _rows(file, config) if Path(file).stat().st_size else iter(())
    read = _text(file, compression, config)
    return sources.explain_broken_files(read, file, compression, config.encoding, "corpus")


def _text(file: str, compression: str, config: CorpusConfig) -> Iterator[list[str]]:
    document: list[str] = []
    with sources.open_text(file, compression, config.encoding) as lines:
        for line in lines:
            line = line.strip()
            ended = config.lines == "documents" or (not line and not config.document_per_file)
            if line:
                document += [line] if config.lines == "sentences" else split_sentences(line)
            if document and (ended or len(document) >= MOST_SENTENCES):
                yield from _cut(document)
                document = []
    if document:
        yield from _cut(document)


def _rows(file: str, config: CorpusConfig) -> Iterator[list[str]]:
    """A document a row; rows without text are passed over."""
    columns = DataConfig(
        text_columns=[config.text_column],
        label_column="",
        format=config.format,
        encoding=config.encoding,
        data_dir=config.data_dir,
    )
    for number, cells in sources.read(file, columns, [config.text_column], "train", "corpus"):
        try:
            if isinstance(cells, str):
                raise ValueError(cells)
            text = cells[0].decode() if isinstance(cells[0], bytes) else cells[0]
            if not isinstance(text, str | None):
                raise ValueError(f"has a {type(text).__name__} where text is expected")
        except ValueError as error:
            what = "has bytes that are not UTF-8" if isinstance(error, UnicodeDecodeError) else error
            raise UserError(f"{sources.place(file, number)}: the row {what}; mend or remove it.") from error
        # JSON can hold half a surrogate pair, which no encoding has; it becomes a question mark.
        text = (text or "").encode("utf-8", "replace").decode()
        yield from _cut([s for paragraph in re.split(r"[\r\n]+", text) for s in split_sentences(paragraph)])


def _cut(document: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(document), MOST_SENTENCES):
        yield document[start : start + MOST_SENTENCES]
