"""tokenizer.json, as Hugging Face's `tokenizers` writes it: read as far as it is BERT's, and written."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import models, normalizers, pre_tokenizers, processors

from pipeline.backbone.json_object import read_json
from pipeline.errors import UserError
from pipeline.tokenizer_rules import SPECIAL_TOKENS, TokenizerRules

_BERT = "BertPreTokenizer"
_PREFIX = "##"
# What is written for every checkpoint, whatever it was trained with.
_USUAL_WORD_CHARACTERS = 100


@dataclass(frozen=True)
class TokenizerJson:
    """What of a tokenizer.json decides tokens."""

    normalizer: dict[str, Any]
    """do_lower_case, strip_accents, tokenize_chinese_chars and clean_text, as far as they are said."""
    vocabulary: dict[str, int] = field(default_factory=dict)
    """Empty: it has no model."""
    unknown: str | None = None
    """The name of [UNK]; None: not said."""
    max_word_characters: int | None = None
    """None: not said, or what everyone writes."""
    added_tokens: tuple[dict[str, Any], ...] = ()


def read_tokenizer_json(file: Path, bare: bool) -> TokenizerJson | None:
    """Read a tokenizer.json; None: there is none.

    Args:
        file: the tokenizer.json.
        bare: nothing but this file makes the tokenizer, so it must say how a text is framed too.

    Raises:
        UserError: damaged, or a part that is not BERT's, by name.
    """
    if not file.is_file():
        return None
    content = read_json(file)
    model = content.get("model") or {}
    kind = model.get("type") or ("WordPiece" if model and "merges" not in model else None)
    if model and kind != "WordPiece":
        raise _not_bert(file, "model", kind or "BPE", "WordPiece")
    prefix = model.get("continuing_subword_prefix", _PREFIX)
    if prefix != _PREFIX:
        raise _not_bert(file, "continuing_subword_prefix", repr(prefix), repr(_PREFIX))
    cutters = [step["type"] for step in _steps(content.get("pre_tokenizer", {"type": _BERT}), "pretokenizers")]
    # Text that has been cut at spaces is cut there by the other, too.
    if not cutters or cutters[-1] != _BERT or {*cutters[:-1]} - {"WhitespaceSplit"}:
        raise _not_bert(file, "pre_tokenizer", " then ".join(cutters) or "none", _BERT)
    _check_frame(file, content.get("post_processor"), bare and "post_processor" in content)
    longest = model.get("max_input_chars_per_word", _USUAL_WORD_CHARACTERS)
    return TokenizerJson(
        _normalizer(file, content.get("normalizer", {"type": "BertNormalizer"})),
        model.get("vocab") or {},
        model.get("unk_token"),
        None if longest == _USUAL_WORD_CHARACTERS else longest,
        tuple(content.get("added_tokens") or ()),
    )


def write_tokenizer_json(vocabulary: tuple[str, ...], lowercase: bool, rules: TokenizerRules, file: Path) -> None:
    """Write a tokenizer.json with these rules, but for never_split, which it has no place for."""
    ids = {token: number for number, token in enumerate(vocabulary)}
    written = tokenizers.Tokenizer(
        models.WordPiece(ids, unk_token="[UNK]", max_input_chars_per_word=rules.max_word_characters)
    )
    written.normalizer = normalizers.BertNormalizer(
        rules.clean_text, rules.tokenize_chinese_chars, rules.strip_accents, lowercase
    )
    written.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    written.add_special_tokens([tokenizers.AddedToken(token, normalized=False) for token in SPECIAL_TOKENS])
    for token in rules.added_tokens:
        one = tokenizers.AddedToken(token.content, single_word=token.single_word, normalized=token.normalized)
        written.add_tokens([one])
    written.post_processor = processors.BertProcessing(("[SEP]", ids["[SEP]"]), ("[CLS]", ids["[CLS]"]))
    written.save(str(file))


def _not_bert(file: Path, part: str, found: str, wanted: str) -> UserError:
    return UserError(
        f"{file}: its {part} is {found}, where BERT's is {wanted}: texts would be cut otherwise than in its training; "
        "use a checkpoint with BERT's own tokenizer."
    )


def _steps(part: dict[str, Any] | None, inner: str) -> list[dict[str, Any]]:
    """A part's steps in order: itself, or those of a Sequence."""
    if not part:
        return []
    if part["type"] != "Sequence":
        return [part]
    return [step for one in part[inner] for step in _steps(one, inner)]


def _normalizer(file: Path, part: dict[str, Any] | None) -> dict[str, Any]:
    steps = _steps(part, "normalizers")
    kinds = [step["type"] for step in steps]
    if kinds.count("BertNormalizer") != 1 or {*kinds} - {"BertNormalizer", "Lowercase"}:
        raise _not_bert(file, "normalizer", " then ".join(kinds) or "none", "BertNormalizer")
    bert = steps[kinds.index("BertNormalizer")]
    names = {
        "lowercase": "do_lower_case", "strip_accents": "strip_accents",
        "handle_chinese_chars": "tokenize_chinese_chars", "clean_text": "clean_text",
    }  # fmt: skip
    said = {ours: bert[theirs] for theirs, ours in names.items() if bert.get(theirs) is not None}
    if "Lowercase" in kinds:
        # Accents go with the lower-casing of the BertNormalizer only.
        said = {"strip_accents": bool(said.get("do_lower_case"))} | said | {"do_lower_case": True}
    return said


def _check_frame(file: Path, part: dict[str, Any] | None, required: bool) -> None:
    """Refuse any post-processor but [CLS] A [SEP] and [CLS] A [SEP] B [SEP], with types 0 and 1."""
    if not part:
        if required:
            raise _not_bert(file, "post_processor", "none", "[CLS] A [SEP] B [SEP]")
        return
    if part["type"] == "BertProcessing":
        return
    if part["type"] == "TemplateProcessing":
        found = [_frame(part[name]) for name in ("single", "pair")]
        single = [("special", 0), ("A", 0), ("special", 0)]
        if found == [single, [*single, ("B", 1), ("special", 1)]]:
            return
    raise _not_bert(file, "post_processor", part["type"], "[CLS] A [SEP] B [SEP]")


def _frame(template: list[dict[str, Any]]) -> list[tuple[str, int]]:
    """Of each part of a template what it is, and its type."""
    return [
        ("special" if kind == "SpecialToken" else piece["id"], piece["type_id"])
        for part in template
        for kind, piece in part.items()
    ]
