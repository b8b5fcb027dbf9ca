"""A corpus tokenized once: plain arrays on disk, memory-mapped, so that any span of any document is read directly.

A folder holds `tokens.bin` (all token ids one after the other, without special tokens), `sentences.bin` and
`documents.bin` (where each begins), and `meta.json`. With a word splitter it also holds `words.bin`, one bit a token.
"""

import contextlib
import hashlib
import importlib
import itertools
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from difflib import SequenceMatcher
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline.errors import UserError
from pipeline.files import replaced_folder
from pipeline.tokenizer_rules import BERT_RULES

if TYPE_CHECKING:  # reading a store needs no TensorFlow
    from pipeline.text import TextEncoder

# Increase it when the format changes: stores of earlier versions are then not reused.
VERSION = 2
# Sentences and characters tokenized at once: enough for speed, and a bound on memory.
BATCH_SENTENCES = 2048
BATCH_CHARACTERS = 1 << 18

# Beside the arrays, and of all shards beside these, where documents were left out: {rule: documents}.
LEFT_OUT = "left_out.json"

Splitter = Callable[[str], list[str]]
"""A sentence to its words; put together they are the sentence, but for white space."""


@dataclass
class StoreMeta:
    """Description of a store.

    Attributes:
        version: of the layout.
        dtype: of the token ids: "uint16", or "int32" where the vocabulary has more than 65536 tokens.
        tokens, sentences, documents: counts.
        has_words: whether a splitter's word boundaries are stored.
        vocabulary: `vocabulary_digest` of the encoder.
        fingerprint: sha256 of tokens and boundaries.
        key: what the writer wanted to remember of its input.
    """

    version: int
    dtype: str
    tokens: int
    sentences: int
    documents: int
    has_words: bool
    vocabulary: str
    fingerprint: str
    key: str


