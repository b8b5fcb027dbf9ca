"""Raw text as documents of sentences, streamed from files of any size; no TensorFlow but for TFRecord and tfds."""

import hashlib
import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from itertools import islice
from pathlib import Path

from pipeline.config import CorpusConfig, DataConfig
from pipeline.data import sources
from pipeline.data.filters import Filters, filters_of
from pipeline.data.formats import FORMATS, Nothing, Notices, ReadOptions, format_by_name, open_table, suffixes
from pipeline.data.formats.file import File
from pipeline.data.formats.wiki import told_by_first_lines
from pipeline.data.sentences import split_sentences
from pipeline.errors import UserError

# A file without a blank line would be one document as large as the file: longer documents are cut between paragraphs.
MOST_CHARACTERS = 1 << 20
# What WikiExtractor calls its files, in folders AA, AB and so on.
_EXTRACTED = re.compile(r"wiki_\d+")
_reported: set[str] = set()


def documents(source: str | list[str], config: CorpusConfig, split: bool = True) -> Iterator[list[str]]:
    """The documents of a corpus in order, each a list of sentences: stripped, none empty.

    Memory holds one document. One of more than MOST_CHARACTERS comes in several.

    Args:
        source: as `CorpusConfig.train` describes.
        config: how to read it.
        split: paragraphs into sentences; else they come whole, for readers of words, in a tenth of the time.

    Raises:
        UserError: at once, no such file; on iteration, a file that cannot be read or decoded (with its line), a
            damaged row, or no text at all.
    """
    files = files_of(source)
    return _some(read_files(files, config=config, split=split), files, config)


def training_documents(config: CorpusConfig, split: bool = True) -> Iterator[list[str]]:
    """`documents` of `config.train` without those held out."""
    files, read = reader(config, "train")
    return _some(read(files, split=split), files, config)


@dataclass(frozen=True)
class LeftOut:
    """Documents that are not read, by the numbers that they have in their files.

    Attributes:
        path: of a JSON file with them: {"files": {file: [number, ...]}}.
        digest: of what is in it; two with the same are the same, wherever they are kept.
    """

    path: str = field(repr=False)
    digest: str

    def of(self, file: str) -> frozenset[int]:
        """The numbers of a file's documents, from 0."""
        return _numbers_left_out(self.path, self.digest).get(file, frozenset())


@lru_cache(2)
def _numbers_left_out(path: str, digest: str) -> dict[str, frozenset[int]]:
    files = json.loads(Path(path).read_text(encoding="utf-8"))["files"]
    return {file: frozenset(numbers) for file, numbers in files.items()}


def reader(
    config: CorpusConfig, name: str, left_out: LeftOut | None = None
) -> tuple[list[str], Callable[..., Iterator[list[str]]]]:
    """The files that training or held-out documents are in, and `read_files` for them.

    Of the config it is given only how files are read: what it gives for a file does not depend on the others.

    Args:
        config: of the corpus.
        name: "train" or "validation".
        left_out: documents of `config.train` that are not read.
    """
    rest = replace(config, train=None, validation=None, deduplicate=False, languages=[], quality=[])
    read = partial(read_files, config=rest)
    if config.validation and name == "validation":
        return files_of(config.validation), read
    if left_out is not None:
        read = partial(read, left_out=left_out)
    if filters := filters_of(config.languages, config.quality):
        read = partial(read, filters=filters)
    if not config.validation and (name == "validation" or config.validation_fraction):
        read = partial(read, held_out=name == "validation")
    return files_of(config.train or []), read


def read_files(
    files: Sequence[str],
    part: tuple[int, int] = (0, 1),
    *,
    config: CorpusConfig,
    held_out: bool | None = None,
    left_out: LeftOut | None = None,
    filters: Filters | None = None,
    split: bool = True,
    met: Counter[str] | None = None,
) -> Iterator[list[str]]:
    """The documents of files, as `documents` gives them; perhaps none.

    Args:
        files: of `files_of`.
        part: (index, count), for readers that share the work: each takes every count-th document of a file.
        config: how to read them.
        held_out: True: those that `validation_fraction` and `split_seed` hold out, which a document's text alone
            decides; False: the others; None: all.
        left_out: those that are not read; None: none.
        filters: rules that leave out others; None: none.
        split: as of `documents`.
        met: where documents that are left out are counted, by rule.
    """
    met = Counter() if met is None else met
    index, count = part
    if not 0 <= index < count:
        raise ValueError(f"part {index} of {count} is none")
    cut = split_sentences if split else lambda paragraph: [paragraph]
    for file in files:
        found = enumerate(islice(_of_file(file, config), config.max_documents))
        skipped = left_out.of(file) if left_out else ()
        for number, (paragraphs, whole) in islice(found, index, None, count):
            if held_out is not None and _is_held_out(paragraphs, config) != held_out:
                continue
            rule = "deduplicate" if number in skipped else filters and filters(paragraphs)
            if rule:
                met[rule] += 1
            else:
                yield paragraphs if whole else [sentence for paragraph in paragraphs for sentence in cut(paragraph)]


