"""Checkpoints of the Hugging Face Hub, by the names people type; fetched by huggingface_hub. Imports no TensorFlow.

    bert-base-uncased    google-bert/bert-base-chinese    hf://owner/name    owner/name@branch-tag-or-commit

huggingface_hub's own settings say where its cache lies (HF_HOME), whether it may ask the network (HF_HUB_OFFLINE),
which hub it asks (HF_ENDPOINT) and with which token (HF_TOKEN, or `hf auth login`).
"""

import json
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import yaml

from pipeline.backbone.places import LENGTHS, MODULES, modules
from pipeline.config import Config
from pipeline.errors import UserError

_SCHEME = "hf://"
_REFERENCE = re.compile(
    r"(?P<name>[A-Za-z0-9][A-Za-z0-9_.-]*(/[A-Za-z0-9][A-Za-z0-9_.-]*)?)(@(?P<revision>[A-Za-z0-9][A-Za-z0-9_./-]*))?"
)
_COMMIT = re.compile("[0-9a-f]{40}")
_CONFIG = "config.json"
# In the order of preference; each in one file, or in several with an index.
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
# What backbone/huggingface.py reads beside the weights; a checkpoint may lack any but the first.
_SMALL = (
    _CONFIG, "tokenizer_config.json", "tokenizer.json", "special_tokens_map.json", "added_tokens.json", "vocab.txt",
)  # fmt: skip
# One of them has the tokens.
_VOCABULARIES = {"vocab.txt", "tokenizer.json"}
_SECONDS = 10


@dataclass(frozen=True)
class HubModel:
    """A checkpoint on the hub."""

    name: str
    """owner/name, or one of the old names without an owner."""
    revision: str = "main"
    """Branch, tag or commit."""

    def __str__(self) -> str:
        return self.name if self.revision == "main" else f"{self.name}@{self.revision}"


def reference(source: str) -> HubModel | None:
    """The checkpoint on the hub that a source names; None where it names something else.

    What exists here under that name is no name on the hub. A name without an owner needs a hyphen, which BERT's old
    names all have and no name of a keras-nlp preset (bert_base_en_uncased) has.

    Raises:
        UserError: hf://, but no name follows.
    """
    explicit = source.startswith(_SCHEME)
    path = Path(source).expanduser()
    if not explicit and (path.exists() or Path(f"{path}.index").exists()):
        return None
    match = _REFERENCE.fullmatch(source.removeprefix(_SCHEME))
    if explicit and not match:
        raise UserError(f"{source}: write it as hf://owner/name, with @revision for another than main.")
    if not match or not (explicit or "/" in match["name"] or "-" in match["name"]):
        return None
    return HubModel(match["name"], match["revision"] or "main")


def pin(config: Config, run_dir: Path) -> Config:
    """The config of a run with `model.revision` set, if its backbone is a checkpoint on the hub.

    A run that began with a commit keeps it, whatever the hub has by now.

    Args:
        config: as it was given.
        run_dir: of a new run, or of one that is to go on, whose config.yaml holds the commit.

    Raises:
        UserError: no such checkpoint, no network, or a source that is another than the run began with.
    """
    source, commit = config.model.backbone, config.model.revision
    hub_model = reference(source) if source else None
    recorded = _recorded(run_dir / "config.yaml", source)
    if hub_model is None:
        if commit or recorded:
            begun = f"{run_dir} began with commit {recorded} of {source}" if recorded else f"model.revision is {commit}"
            raise UserError(
                f"{begun}, but model.backbone {source} is no name on the Hugging Face Hub here: write hf://{source} if "
                "a folder of that name hides it, or unset model.revision."
            )
        return config
    if commit and not _COMMIT.fullmatch(commit):
        raise UserError(
            f"model.revision {commit}: give a commit of 40 hexadecimal digits here, and a branch or tag as "
            f"--model.backbone {hub_model.name}@{commit}."
        )
    commit = commit or recorded
    if not commit:
        commit = resolve(hub_model)
        print(f"{source}: commit {commit} of the Hugging Face Hub", flush=True)
    return replace(config, model=replace(config.model, revision=commit))


