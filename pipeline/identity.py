"""What a model is: enough to build its like, to compare it and to refuse what does not fit it."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from pipeline.errors import UserError
from pipeline.files import write_text

FILE = "identity.json"


@dataclass(frozen=True)
class Identity:
    """Saved as identity.json in the run's folder, in its checkpoints, and under "model" in the export's metadata."""

    features: dict[str, Any]
    """Features.metadata()"""
    task: dict[str, Any]
    """Task.metadata()"""
    pooling: str
    """A file of pipeline/poolings."""
    backbone: dict[str, Any]
    """Sizes, family and the source of its weights."""
    dropout: float
    dtype: str
    """Keras dtype policy of training."""
    sequence_length: int
    """Longest sequence in tokens."""
    tokenization: str
    """TextEncoder.fingerprint"""
    pooled_layers: int = 1
    """Of how many layers the mean is pooled."""
    long: dict[str, Any] = field(default_factory=dict)
    """LongTexts.metadata(): what is read of longer texts; of texts in chunks also "pooling", a ChunkPooling's kind."""
    fusion: dict[str, Any] = field(default_factory=dict)
    """Of columns beside the text: "kind" and "units" of the Fusion, and "width", how many numbers they are."""
    redaction: dict[str, Any] = field(default_factory=dict)
    """Redaction.metadata(): what is replaced in texts."""

    def save(self, folder: Path) -> None:
        """Write identity.json."""
        write_text(folder / FILE, json.dumps(asdict(self), indent=1, ensure_ascii=False))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read identity.json.

        Raises:
            UserError: it is not there, or not of this version of the pipeline.
        """
        path = folder / FILE
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except OSError as error:
            raise UserError(f"{path} is not there: take that run to its end with this version first.") from error
        except (ValueError, TypeError) as error:
            raise UserError(f"{path} is not of this version of the pipeline ({error}).") from error


SIZES = (
    "vocabulary_size", "num_layers", "num_heads", "hidden_dim", "intermediate_dim", "max_sequence_length",
    "num_segments",
)  # fmt: skip


def backbone_identity(backbone, source: str, family: str) -> dict[str, Any]:
    """Sizes of a keras-nlp BertBackbone, where its weights are from, and the model_type that they came under."""
    sizes = {name: getattr(backbone, name) for name in SIZES}
    return {"source": source, "family": family} | sizes
