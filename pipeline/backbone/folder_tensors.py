"""The tensors of a Hugging Face folder: safetensors or pytorch_model.bin, in one file or in several."""

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np
from safetensors import SafetensorError, safe_open

from pipeline.backbone.json_object import read_json
from pipeline.backbone.torch_file import TorchFile
from pipeline.errors import UserError

SAFETENSORS, TORCH = "model.safetensors", "pytorch_model.bin"
_WORDS = "embeddings.word_embeddings.weight"


class _File(Protocol):
    def __iter__(self) -> Iterator[str]: ...

    def shape(self, name: str) -> tuple[int, ...]: ...

    def read(self, name: str) -> np.ndarray: ...


class FolderTensors:
    """The tensors by the names that a bare encoder has: embeddings.word_embeddings.weight.

    What wraps the encoder (bert., module.bert., model.) is left out of the names, and of those of heads beside it;
    LayerNorm.gamma and beta, of the first conversions from TensorFlow, are weight and bias.

    Attributes:
        source: the folder, for messages.
        prefix: what the encoder's own names begin with in the files.
        stored: the name in the files, by name.
    """

    def __init__(self, folder: Path):
        """
        Args:
            folder: with the files.

        Raises:
            UserError: missing or damaged files, or several encoders in them.
        """
        self.source = str(folder)
        files = [_open(file) for file in _weight_files(folder)]
        self._files = {name: file for file in files for name in file}
        self.prefix = self._find_prefix()
        around = ".".join(self.prefix.split(".")[:-2])
        self.stored = {
            _modern(_without(_without(name, self.prefix), f"{around}." if around else "")): name for name in self._files
        }

    def _find_prefix(self) -> str:
        prefixes = sorted(name.removesuffix(_WORDS) for name in self._files if name.endswith(_WORDS))
        # Another model's part would be named some_embeddings.word_embeddings.
        prefixes = [prefix for prefix in prefixes if not prefix or prefix.endswith(".")]
        if len(prefixes) > 1:
            raise UserError(
                f"{self.source}: the weights hold {len(prefixes)} encoders ({', '.join(prefixes)}): keep one of them."
            )
        return prefixes[0] if prefixes else ""

    def __iter__(self) -> Iterator[str]:
        return iter(self.stored)

    def __contains__(self, name: str) -> bool:
        return name in self.stored

    def shape(self, name: str) -> tuple[int, ...]:
        stored = self.stored[name]
        return self._files[stored].shape(stored)

    def read(self, name: str) -> np.ndarray:
        stored = self.stored[name]
        return self._files[stored].read(stored)


class _Safetensors:
    def __init__(self, file: Path):
        try:
            # TensorFlow has a bfloat16 of its own.
            self._handle = safe_open(file, framework="tf")
        except SafetensorError as error:
            raise UserError(f"{file} is not a safetensors file ({error}): was it downloaded as a whole?") from error

    def __iter__(self) -> Iterator[str]:
        return iter(self._handle.keys())

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._handle.get_slice(name).get_shape())

    def read(self, name: str) -> np.ndarray:
        return self._handle.get_tensor(name).numpy().astype(np.float32)


def _open(file: Path) -> _File:
    return TorchFile(file) if file.suffix == ".bin" else _Safetensors(file)


def _weight_files(folder: Path) -> list[Path]:
    for name in (SAFETENSORS, TORCH):
        index = folder / f"{name}.index.json"
        if index.is_file():
            files = [folder / shard for shard in sorted(set(read_json(index)["weight_map"].values()))]
        elif (folder / name).is_file():
            files = [folder / name]
        else:
            continue
        for file in files:
            if not file.is_file():
                raise UserError(f"{file} is missing: {index.name} names it.")
        return files
    others = [name for name in ("tf_model.h5", "flax_model.msgpack", "model.onnx") if (folder / name).is_file()]
    found = f"; {others[0]} is not read: save it with transformers (save_pretrained)" if others else ""
    raise UserError(f"{folder / SAFETENSORS} is missing, and there is no {TORCH}{found}.")


def _without(name: str, prefix: str) -> str:
    return name.removeprefix(prefix)


def _modern(name: str) -> str:
    return name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")