def _recorded(stored: Path, source: str | None) -> str | None:
    """The commit of `source` in a run's config.yaml, if there is one."""
    if not stored.is_file():
        return None
    model = (yaml.safe_load(stored.read_text(encoding="utf-8")) or {}).get("model") or {}
    return model.get("revision") if model.get("backbone") == source else None


def resolve(model: HubModel) -> str:
    """The commit that a branch or tag is at now; without network the one that the cache has it at.

    Raises:
        UserError: no such checkpoint or revision, or neither network nor cache.
    """
    if _COMMIT.fullmatch(model.revision):
        return model.revision
    try:
        _ask(model)
    except _Unreachable as error:
        config = _cached(model, _CONFIG)
        if not config:
            raise UserError(_how_to_bring(model, error)) from error
        print(f"warning: the Hugging Face Hub was not asked ({error}): {model} as the cache has it.", file=sys.stderr)
    else:
        # By the name of the revision: the cache notes which commit it is.
        config = _download(model, _CONFIG)
        if config is None:
            raise UserError(_no_config(model))
    return config.parent.name


def fetch(model: HubModel, commit: str | None = None, weights: bool = True) -> Path:
    """The folder of a checkpoint in huggingface_hub's cache, with the files that our loader reads; fetched if need be.

    Nothing is asked of the network where the cache holds all files of the commit, and knows of the others that it has
    none. Without network, what is not known of is taken not to be in the commit, with a warning on stderr, where
    configuration, a vocabulary and weights are cached.

    Args:
        model: whose revision counts if there is no commit.
        commit: 40 hexadecimal digits; None: `resolve`.
        weights: False: only configuration and tokenizer.

    Raises:
        UserError: no such checkpoint or revision, files that our loader does not read, or no network.
    """
    files = _Files(replace(model, revision=commit or resolve(model)))
    if files.needed(_CONFIG) is None:
        raise UserError(_no_config(files.model))
    found = {name for name in _SMALL if files.optional(name)}
    if not found & _VOCABULARIES:
        files.doubt(_VOCABULARIES)
    _fetch_modules(files)
    if weights:
        _fetch_weights(files)
    files.warn()
    return files.folder


def _fetch_modules(files: "_Files") -> None:
    """Of a model of sentence-transformers, what says how its vectors are pooled."""
    if files.optional(MODULES) is None:
        return
    files.optional(LENGTHS)
    for module in modules(files.folder):
        if module["type"] == "Pooling":
            files.needed(f"{module['path']}/{_CONFIG}")


def _fetch_weights(files: "_Files") -> None:
    for name in _WEIGHTS:
        index = files.optional(f"{name}.index.json")
        if index is None:
            if files.optional(name):
                return
            continue
        shards = sorted(set(json.loads(index.read_text())["weight_map"].values()))
        missing = [shard for shard in shards if files.needed(shard) is None]
        if missing:
            raise UserError(f"model.backbone {files.model} has no {missing[0]}, which its {name}.index.json names.")
        return
    files.doubt(_WEIGHTS)
    raise UserError(
        f"model.backbone {files.model} has neither {' nor '.join(_WEIGHTS)}: save its weights with transformers "
        "(from_pretrained, then save_pretrained), and name that folder."
    )


