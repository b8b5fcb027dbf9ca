"""TPU slices and how to use them: one small YAML file each, in tpu_configs/."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pipeline.config import Config
from pipeline.errors import UserError
from pipeline.settings.bounds import Count, Positive
from pipeline.settings.read import build, require
from pipeline.settings.text import read_file

SHIPPED = Path(__file__).parents[2] / "tpu_configs"
Size = Literal["small", "base", "large"]

BatchTable = dict[Size, dict[Count, Count]]
"""Size of the model (small, base, large) to tokens a sequence to sequences a core."""


@dataclass
class TpuTarget:
    """A TPU slice: the hardware, what is installed on it, and how much a core takes at once."""

    accelerator_type: str
    """As gcloud names it, for example v5litepod-8."""
    topology: str
    """As the compiler names it, for example v5e:2x4; the smallest that it knows where the slice is smaller."""
    zone: str
    """A zone that has this accelerator; `launch --zone` overrides it."""
    runtime_version: str
    """Image of the machines (gcloud's --runtime-version)."""
    chips: Count
    """TPU chips of the slice."""
    cores: Count
    """Devices that TensorFlow sees: two a chip on v2 and v3, else one."""
    hosts: Count
    """Virtual machines of the slice."""
    hbm_gib: Positive
    """Memory of a core in GiB, as the maker states it; the compiler keeps a little of it for itself."""
    finetune_batch: BatchTable
    """Most sequences that a core takes at once in fine-tuning."""
    pretrain_batch: BatchTable
    """The same in pre-training, whose logits over the vocabulary take memory too."""
    chip_config: str | None = None
    """libtpu's name of a way to use the chip other than its default; what TensorFlow uses on v4 is megacore."""
    steps_per_execution: Count = 50
    """Updates a call of the device: one call an update would leave it waiting for the host."""
    spot: bool = True
    """Cheaper, but may be preempted; the run then resumes on the next slice."""
    valid_until_duration: str | None = None
    """How long a request for the slice may wait (gcloud's --valid-until-duration, such as 6h); none: for ever."""
    python: str = "3.11"
    """Python that is installed on the machines."""
    packages: list[str] = field(
        default_factory=lambda: [
            "tensorflow-tpu==2.20.0",
            # Later ones abort tensorflow-tpu's import.
            "libtpu>=0.0.14,<0.0.31",
            "keras>=3.10,<4",
            "numpy>=1.26,<3",
            "absl-py", "filelock>=3.12,<5", "flatbuffers>=24", "importlib_resources>=6", "jinja2>=3.1,<4",
            "jsonargparse[signatures]>=4.40,<5", "kagglehub", "packaging", "pandas>=2.2,<4", "pyarrow>=17",
            "pyyaml>=6,<7", "regex", "rich>=13,<16", "sentencepiece", "safetensors>=0.4.5,<1", "scikit-learn>=1.5,<2",
            "setuptools<81", "tensorboard>=2.19,<3", "tensorflow-datasets>=4.9.7,<5", "tokenizers>=0.20,<1",
        ]
    )  # fmt: skip
    """Installed with what they require."""
    packages_alone: list[str] = field(
        default_factory=lambda: [
            "tensorflow-text==2.20.1",
            "keras-hub>=0.21,<1",
            "keras-nlp>=0.21,<1",
            "tensorflow-hub>=0.16.1,<1",
            "tf-keras==2.20.1",
        ]
    )
    """Installed without: each requires the package tensorflow, which must not overwrite tensorflow-tpu."""
    environment: dict[str, str] = field(
        default_factory=lambda: {"PJRT_DEVICE": "TPU", "NEXT_PLUGGABLE_DEVICE_USE_C_API": "true"}
    )
    """Environment variables of the training process."""

    def most_at_once(self, task: str, hidden_dim: int, sequence_length: int) -> int:
        """Sequences that a core takes at once.

        Args:
            task: "finetune" or "pretrain".
            hidden_dim: of the model; up to 512 is small, up to 768 base.
            sequence_length: tokens; the smallest listed length that is no shorter counts.

        Raises:
            UserError: no entry for such sequences.
        """
        size: Size = "small" if hidden_dim <= 512 else "base" if hidden_dim <= 768 else "large"
        table = getattr(self, f"{task}_batch").get(size, {})
        lengths = [length for length in sorted(table) if length >= sequence_length]
        if not lengths:
            raise UserError(
                f"{self.accelerator_type}: {task}_batch.{size} has no entry for sequences of {sequence_length} tokens; "
                "add one to the file."
            )
        return table[lengths[0]]


def read_target(name_or_path: str) -> TpuTarget:
    """Read a file of tpu_configs, by path or by the name of a shipped one.

    Raises:
        UserError: no such file, an unknown key, a missing one, a wrong type or a number that cannot be.
    """
    path = next((p for p in (Path(name_or_path), SHIPPED / f"{name_or_path}.yaml") if p.is_file()), None)
    if path is None:
        raise UserError(
            f"{name_or_path}: no such file, and none of the shipped ones; these are {', '.join(shipped_names())}."
        )
    values = read_file(TpuTarget, path)
    missing = [item.name for item in dataclasses.fields(TpuTarget) if item.name not in values and _required(item)]
    require(not missing, f"{path}: these keys are missing: {', '.join(missing)}.")
    return build(TpuTarget, values)


def _required(item: dataclasses.Field) -> bool:
    return item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING


def shipped_names() -> list[str]:
    """The names of the files in tpu_configs/, by generation and size."""
    return sorted((path.stem for path in SHIPPED.glob("*.yaml")), key=lambda n: (n[:3], int(n.rpartition("-")[2])))


def adapt(config: Config, target: TpuTarget) -> Config:
    """The settings of a run on this slice: static shapes, dense updates, batches divided among the cores.

    The batch of an update stays as configured, for it decides the weights. What a core cannot take at once is
    accumulated, which gives the same update.

    Raises:
        UserError: a batch that does not divide among the cores.
    """
    if config.training.tokens_per_batch is not None:
        raise UserError("A TPU compiles the step for one shape: unset training.tokens_per_batch.")
    config = dataclasses.replace(
        config,
        text=dataclasses.replace(config.text, fixed_length=True),
        training=dataclasses.replace(config.training, embedding_update="dense", strategy="tpu"),
        pretraining=dataclasses.replace(config.pretraining),
    )
    config.training.steps_per_execution = target.steps_per_execution
    if config.training.dtype == "auto":
        config.training.dtype = "mixed_bfloat16"
    width = config.model.hidden_dim if config.model.backbone is None else None
    if config.stage != "pretrain":
        most = _texts_at_once(config, target.most_at_once("finetune", width or 768, config.text.length))
        key, size = "training.batch_size", config.training.batch_size
        each = per_core(key, size, target, most)
        config.training.accumulation = parts([(each, most)], config.training.accumulation, key)
    if config.corpus.train and config.stage != "finetune":
        sizes = []
        for number, phase in enumerate(config.pretraining.phases):
            most = target.most_at_once("pretrain", width or 768, phase.sequence_length)
            sizes.append((per_core(f"pretraining.phases[{number}].batch_size", phase.batch_size, target, most), most))
        config.pretraining.accumulation = parts(sizes, config.pretraining.accumulation, "pretraining.phases")
    return config


def _texts_at_once(config: Config, most: int) -> int:
    """How many texts so many sequences are."""
    if config.text.long != "chunks":
        return most
    each = config.text.max_chunks
    require(
        each <= most,
        f"text.max_chunks {each}: a core takes {most} sequences of {config.text.length} tokens at once, and a text has "
        f"as many as it has chunks: set it to {most} at most.",
    )
    return most // each


def per_core(key: str, batch_size: int, target: TpuTarget, most: int) -> int:
    """Sequences of a batch that each core gets."""
    if batch_size % target.cores:
        raise UserError(
            f"{key} {batch_size} does not divide among the {target.cores} cores of {target.accelerator_type}: give a "
            f"multiple of {target.cores}; {target.cores * most} fills them."
        )
    return batch_size // target.cores


def parts(sizes: list[tuple[int, int]], at_least: int, key: str) -> int:
    """The fewest parts, at least `at_least`, that divide each core's share into what it takes at once.

    Args:
        sizes: (sequences a core gets, most that it takes at once) of each batch.
        at_least: what the config asks for.
        key: for the message.
    """
    for count in range(at_least, max(each for each, _ in sizes) + 1):
        if all(each % count == 0 and each // count <= most for each, most in sizes):
            return count
    raise UserError(f"{key}: no number of parts divides {', '.join(str(each) for each, _ in sizes)} sequences a core.")
