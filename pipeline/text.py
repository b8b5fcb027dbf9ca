"""Strings to token ids in the TensorFlow graph: exactly the tokens of google-research/bert, or of one of its kin.

One object serves training and the exported model. Two kernels of tensorflow-text do the work, FastBertNormalize with
BERT's own table (normalizer.py) and FastWordpieceTokenizeWithOffsets; TensorFlow Serving has both. Three rules
depend on more than one character, and core string ops apply them in the rows that need it: bytes that are not UTF-8 are
dropped, a capital sigma at the end of a word becomes "ς", and a word of more than 200 characters becomes [UNK]. So are
a checkpoint's added tokens put in their places (added_tokens.py), where it has any (tokenizer_rules.py). Before all
else stands what is redacted (redaction/), where anything is.

Known differences, none of them in ordinary text:
- Uncased BERT sorts neighbouring combining marks into canonical order and then drops those of class Mn. The few others
  (class Mc) stay in the order of the text here. It matters where two of these are adjacent in another order: viramas of
  class Mc (such as U+1B44), Hangul tone marks (U+302E, U+302F), Vietnamese reading marks (U+16FF0, U+16FF1), musical
  stems and flags (U+1D165 to U+1D172).
- A punctuation mark newer than the running Python's Unicode is a letter to that Python. It is so here too, unless the
  vocabulary has a token with it.

Where Hugging Face's tokenizers differ from google-research/bert, the latter is followed: a sigma at the end of a word,
words of 101 to 200 characters, the names of special tokens in text (which stay text), and characters that Unicode
leaves to private use or has not assigned (which are parts of words).
"""

import hashlib
import os
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
import tensorflow_text as tf_text

from pipeline import alignment
from pipeline.added_tokens import RESERVED, Finder, characters_for, finders
from pipeline.cutting import SENTENCE_ENDS, Chunks, chunks_of
from pipeline.errors import UserError
from pipeline.long_texts import CHUNKS, HEAD, LongTexts
from pipeline.normalizer import MAX_EXPANSION, Switches, normalizer_table, sigma_context, unassigned, unknown_character
from pipeline.packing import Packing
from pipeline.redaction.kinds import NOTHING, RULES, Redaction
from pipeline.redaction.redactor import Redactor
from pipeline.tokenizer_rules import BERT_RULES, TokenizerRules
from pipeline.vocabulary_file import load_vocabulary, special_ids
from pipeline.wordpiece_model import wordpiece_model

# Where FastWordpieceTokenize ends a word in normalised text (RE2 ranges): space, ASCII's punctuation, ideographs.
_ASCII_BREAKS = r" -/:-@\[-`{-~"
_BREAKS = (
    _ASCII_BREAKS + r"\x{3400}-\x{4DBF}\x{4E00}-\x{9FFF}\x{F900}-\x{FAFF}\x{20000}-\x{2A6DF}\x{2A700}-\x{2B73F}"
    r"\x{2B740}-\x{2B81F}\x{2B820}-\x{2CEAF}\x{2F800}-\x{2FA1F}"
)


