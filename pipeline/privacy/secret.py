"""What decides a private run's batches and noise: random, on disk as long as the run is unfinished, and nowhere else.

A run that is killed needs it to go on exactly, with the noise that each update had the first time: a second noise for
the same update would tell more. Whoever can read the run's folder while it trains can read the rows too, in `data/`;
once the training is complete the file is removed, and neither the model nor the records tell what it held.
"""

import hashlib
import os
from pathlib import Path

from pipeline.errors import UserError

FILE = "privacy.secret"
BYTES = 32


def secret_of(run_dir: Path, seed: int | None, begun: bool) -> bytes:
    """The run's secret, made where there is none.

    Args:
        run_dir: folder of the run.
        seed: for tests: the secret is made of it, and not kept; None: of the operating system.
        begun: whether there must be one: updates have been made, or another worker has made it.

    Raises:
        UserError: there must be one, and it is not there.
    """
    if seed is not None:
        return hashlib.sha256(f"not secret {seed}".encode()).digest()
    path = run_dir / FILE
    if not path.is_file():
        if begun:
            raise UserError(
                f"{path} is gone, without which this private run cannot go on as it began: give another --run_dir."
            )
        _write(path, os.urandom(BYTES))
    return path.read_bytes()


def derived(secret: bytes, use: str) -> bytes:
    """32 bytes for one use, which tell nothing about those for others."""
    return hashlib.sha256(use.encode() + secret).digest()


def forget(run_dir: Path) -> None:
    """Remove the secret of a run that is complete."""
    (run_dir / FILE).unlink(missing_ok=True)


def _write(path: Path, content: bytes) -> None:
    """Readable by its owner alone, whole or not at all."""
    temporary = path.with_name(f".{path.name}")
    temporary.unlink(missing_ok=True)
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)
    folder = os.open(path.parent, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)
