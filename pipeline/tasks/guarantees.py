"""What is promised of answers, as far as validation rows can promise it: at most so many wrong ones, by abstaining;
sets of labels that hold the right one."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np

from pipeline.markdown import code_span
from pipeline.tasks.abstention import Abstention, best_promise, find_abstention
from pipeline.tasks.abstention import fewest_rows as fewest_for_abstention
from pipeline.tasks.sets import Sets, fewest_rows, find_sets

# Shares of wrong answers that are tried where the one that was asked for cannot be promised.
PROMISES = (0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.5)


@dataclass(frozen=True)
class Guarantees:
    """What is asked for, and what the validation rows have chosen for it.

    Attributes:
        abstain_error: largest share of wrong answers among those given; 0: any.
        coverage: share of rows whose set shall hold the right label; 0: no sets.
        by_label: whether that is asked of each label.
        abstention: from which score to answer.
        promised: where `abstain_error` cannot be kept, what can be at the least error.
        sets: which labels are in one.
    """

    abstain_error: float = field(default=0.0, compare=False)
    coverage: float = field(default=0.0, compare=False)
    by_label: bool = field(default=False, compare=False)
    abstention: Abstention | None = None
    promised: Abstention | None = None
    sets: Sets | None = None

    @property
    def asked(self) -> bool:
        """Whether validation rows have anything to choose."""
        return bool(self.abstain_error or self.coverage)

    def found(self, values: np.ndarray, predictions: np.ndarray, decided: np.ndarray) -> Self:
        """With what validation rows choose.

        Args:
            values: int [n], their classes.
            predictions: float32 [n, C], probabilities.
            decided: int [n], the classes that are answered.
        """
        kept = self
        if self.abstain_error:
            score, wrong = np.asarray(predictions, np.float32)[np.arange(len(decided)), decided], decided != values
            found = find_abstention(score, wrong, self.abstain_error)
            larger = [error for error in PROMISES if error > self.abstain_error]
            kept = replace(kept, abstention=found, promised=None if found else best_promise(score, wrong, larger))
        if self.coverage:
            kept = replace(kept, sets=find_sets(values, predictions, self.coverage, self.by_label))
        return kept

    def too_few(self, validation_rows: int) -> str | None:
        """Why so few rows cannot choose, however good the model is; None: they can."""
        for setting, value, fewest in (
            ("abstain_error", self.abstain_error, fewest_for_abstention),
            ("coverage", self.coverage, fewest_rows),
        ):
            if value and validation_rows < (least := fewest(value)):
                return (
                    f"export.{setting} {value:g} needs at least {least} validation rows, and there are "
                    f"{validation_rows}: name more, or ask for less."
                )
        return None

    @property
    def fault(self) -> str | None:
        """Why what was asked for is not kept; None: it is."""
        if not self.abstain_error or self.abstention:
            return None
        best = f"what they can promise is {self.promised}" if self.promised else "they can promise nothing"
        return (
            f"export.abstain_error {self.abstain_error:g}: no score from which to answer keeps it on the validation "
            f"rows with 95 % confidence; {best}. Allow more errors, or name more validation rows."
        )

    def without_threshold(self, names: Sequence[str]) -> list[str]:
        """Labels that are in every set, for want of validation rows."""
        if self.sets is None:
            return []
        return [name for name, least in zip(names, self.sets.thresholds, strict=False) if not least]

    def notes(self, abstain_label: str) -> list[str]:
        """Sentences, in Markdown, for who reads answers."""
        found = []
        if self.abstention:
            found.append(f"Where the `label` is {code_span(abstain_label)} the model abstains; {self.abstention}.")
        return [*found, self.sets.notes()] if self.sets else found

    def metadata(self) -> dict[str, Any]:
        """JSON-able: what was chosen, without the threshold of abstaining, which the task keeps."""
        return {
            **({"abstention": self.abstention.metadata()} if self.abstention else {}),
            **({"sets": self.sets.metadata()} if self.sets else {}),
        }

    @classmethod
    def from_metadata(cls, metadata: dict[str, Any], threshold: float) -> Self:
        """The inverse of `metadata`."""
        return cls(
            abstention=Abstention(threshold, **metadata["abstention"]) if "abstention" in metadata else None,
            sets=Sets.from_metadata(metadata["sets"]) if metadata.get("sets") else None,
        )
