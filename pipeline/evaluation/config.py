"""Settings of the evaluation."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from pipeline.settings.bounds import Count, CountOrZero, PositiveShare, Share
from pipeline.settings.read import require

if TYPE_CHECKING:
    from pipeline.config import Config


@dataclass
class EvaluationConfig:
    """Scores and the report."""

    baseline: Literal["auto", "tfidf", "none"] = "auto"
    """Score beside the model a linear one over TF-IDF that learns from the same rows, and warn where the model is not
    clearly better; where there are columns beside the text, gradient boosting on them too. auto: where there are under
    50,000 training rows, and rows times labels are under 5,000,000, for boosting no more than 100,000. tfidf: both,
    however long they take. Each fold of cross_validation counts its rows again."""
    cross_validation: CountOrZero = 0
    """Score the training rows too, each by a model that has not seen it, of two or more that are trained beside; 0: do
    not. Rows that training.drop_suspicious leaves out are scored as well; which, each model's own rows decide. None
    learns from data.unlabelled. For few rows, with data.validation_fraction and data.test_fraction 0."""
    batch_size: Count = 64
    """Examples a forward pass."""
    threshold: Share | Literal["tuned"] = 0.5
    """Probability from which a label counts as given, where a row has any number of labels. tuned: for each label the
    one of the best F1 on the validation rows; with two labels, one a row, that of the rarer one. The scores by which
    the best epoch is chosen are of these answers: it cannot be changed while a run is being trained, and changed
    afterwards the weights stay."""
    calibration: Literal["auto", "none"] = "auto"
    """Divide the logits of what is served by the temperature that suits the validation rows, so that of the answers
    with a probability of 0.9 nine in ten are right; or give each label a line of its own, where that is clearly better
    still. auto: from 200 validation rows on, where it is clearly better than none."""
    interval: PositiveShare = 0.9
    """Share of the values that the prediction interval of a number holds; its width is from the validation rows."""
    mistakes: CountOrZero = 25
    """How many of the most confident mistakes the report shows."""
    group_columns: list[str] = field(default_factory=list)
    """Columns, such as region or channel, by whose values the test rows (else the validation rows) are also scored,
    each with its interval; differences that are more than chance are said."""
    score_test: bool = True
    """Score the test rows; false: they stay unseen, as where settings are still being chosen."""


def check_cross_validation(config: "Config") -> None:
    """Each row is held out from a model of others."""
    require(
        config.evaluation.cross_validation != 1,
        "evaluation.cross_validation 1 leaves no other fold to learn from: give 2 or more, or 0 for none.",
    )
    require(
        not (config.evaluation.cross_validation and config.distillation.teacher),
        "evaluation.cross_validation goes without distillation.teacher, which has learned the rows that are held out "
        "and would tell them: unset one of the two.",
    )


def check_threshold(config: "Config") -> None:
    """What is tuned on validation rows finds them."""
    data = config.data
    require(
        config.evaluation.threshold != "tuned" or data.validation or (data.train and data.validation_fraction),
        "evaluation.threshold tuned needs validation rows: set data.validation or data.validation_fraction.",
    )
