"""What every format needs to write a checkpoint."""

import dataclasses
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pipeline.backbone.architecture import is_projected
from pipeline.backbone.loaded import LoadedBackbone
from pipeline.errors import UserError
from pipeline.files import sync_folder
from pipeline.vocabulary_file import load_vocabulary


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A hidden folder beside the wanted one to write into, renamed at the end.

    A save that fails leaves nothing, one that is killed at most the hidden folder.

    Raises:
        UserError: the folder exists and is not empty, or is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file: name a folder to write the checkpoint into.")
    if folder.is_dir() and any(folder.iterdir()):
        raise UserError(f"{folder} is not empty: name a new folder, or delete it first.")
    folder = folder.absolute()
    folder.parent.mkdir(parents=True, exist_ok=True)
    hidden = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(hidden, ignore_errors=True)
    hidden.mkdir()
    try:
        yield hidden
        sync_folder(hidden)
        # Onto a folder that another process has filled meanwhile this fails.
        os.rename(hidden, folder)
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


def write_json(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def write_vocabulary(loaded: LoadedBackbone, folder: Path) -> None:
    """Write vocab.txt.

    Raises:
        UserError: there is none, it does not fit the word embeddings, or a token would be read back as another.
    """
    check_vocabulary(loaded)
    path = folder / "vocab.txt"
    path.write_bytes("".join(f"{token}\n" for token in loaded.vocabulary).encode())
    again = load_vocabulary(path)
    if again != list(loaded.vocabulary):
        # Line ends and outer spaces.
        token = next((a for a, b in zip(loaded.vocabulary, again, strict=False) if a != b), loaded.vocabulary[-1])
        raise UserError(f"{loaded.vocabulary_source}: its token {token!r} cannot be written as a line of a vocab.txt.")


def check_vocabulary(loaded: LoadedBackbone) -> None:
    """Raise a UserError if there is no vocabulary, or one of more tokens than there are word embeddings."""
    rows = loaded.backbone.vocabulary_size
    if not loaded.vocabulary:
        raise UserError(f"{loaded.source} has no tokenizer: name its vocab.txt as the vocabulary.")
    if len(loaded.vocabulary) > rows:
        raise _unfit(loaded, loaded.vocabulary, loaded.vocabulary_source)


def use_vocabulary(loaded: LoadedBackbone, path: str, vocabulary: Sequence[str]) -> LoadedBackbone:
    """The backbone with a vocabulary that its user names, which must be as long as its own or as the word embeddings.

    Raises:
        UserError: it has another length, and so is probably of another checkpoint.
    """
    if len(vocabulary) not in (loaded.backbone.vocabulary_size, len(loaded.vocabulary)):
        raise _unfit(loaded, vocabulary, path)
    return dataclasses.replace(loaded, vocabulary=tuple(vocabulary), vocabulary_source=path)


def _unfit(loaded: LoadedBackbone, vocabulary: Sequence[str], source: str) -> UserError:
    return UserError(
        f"{source} has {len(vocabulary)} tokens, but the word embeddings of {loaded.source} have "
        f"{loaded.backbone.vocabulary_size} rows; the two must come from one checkpoint."
    )


def notes_on_rows(loaded: LoadedBackbone) -> tuple[str, ...]:
    """What is said where the word embeddings have rows that no token uses, such as those that make them a multiple of 8
    or 64."""
    rows, tokens = loaded.backbone.vocabulary_size, len(loaded.vocabulary)
    if rows == tokens:
        return ()
    return (
        f"{loaded.source}: its word embeddings have {rows} rows for the {tokens} tokens of {loaded.vocabulary_source}; "
        "the last rows are of no token.",
    )


def refuse_projection(loaded: LoadedBackbone, format: str) -> None:
    """Raise a UserError if the embeddings are narrower than the layers, which only transformers' ELECTRA holds."""
    if is_projected(loaded.backbone):
        raise UserError(
            f"{loaded.source} has embeddings of another width than its layers (ELECTRA), for which {format} has no "
            "place: save it as a Hugging Face folder."
        )
