"""google-research/bert's tokenization.py in plain Python, written anew from its rules: what the encoder must equal."""

import unicodedata


def full_tokenize(text: str | bytes, vocabulary, lowercase: bool = True) -> list[str]:
    """FullTokenizer.tokenize: words, then WordPiece."""
    return [piece for word in basic_tokenize(text, lowercase) for piece in wordpiece(word, vocabulary)]


def basic_tokenize(text: str | bytes, lowercase: bool = True) -> list[str]:
    """BasicTokenizer.tokenize."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "ignore")
    cleaned = "".join(_clean(character) for character in text)
    spaced = "".join(f" {c} " if _is_cjk(ord(c)) else c for c in cleaned)
    words = []
    for word in spaced.split():
        if lowercase:
            decomposed = unicodedata.normalize("NFD", word.lower())
            word = "".join(c for c in decomposed if unicodedata.category(c) != "Mn")
        words.append("".join(f" {c} " if _is_punctuation(c) else c for c in word))
    return " ".join(words).split()


def wordpiece(word: str, vocabulary, limit: int = 200) -> list[str]:
    """WordpieceTokenizer.tokenize of one word: the longest piece first."""
    if len(word) > limit:
        return ["[UNK]"]
    pieces, start = [], 0
    while start < len(word):
        for end in range(len(word), start, -1):
            piece = ("##" if start else "") + word[start:end]
            if piece in vocabulary:
                pieces.append(piece)
                start = end
                break
        else:
            return ["[UNK]"]
    return pieces


def truncate_pair(first: list, second: list, limit: int) -> None:
    """run_classifier.py's _truncate_seq_pair, in place."""
    while len(first) + len(second) > limit:
        (first if len(first) > len(second) else second).pop()


def _clean(character: str) -> str:
    category = unicodedata.category(character)
    if character in " \t\n\r" or category == "Zs":
        return " "
    if ord(character) in (0, 0xFFFD) or category in ("Cc", "Cf"):
        return ""
    return character


def _is_cjk(code: int) -> bool:
    return (
        0x4E00 <= code <= 0x9FFF
        or 0x3400 <= code <= 0x4DBF
        or 0x20000 <= code <= 0x2A6DF
        or 0x2A700 <= code <= 0x2B73F
        or 0x2B740 <= code <= 0x2B81F
        or 0x2B820 <= code <= 0x2CEAF
        or 0xF900 <= code <= 0xFAFF
        or 0x2F800 <= code <= 0x2FA1F
    )


def _is_punctuation(character: str) -> bool:
    code = ord(character)
    if 33 <= code <= 47 or 58 <= code <= 64 or 91 <= code <= 96 or 123 <= code <= 126:
        return True
    return unicodedata.category(character).startswith("P")
