"""Explanations as text for people, and as JSON."""

import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TextIO

from rich.console import Console
from rich.text import Text

from export.answers import REASON, is_share, line_of, prefix_of, refuse_late, rounded
from export.texts import Row, Texts
from pipeline.data.formats import as_text, escaped, printable

# The strongest piece of a text is shown in full colour, others in the share of theirs.
FOR, AGAINST = (0, 140, 60), (200, 40, 40)
# Keys of a JSON object behind the columns of the input.
ADDED = {REASON, "pieces", "completeness_gap", "columns", "read"}


def explain(predictor, rows: Texts, batch_size: int, form: str, file: TextIO) -> Iterator[int]:
    """Write explanations as "table" or "jsonl", each batch as soon as it is there; gives the rows of each."""
    iterator = iter(rows)
    write = table(file, rows) if form == "table" else jsonl(file, rows, predictor.task.answer_names)
    while window := list(itertools.islice(iterator, batch_size)):
        asked = [row.texts for row in window if row.texts]
        found = iter(predictor.explain(*zip(*asked, strict=True), batch_size=len(asked)) if asked else [])
        for row in window:
            write(row, next(found) if row.texts else None)
        yield len(window)


def table(file: TextIO, rows: Texts) -> Callable:
    """A line with the answer and the text, then one a piece: what it adds to the label's log-odds, and its bytes.

    In colour where `file` is a terminal: green speaks for the label, red against it.
    """
    console = Console(file=file, highlight=False, soft_wrap=True)

    def write(row: Row, explanation) -> None:
        texts = " | ".join(printable(text) for text in row.texts or map(as_text, row.cells))
        if row.texts is None:
            print(f"- ({row.reason})\t{texts}", file=file)
            return
        print(f"{line_of(explanation.answer)}\t{texts}", file=file)
        form = "+.3f" if _of_log_odds(explanation) else "+.4g"
        strongest = max(map(abs, [*explanation.attributions, *explanation.columns.values()]), default=0) or 1.0
        for piece, value, (text, begin, end) in zip(
            explanation.pieces, explanation.attributions, explanation.spans, strict=True
        ):
            surface = (
                (explanation.read or row.texts[text]).encode("utf-8", "replace")[begin:end].decode("utf-8", "replace")
            )
            line = Text(f"  {value:{form}}  ")
            line.append(printable(surface), style=_style(value / strongest))
            if surface != piece:
                line.append(f"  {escaped(piece)}", style="dim")
            console.print(line)
        for name, value in explanation.columns.items():
            line = Text(f"  {value:{form}}  ")
            line.append(printable(name), style=_style(value / strongest))
            console.print(line.append("  (column)", style="dim"))

    return write


def jsonl(file: TextIO, rows: Texts, answers: Sequence[str]) -> Callable:
    """One object a line, with all columns of the input; `begin` and `end` count bytes of UTF-8.

    Args:
        file: to write to.
        rows: none of which is taken yet: the columns that are known now decide what the answers are called.
        answers: names of what may be answered.
    """
    names, known, added = rows.text_columns, len(rows.columns), {*ADDED, *answers}
    prefix = prefix_of(rows.columns, added)
    taken = {f"{prefix}{name}" for name in added}

    def write(row: Row, explanation) -> None:
        given = dict(zip(rows.columns, row.cells, strict=False))
        if explanation is None:
            found: dict[str, Any] = {REASON: row.reason}
        else:
            answer, share = explanation.answer.items(), _of_log_odds(explanation)
            found = {
                name: value if isinstance(value, str) else rounded(value, is_share(name)) for name, value in answer
            }
            found |= {
                "pieces": pieces_of(explanation),
                "completeness_gap": rounded(explanation.completeness_gap, share),
            }
            if explanation.columns:
                found["columns"] = {name: rounded(value, share) for name, value in explanation.columns.items()}
            found |= {"read": explanation.read} if explanation.read is not None else {}
        refuse_late(list(given)[known:], taken, row.place)
        record = given | {f"{prefix}{name}": value for name, value in found.items()}
        print(json.dumps(record, ensure_ascii=False, default=as_text), file=file)

    def pieces_of(explanation) -> list[dict]:
        return [
            {
                "piece": piece,
                **({"input": names[text]} if len(names) > 1 and explanation.read is None else {}),
                "begin": begin,
                "end": end,
                "attribution": rounded(value, _of_log_odds(explanation)),
            }
            for piece, value, (text, begin, end) in zip(
                explanation.pieces, explanation.attributions, explanation.spans, strict=True
            )
        ]

    return write


def _of_log_odds(explanation) -> bool:
    """Whether attributions are of a label's log-odds; those of a number have its unit, and are as small as it is."""
    return "score" in explanation.answer


def _style(share: float) -> str:
    """White to full colour on a background, as rich names it."""
    colour = FOR if share > 0 else AGAINST
    red, green, blue = (round(255 + (part - 255) * abs(share)) for part in colour)
    return f"black on rgb({red},{green},{blue})"
