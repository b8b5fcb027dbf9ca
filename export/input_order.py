"""The order of a served model's inputs, as far as a client can know it: a server tells names and types, in no order."""

from collections.abc import Mapping
from typing import NamedTuple

from export.request_schema import RequestSchema
from export.transport import Spec
from pipeline.features import TEXT_INPUTS


class InputOrder(NamedTuple):
    """Inputs of a signature."""

    names: list[str]
    """Those that are texts, as far as they are known, before the others."""
    texts: int
    """How many are known to be texts."""
    known: bool
    """Whether the names stand in the model's own order, in which values without names are meant."""


def order_of(inputs: Mapping[str, Spec], schema: RequestSchema | None = None) -> InputOrder:
    """The model's own order where it can be known: from the schema of its export, or because there is no other.

    A model of one text calls it `text`, one of a pair `text_a` and `text_b`, and has them first; one of three texts or
    more calls them by their columns, as it calls what it reads beside them. So two strings are told apart by their
    names, three are not.

    Args:
        inputs: of the signature, by name.
        schema: of the model's export, if it is given; one of other inputs says nothing.
    """
    if schema is not None and set(schema.inputs) == set(inputs):
        return InputOrder(list(schema.inputs), schema.texts, True)
    strings = [name for name, spec in inputs.items() if spec.dtype is None or spec.dtype.kind == "O"]
    if len(inputs) == 1:
        return InputOrder(list(inputs), len(strings), True)
    named = [names for names in TEXT_INPUTS.values() if set(names) <= set(strings)]
    if not named or len(strings) > 2:
        return InputOrder(sorted(inputs), 0, False)
    texts = list(named[0])
    beside = sorted(set(inputs) - set(texts))
    return InputOrder(texts + beside, len(texts), len(beside) <= 1)