class TokenStore:
    """Documents of sentences of tokens, in one folder.

    Attributes:
        meta: counts and fingerprint.
        tokens: uint16 or int32 [tokens].
        sentence_starts: int64 [sentences + 1]; sentence i is tokens[sentence_starts[i] : sentence_starts[i + 1]].
        document_starts: int64 [documents + 1], the first sentence of each document.
        left_out: how many documents rules have left out of it, by rule.
        word_bits: uint8, bit i (lowest first) tells whether a word begins with token i; None without a splitter.

    Raises:
        UserError: there is no complete store.
    """

    def __init__(self, folder: str | os.PathLike):
        folder = Path(folder)
        try:
            self.meta = StoreMeta(**json.loads((folder / "meta.json").read_text(encoding="utf-8")))
        except (OSError, TypeError, json.JSONDecodeError) as error:
            raise UserError(
                f"{folder} holds no prepared tokens: run python -m pipeline.pretraining.prepare."
            ) from error
        if self.meta.version != VERSION:
            raise UserError(f"{folder} was prepared by another version of this program: prepare the corpus again.")
        self.tokens = _mapped(folder / "tokens.bin", self.meta.dtype, self.meta.tokens)
        self.sentence_starts = _mapped(folder / "sentences.bin", "int64", self.meta.sentences + 1)
        self.document_starts = _mapped(folder / "documents.bin", "int64", self.meta.documents + 1)
        self.left_out = read_left_out(folder)
        bits = -(-self.meta.tokens // 8)
        self.word_bits = _mapped(folder / "words.bin", "uint8", bits) if self.meta.has_words else None

    @cached_property
    def document_tokens(self) -> np.ndarray:
        """int64 [documents + 1], the first token of each document."""
        return self.sentence_starts[self.document_starts]


class TokenCorpus:
    """Several stores read as one. Places of tokens, and numbers of documents, run through all of them.

    Args:
        stores: in order; all of the same vocabulary.

    Attributes:
        tokens, sentences, documents: counts over all stores.
        left_out: how many documents rules have left out of the stores, by rule.
        token_offsets, document_offsets: int64 [stores + 1], what each store begins with.
        has_words: whether all stores have a splitter's word boundaries.
        vocabulary: `vocabulary_digest` of the encoder that made them.
        fingerprint: sha256 over those of the stores.

    Raises:
        UserError: no stores, or stores of different vocabularies.
    """

    def __init__(self, stores: Sequence[TokenStore]):
        if len({store.meta.vocabulary for store in stores}) != 1:
            raise UserError("The prepared tokens are of no or of several vocabularies: prepare the corpus again.")
        self.stores = list(stores)
        self.token_offsets = np.cumsum([0, *(store.meta.tokens for store in stores)], dtype=np.int64)
        self.document_offsets = np.cumsum([0, *(store.meta.documents for store in stores)], dtype=np.int64)
        self.tokens, self.documents = int(self.token_offsets[-1]), int(self.document_offsets[-1])
        self.sentences = sum(store.meta.sentences for store in stores)
        self.left_out: Counter[str] = sum((store.left_out for store in stores), Counter())
        self.has_words = all(store.word_bits is not None for store in stores)
        self.vocabulary = stores[0].meta.vocabulary
        self.fingerprint = hashlib.sha256("".join(s.meta.fingerprint for s in stores).encode()).hexdigest()

    @classmethod
    def open(cls, folder: str | os.PathLike) -> "TokenCorpus":
        """What prepare has written to a folder, or one store."""
        folder = Path(folder)
        if (folder / "meta.json").is_file():
            return cls([TokenStore(folder)])
        try:
            names = json.loads((folder / "corpus.json").read_text(encoding="utf-8"))["shards"]
        except OSError as error:
            raise UserError(
                f"{folder} holds no completely prepared corpus: run python -m pipeline.pretraining.prepare."
            ) from error
        return cls([TokenStore(folder / name) for name in names])

    def read(self, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Tokens of spans, one after the other; no span reaches from one store into the next.

        Args:
            starts, lengths: int64 [n].

        Returns:
            int32 [sum of lengths].
        """
        # A slice a span is as fast as one gather, and reads nothing but the span.
        where, starts = self._local(starts)
        arrays = [store.tokens for store in self.stores]
        spans = zip(where.tolist(), starts.tolist(), (starts + lengths).tolist(), strict=True)
        return np.concatenate([arrays[store][start:end] for store, start, end in spans]).astype(np.int32)

    def read_word_starts(self, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Whether a word begins with each token of spans, as `read` gives them: bool [sum of lengths]."""
        where, starts = self._local(starts)
        arrays = [store.word_bits for store in self.stores]
        first, last = starts // 8, -(-(starts + lengths) // 8)
        spans = zip(where.tolist(), first.tolist(), last.tolist(), strict=True)
        bits = np.unpackbits(np.concatenate([arrays[store][a:b] for store, a, b in spans]), bitorder="little")
        sizes = 8 * (last - first)
        return bits[ranges(np.cumsum(sizes) - sizes + starts % 8, lengths)].astype(bool)

    def _local(self, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The store of each place, and the place in that store."""
        where = np.searchsorted(self.token_offsets, starts, side="right") - 1
        return where, starts - self.token_offsets[where]


def read_left_out(folder: Path) -> Counter[str]:
    """What rules have left out, by rule."""
    path = folder / LEFT_OUT
    return Counter(json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {})


def ranges(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """starts[0], starts[0] + 1, ... lengths[0] numbers, then the same of the next: int64 [sum of lengths]."""
    return np.repeat(starts - (np.cumsum(lengths) - lengths), lengths) + np.arange(lengths.sum())


def vocabulary_digest(encoder: "TextEncoder") -> str:
    """sha256, in hex, of what decides tokens; unlike `encoder.fingerprint` it leaves the sequence length out."""
    parts = (encoder.vocabulary, encoder.lowercase)
    if encoder.rules != BERT_RULES:
        parts = (*parts, encoder.rules)
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def word_splitter(name: str | None) -> Splitter | None:
    """A word splitter by name, so that worker processes can be told which: "jieba", or "module:function".

    Raises:
        UserError: it is not installed, or there is no such function.
    """
    if not name:
        return None
    module, _, function = ("jieba:lcut" if name == "jieba" else name).partition(":")
    try:
        return getattr(importlib.import_module(module), function)
    except ModuleNotFoundError as error:
        hint = "pip install jieba" if name == "jieba" else "install it"
        raise UserError(f"The word splitter {name!r} is not installed: {hint}, or split no words.") from error
    except (AttributeError, ValueError) as error:
        raise UserError(f"The word splitter {name!r} is neither jieba nor a module:function that exists.") from error


def write_store(
    documents: Iterable[list[str]],
    encoder: "TextEncoder",
    folder: str | os.PathLike,
    splitter: Splitter | None = None,
    key: str = "",
    left_out: Mapping[str, int] | None = None,
) -> TokenStore:
    """Tokenize documents into a store; it takes its name only when complete, and memory does not grow with the corpus.

    Sentences without a token, and documents without a sentence, are left out.

    Args:
        documents: lists of sentences, read once.
        encoder: gives the tokens.
        folder: of the store; what is there is replaced.
        splitter: words for whole-word masking in writing without spaces; None: words are the vocabulary's.
        key: kept in meta.json.
        left_out: counts, by rule, that are complete when `documents` end; kept beside where there are any.
    """
    folder = Path(folder)
    with replaced_folder(folder) as temporary, contextlib.closing(_Writer(temporary, encoder, splitter)) as writer:
        for document in documents:
            for sentence in document:
                writer.add(sentence)
            writer.end_document()
        meta = writer.finish(key)
        if left_out:
            (temporary / LEFT_OUT).write_text(json.dumps(left_out), encoding="utf-8")
        (temporary / "meta.json").write_text(json.dumps(asdict(meta)), encoding="utf-8")
    return TokenStore(folder)


class _Writer:
    """Collects sentences, and tokenizes and writes them many at a time."""

    def __init__(self, folder: Path, encoder: "TextEncoder", splitter: Splitter | None):
        self.encoder, self.splitter = encoder, splitter
        self.dtype = np.dtype(np.uint16 if len(encoder.vocabulary) <= 1 << 16 else np.int32)
        self.begins_word = word_beginnings(encoder.vocabulary)
        names = ("tokens", "sentences", "documents", *(["words"] if splitter else []))
        self.files = {name: open(folder / f"{name}.bin", "wb") for name in names}  # noqa: SIM115
        self.digests = {name: hashlib.sha256() for name in names}
        self.pending: list[str] = []
        self.characters = 0
        self.ends: list[int] = []  # how many pending sentences there were when each document ended
        self.tokens = self.sentences = self.documents = 0
        self.last_end = 0  # sentences before the document that is being written
        self.bits = np.zeros(0, bool)  # fewer than eight that do not fill a byte yet
        self._write("sentences", np.zeros(1, np.int64))
        self._write("documents", np.zeros(1, np.int64))

    def add(self, sentence: str) -> None:
        self.pending.append(sentence)
        self.characters += len(sentence)
        if len(self.pending) >= BATCH_SENTENCES or self.characters >= BATCH_CHARACTERS:
            self.flush()

    def end_document(self) -> None:
        self.ends.append(len(self.pending))
        if len(self.ends) >= BATCH_SENTENCES:  # documents may be empty
            self.flush()

    def flush(self) -> None:
        values, lengths = self._tokens(self.pending)
        kept = lengths > 0
        starts = self.tokens + np.cumsum(lengths[kept])
        self._write("tokens", values.astype(self.dtype))
        self._write("sentences", starts.astype(np.int64))
        if self.splitter:
            self.bits = np.concatenate([self.bits, self._word_starts(values, lengths)])
            whole = len(self.bits) // 8 * 8
            self._write("words", np.packbits(self.bits[:whole], bitorder="little"))
            self.bits = self.bits[whole:]
        ends = self.sentences + np.concatenate([[0], np.cumsum(kept)])[self.ends]
        ends = np.unique(ends[ends > self.last_end]).astype(np.int64)
        self._write("documents", ends)
        if len(ends):
            self.last_end = int(ends[-1])
        self.tokens, self.sentences = self.tokens + len(values), self.sentences + int(kept.sum())
        self.documents += len(ends)
        self.pending, self.ends, self.characters = [], [], 0

    def close(self) -> None:
        """Give up what is not finished: on a full disk what is buffered cannot be written either."""
        for file in self.files.values():
            with contextlib.suppress(OSError):
                file.close()

    def finish(self, key: str) -> StoreMeta:
        self.flush()
        if self.splitter:
            self._write("words", np.packbits(self.bits, bitorder="little"))
        for file in self.files.values():
            file.close()
        joined = "".join(digest.hexdigest() for digest in self.digests.values())
        return StoreMeta(
            version=VERSION,
            dtype=self.dtype.name,
            tokens=self.tokens,
            sentences=self.sentences,
            documents=self.documents,
            has_words=self.splitter is not None,
            vocabulary=vocabulary_digest(self.encoder),
            fingerprint=hashlib.sha256(joined.encode()).hexdigest(),
            key=key,
        )

    def _write(self, name: str, values: np.ndarray) -> None:
        data = values.tobytes()
        self.files[name].write(data)
        self.digests[name].update(data)

    def _tokens(self, strings: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """All tokens, int32, and how many each string has, int64."""
        if not strings:
            return np.zeros(0, np.int32), np.zeros(0, np.int64)
        # A surrogate that a broken file left in a string is no character; BERT drops it like bytes that are not UTF-8.
        rows = self.encoder.tokenize([string.encode("utf-8", "ignore") for string in strings])
        return rows.values.numpy(), rows.row_lengths().numpy()

    def _word_starts(self, values: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Where the splitter's words begin: bool, one for each token of the pending sentences.

        Each word is tokenized alone. Mostly its tokens are those of the sentence, one after the other; where they are
        not, because the splitter cut a word that WordPiece takes whole, the longest common runs are matched and
        the words between them are the vocabulary's.
        """
        assert self.splitter is not None
        words = [self.splitter(sentence) for sentence in self.pending]
        word_values, word_lengths = self._tokens([word for row in words for word in row])
        begins = np.zeros(len(word_values) + 1, bool)
        begins[(np.cumsum(word_lengths) - word_lengths)[word_lengths > 0]] = True
        counts = np.concatenate([[0], np.cumsum(word_lengths)])[np.cumsum([0, *map(len, words)])]
        found = self.begins_word[values]
        end = 0
        for length, (first, last) in zip(lengths.tolist(), itertools.pairwise(counts), strict=True):
            start, end = end, end + length
            ours, theirs = values[start:end], word_values[first:last]
            if np.array_equal(ours, theirs):
                found[start:end] = begins[first:last]
                continue
            matcher = SequenceMatcher(None, ours.tolist(), theirs.tolist(), autojunk=False)
            for a, b, size in matcher.get_matching_blocks():
                found[start + a : start + a + size] &= begins[first + b : first + b + size]
        return found


def word_beginnings(vocabulary: Sequence[str]) -> np.ndarray:
    """bool [tokens], whether a token begins a word, that is, has no "##" before it."""
    return np.array([not re.match("##.", token, re.DOTALL) for token in vocabulary])


def _mapped(path: Path, dtype: str, count: int) -> np.ndarray:
    if not count:
        return np.zeros(0, dtype)  # an empty file cannot be mapped
    return np.asarray(np.memmap(path, dtype, mode="r", shape=(count,)))
