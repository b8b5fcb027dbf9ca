"""Explanations as text for people, and as JSON."""

import json
from collections.abc import Callable
from typing import TextIO

from rich.console import Console
from rich.text import Text

# The strongest piece of a text is shown in full colour, others in the share of theirs.
FOR, AGAINST = (0, 140, 60), (200, 40, 40)


def table(file: TextIO, names: list[str]) -> Callable:
    """A line with the answer and the text, then one a piece: what it adds to the label's log-odds, and its bytes.

    In colour where `file` is a terminal: green speaks for the label, red against it.
    """
    console = Console(file=file, highlight=False, soft_wrap=True)

    def write(row, explanation) -> None:
        texts = " | ".join(_printable(text) for text in row)
        print(f"{explanation.label} {explanation.score:.4f}\t{texts}", file=file)
        strongest = max(map(abs, explanation.attributions), default=0) or 1.0
        for piece, value, (text, begin, end) in zip(
            explanation.pieces, explanation.attributions, explanation.spans, strict=True
        ):
            surface = row[text].encode("utf-8", "replace")[begin:end].decode("utf-8", "replace")
            line = Text(f"  {value:+.3f}  ")
            line.append(_printable(surface), style=_style(value / strongest))
            if surface != piece:
                line.append(f"  {piece}", style="dim")
            console.print(line)

    return write


def jsonl(file: TextIO, names: list[str]) -> Callable:
    """One object a line; `begin` and `end` count bytes of UTF-8."""

    def write(row, explanation) -> None:
        pieces = [
            {
                "piece": piece,
                **({"input": names[text]} if len(names) > 1 else {}),
                "begin": begin,
                "end": end,
                "attribution": round(value, 6),
            }
            for piece, value, (text, begin, end) in zip(
                explanation.pieces, explanation.attributions, explanation.spans, strict=True
            )
        ]
        record = {
            **dict(zip(names, row, strict=True)),
            "label": explanation.label,
            "score": round(explanation.score, 6),
            "pieces": pieces,
            "completeness_gap": round(explanation.completeness_gap, 6),
        }
        print(json.dumps(record, ensure_ascii=False), file=file)

    return write


def _style(share: float) -> str:
    """White to full colour on a background, as rich names it."""
    colour = FOR if share > 0 else AGAINST
    red, green, blue = (round(255 + (part - 255) * abs(share)) for part in colour)
    return f"black on rgb({red},{green},{blue})"


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text)
