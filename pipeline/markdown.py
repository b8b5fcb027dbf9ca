"""Text of others in Markdown."""

import re


def code_span(text: str) -> str:
    """The text as a code span on one line, in which nothing is markup; what is not printable shows as an escape."""
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    # One backtick more than any run inside has.
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", shown)), default=0))
    # The reader takes off one space at both ends where both have one: none stands for none.
    pad = " " if shown[:1] in ("", "`", " ") or shown[-1:] in ("`", " ") else ""
    return f"{fence}{pad}{shown}{pad}{fence}"
