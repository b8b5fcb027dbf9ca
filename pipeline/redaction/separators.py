"""Spaces and hyphens that are written in place of the common ones, as RE2: word processors and web pages have spaces
of a fixed width or at which no line breaks, and hyphens and dashes of several lengths."""

import re

# Of Unicode: no-break space, en quad to hair space (figure and thin space among them), narrow no-break space; hyphen to
# horizontal bar.
SPACES, HYPHENS = r" \x{A0}\x{2000}-\x{200A}\x{202F}", r"\-\x{2010}-\x{2015}"
# A character by its number, an escape, a class, or one of the two.
_PARTS = re.compile(r"\\x\{[^}]*\}|\\.|\[(?:\\.|[^\]\\])*\]| |-")
# In a class a hyphen stands for itself where it is escaped, first or last.
_HYPHEN_OF_CLASS = re.compile(r"\\-|(?<=^\[)-|-(?=\]$)")


def separated(pattern: str) -> str:
    """An RE2 pattern in which each space and each hyphen may be another one; those that its classes exclude stay."""
    return _PARTS.sub(_widened, pattern)


def _widened(found: re.Match[str]) -> str:
    part = found[0]
    if part in (" ", "-", r"\-"):
        return f"[{SPACES if part == ' ' else HYPHENS}]"
    if not part.startswith("[") or part.startswith("[^"):
        return part
    return _HYPHEN_OF_CLASS.sub(lambda _: HYPHENS, part).replace(" ", SPACES)
