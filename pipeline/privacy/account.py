"""What a private run claims, and the same recomputed from its records alone.

    python -m pipeline.privacy account RUN

RUN is the folder of a run, or that of an exported version.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from export.command_line import command_parser
from export.versions import METADATA
from pipeline.errors import UserError
from pipeline.privacy.statement import Statement, statement_of

# Relative: of two computations of one epsilon.
SAME = 1e-6


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status: 0; 1: what is recomputed is not what is claimed, or nothing was secret; 2
    after one sentence on what is wrong."""
    parser = command_parser("pipeline.privacy account", __doc__)
    parser.add_argument("run", type=Path, metavar="RUN")
    options = parser.parse_args(arguments)
    try:
        return _account(options.run)
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _account(place: Path) -> int:
    statement = _statement(place)
    for name, value in statement.metadata().items():
        print(f"{name.replace('_', ' ')}: {value}")
    found = statement.recomputed()
    checked = statement.cross_checked()
    print(f"recomputed: epsilon {found:.6g}, claimed {statement.epsilon:.6g}")
    print(f"cross-check: epsilon {checked:.6g} by Rényi differential privacy, a looser bound")
    if found > checked:
        print("It is tighter here, which it should not be: one of the two bounds is not what it is taken to be, or the "
              "grid of privacy losses is too coarse for so small an epsilon.")  # fmt: skip
    if found > statement.epsilon * (1 + SAME):
        print("These numbers do not give what is claimed: they, or the accountant, have changed.")
        return 1
    if statement.dropout:
        print("The run is of an older version, in which a row decided the dropout of others: unless its model had none "
              "(model.dropout 0, and the checkpoint's own), the claim does not hold: train it again.")  # fmt: skip
        return 1
    if not statement.secret:
        print("Nothing is private: batches and noise follow from training.privacy.seed.")
        return 1
    return 0


def _statement(place: Path) -> Statement:
    """Of a run's folder, or of an export's metadata."""
    found = statement_of(place)
    metadata = place / METADATA
    if found is None and metadata.is_file():
        told = json.loads(metadata.read_text(encoding="utf-8")).get("privacy")
        found = Statement(**told) if told else None
    if found is None:
        raise UserError(f"{place} is no private run: training.privacy.epsilon makes one.")
    return found
