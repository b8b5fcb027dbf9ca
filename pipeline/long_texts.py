"""What is read of a text that is longer than a sequence. No TensorFlow."""

from dataclasses import dataclass
from typing import Any, Self

# The name of the tensor beside the tokens that says how many chunks each text has.
CHUNKS = "chunks"
# Of texts in chunks, so many go through a model at a time, in training and in the served graph: what that needs of
# memory follows from no batch and no request.
CHUNKS_AT_ONCE = 64


@dataclass(frozen=True)
class LongTexts:
    """What of a long text becomes tokens of the model; a shorter text is read whole in any case.

    Args:
        read: head, its first tokens; tail, its last; head_tail, both; chunks, all of it, a chunk a sequence.
        head_share: of the tokens that head_tail keeps, how many are from the beginning (rounded, a half up).
        stride: of chunks that overlap, the tokens from the beginning of one to that of the next; None: each begins
            where the one before ends, which is behind the last sentence that ends within its last tenth, if any does.
        max_chunks: that are read of a text; what lies behind them is not.
    """

    read: str = "head"
    head_share: float = 1.0
    stride: int | None = None
    max_chunks: int = 1

    @property
    def in_chunks(self) -> bool:
        """Whether a text may be several sequences."""
        return self.read == "chunks"

    def room(self, room: int) -> int:
        """The most tokens that are read of a text where a sequence has room for so many."""
        step = room if self.stride is None else self.stride
        return room + (self.max_chunks - 1) * step

    def metadata(self) -> dict[str, Any]:
        """JSON-able; {} of head, which is what a model without any has."""
        if self == HEAD:
            return {}
        own = {"head_share": self.head_share} if self.read == "head_tail" else {}
        chunks = {"stride": self.stride, "max_chunks": self.max_chunks} if self.in_chunks else {}
        return {"read": self.read} | own | chunks

    @classmethod
    def from_metadata(cls, metadata: dict[str, Any]) -> Self:
        """The inverse of `metadata`; other keys are passed over."""
        made = cls.of(metadata.get("read", "head"), metadata.get("head_share", 1.0))
        if not made.in_chunks:
            return made
        return cls.of("chunks", stride=metadata["stride"], max_chunks=metadata["max_chunks"])

    @classmethod
    def of(cls, read: str, head_share: float = 1.0, stride: int | None = None, max_chunks: int = 1) -> Self:
        """Of settings, of which those that `read` has no use for make no difference."""
        if read == "chunks":
            return cls(read, stride=stride, max_chunks=max_chunks)
        return cls(read, {"head": 1.0, "tail": 0.0}.get(read, head_share))


HEAD = LongTexts()