class _Files:
    """The files of a commit, out of the cache or fetched; None where it has no such file, which is cached too."""

    def __init__(self, model: HubModel) -> None:
        self.model = model
        self._unknown: dict[str, _Unreachable] = {}

    @property
    def folder(self) -> Path:
        config = _cached(self.model, _CONFIG)
        assert config
        return config.parent

    def needed(self, name: str) -> Path | None:
        """A file without which there is no model.

        Raises:
            UserError: not cached, and the hub cannot be asked.
        """
        path = self.optional(name)
        self.doubt([name])
        return path

    def optional(self, name: str) -> Path | None:
        """A file that is taken not to be there where the hub cannot be asked: other programs cache those that are,
        and no word on those that are not."""
        cached = _cached(self.model, name)
        if cached is not None:
            return cached or None
        if not self._unknown:
            try:
                _ask(self.model)
            except _Unreachable as error:
                self._unknown[name] = error
                return None
            return _download(self.model, name)
        self._unknown[name] = next(iter(self._unknown.values()))
        return None

    def doubt(self, names: Iterable[str]) -> None:
        """Raise a UserError if the hub could not be asked for any of these."""
        for name in names:
            if name in self._unknown:
                raise UserError(_how_to_bring(self.model, self._unknown[name])) from self._unknown[name]

    def warn(self) -> None:
        """Say what may be otherwise than it is taken to be."""
        names = [name for name in self._unknown if name in (*_SMALL, MODULES, LENGTHS)]
        if names:
            print(
                f"warning: the Hugging Face Hub was not asked ({self._unknown[names[0]]}): {self.model} is taken to "
                f"have no {', '.join(names)}, which the cache has not.",
                file=sys.stderr,
            )


class _Unreachable(Exception):
    """The hub did not answer."""


def _download(model: HubModel, name: str) -> Path | None:
    """A file of a revision; None where it has no such file."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(model.name, name, revision=model.revision))
    except LocalEntryNotFoundError as error:
        raise UserError(_how_to_bring(model, error)) from error
    except EntryNotFoundError:
        return None
    except Exception as error:  # whatever the library's client for HTTP, or the disk, raised
        raise UserError(f"model.backbone {model}: {name} cannot be fetched ({_reason(error)}): try again.") from error


def _cached(model: HubModel, name: str) -> Path | Literal[False] | None:
    """A file in the cache; False where the revision is known to have none, None where nothing is known."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(model.name, name, revision=model.revision)
    return Path(found) if isinstance(found, str) else None if found is None else False


def _ask(model: HubModel) -> None:
    """One short question after config.json: a download without network tries for more than a minute.

    Raises:
        UserError: no such model or revision, or not for this user.
        _Unreachable: no answer.
    """
    from huggingface_hub import errors, get_hf_file_metadata, hf_hub_url

    try:
        get_hf_file_metadata(hf_hub_url(model.name, _CONFIG, revision=model.revision), timeout=_SECONDS)
    except errors.EntryNotFoundError:
        pass  # an answer too
    except errors.GatedRepoError as error:
        raise UserError(
            f"model.backbone {model} is gated: accept its conditions on its page, then log in (hf auth login) or set "
            "HF_TOKEN."
        ) from error
    except errors.RevisionNotFoundError as error:
        raise UserError(f"model.backbone {model.name} has no revision {model.revision} on the hub.") from error
    except (errors.RepositoryNotFoundError, errors.HFValidationError) as error:
        raise UserError(
            f"model.backbone {model.name}: there is no such folder, and the Hugging Face Hub has no such model, or not "
            "for you: check the name; for a private one log in (hf auth login) or set HF_TOKEN."
        ) from error
    except Exception as error:  # whatever the library's client for HTTP raised
        raise _Unreachable(_reason(error)) from error


def _no_config(model: HubModel) -> str:
    return f"model.backbone {model} has no {_CONFIG} on the Hugging Face Hub: is it a checkpoint of a BERT?"


def _how_to_bring(model: HubModel, error: Exception) -> str:
    revision = "" if model.revision == "main" else f" --revision {model.revision}"
    return (
        f"model.backbone {model}: there is no such folder, and the Hugging Face Hub cannot be asked "
        f"({_reason(error)}): run `hf download {model.name}{revision} --local-dir FOLDER` where there is network, "
        "bring FOLDER here, and give --model.backbone FOLDER."
    )


def _reason(error: Exception) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
