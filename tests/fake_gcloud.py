"""A gcloud that records what it is asked and answers as it is told.

Beside it lie `answers.json`: kind of call to a list of [exit status, output], taken from the front, the last one kept;
and `calls.json`, one list of words a line.
"""

import json
import sys
from pathlib import Path

FOLDER = Path(__file__).parent
KINDS = {
    "create": "queued-resources create", "queue": "queued-resources describe", "node": "tpu-vm describe",
    "copy": "tpu-vm scp", "install": "install.sh --quiet", "start": "start.sh --quiet",
    "delete": "queued-resources delete", "bucket": "buckets describe",
}  # fmt: skip


def main() -> int:
    words = sys.argv[1:]
    with open(FOLDER / "calls.json", "a") as file:
        file.write(json.dumps(words) + "\n")
    (kind,) = (kind for kind, part in KINDS.items() if part in " ".join(words))
    answers = json.loads((FOLDER / "answers.json").read_text())
    given = answers.get(kind) or [[0, ""]]
    (status, output), *rest = given
    answers[kind] = rest or given
    (FOLDER / "answers.json").write_text(json.dumps(answers))
    print(output)
    return status


if __name__ == "__main__":
    sys.exit(main())
