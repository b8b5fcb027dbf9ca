"""What, beside its vocabulary and lower-casing, decides how a BERT checkpoint's text becomes tokens."""

import dataclasses
from typing import Any, Self

from pipeline.errors import UserError

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
# google-research/bert's. Hugging Face writes 100, whatever the checkpoint was trained with.
MAX_WORD_CHARACTERS = 200
# RE2 counts no further than 1000.
_MOST_WORD_CHARACTERS = 999


@dataclasses.dataclass(frozen=True)
class AddedToken:
    """A token that is found in text as it stands, before words are cut into pieces."""

    content: str
    """As the vocabulary has it, which also gives its id."""
    normalized: bool = False
    """Found in normalised text (in any case, where text is lower-cased); else in the text as it was given."""
    single_word: bool = False
    """Only where no letter, digit or underscore touches it."""


@dataclasses.dataclass(frozen=True)
class TokenizerRules:
    """The switches of Hugging Face's BertTokenizer under its own names; the defaults are google-research/bert's.

    Raises:
        UserError: max_word_characters out of its bounds.
    """

    strip_accents: bool | None = None
    """Decompose characters (NFD) and drop their marks; None: where text is lower-cased."""
    tokenize_chinese_chars: bool = True
    """Each ideograph is a word of its own."""
    clean_text: bool = True
    """Drop control and format characters."""
    max_word_characters: int = MAX_WORD_CHARACTERS
    """A longer word is [UNK]."""
    never_split: tuple[str, ...] = ()
    """Tokens that are whole between spaces: neither lower-cased nor cut at punctuation."""
    added_tokens: tuple[AddedToken, ...] = ()
    """Tokens that are whole wherever they stand; of two that begin at one place the longer."""

    def __post_init__(self) -> None:
        if not 1 <= self.max_word_characters <= _MOST_WORD_CHARACTERS:
            raise UserError(
                f"words of up to {self.max_word_characters} characters (max_input_chars_per_word) are not supported: "
                f"give 1 to {_MOST_WORD_CHARACTERS}."
            )

    def to_json(self) -> dict[str, Any]:
        """What differs from the defaults, for a JSON file."""
        content = dataclasses.asdict(self)
        return {
            field.name: content[field.name]
            for field in dataclasses.fields(self)
            if getattr(self, field.name) != field.default
        }

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Self:
        """The rules that `to_json` gave."""
        tokens = tuple(AddedToken(**token) for token in content.get("added_tokens", ()))
        never_split = tuple(content.get("never_split", ()))
        return cls(**{**content, "added_tokens": tokens, "never_split": never_split})


BERT_RULES = TokenizerRules()
"""google-research/bert's."""
