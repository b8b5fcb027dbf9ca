"""An attack on a private run's training, whose success would contradict its claim.

    python -m pipeline.privacy audit RUN --canaries 500

Trains once more by the settings of RUN, in RUN/audit, with canaries among the training rows: made texts, each of a word
of its own, with a label by chance, of which a coin decides whether they are in. What the exported model says of all of
them tells an attacker which were in, and how often that is right gives a lower bound of epsilon (see
pipeline.privacy.one_run). A bound below the claim proves nothing; one above it proves the claim wrong. It takes as long
as the run did, and goes on where it was stopped.
"""

import json
import random
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from export.command_line import command_parser
from pipeline.command_line import parse
from pipeline.config import Config
from pipeline.errors import Stopped, UserError
from pipeline.files import write_text
from pipeline.privacy.statement import statement_of

FOLDER = "audit"
CANARIES, INCLUDED, RESULT = "canaries.json", "included.jsonl", "audit.json"
# Of its own word in a canary: what is seen often enough is learned.
REPEATED = 4


@dataclass(frozen=True)
class Canary:
    """A made row, and whether it is among the training rows."""

    text: str
    label: str
    included: bool


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status: 0; 1: the bound contradicts the claim; 2 after one sentence on what is
    wrong; 75 when stopped in training, with the state saved."""
    parser = command_parser("pipeline.privacy audit", __doc__)
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("--canaries", type=int, default=500, metavar="N", help="how many (default: 500)")
    parser.add_argument("--seed", type=int, help="of the canaries and their coins, for tests (default: none)")
    options = parser.parse_args(arguments)
    try:
        return audit(options.run, options.canaries, options.seed)
    except Stopped as request:
        print(request, file=sys.stderr)
        return 75
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def audit(run_dir: Path, count: int, seed: int | None = None) -> int:
    """Train with canaries, attack, and compare with the claim; see `main`."""
    claimed = statement_of(run_dir)
    if claimed is None or not (run_dir / "config.yaml").is_file():
        raise UserError(f"{run_dir} is no private run: training.privacy.epsilon makes one.")
    if claimed.dropout:
        raise UserError(f"{run_dir} is of an older version, which trained otherwise (see account): train it again.")
    if count < 20:
        raise UserError(f"--canaries {count}: with fewer than 20 nothing can be told.")
    config = parse(["--config", str(run_dir / "config.yaml"), "--run_dir", str(run_dir / FOLDER / "training")])
    _check(config)
    folder = run_dir / FOLDER
    folder.mkdir(exist_ok=True)
    canaries = _canaries(folder, run_dir, config, count, seed)
    # TensorFlow takes seconds to import.
    from pipeline.privacy.one_run import CONFIDENCE, lower_bound
    from pipeline.run import train

    trained = train(_with_canaries(config, folder / INCLUDED))
    claim = statement_of(trained.run_dir)
    assert claim is not None and trained.saved_model is not None
    scores, included = _attacked(trained.saved_model, canaries, config)
    found = lower_bound(scores, included, claim.delta)
    outcome = asdict(found) | {"claimed": claim.epsilon, "delta": claim.delta, "confidence": CONFIDENCE}
    write_text(folder / RESULT, json.dumps(outcome, indent=1))
    print(
        f"audited: epsilon is at least {found.epsilon:.3g} with {CONFIDENCE:.0%} confidence, for {found.right} of "
        f"{found.guesses} guesses about {found.canaries} canaries are right; claimed: {claim.epsilon:.4g}"
    )
    if found.epsilon <= claim.epsilon:
        print("That does not contradict the claim, and does not prove it: another attack may tell more.")
        return 0
    print("error: the training told more than is claimed.", file=sys.stderr)
    return 1


def _check(config: Config) -> None:
    data = config.data
    for setting, value, wanted in (
        ("data.group_column", data.group_column, None),
        ("data.label_columns", data.label_columns, None),
        ("data.label_separator", data.label_separator, None),
        ("data.column_names", data.column_names, None),
    ):
        if value != wanted:
            raise UserError(f"an audit is of rows with one label each, and goes without {setting}.")
    if "a".encode(data.encoding) != b"a":
        raise UserError(f"data.encoding {data.encoding}: the canaries are a file in ASCII, which it does not read.")
    if data.format not in (None, "jsonl"):
        raise UserError(f"data.format {data.format}: the canaries are a jsonl file; name files so that none is needed.")


def _canaries(folder: Path, run_dir: Path, config: Config, count: int, seed: int | None) -> list[Canary]:
    """Those of an audit that was begun, or new ones."""
    path = folder / CANARIES
    if path.is_file():
        known = [Canary(**one) for one in json.loads(path.read_text(encoding="utf-8"))]
        if len(known) != count:
            raise UserError(f"{path} has {len(known)} canaries: give --canaries {len(known)}, or remove {folder}.")
        return known
    chance = random.Random(seed) if seed is not None else random.SystemRandom()
    words = _words(run_dir)
    if len(words) < count:
        raise UserError(f"--canaries {count}: the vocabulary has {len(words)} words that can be canaries.")
    labels = list(config.data.labels or ())
    chosen = [
        Canary(" ".join([word] * REPEATED), chance.choice(labels), chance.random() < 0.5)
        for word in chance.sample(words, count)
    ]
    rows = [
        {**dict.fromkeys(config.data.text_columns, one.text), config.data.label_column: one.label}
        for one in chosen
        if one.included
    ]
    # In ASCII, which the encodings that the other files may have (data.encoding) read alike.
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    write_text(folder / INCLUDED, lines)
    write_text(path, json.dumps([asdict(one) for one in chosen], ensure_ascii=False))
    return chosen


def _words(run_dir: Path) -> list[str]:
    """Whole words of the run's vocabulary."""
    from pipeline.training.finished_run import load_run_backbone, read_settings

    vocabulary = load_run_backbone(read_settings(run_dir), None, "float32").vocabulary
    return sorted({piece for piece in vocabulary if len(piece) > 1 and piece.isalpha()})


def _with_canaries(config: Config, included: Path) -> Config:
    """The settings of the run, of whose outcome nothing but answers is needed."""
    sources = [config.data.train] if isinstance(config.data.train, str) else list(config.data.train or ())
    plain = {"abstain_below": 0.0, "abstain_error": 0.0, "coverage": 0.0, "onnx": "none", "publish": None}
    return replace(
        config,
        # Canaries have neither language nor time, which decide nothing of a private training.
        data=replace(config.data, train=[*sources, str(included)], language_column=None, time_column=None),
        export=replace(config.export, enabled=True, recorded_examples=0, warmup_batch_sizes=[], signatures=[], **plain),
    )


def _attacked(version: Path, canaries: list[Canary], config: Config):
    """For each canary how likely the model makes its label, by the log-odds, less what it does for others of that
    label; and whether it was included."""
    import numpy as np

    from export import load

    texts, labels = [one.text for one in canaries], list(config.data.labels or ())
    probabilities = load(version)(*[texts] * len(config.data.text_columns)).probabilities.astype(np.float64)
    own = np.array([labels.index(one.label) for one in canaries])
    found = probabilities[np.arange(len(own)), own].clip(1e-7, 1 - 1e-7)
    scores = np.log(found) - np.log1p(-found)
    for label in np.unique(own):
        scores[own == label] -= scores[own == label].mean()
    return scores, np.array([one.included for one in canaries])
