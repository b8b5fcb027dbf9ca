"""Texts of logs as a model reads them, so that they are compared with those of a reference that are read so too."""

from collections.abc import Callable
from dataclasses import replace

from export.monitor.features import Rows
from pipeline.redaction.kinds import Redaction


def redacting(redaction: Redaction) -> Callable[[Rows], Rows]:
    """A function of rows to the same with redacted texts; what is redacted stays as it is."""
    if not redaction:
        return lambda rows: rows
    # TensorFlow takes seconds to import.
    from pipeline.redaction.redactor import Redactor

    redactor = Redactor(redaction)

    def redacted(rows: Rows) -> Rows:
        texts = [redactor([text.encode("utf-8", "ignore") for text in column]).numpy() for column in rows.texts]
        return replace(rows, texts=[[text.decode() for text in column] for column in texts])

    return redacted
