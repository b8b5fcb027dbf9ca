"""The versions of a model at an address, which other runs may publish to as well."""

import contextlib
import secrets
import tempfile
from pathlib import Path

from export.versions import version_number
from pipeline import remote
from pipeline.errors import UserError


def publish(version: Path, address: str) -> None:
    """Copy an exported version to the folder of versions at an address.

    A bucket knows no renaming: what makes a folder a SavedModel comes last, so that no server loads half of one. Nor
    does it know a lock: who publishes writes a claim of a name of its own, and goes on where no other is listed beside
    it. Of two at once the later one sees the claim of the earlier, and both may refuse. That rests on a list that
    shows what was written before, as S3 and Google's buckets promise; it was not tried on any other, nor against
    their own servers.

    Raises:
        UserError: there is anything at that number already, or it cannot be written.
    """
    target = f"{address.rstrip('/')}/{version.name}"
    if remote.names_in(target):
        raise _taken(target, version)
    claim = f"publishing-{secrets.token_hex(8)}"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / claim
        path.write_text("a run is copying its model to this folder\n", encoding="utf-8")
        remote.upload([path], path.parent, target)
    if remote.names_in(target) != [claim]:
        _withdraw(claim, target)
        raise _taken(target, version)
    files = [path for path in version.rglob("*") if path.is_file()]
    remote.upload(sorted(files, key=lambda path: path.name == "saved_model.pb"), version, target)
    _withdraw(claim, target)
    print(f"published: {target}")


def _taken(target: str, version: Path) -> UserError:
    return UserError(
        f"{target} is taken by another run, which was not there when {version} was exported: nothing was uploaded; "
        "start the same command again for the next number."
    )


def _withdraw(claim: str, target: str) -> None:
    """Delete a claim; where nothing may be deleted it stays, which no server minds."""
    with contextlib.suppress(UserError):
        remote.remove(target, lambda place: place == claim)


def highest_at(address: str) -> int:
    """The highest number of a version at an address, whole or half copied; 0: there is none.

    Raises:
        UserError: it cannot be listed.
    """
    return max((number for name in remote.names_in(address) if (number := version_number(Path(name)))), default=0)
