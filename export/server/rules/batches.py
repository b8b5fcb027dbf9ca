"""Rules on what clients may send: alone, together, cut in pieces and put together again as the server does it."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from export.expected import fit_tolerance
from export.explain import LEAST_DIFFERENCE
from export.recorded import read_recorded
from export.server.batching import BatchFails, ServerEnds, serve
from export.server.questions import ABOUT_INVALID, LENGTHS, MANY, ROWS, about_length
from export.server.rules.subject import Broken, NotChecked, Subject
from export.versions import ModelError
from export.warmup import COSTLY
from pipeline.tasks.outside import FIT

# Of an output, where the export does not say what its own is.
USUAL_TOLERANCE = {"float32": 1e-4, "bfloat16": 0.1}
# Outputs that a near tie of the probabilities turns over, and those that follow from them.
TIED = ("label", "score", "top_labels", "attributions")


def any_bytes(subject: Subject) -> str:
    """A text that is no UTF-8 is answered: it is a client's, and would take the others of its batch along."""
    return _answered(subject, [ABOUT_INVALID])


def any_length(subject: Subject) -> str:
    """Texts of 10, 1,000 and 100,000 characters are answered."""
    return _answered(subject, [about_length(count) for count in LENGTHS])


def any_batch_size(subject: Subject) -> str:
    """Batches larger than those that were recorded or warm up are answered, each row as it is alone."""
    questions = [question for question in subject.questions.asked if question.purpose == MANY]
    for question in questions:
        outputs = _outputs(subject, question.signature, question.rows, MANY)
        comparison = _Comparison(subject, question.signature)
        comparison.require(question.rows, outputs, f"a batch of {len(question.rows)}")
    if not questions:
        raise NotChecked("there is nothing to ask")
    less = "".join(f"; {name} in batches of {subject.questions.largest_batch(name)}" for name in _costly(subject))
    return f"{len(questions[0].rows)} rows{less}"


def company(subject: Subject) -> str:
    """Each row is answered as it is alone, whatever other texts share its batch and wherever the server cuts it."""
    count = 0
    if not subject.questions.rows:
        raise NotChecked("there is nothing to ask")
    for name in subject.signatures:
        comparison = _Comparison(subject, name)
        keys = sorted(subject.signatures[name].outputs)
        for requests, most in subject.questions.requests_for(name):
            way = f"two requests of {len(requests[0])} in batches of {most}"
            try:
                found = serve(requests, most, lambda rows, name=name: list(_outputs(subject, name, rows).values()))
            except ServerEnds as error:
                raise Broken(f"{name}: {way} end the server, which is {error}") from error
            except BatchFails as error:
                raise Broken(f"{name}: {way} fail, since {error}") from error
            for rows, outputs in zip(requests, found, strict=True):
                comparison.require(rows, dict(zip(keys, outputs, strict=True)), way)
            count += len(requests)
    cut = "cut at every place" if subject.questions.thorough else "cut at some places"
    less = "".join(f"; {name} asked only for short texts, cut at some" for name in _costly(subject))
    return f"{count} requests, {cut}, differences of at most {comparison_tolerance(subject)}{less}"


def finite(subject: Subject) -> str:
    """All numbers that are answered are finite: JSON has no others."""
    count = 0
    for what, outputs in _all_answers(subject):
        for key, values in outputs.items():
            if values.dtype.kind == "f" and not np.isfinite(values).all():
                raise Broken(f"{key} of {what} is {values[~np.isfinite(values)][0]}")
            count += values.size if values.dtype.kind == "f" else 0
    return f"{count:,} numbers"


def utf8_outputs(subject: Subject) -> str:
    """All strings that are answered are UTF-8: JSON has no others. Not those called *_bytes."""
    count = 0
    for what, outputs in _all_answers(subject):
        for key, values in outputs.items():
            if values.dtype != object or key.endswith("_bytes"):
                continue
            for value in values.ravel():
                try:
                    value.decode()
                except UnicodeDecodeError:
                    raise Broken(f"{key} of {what} is {value[:40]!r}") from None
                count += 1
    return f"{count:,} strings"


def _costly(subject: Subject) -> list[str]:
    """Signatures that are asked for less."""
    return [name for name in subject.signatures if name in COSTLY]


def comparison_tolerance(subject: Subject) -> str:
    """For messages: how much of a difference is allowed, and where that is from."""
    value, known = _tolerance(subject)
    return f"{value:g}" + ("" if known else ", as none is recorded")


def _tolerance(subject: Subject) -> tuple[float, bool]:
    try:
        recorded = read_recorded(subject.folder)
    except ModelError:
        recorded = None
    if recorded:
        return recorded.tolerance, True
    try:
        dtype = subject.metadata["run"]["dtype"]
    except (ModelError, KeyError, TypeError):
        dtype = "float32"
    return USUAL_TOLERANCE.get(dtype, USUAL_TOLERANCE["float32"]), False


def _answered(subject: Subject, about: list[str]) -> str:
    wanted = [i for i, row in enumerate(subject.questions.rows) if row.about in about]
    asked = {}
    for name in subject.signatures:
        rows = [i for i in subject.questions.rows_for(name) if i in wanted]
        for row in rows:
            _outputs(subject, name, [row])
        asked |= {name: len(rows)} if rows else {}
    if not asked:
        raise NotChecked("there is nothing to ask")
    less = "".join(f"; {name}: {count}" for name, count in asked.items() if count < len(about))
    return f"{len(about)} for each of {len(asked)} signatures{less}"