class TextEncoder:
    """WordPiece with BERT's special tokens, as a callable for tf.data, tf.function and SavedModel.

    Example:
        encoder = TextEncoder("vocab.txt", lowercase=True, sequence_length=128)
        encoder(["hello world"])  # {"token_ids": [[101, 7592, 2088, 102]], "segment_ids": ..., "padding_mask": ...}
        encoder(["a question"], ["an answer"])
        encoder.tokenize(["hello world"])  # ragged, without special tokens

    Args:
        vocabulary: path of a vocab.txt (one token a line, its line number from 0 is its id), or the tokens themselves.
        lowercase: lower-case and, unless `rules` say otherwise, strip accents (uncased checkpoints).
        sequence_length: longest encoded sequence in tokens, with the special ones.
        rules: what else decides the tokens; google-research/bert's by default.
        long: what is read of longer texts; their beginning by default.
        redaction: what is replaced in texts first; its placeholders are among the added tokens of `rules`.

    Attributes:
        vocabulary: tuple of tokens.
        pad_id, unk_id, cls_id, sep_id, mask_id: ids of the special tokens.
        unknown_character: stands in normalised text for words too long and for characters that Unicode has not
            assigned; no token has it.
        fingerprint: sha256, in hex, of all that decides the output.

    Raises:
        UserError: a vocabulary that cannot be read, lacks a special or an added token or has a token twice; a
            sequence_length without room for the special tokens.
    """

    def __init__(
        self,
        vocabulary: str | os.PathLike | Sequence[str],
        lowercase: bool = True,
        sequence_length: int = 128,
        rules: TokenizerRules = BERT_RULES,
        long: LongTexts = HEAD,
        redaction: Redaction = NOTHING,
    ) -> None:
        source = "the vocabulary"
        if isinstance(vocabulary, (str, os.PathLike)):
            source = str(vocabulary)
            vocabulary = load_vocabulary(vocabulary)
        if sequence_length < 3:
            raise UserError(f"sequence_length is {sequence_length}, but [CLS] and two [SEP] take 3: give more.")
        if long.stride is not None and long.stride > sequence_length - 2:
            raise UserError(f"stride {long.stride} skips tokens: a chunk has room for {sequence_length - 2}.")
        self.vocabulary = tuple(vocabulary)
        self.lowercase = lowercase
        self.sequence_length = sequence_length
        self.rules, self.long, self.redaction = rules, long, redaction
        self._redactor = Redactor(redaction) if redaction else None
        self.pad_id, self.unk_id, self.cls_id, self.sep_id, self.mask_id = special_ids(self.vocabulary, source)
        self._packed = Packing(self.cls_id, self.sep_id, self.pad_id, long.head_share)

        strip_accents = lowercase if rules.strip_accents is None else rules.strip_accents
        switches = Switches(lowercase, strip_accents, rules.tokenize_chinese_chars, rules.clean_text)
        # What Unicode has not assigned stays only where a token has it; a character that no token has means [UNK].
        unnamed = unassigned(self.vocabulary)
        self.unknown_character = unknown_character(unnamed)
        ids = {token: number for number, token in enumerate(self.vocabulary)}
        stand_ins = characters_for(rules, ids.keys(), source)
        table = normalizer_table(switches, self.unknown_character, frozenset({*unnamed, *stand_ins.values()}))
        self.fingerprint = self._digest(table)

        self._sentence_ends = [ids[token] for token in SENTENCE_ENDS if token in ids]
        self._ordinary = _ordinary_text(switches, rules.max_word_characters)
        self._long_word = rf"[^{_BREAKS}]{{{rules.max_word_characters + 1},}}"
        cased, ignorable = sigma_context(rules.clean_text)
        self._final_sigma = rf"([{cased}][{ignorable}]*)Σ([{ignorable}]*(?:[^{cased}{ignorable}]|$))"
        # Eager tensors, for all graphs that capture them share one copy; on the CPU, where the string kernels are.
        with tf.init_scope(), tf.device("CPU:0"):
            self._normalizer = tf_text.FastBertNormalizer(model_buffer=tf.constant(np.frombuffer(table, np.uint8)))
            model = tf.constant(wordpiece_model(self.vocabulary, source, rules, tuple(stand_ins.values())))
            self._wordpiece = tf_text.FastWordpieceTokenizer(model_buffer=model, token_out_type=tf.int32)
            self._spelling = tf_text.FastWordpieceTokenizer(model_buffer=model, token_out_type=tf.string)
            # Behind the vocabulary the kernel has the characters that stand for added tokens.
            self._added_ids = tf.constant([ids[token] for token in stand_ins], tf.int32) if stand_ins else None
            self._names = tf.constant(self.vocabulary) if rules != BERT_RULES else None
        self._given: Finder | None = None
        self._normalized: Finder | None = None
        self._given, self._normalized = finders(rules, stand_ins, self._normalized_words)

    @property
    def _redactor_of_read(self) -> Redactor | None:
        """Of what is tokenized; None: nothing is to be redacted in it, or it has been."""
        return self._redactor

    def _digest(self, table: bytes) -> str:
        """Of the normalizer's table and of all settings; those at their defaults leave it as it was before them."""
        digest = hashlib.sha256(table)
        digest.update(repr((self.vocabulary, self.lowercase, self.sequence_length)).encode())
        if self.rules != BERT_RULES:
            digest.update(repr(self.rules).encode())
        if self.long != HEAD:
            digest.update(repr(sorted(self.long.metadata().items())).encode())
        if self.redaction:
            digest.update(repr(self.redaction).encode())
        if self.redaction.kinds:
            digest.update(f"rules {RULES}".encode())
        return digest.hexdigest()

    def __call__(self, first, second=None, fixed_length: bool = False) -> dict[str, tf.Tensor]:
        """Encode single texts as [CLS] first [SEP], or pairs as [CLS] first [SEP] second [SEP].

        Pairs too long lose tokens of the longer text, one by one, of the second where they are equal
        (`_truncate_seq_pair` of google-research/bert's run_classifier.py); which of its tokens, `long` says.

        Args:
            first: string [batch], any bytes.
            second: string [batch], or None.
            fixed_length: pad to `sequence_length`; else to the longest row.

        Returns:
            token_ids, segment_ids (0 for first, 1 for second and its [SEP], 0 for padding) and padding_mask
            (1 for tokens, 0 for padding), each int32 [batch, length]. In chunks: int32 [rows, length], the chunks of
            one text after those of the other, and beside them chunks, int32 [batch], how many each text has.
        """
        if self.long.in_chunks:
            return self._in_chunks(first, second, fixed_length)
        room = self.sequence_length - (2 if second is None else 3)
        texts = [self._first_tokens(self._normalize(text), room) for text in (first, second) if text is not None]
        return self._packed(texts, room, fixed_length)

    def texts(self, *cells) -> list[tf.Tensor]:
        """What is tokenized of what a call is given: the texts themselves."""
        return [tf.convert_to_tensor(cell, tf.string) for cell in cells if cell is not None]

    @property
    def cell_specs(self) -> list[tf.TensorSpec]:
        """What a signature takes, where that is not one text or two; none."""
        return []

    @property
    def specs(self) -> dict[str, tf.TensorSpec]:
        """What a call gives."""
        names = ("token_ids", "segment_ids", "padding_mask")
        beside = {CHUNKS: tf.TensorSpec([None], tf.int32)} if self.long.in_chunks else {}
        return {name: tf.TensorSpec([None, None], tf.int32) for name in names} | beside

    def chunks(self, tokens: tf.RaggedTensor) -> Chunks:
        """Where texts of these tokens are cut, of an encoder whose texts are read in chunks."""
        return chunks_of(tokens, self.sequence_length - 2, self.long, self._sentence_ends)

    def _in_chunks(self, text, second, fixed_length: bool) -> dict[str, tf.Tensor]:
        if second is not None:
            raise UserError("A pair of texts cannot be read in chunks: give one text a row.")
        room = self.sequence_length - 2
        # With one more, whether a chunk is the last of its text is known too.
        tokens = self._first_tokens(self._normalize(text), self.long.room(room) + 1)
        chunks = self.chunks(tokens)
        return self._packed([chunks.tokens(tokens)], room, fixed_length) | {CHUNKS: tf.cast(chunks.counts, tf.int32)}

    def pack(self, tokens: Sequence[tf.RaggedTensor], sequence_length: tf.Tensor) -> dict[str, tf.Tensor]:
        """What a call gives for the texts of these tokens, with another longest length.

        Args:
            tokens: what `tokenize` gives for one text a row, or for the first and the second.
            sequence_length: int scalar, in tokens, with the special ones; at least 3.

        Returns:
            As a call, padded to the longest row.
        """
        return self._packed(tokens, tf.cast(sequence_length, tf.int64) - (1 + len(tokens)))

    def tokenize(self, strings) -> tf.RaggedTensor:
        """Tokens of each string, without special tokens and uncut.

        Args:
            strings: string [batch], any bytes.

        Returns:
            int32 [batch, None].
        """
        return self._pieces(self._normalize(strings))

    def _pieces(self, words: tf.Tensor) -> tf.RaggedTensor:
        """Ids of the pieces of normalised texts: int32 [batch, None]."""
        pieces = self._wordpiece.tokenize(words)
        return pieces.with_values(self._own_ids(pieces.values))

    def _own_ids(self, kernel_ids: tf.Tensor) -> tf.Tensor:
        """Ids in the vocabulary for those of the wordpiece kernel, which has characters for added tokens behind it."""
        if self._added_ids is None:
            return kernel_ids
        behind = kernel_ids - len(self.vocabulary)
        return tf.where(behind < 0, kernel_ids, tf.gather(self._added_ids, tf.maximum(behind, 0)))

    def tokenize_with_offsets(self, strings) -> tuple[tf.RaggedTensor, tf.RaggedTensor, tf.RaggedTensor]:
        """The same tokens by name, and the bytes of the string as it was given that each comes from.

        Marks and other characters that BERT drops belong to the character before them. Where one character became
        several (uncased Korean), each token with some of them has all its bytes. [UNK] has the bytes of its word.
        This costs more than `tokenize`.

        Args:
            strings: string [batch], any bytes.

        Returns:
            tokens, string [batch, None]; begin and end, int64 [batch, None].
        """
        text, places = alignment.valid_text(tf.convert_to_tensor(strings, tf.string))
        if self._redactor_of_read:
            text, places = self._redactor_of_read.with_places(text, places)
        if self._given or self._normalized:
            text = self._without_reserved(text)  # as many bytes
        if self._given:
            text, places = self._given.replaced_with_places(text, places)
        if self.lowercase:
            text = tf.strings.regex_replace(text, self._final_sigma, r"\1ς\2")  # as many bytes
        words, offsets = self._normalizer.normalize_with_offsets(text)
        places = alignment.moved(places, offsets)
        if self._normalized:
            words, places = self._normalized.replaced_with_places(words, places)
        words, places = alignment.with_long_words_replaced(
            words, places, _BREAKS, self.rules.max_word_characters, self.unknown_character
        )
        if self._names is None:
            tokens, begins, ends = self._spelling.tokenize_with_offsets(words)
        else:
            # The kernel's pieces are spelled otherwise than the vocabulary's.
            ids, begins, ends = self._wordpiece.tokenize_with_offsets(words)
            tokens = ids.with_values(tf.gather(self._names, self._own_ids(ids.values)))
        return tokens, *alignment.spans(places, begins, ends)

    def redacted(self, strings) -> tf.Tensor:
        """Texts as they are read, with placeholders for what is redacted: string [batch], any bytes, to the same."""
        strings = tf.convert_to_tensor(strings, tf.string)
        return self._redactor(strings) if self._redactor else strings

    def _normalize(self, strings) -> tf.Tensor:
        """BERT's cleaning, splitting and (uncased) lower-casing, as far as the wordpiece kernel does not do it."""
        strings = tf.convert_to_tensor(strings, tf.string)
        if strings.shape.rank not in (None, 1):
            raise UserError(f"TextEncoder takes a batch of strings, shape [batch], and was given {strings.shape}.")
        strings = tf.ensure_shape(strings, [None])
        strings = self._redactor_of_read(strings) if self._redactor_of_read else strings
        words = self._normalizer.normalize(strings)
        special = ~tf.strings.regex_full_match(strings, self._ordinary)
        if self._given:
            special |= self._given.found(strings)
        if self._normalized:
            # Of the text as it was given only what the finder reserves matters here; it is left in normalised text.
            special |= self._normalized.found(words)
        special = tf.where(special)
        return tf.cond(
            tf.size(special) > 0,
            lambda: tf.tensor_scatter_nd_update(words, special, self._normalize_fully(tf.gather_nd(strings, special))),
            lambda: words,
        )

    def _normalize_fully(self, strings: tf.Tensor) -> tf.Tensor:
        """The same with the rules that depend on more than one character."""
        return tf.strings.regex_replace(self._normalized_words(strings), self._long_word, self.unknown_character)

    def _normalized_words(self, strings: tf.Tensor) -> tf.Tensor:
        """The same with long words as they are: an added token may be longer."""
        strings = tf.strings.unicode_transcode(
            strings, "UTF-8", "UTF-8", errors="ignore", replace_control_characters=False
        )
        if self._given or self._normalized:
            strings = self._without_reserved(strings)
        if self._given:
            strings = self._given.replaced(strings)
        if self.lowercase:
            strings = tf.strings.regex_replace(strings, self._final_sigma, r"\1ς\2")
        words = self._normalizer.normalize(strings)
        if self._normalized:
            words = self._normalized.replaced(words)
        return words

    def _without_reserved(self, strings: tf.Tensor) -> tf.Tensor:
        return tf.strings.regex_replace(strings, f"[{RESERVED}]", self.unknown_character)

    def _first_tokens(self, words: tf.Tensor, room: int) -> tf.RaggedTensor:
        """Tokens of normalised texts; of long texts at least the first `room`, but not all, to save the time."""
        if self.long.head_share < 1:
            return self._pieces(words)
        limit = 6 * max(self.sequence_length, room)  # characters; language has fewer in a token
        long = tf.strings.length(words) > limit

        def cut() -> tf.RaggedTensor:
            heads = tf.strings.regex_replace(
                tf.strings.substr(words, 0, limit, unit="UTF8_CHAR"), rf"[^{_BREAKS}]+$", ""
            )
            heads = tf.where(long, heads, words)
            rows = self._pieces(heads)
            missing = long & tf.less(rows.row_lengths(), room)
            return tf.cond(tf.reduce_any(missing), lambda: self._pieces(tf.where(missing, words, heads)), lambda: rows)

        return tf.cond(tf.reduce_any(long), cut, lambda: self._pieces(words))


def _ordinary_text(switches: Switches, longest: int) -> str:
    """An RE2 pattern that matches, in one pass, only text to which no rule on more than one character applies.

    It is valid UTF-8, it has no capital sigma, and breaks are near enough to each other. Other text may be ordinary
    too; it is only slower.

    Args:
        switches: what of BERT's normalisation is done.
        longest: word, in characters.
    """
    breaks = rf"\t\n\r{_BREAKS if switches.split_ideographs else _ASCII_BREAKS}\x{{3000}}-\x{{3002}}"
    # Surrogates left out by name, RE2 compiles the class to exactly the valid sequences of bytes.
    word = rf"[^{breaks}\x{{D800}}-\x{{DFFF}}{'Σ' if switches.lowercase else ''}]"
    near = rf"{word}{{0,{longest // MAX_EXPANSION if switches.lowercase or switches.strip_accents else longest}}}"
    return rf"{near}(?:[{breaks}]{near})*"
