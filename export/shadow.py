"""Two versions of a model compared by what both have answered in use, without asking either again.

    python -m export.shadow requests.jsonl --old stable --new canary --min_agreement 0.95 --error 0.05

The logs are those of export.request_log or of the kit's proxy, of a service that asks both versions the same texts and
logs both under their version labels (or versions, as --old 3 --new 4). Each text counts once, in the order in which the
second of its answers came, and the share of equal labels in the population of which the texts are is decided by a
confidence sequence: look as often as you like, after every hour or every row, a gate passes or fails wrongly with a
probability of at most --error. A text is kept as 16 bytes.

The exit status is 0 where the gate has passed, 1 where it has failed, 2 after one sentence on what is wrong with the
input, and 3 where there are too few rows to decide: log more, and ask again.
"""

import argparse
import hashlib
import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from export.command_line import command_parser
from export.compare import exit_status, gate_line
from export.request_log import Record, read
from export.sequential import share_bounds
from pipeline.data.formats import Notices, ReadOptions, escaped
from pipeline.data.formats.file import File
from pipeline.files import write_text

SHOWN = 10


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status: 0, 1 where a gate failed, 2 after one sentence on what is wrong, 3 where
    rows do not decide."""
    parser = command_parser("export.shadow", __doc__)
    parser.add_argument("logs", nargs="+", metavar="LOG", help="lines of JSON; - for standard input")
    parser.add_argument("--old", required=True, help="version label or version of the one side")
    parser.add_argument("--new", required=True, help="of the other, that is to replace it")
    parser.add_argument("--model", help="take requests of this model alone")
    parser.add_argument("--min_agreement", "--min-agreement", type=float, default=0.99, help="share of equal labels to "
                        "pass (default: 0.99)")  # fmt: skip
    parser.add_argument("--error", type=float, default=0.05, help="probability of a wrong decision (default: 0.05)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="what was found")
    options = parser.parse_args(arguments)
    try:
        found = _compare(options)
        if options.json:
            write_text(options.json, json.dumps(found, indent=1, ensure_ascii=False))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{found['rows']} texts that {options.old} and {options.new} have answered, {found['waiting']} that one has")
    for move in found["moves"][:SHOWN]:
        print(escaped(f"  {move['old']} -> {move['new']}: {move['count']}"))
    print(gate_line(found["gates"][0]))
    return exit_status(found["gates"])


def _compare(options: argparse.Namespace) -> dict:
    if not 0 < options.min_agreement < 1 or not 0 < options.error < 1:
        raise ValueError("--min_agreement and --error are above 0 and below 1.")
    if options.old == options.new:
        raise ValueError(f"--old and --new are both {options.old}.")
    pairs, moves, rows, equal = Pairs(options.old, options.new), Counter(), 0, 0
    for old, new in pairs.of(_records(options)):
        rows, equal = rows + 1, equal + (old == new)
        if old != new:
            moves[old, new] += 1
    if not rows:
        raise ValueError(f"the logs hold no text that both {options.old} and {options.new} have answered.")
    bounds = share_bounds(equal, rows, options.error)
    verdict = bounds.at_least(options.min_agreement)
    gate = {
        "gate": "agreement", "value": equal / rows, "bound": "at least", "limit": options.min_agreement,
        "low": bounds.low, "high": bounds.high, "verdict": verdict, "passed": verdict == "passed",
    }  # fmt: skip
    found = [{"old": old, "new": new, "count": count} for (old, new), count in moves.most_common()]
    return {"rows": rows, "waiting": len(pairs.waiting), "error": options.error, "gates": [gate], "moves": found}


class Pairs:
    """Answers of both sides to the same texts.

    Args:
        old, new: version labels or versions.

    Attributes:
        waiting: by digest of the texts, the side that has answered, and its label.
    """

    def __init__(self, old: str, new: str):
        self._sides = {old: 0, new: 1}
        self.waiting: dict[bytes, tuple[int, str]] = {}
        self._done: set[bytes] = set()

    def of(self, records: Iterator[Record]) -> Iterator[tuple[str, str]]:
        """Labels of old and new, for each text that both have answered.

        Raises:
            ValueError: answers without labels.
        """
        for record in records:
            side = self._sides.get(record.label or "", self._sides.get(str(record.version)))
            if side is None or record.signature != "serving_default":
                continue
            labels = record.outputs.get("label")
            if labels is None:
                raise ValueError(f"an answer has no label but {', '.join(map(repr, record.outputs)) or 'nothing'}.")
            # Two sides may name the inputs in two orders.
            columns = [record.inputs[name] for name in sorted(record.inputs)]
            for texts, label in zip(zip(*columns, strict=True), labels, strict=True):
                digest = hashlib.blake2b(json.dumps(texts).encode(), digest_size=16).digest()
                other = self.waiting.get(digest)
                if digest in self._done or (other is not None and other[0] == side):
                    continue
                if other is None:
                    self.waiting[digest] = side, label
                    continue
                del self.waiting[digest]
                self._done.add(digest)
                yield (other[1], label) if side else (label, other[1])


def _records(options: argparse.Namespace) -> Iterator[Record]:
    for path in options.logs:
        if path != "-" and not Path(path).is_file():
            raise ValueError(f"{path}: no such file.")
    for path in options.logs:
        file = File(path, ReadOptions(), Notices())
        with file.lines() as lines:
            for record in read(lines, file.name):
                if options.model in (None, record.model):
                    yield record


if __name__ == "__main__":
    from pipeline.entry import run_command

    run_command(main)
