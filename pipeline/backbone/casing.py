"""Cased or not, where a checkpoint does not say."""

import dataclasses
import re

from pipeline.backbone.loaded import LoadedBackbone

# Words that someone added to an uncased vocabulary are fewer, the alphabet of a cased Chinese one is more.
_ONE_IN = 1000


def has_capitals(vocabulary: tuple[str, ...]) -> bool:
    """Whether the pieces are of cased text: one in a thousand has a capital, special and unused tokens left out."""
    named = re.compile(r"\[.+\]|<.+>")
    capitals = sum(piece != piece.lower() and not named.fullmatch(piece) for piece in vocabulary)
    return capitals > 0 and capitals * _ONE_IN >= len(vocabulary)


def with_casing(loaded: LoadedBackbone) -> LoadedBackbone:
    """The backbone as cased, with a note, where nothing says that it is and its pieces do."""
    if loaded.lowercase is not None or not has_capitals(loaded.vocabulary):
        return loaded
    note = (
        f"{loaded.source} does not say whether it is cased; pieces of {loaded.vocabulary_source} have capitals, so it "
        "is taken as cased (text.lowercase overrules this)."
    )
    return dataclasses.replace(loaded, lowercase=False, notes=(*loaded.notes, note))
