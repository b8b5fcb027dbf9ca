"""TensorFlow has no types, and typeshed's for it contradict it (a RaggedTensor without from_row_splits): all is Any."""

from typing import Any

def __getattr__(name: str) -> Any: ...
