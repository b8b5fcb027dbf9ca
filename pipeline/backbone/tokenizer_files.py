"""The tokenizer of a Hugging Face folder: vocabulary and rules by its files, or why it is not BERT's; and written.

What transformers' AutoTokenizer would read is read, in its order: tokenizer_config.json overrules tokenizer.json,
unless the class is the bare PreTrainedTokenizerFast, which is tokenizer.json alone.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.backbone.json_object import read_json
from pipeline.backbone.loaded import LoadedBackbone
from pipeline.backbone.saving import write_json, write_vocabulary
from pipeline.backbone.tokenizer_json import TokenizerJson, read_tokenizer_json, write_tokenizer_json
from pipeline.errors import UserError
from pipeline.tokenizer_rules import BERT_RULES, MAX_WORD_CHARACTERS, SPECIAL_TOKENS, AddedToken, TokenizerRules
from pipeline.vocabulary_file import load_vocabulary, with_unused

_ROLES = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")  # as SPECIAL_TOKENS
_BARE = ("PreTrainedTokenizer", "TokenizersBackend")
_CLASSES = (
    *_BARE, "BertTokenizer", "ConvBertTokenizer", "DistilBertTokenizer", "ElectraTokenizer", "ErnieTokenizer",
    "LayoutLMTokenizer", "MobileBertTokenizer", "RetriBertTokenizer",
)  # fmt: skip
_OTHER = "use a checkpoint whose tokenizer is BERT's own (BertTokenizer), such as bert-base-multilingual-cased."


@dataclass(frozen=True)
class TokenizerFiles:
    """What a folder says of its tokens."""

    vocabulary: tuple[str, ...]
    source: Path
    """The file that it is from."""
    lowercase: bool | None
    """None: not said."""
    rules: TokenizerRules
    notes: tuple[str, ...] = ()
    """One sentence each, without the full stop."""


def read_tokenizer(folder: Path) -> TokenizerFiles:
    """Read the tokenizer of a folder.

    Args:
        folder: with vocab.txt or tokenizer.json, and any of tokenizer_config.json, special_tokens_map.json and
            added_tokens.json.

    Raises:
        UserError: damaged files, a tokenizer that is not BERT's, or files that contradict each other.
    """
    settings, model, named = (
        _optional(folder, name) for name in ("tokenizer_config.json", "config.json", "special_tokens_map.json")
    )
    kind = _class(folder, settings, model)
    _refuse_segmenters(folder, settings)
    fast = read_tokenizer_json(folder / "tokenizer.json", bare=kind in _BARE)
    if kind in _BARE and fast:
        said = fast.normalizer
    else:
        # transformers lets tokenizer_config.json overrule tokenizer.json.
        switches = ("do_lower_case", "strip_accents", "tokenize_chinese_chars")
        said = (fast.normalizer if fast else {}) | {k: settings[k] for k in switches if settings.get(k) is not None}
    names = [_content(settings.get(role) or named.get(role) or name) for role, name in _roles()]
    special = {*names, *SPECIAL_TOKENS}
    vocabulary, source = _vocabulary(folder, fast)
    if fast and fast.unknown not in (None, names[1]):
        raise UserError(
            f"{folder / 'tokenizer.json'}: its unk_token is {fast.unknown!r}, where {names[1]!r} is the folder's: give "
            "both files one name."
        )
    never_split = tuple(t for t in settings.get("never_split") or () if t not in special)
    strange = [token for token in never_split if token not in vocabulary]
    if strange:
        raise UserError(
            f"{folder / 'tokenizer_config.json'}: never_split has {strange[0]!r}, which is not in the vocabulary: take "
            "it out of never_split."
        )
    vocabulary, added = _added(folder, vocabulary, settings, named, fast, special)
    rules = TokenizerRules(
        strip_accents=said.get("strip_accents"),
        tokenize_chinese_chars=said.get("tokenize_chinese_chars") is not False,
        clean_text=said.get("clean_text") is not False,
        **({"max_word_characters": fast.max_word_characters} if fast and fast.max_word_characters else {}),
        never_split=never_split,
        added_tokens=added,
    )
    _refuse_sentencepiece(folder, vocabulary, source)
    vocabulary, notes = _with_bert_names(vocabulary, names)
    return TokenizerFiles(vocabulary, source, said.get("do_lower_case"), rules, tuple(notes))


def write_tokenizer(loaded: LoadedBackbone, folder: Path) -> tuple[str, ...]:
    """Write the files that transformers and `read_tokenizer` take the same tokenizer from.

    Args:
        loaded: its vocabulary, casing and rules.
        folder: to write vocab.txt, tokenizer_config.json and, where its rules are not BERT's own, tokenizer.json into.

    Returns:
        What transformers passes over, one sentence each.

    Raises:
        UserError: there is no vocabulary that fits.
    """
    rules, notes, longest = loaded.rules, [], loaded.backbone.max_sequence_length
    # What stands in tokenizer.json alone is read by the bare class alone.
    bare = not rules.clean_text or rules.max_word_characters != MAX_WORD_CHARACTERS
    settings: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast" if bare else "BertTokenizer",
        "model_max_length": (loaded.classifier and loaded.classifier.sequence_length) or longest,
        "strip_accents": rules.strip_accents,
        "tokenize_chinese_chars": rules.tokenize_chinese_chars,
        "unk_token": "[UNK]",
        "sep_token": "[SEP]",
        "pad_token": "[PAD]",
        "cls_token": "[CLS]",
        "mask_token": "[MASK]",
    }
    if bare or not loaded.family.has_segments:
        segments = ["token_type_ids"] if loaded.family.has_segments else []
        settings["model_input_names"] = ["input_ids", *segments, "attention_mask"]
    if loaded.lowercase is not None:
        settings["do_lower_case"] = loaded.lowercase
    if rules.never_split:
        settings["never_split"] = list(rules.never_split)
        notes.append("transformers' tokenizers pass over never_split since version 5; this project does not.")
    write_vocabulary(loaded, folder)
    if rules != BERT_RULES:
        write_tokenizer_json(loaded.vocabulary, loaded.lowercase is not False, rules, folder / "tokenizer.json")
        settings["added_tokens_decoder"] = {
            str(token.pop("id")): token for token in read_json(folder / "tokenizer.json")["added_tokens"]
        }
    write_json(folder / "tokenizer_config.json", settings)
    return tuple(notes)


def _optional(folder: Path, name: str) -> dict[str, Any]:
    return read_json(folder / name) if (folder / name).is_file() else {}


def _roles() -> list[tuple[str, str]]:
    return list(zip(_ROLES, SPECIAL_TOKENS, strict=True))


def _content(token: str | Mapping[str, Any]) -> str:
    """A token that stands in a file as text or as an AddedToken."""
    return token if isinstance(token, str) else token["content"]


def _listed(tokens: Sequence[Any] | Mapping[str, Any] | None) -> Iterable[Any]:
    """Tokens in a list, or by the names of their roles."""
    return tokens.values() if isinstance(tokens, Mapping) else tokens or ()


def _class(folder: Path, settings: dict[str, Any], model: dict[str, Any]) -> str:
    """The class of the tokenizer, without Fast.

    Raises:
        UserError: code of the folder's own, or a class that is not BERT's.
    """
    file = folder / ("tokenizer_config.json" if settings.get("tokenizer_class") else "config.json")
    named = settings.get("tokenizer_class") or model.get("tokenizer_class") or "BertTokenizer"
    code = (settings.get("auto_map") or {}).get("AutoTokenizer")
    if code:
        code = next((name for name in code if name), "") if isinstance(code, list) else code
        raise UserError(
            f"{folder / 'tokenizer_config.json'}: its tokenizer is code of its own (auto_map: {code}), which is not "
            f"run here: {_OTHER}"
        )
    kind = named.removesuffix("Fast")
    if kind == "BertJapaneseTokenizer":
        raise UserError(
            f"{file}: its tokenizer is a {named}, which cuts Japanese into words (by MeCab or the like) before "
            f"WordPiece; that is not done here: {_OTHER}"
        )
    if kind in ("PhobertTokenizer", "BertweetTokenizer"):
        raise UserError(
            f"{file}: its tokenizer is a {named}, which takes words that a program has cut or normalised before, and "
            f"no WordPiece; that is not done here: {_OTHER}"
        )
    if kind not in _CLASSES:
        raise UserError(f"{file}: its tokenizer is a {named}, not BERT's WordPiece: {_OTHER}")
    return kind


def _refuse_segmenters(folder: Path, settings: dict[str, Any]) -> None:
    usual = {"word_tokenizer_type": "basic", "subword_tokenizer_type": "wordpiece"}
    for key, value in usual.items():
        if settings.get(key) not in (None, value):
            raise UserError(
                f"{folder / 'tokenizer_config.json'}: {key} is {settings[key]!r}, by which texts are cut before or in "
                f"place of WordPiece; that is not done here: {_OTHER}"
            )
    if settings.get("do_basic_tokenize") is False:
        raise UserError(
            f"{folder / 'tokenizer_config.json'}: do_basic_tokenize is false: its texts were cut into words by another "
            f"program, which is not done here: {_OTHER}"
        )


def _refuse_sentencepiece(folder: Path, vocabulary: tuple[str, ...], source: Path) -> None:
    if any(piece.startswith("##") for piece in vocabulary):
        return
    pieces = [piece for piece in vocabulary if piece.startswith("\u2581")]
    if 100 * len(pieces) >= len(vocabulary):
        raise UserError(
            f"{source}: its pieces are SentencePiece's ({pieces[0]!r}, and none with ##), not WordPiece's: {_OTHER}"
        )


def _vocabulary(folder: Path, fast: TokenizerJson | None) -> tuple[tuple[str, ...], Path]:
    """The pieces without added tokens, and their file."""
    plain = folder / "vocab.txt"
    pieces = fast.vocabulary if fast else {}
    if not plain.is_file():
        if not pieces:
            raise UserError(f"{folder}: there is neither a vocab.txt nor a WordPiece tokenizer.json.")
        return _in_order(pieces, folder / "tokenizer.json"), folder / "tokenizer.json"
    tokens = load_vocabulary(plain)
    ids = {token: number for number, token in enumerate(tokens)}
    for token, number in pieces.items():
        if token.strip() and ids.get(token.strip()) != number:
            raise UserError(
                f"{folder}: {token!r} has the id {number} in tokenizer.json and {ids.get(token.strip())} in vocab.txt: "
                "delete the file that is not the checkpoint's."
            )
    return tuple(tokens), plain


def _in_order(ids: Mapping[str, int], file: Path) -> tuple[str, ...]:
    """Tokens by their ids; where one is missing, [unusedN].

    Raises:
        UserError: two tokens with one id, or an id that is no small number.
    """
    tokens: dict[int, str] = {}
    for token, number in ids.items():
        if not isinstance(number, int) or not 0 <= number < 10_000_000:
            raise UserError(f"{file}: {token!r} has the id {number!r}: ids count from 0.")
        if tokens.setdefault(number, token) != token:
            raise UserError(
                f"{file} gives the id {number} to both {tokens[number]!r} and {token!r}: each needs its own."
            )
    return tuple(with_unused([tokens.get(number, "") for number in range(max(tokens) + 1)]))


def _added(
    folder: Path,
    vocabulary: tuple[str, ...],
    settings: dict[str, Any],
    named: dict[str, Any],
    fast: TokenizerJson | None,
    special: set[str],
) -> tuple[tuple[str, ...], tuple[AddedToken, ...]]:
    """The vocabulary with added tokens at their ids, and those that are looked for in text.

    lstrip and rstrip, spaces that a token takes with it, change no token: BERT drops spaces.
    """
    extra = [
        _content(token)
        for source in (settings, named)
        for key in ("additional_special_tokens", "extra_special_tokens")
        for token in _listed(source.get(key))
    ]
    given = {
        token: {"id": number, "normalized": token not in extra}
        for token, number in _optional(folder, "added_tokens.json").items()
    }
    given |= {token["content"]: token for token in (fast.added_tokens if fast else ())}
    given |= {t["content"]: {**t, "id": int(n)} for n, t in (settings.get("added_tokens_decoder") or {}).items()}
    ids = {token: number for number, token in enumerate(vocabulary)}
    file = folder / "added_tokens.json" if (folder / "added_tokens.json").is_file() else folder / "tokenizer.json"
    for token, more in given.items():
        if ids.setdefault(token, more["id"]) != more["id"]:
            raise UserError(
                f"{file}: the added token {token!r} has the id {more['id']}, and {ids[token]} in the vocabulary: give "
                "it one id."
            )
    for token in extra:
        ids.setdefault(token, max(ids.values()) + 1)
        given.setdefault(token, {"normalized": False})
    found = tuple(
        AddedToken(token, more.get("normalized", not more.get("special")), bool(more.get("single_word")))
        for token, more in sorted(given.items(), key=lambda one: ids[one[0]])
        if token not in special
    )
    for token in found:
        if token.content != token.content.strip():
            raise UserError(
                f"{file}: the added token {token.content!r} begins or ends with a space, which no line of a vocabulary "
                "holds: rename it."
            )
    return _in_order(ids, file), found


def _with_bert_names(vocabulary: tuple[str, ...], names: list[str]) -> tuple[tuple[str, ...], list[str]]:
    """The vocabulary with BERT's names for the special tokens, and what is to be said.

    A special token is never found in text, so its name is only a name.
    """
    renamed = {
        name: role
        for name, role in zip(names, SPECIAL_TOKENS, strict=True)
        if name != role and name in vocabulary and role not in vocabulary
    }
    notes = []
    if renamed:
        changes = ", ".join(f"{name} is {role}" for name, role in renamed.items())
        notes.append(f"its special tokens have other names than BERT's, which they are given here: {changes}")
    # Where all are letters, texts have spaces between letters (proteins).
    pieces = [token for token in vocabulary if len(token) > 1 and not re.fullmatch(r"\[.+\]|<.+>", token)]
    if pieces and not any(token.startswith("##") for token in pieces):
        notes.append("no piece of its vocabulary begins with ##: a word that is not one piece becomes [UNK]")
    return tuple(renamed.get(token, token) for token in vocabulary), notes
