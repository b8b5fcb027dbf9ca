"""Names of persons and places in texts, by a language model of spaCy's that runs here; no TensorFlow.

Presidio finds names by the same models. The graph that text.redact puts into a served model cannot: it is of string
operations alone.
"""

import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from pipeline.errors import UserError
from pipeline.extras import require

MODEL = "en_core_web_sm"
# At a time: spaCy refuses ten times as many.
MOST_CHARACTERS = 100_000
# What models of several languages call them.
KINDS = {"PERSON": "person", "PER": "person", "persName": "person", "PRS": "person",
         "GPE": "place", "LOC": "place", "placeName": "place", "geogName": "place"}  # fmt: skip


class Names:
    """A model, ready to be asked.

    Args:
        model: a package of spaCy's models that is installed, or a folder of one.

    Raises:
        UserError: spaCy is not installed, or there is no such model, or it knows no names.
    """

    def __init__(self, model: str) -> None:
        spacy: Any = require("names", "spacy")
        try:
            self._model = spacy.load(model)
        except (OSError, ValueError, ImportError) as error:
            raise UserError(
                f"--names {model} is no model of spaCy's that is installed and complete, and no folder of one: python "
                f"-m spacy download {model} fetches one of its own (https://spacy.io/models)."
            ) from error
        known = {label for name in ("ner", "entity_ruler") if name in self._model.pipe_names
                 for label in self._model.get_pipe(name).labels}  # fmt: skip
        if not known & KINDS.keys():
            raise UserError(f"--names {model}: this model finds no names of persons or places; give another.")

    def found(self, texts: Sequence[str]) -> Iterator[tuple[int, str, str]]:
        """Number of the text, "person" or "place", and the name, in their order."""
        pieces = ((piece, number) for number, text in enumerate(texts) for piece in _pieces(text))
        for document, number in self._model.pipe(pieces, as_tuples=True):
            for entity in document.ents:
                if entity.label_ in KINDS:
                    yield number, KINDS[entity.label_], entity.text


def _pieces(text: str) -> list[str]:
    """A text that is longer than a model takes, cut at white space."""
    return textwrap.wrap(text, MOST_CHARACTERS) if len(text) > MOST_CHARACTERS else [text]