def numbered(file: str, config: CorpusConfig, part: tuple[int, int]) -> Iterator[tuple[int, list[str]]]:
    """Documents of a part of a file, their paragraphs or sentences, with their numbers in the file, from 0.

    Those that the config's filters leave out are passed over.
    """
    index, count = part
    filters = filters_of(config.languages, config.quality)
    found = enumerate(islice(_of_file(file, config), config.max_documents))
    for number, (paragraphs, _) in islice(found, index, None, count):
        if not (filters and filters(paragraphs)):
            yield number, paragraphs


def files_of(source: str | list[str]) -> list[str]:
    """The files and tfds: names of a corpus, in order, each once; of a folder all *.txt and wiki_00 below it, packed or
    not.

    Raises:
        UserError: a path or glob that matches no file, or a folder without such files.
    """
    found = []
    for item in sources.matches(source):
        if item.startswith("tfds:") or not Path(item).is_dir():
            found.append(item)
            continue
        files = [str(path) for path in sorted(Path(item).rglob("*")) if _is_text(path.name) and path.is_file()]
        if not files:
            raise UserError(f"{item} is a folder without *.txt files: name its files ({item}/*.jsonl).")
        found += files
    if not found:
        raise UserError("The corpus names no source: set corpus.train.")
    return sources.once(found)


def _is_text(name: str) -> bool:
    suffix, compression = suffixes(name)
    return suffix == ".txt" or _EXTRACTED.fullmatch(name.lower().removesuffix(compression)) is not None


def _some(documents: Iterator[list[str]], files: list[str], config: CorpusConfig) -> Iterator[list[str]]:
    """The same; none at all is an error."""
    document = None
    for document in documents:
        yield document
    if document is None:
        raise no_documents(files, config)


def no_documents(files: list[str], config: CorpusConfig) -> UserError:
    """Why there are none to train on: no text, rules that leave out all, or all held out."""
    names = f"{', '.join(files[:5])}{', ...' if files[5:] else ''}"
    met: Counter[str] = Counter()
    filters = filters_of(config.languages, config.quality)
    if next(read_files(files, config=config, filters=filters, split=False, met=met), None) is None:
        if not met:
            return UserError(f"{names}: there is no text.")
        by_rule = ", ".join(f"{count:,} by {rule}" for rule, count in met.most_common())
        return UserError(
            f"{names}: all documents are left out ({by_rule}): ask for less by corpus.quality or languages."
        )
    return UserError(
        f"{names}: all documents are held out by corpus.validation_fraction {config.validation_fraction}: lower it, "
        "give another corpus.split_seed, or name corpus.validation."
    )


def _is_held_out(paragraphs: list[str], config: CorpusConfig) -> bool:
    """Whether a document is held out: wherever it stands, so that other files may come and go, and its copies too."""
    digest = hashlib.blake2b(str(config.split_seed).encode(), digest_size=8)
    for paragraph in paragraphs:
        digest.update(paragraph.encode("utf-8", "replace") + b"\n")
    return int.from_bytes(digest.digest(), "little") < config.validation_fraction * 2**64


def _of_file(file: str, config: CorpusConfig) -> Iterator[tuple[list[str], bool]]:
    """Documents: paragraphs, or sentences (True)."""
    if file.startswith("tfds:"):
        return _rows(file, config)
    if not Path(file).stat().st_size:
        # An empty file among others is none to complain of.
        return iter(())
    kind = config.format or _told(file, config)
    return _text(file, config) if kind == "text" else _rows(file, replace(config, format=kind))


def _told(file: str, config: CorpusConfig) -> str:
    """A file's format by its first lines, else by its name, else text."""
    known = None if suffixes(file)[0] == ".txt" else format_by_name(file)
    if known and (FORMATS[known].magic or known == "tfrecord"):
        return known
    column = config.text_column if known is None else None
    told = told_by_first_lines(File(file, _options(config), Notices()), column)
    return told or known or "text"


def _text(file: str, config: CorpusConfig) -> Iterator[tuple[list[str], bool]]:
    document: list[str] = []
    size, whole = 0, config.lines == "sentences"
    for line in _lines(file, config):
        line = line.strip()
        ended = config.lines == "documents" or (not line and not config.document_per_file)
        if line:
            document.append(line)
            size += len(line)
        if document and (ended or size >= MOST_CHARACTERS):
            yield document, whole
            document, size = [], 0
    if document:
        yield document, whole


def _lines(file: str, config: CorpusConfig) -> Iterator[str]:
    """Lines of a text file; of blank ones an empty string."""
    notices = Notices()
    options = replace(_options(config), format="lines")
    table = open_table(file, options, None, notices)
    for number, text in table:
        if isinstance(text, Nothing):
            yield ""
        elif isinstance(text, str):
            raise UserError(f"{table.place(number)}: the line {text}.")
        else:
            yield from text[0].split("\r")
    _report(notices)


def _options(config: CorpusConfig) -> ReadOptions:
    return sources.read_options(_as_data(config), "corpus")


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


def _rows(file: str, config: CorpusConfig) -> Iterator[tuple[list[str], bool]]:
    """A document a row, whose lines are paragraphs; rows without text are passed over."""
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
        paragraphs, size = [], 0
        for paragraph in filter(None, map(str.strip, re.split(r"[\r\n]+", text))):
            paragraphs.append(paragraph)
            size += len(paragraph)
            if size >= MOST_CHARACTERS:
                yield paragraphs, False
                paragraphs, size = [], 0
        if paragraphs:
            yield paragraphs, False
    _report(notices)
