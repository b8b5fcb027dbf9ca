"""Raw text as documents of sentences, streamed from files of any size; no TensorFlow but for TFRecord and tfds."""

import dataclasses
import hashlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from pipeline.config import CorpusConfig, DataConfig
from pipeline.data import sources
from pipeline.data.formats import Nothing, Notices, format_by_name, open_table, suffixes
from pipeline.data.sentences import split_sentences
from pipeline.errors import UserError

# A file without a blank line would be one document as large as the file: longer documents are cut.
MOST_SENTENCES = 10_000
_reported: set[str] = set()


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
        files = [str(path) for path in below if suffixes(path.name)[0] == ".txt"]
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
    known = None if suffixes(file)[0] == ".txt" else format_by_name(file)
    if not Path(file).stat().st_size:
        # An empty file among others is none to complain of.
        return iter(())
    if (config.format or known or "text") != "text":
        return _rows(file, config)
    return _text(file, config)


def _text(file: str, config: CorpusConfig) -> Iterator[list[str]]:
    document: list[str] = []
    for line in _lines(file, config):
        line = line.strip()
        ended = config.lines == "documents" or (not line and not config.document_per_file)
        if line:
            document += [line] if config.lines == "sentences" else split_sentences(line)
        if document and (ended or len(document) >= MOST_SENTENCES):
            yield from _cut(document)
            document = []
    if document:
        yield from _cut(document)


def _lines(file: str, config: CorpusConfig) -> Iterator[str]:
    """Lines of a text file; of blank ones an empty string."""
    notices = Notices()
    options = dataclasses.replace(sources.read_options(_as_data(config), "corpus"), format="lines")
    table = open_table(file, options, None, notices)
    for number, text in table:
        if isinstance(text, Nothing):
            yield ""
        elif isinstance(text, str):
            raise UserError(f"{table.place(number)}: the line {text}.")
        else:
            yield from text[0].split("\r")
    _report(notices)


def _as_data(config: CorpusConfig) -> DataConfig:
    names = ("format", "encoding", "encoding_fallback", "data_dir")
    return DataConfig(**{name: getattr(config, name) for name in names})


def _report(notices: Notices) -> None:
    """Warn once a process: a corpus is read several times."""
    for sentence in notices.sentences():
        if sentence in _reported:
            continue
        _reported.add(sentence)
        print(f"warning: corpus: {sentence}", file=sys.stderr, flush=True)


def _rows(file: str, config: CorpusConfig) -> Iterator[list[str]]:
    """A document a row; rows without text are passed over."""
    notices = Notices()
    for number, cells in sources.read(file, _as_data(config), [config.text_column], "train", "corpus", notices):
        try:
            if isinstance(cells, str):
                raise ValueError(cells)
            text = cells[0].decode() if isinstance(cells[0], bytes) else cells[0]
            if not isinstance(text, str | None):
                raise ValueError(f"has a {type(text).__name__} where text is expected")
        except ValueError as error:
            what = "has bytes that are not UTF-8" if isinstance(error, UnicodeDecodeError) else error
            where = sources.place(file, number, config.format)
            raise UserError(f"{where}: the row {what}; mend or remove it.") from error
        # JSON can hold half a surrogate pair, which no encoding has; it becomes a question mark.
        text = (text or "").encode("utf-8", "replace").decode()
        yield from _cut([s for paragraph in re.split(r"[\r\n]+", text) for s in split_sentences(paragraph)])
    _report(notices)


def _cut(document: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(document), MOST_SENTENCES):
        yield document[start : start + MOST_SENTENCES]
