"""The tensors of a TensorFlow checkpoint, under the names of their variables."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf.trackable_object_graph_pb2 import TrackableObjectGraph

from pipeline.errors import UserError
from pipeline.files import literal

_OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
_VALUE = ".ATTRIBUTES/VARIABLE_VALUE"


class CheckpointTensors:
    """A checkpoint of TensorFlow 1 (by name) or 2 (by object, in which each variable's name stands too).

    Attributes:
        source: for messages.
        by_object: whether it is one of TensorFlow 2.
    """

    def __init__(self, prefix: Path, source: str):
        """
        Args:
            prefix: path without .index.
            source: the checkpoint, for messages.

        Raises:
            UserError: it cannot be read.
        """
        self.source = source
        self._prefix = prefix
        # As long as the reader, which opens files when their tensors are asked for.
        self._link = ExitStack()
        readable = self._link.enter_context(literal(prefix.parent)) / prefix.name
        try:
            self._reader = tf.train.load_checkpoint(str(readable))
            self._shapes = self._reader.get_variable_to_shape_map()
            self.by_object = _OBJECT_GRAPH in self._shapes
            if self.by_object:
                graph = TrackableObjectGraph.FromString(self._reader.get_tensor(_OBJECT_GRAPH))
                values = [value for node in graph.nodes for value in node.attributes]
                self._keys = {value.full_name: value.checkpoint_key for value in values}
            else:
                self._keys = {name: name for name in self._shapes}
        except Exception as error:  # OpErrors, and built-in errors in place of some
            raise self._unreadable(error) from error

    def _unreadable(self, error: Exception) -> UserError:
        reason = str(error).partition("\n")[0]
        return UserError(f"{self._prefix} cannot be read as a checkpoint ({reason}): was it copied as a whole?")

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __contains__(self, name: str) -> bool:
        return name in self._keys

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._shapes[self._keys[name]])

    def read(self, name: str) -> np.ndarray:
        return self._get(self._keys[name]).astype(np.float32)

    def others(self, used: set[str], cut_off: tuple[str, ...] = ()) -> tuple[str, ...]:
        """What the checkpoint has beside the variables that are used, with shapes; an optimizer's slots are counted.

        What is no weight is not told: TensorFlow's count of saves, and whether texts are uncased, which is read.

        Args:
            used: names.
            cut_off: beginnings of the names of layers that were not asked for.
        """
        # Also of objects in the saved one.
        no_weights = tuple(f"/{name}/{_VALUE}" for name in ("save_counter", "do_lower_case"))
        others = [
            name
            for name, key in self._keys.items()
            if name not in used and not name.startswith(cut_off) and name and not f"/{key}".endswith(no_weights)
        ]
        # Slots are named after their variables: .../kernel/adam_m.
        slots = [name for name in others if name.rpartition("/")[0] in self]
        found = [f"{name} {list(self.shape(name))}" for name in others if name not in slots]
        return (*found, f"{len(slots)} slots of an optimizer") if slots else tuple(found)

    def attribute(self, name: str) -> np.ndarray | None:
        """The variable that the saved object has under a name; None: it has none."""
        key = f"{name}/{_VALUE}"
        return self._get(key) if key in self._shapes else None

    def _get(self, key: str) -> np.ndarray:
        try:
            return self._reader.get_tensor(key)
        except Exception as error:  # OpErrors, and built-in errors in place of some
            raise self._unreadable(error) from error
