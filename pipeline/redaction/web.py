"""Addresses of mail, pages and machines, as RE2."""

# Of scripts that put spaces between words: in others a sentence would run on into the address.
_LETTER = r"\p{Latin}\p{Greek}\p{Cyrillic}"
# Its end is where a word ends, digits behind the last letters included.
EMAIL = (
    rf"[{_LETTER}0-9](?:[{_LETTER}0-9.!#$%&'*+/=?^_`{{|}}~-]*[{_LETTER}0-9_+-])?@"
    rf"(?:[{_LETTER}0-9](?:[{_LETTER}0-9-]*[{_LETTER}0-9])?\.)+(?:xn--[A-Za-z0-9-]+|[{_LETTER}]{{2,}}[A-Za-z0-9_]*)"
)

_OF_URL = r"[^\s<>\"'`\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}\x{3000}-\x{303F}\x{FF00}-\x{FFEF}‘’“”«»]"
# The marks that end a sentence are not the address's last.
_LAST_OF_URL = rf"[{_LETTER}\p{{Arabic}}\p{{Hebrew}}\p{{Devanagari}}0-9/_~=&%#+$@*-]"
URL = rf"(?i:\b(?:https?|ftps?|wss?)://|\bwww\.){_OF_URL}*{_LAST_OF_URL}"

_OCTET = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
IPV4 = rf"\b{_OCTET}(?:\.{_OCTET}){{3}}\b"
_GROUP = r"[0-9A-Fa-f]{1,4}"
# A shortened one is told from names in programs (a::b) by a group before "::" that begins with a digit, or by two.
IPV6 = (
    rf"\b(?:{_GROUP}:){{7}}{_GROUP}\b",
    rf"\b(?:{_GROUP}:){{2,6}}(?::{_GROUP}){{1,5}}\b",
    rf"\b(?:\d[0-9A-Fa-f]{{0,3}}|[fF][cdeCDE][0-9A-Fa-f]{{2}})::(?:{_GROUP}:){{0,5}}{_GROUP}\b",
)
