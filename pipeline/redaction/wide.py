"""Numbers in the full-width digits of Chinese and Japanese texts, as RE2: a run that has one is settled as a whole, by
what it is in ASCII. Letters of accounts and addresses are not looked for in full width.
"""

from pipeline.redaction.separators import HYPHENS, SPACES

DIGITS = r"\x{FF10}-\x{FF19}"
# ASCII's own, their full-width forms, and hyphens, minus signs and long vowel marks that stand for a hyphen.
_MARKS = HYPHENS + r"().\/+\x{FF0D}\x{FF08}\x{FF09}\x{FF0E}\x{FF0F}\x{FF0B}\x{2212}\x{30FC}\x{FF70}"
_SPACES = SPACES + r"\x{3000}"


def _run(between: str) -> str:
    digit = rf"[0-9{DIGITS}]"
    start, gap = rf"[(+\x{{FF08}}\x{{FF0B}}]{{0,2}}(?:{digit}[{between}]{{0,2}})*", rf"[{between}]{{0,2}}"
    return rf"{start}[{DIGITS}](?:{gap}{digit})*[XxＸｘ日]?"


# With spaces first: what is no number with its neighbour may be one without.
RUNS = _run(_MARKS + _SPACES + "年月"), _run(_MARKS)


def in_wide(context: tuple[str, str]) -> tuple[str, str]:
    """A Kind.context for numbers in full width: what stands before, and their shape."""
    before, shape = context
    return before.replace(r"\d", rf"\d{DIGITS}"), shape.replace(r"\d", f"[{DIGITS}]").replace(r"\b", "")
