"""What rounding may turn over in an answer: two answers are right there, and the rule on company excuses both."""

import numpy as np
import pytest

from export.expected import Expected
from export.server.rules.batches import _difference, _turned_over

TOLERANCE = 0.01
NEAR, FAR = 0.015, 0.05
LABELS = {"label", "score", "top_labels", "attributions"}


def turned(probabilities, metadata=None, **outputs) -> set[str]:
    answer = {"probabilities": np.array(probabilities, np.float32), **outputs}
    return _turned_over(answer, metadata or {}, TOLERANCE)


@pytest.mark.parametrize(
    ("off", "metadata", "outputs"),
    [(NEAR, {"abstain_below": 0.6}, LABELS), (FAR, {"abstain_below": 0.6}, set()),
     (NEAR, {"decision": {"threshold": 0.6}}, LABELS), (NEAR, {"thresholds": [0.6, 0.9]}, LABELS)],
)  # fmt: skip
def test_labels_turn_over_at_thresholds(off, metadata, outputs):
    assert turned([0.6 + off, 0.3 - off, 0.1], metadata) == outputs


def test_labels_turn_over_where_two_are_as_probable():
    assert turned([0.455, 0.445, 0.1]) == LABELS and turned([0.5, 0.4, 0.1]) == set()


def test_sets_turn_over_at_their_thresholds_and_in_their_order():
    one = {"sets": {"thresholds": [0.25]}}
    assert turned([0.6, 0.25 + NEAR, 0.1], one) == {"set_labels", "set_size"}
    assert turned([0.6, 0.25 + FAR, 0.1], one) == set()
    # Of labels that are in no set only the order of the labels may change, not that of the set.
    assert turned([0.8, 0.105, 0.095], one) == LABELS
    assert "set_labels" in turned([0.455, 0.445, 0.1], one) and "set_size" not in turned([0.455, 0.445, 0.1], one)
    # A threshold a label: each is compared with its own.
    own = {"sets": {"thresholds": [0.2, 0.5, 0.9]}}
    assert turned([0.6, 0.25, 0.1], own) == set() and "set_size" in turned([0.2 + NEAR, 0.7, 0.1], own)


def test_who_is_outside_turns_over_by_the_fit():
    metadata = {"fit": {"below": 0.4, "label": "outside"}}
    allowed = Expected(np.zeros((1, 3)), TOLERANCE).fit_tolerance
    assert turned([0.7, 0.2, 0.1], metadata, fit=np.float32(0.4 + 1.5 * allowed)) == {"label"}
    assert turned([0.7, 0.2, 0.1], metadata, fit=np.float32(0.4 + 2.5 * allowed)) == set()
    assert turned([0.7, 0.2, 0.1], {"fit": {}}, fit=np.float32(0.01)) == set()


def test_a_fit_may_be_as_far_off_as_its_export_may_be():
    allowed = Expected(np.zeros((1, 3)), 1e-4).fit_tolerance
    assert allowed == pytest.approx(0.005)
    assert _difference("fit", np.float32(0.5), np.float32(0.5 + 0.9 * allowed), 1e-4) is None
    assert "differs by" in (_difference("fit", np.float32(0.5), np.float32(0.5 + 1.1 * allowed), 1e-4) or "")
    assert "differs by" in (_difference("score", np.float32(0.5), np.float32(0.504), 1e-4) or "")


def test_what_is_excused_is_not_compared_and_all_else_is():
    sets = np.array([b"a", b""], object), np.array([b"a", b"b"], object)
    assert _difference("set_labels", *sets, TOLERANCE, {"set_labels"}) is None
    assert _difference("set_labels", *sets, TOLERANCE, {"label"}) == "is another than alone"