def _outputs(subject: Subject, name: str, rows, purpose: str = ROWS) -> dict[str, np.ndarray]:
    """What a signature gave for rows, by output; raises Broken where it failed, NotChecked where it was not asked."""
    answer = subject.answer_to(purpose, name, tuple(rows))
    if isinstance(answer, str):
        raise Broken(f"{name} fails for {subject.questions.named(rows)}: {answer[:300]}")
    for key, values in zip(sorted(subject.signatures[name].outputs), answer, strict=True):
        if not values.ndim or len(values) != len(rows):
            raise Broken(f"{name}'s {key} has shape {list(values.shape)} for {len(rows)} rows")
    return dict(zip(sorted(subject.signatures[name].outputs), answer, strict=True))


def _all_answers(subject: Subject) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """(what was asked, outputs) of all requests for rows that were answered."""
    found = False
    for question, answer in subject.answered():
        if question.purpose in (ROWS, MANY) and not isinstance(answer, str):
            found = True
            keys = sorted(subject.signatures[question.signature].outputs)
            asked = f"{question.signature}, asked for {subject.questions.named(question.rows)},"
            yield asked, dict(zip(keys, answer, strict=True))
    if not found:
        raise NotChecked("nothing was answered")


@dataclass(frozen=True)
class _Comparison:
    """Rows of one signature with what they are alone."""

    subject: Subject
    name: str

    def require(self, rows, outputs: Mapping[str, np.ndarray], way: str) -> None:
        """Raises Broken where a row of `outputs` is another than alone."""
        tolerance, _ = _tolerance(self.subject)
        for place, row in enumerate(rows):
            alone = {key: values[0] for key, values in _outputs(self.subject, self.name, [row]).items()}
            excused = self._excused(row, tolerance)
            for key, wanted in alone.items():
                fault = _difference(key, wanted, np.asarray(outputs[key][place]), tolerance, excused)
                if fault:
                    about = self.subject.questions.rows[row].about
                    raise Broken(f"{self.name}'s {key} for {about} {fault}: row {place + 1} of {way}")

    def _excused(self, row: int, tolerance: float) -> set[str]:
        """The outputs of a row that rounding may turn over: two answers are right then."""
        signature = self.subject.signatures.get("serving_default")
        if signature is None or "probabilities" not in signature.outputs:
            return set()
        try:
            answer = {key: values[0] for key, values in _outputs(self.subject, "serving_default", [row]).items()}
            metadata = self.subject.metadata
        except (Broken, NotChecked, ModelError, IndexError):
            return set()
        return _turned_over(answer, metadata, tolerance)


def _turned_over(answer: Mapping[str, Any], metadata: Mapping[str, Any], tolerance: float) -> set[str]:
    """Outputs that another rounding of the numbers behind them may change.

    Args:
        answer: of serving_default to one row: probabilities [C], and fit where the model has it.
        metadata: of the export.
        tolerance: largest difference of a probability.
    """
    found: set[str] = set()
    probabilities = np.asarray(answer["probabilities"])
    if _near_tie(np.sort(probabilities), metadata, tolerance):
        found |= {*TIED}
    below = (metadata.get(FIT) or {}).get("below")
    if below and FIT in answer and abs(answer[FIT] - below) <= 2 * fit_tolerance(tolerance):
        found.add("label")
    if sets := metadata.get("sets"):
        above = probabilities - np.resize(sets["thresholds"], probabilities.shape)
        if np.abs(above).min() <= 2 * tolerance:
            found |= {"set_labels", "set_size"}
        # The most probable comes first.
        if np.diff(np.sort(probabilities[above >= 0])).min(initial=1.0) <= 2 * tolerance:
            found.add("set_labels")
    return found


def _near_tie(probabilities: np.ndarray, metadata: Mapping[str, Any], tolerance: float) -> bool:
    """Whether rounding may turn over the label that sorted probabilities, [C], decide."""
    thresholds = [metadata[key] for key in ("threshold", "abstain_below") if metadata.get(key)]
    thresholds += metadata.get("thresholds", [])
    thresholds += [metadata["decision"]["threshold"]] if metadata.get("decision") else []
    near = [abs(value - threshold) for threshold in thresholds for value in probabilities]
    # The best labels that top_k gives, and the next.
    return min([*near, *np.diff(probabilities[-6:])], default=1.0) <= 2 * tolerance


def _difference(
    key: str, alone: np.ndarray, found: np.ndarray, tolerance: float, excused: Collection[str] = ()
) -> str | None:
    """How an output of one row differs from what it is alone, as the end of a sentence; None: it does not."""
    alone = np.asarray(alone)
    if found.shape != alone.shape:
        return f"has shape {list(found.shape)}, and {list(alone.shape)} alone"
    if key in excused:
        return None
    if alone.dtype.kind != "f":
        return None if (found == alone).all() else "is another than alone"
    allowed = tolerance * max(1.0, float(np.abs(alone).max(initial=0)))
    if key == FIT:
        allowed = fit_tolerance(tolerance)
    if key == "completeness_gap":
        # It is relative to a difference that may be as small as that.
        allowed /= LEAST_DIFFERENCE
    with np.errstate(invalid="ignore"):
        difference = np.abs(found - alone)
    # What is NaN alone too, or infinite, is a matter of the rule `finite`.
    same = (difference <= allowed) | (found == alone) | (np.isnan(found) & np.isnan(alone))
    return None if same.all() else f"differs by {difference[~same].max():.2g} from what it is alone"
