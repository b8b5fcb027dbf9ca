"""Turns, verdicts and tables of the benchmarks, with made contenders: no torch, no TensorFlow."""

import argparse
import json
import signal
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.append(str(BENCHMARKS))

import tables  # noqa: E402
from tables import Comparison, Report, joined, lines_of, publish, read, table  # noqa: E402
from turns import Failed, Spread, judged, missing, ratios, spread, take_turns, verdict  # noqa: E402


@pytest.fixture(autouse=True)
def own_sigterm():
    """Turns keep a handler of it to the end of their process, which here is another's."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def test_every_other_turn_is_in_the_reverse_order():
    asked = []
    contenders = {name: lambda turn, name=name: asked.append((turn, name)) for name in "abc"}
    take_turns(contenders, repeats=2, first=1)
    assert asked == [(1, "c"), (1, "b"), (1, "a"), (2, "a"), (2, "b"), (2, "c")]


def test_who_fails_ends_nobody_else_and_is_asked_no_more():
    asked = []

    def fails(turn):
        asked.append(turn)
        raise Failed("no memory")

    values, failed = take_turns({"good": float, "bad": fails}, repeats=3)
    assert (values, failed, asked) == ({"good": [0.0, 1.0, 2.0], "bad": [None] * 3}, {"bad": "no memory"}, [0])


def test_spread_is_from_lowest_to_highest_of_few_turns_and_quartiles_of_many():
    assert spread([3.0, None, 1.0, 2.0]) == Spread(2.0, 1.0, 3.0)
    assert spread([float(value) for value in range(1, 10)]) == Spread(5.0, 3.0, 7.0)
    assert spread([3.0, 1.0, 2.0]).show() == "2.0 (1.0 to 3.0)" and spread([2.0]).show() == "2.0"
    with pytest.raises(ValueError, match="no turn"):
        spread([None])


def test_what_slows_a_whole_turn_is_not_in_the_ratio():
    ours, theirs = [130.0, 65.0, None, 13.0], [100.0, 50.0, 1.0, 10.0]
    assert ratios(ours, theirs) == pytest.approx([1.3, 1.3, 1.3])
    assert ratios(ours, theirs, more_is_better=False) == pytest.approx([1 / 1.3] * 3)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ([1.31, 1.25, 1.40], "1.31 x (1.25 to 1.40)"),
        ([0.8, 0.9], "0.85 x (0.80 to 0.90)"),
        ([1.2, 0.97, 1.1], "equal (0.97 to 1.20)"),
        ([1.5], "1.50 x (one turn)"),
        ([], ""),
    ],
)
def test_verdict(found, said):
    assert verdict(found) == said


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ([1.4, 1.5], "met"),
        ([1.2, 1.3], "not met"),
        ([1.3, 1.5], "equal"),
        ([1.5], "met (one turn)"),
        ([], "not measured"),
    ],
)
def test_a_goal_is_met_by_the_whole_spread(found, said):
    assert judged(found, 1.4) == said


def test_a_contender_whose_package_is_missing_is_named_with_it():
    found = missing({"peer": ("json", "no_such_module"), "ours": ("json",), "plain": ()})
    assert found == {"peer": "no_such_module not installed"}


def made_report(values, **more):
    comparison = Comparison("Made", "ms", values, more_is_better=False, columns={"of peak": {"ours": 3e9}})
    machine = {"processor": "made", "cores": 1, "versions": {}, "load": [0.5, 1.5]}
    return Report([comparison], machine=machine, **{"peak": 2e9} | more)


def test_table_has_ratios_turn_by_turn_and_shares_of_the_peak():
    rows = table(made_report({"ours": [4.0, 2.0], "theirs": [8.0, 4.0], "gone": [None, None]}).comparisons[0], 2e9)
    assert rows == [
        "| | ms | ours is | of peak |",
        "| --- | --- | --- | --- |",
        "| ours | 3.00 (2.00 to 4.00) | | 50.0% |",
        "| theirs | 6.00 (4.00 to 8.00) | 2.00 x (2.00 to 2.00) | |",
    ]


def test_reports_go_through_json_and_failures_end_in_an_error(tmp_path, capsys):
    report = made_report({"ours": [1.0]}, failed={"theirs": "line\nno memory"}, left_out={"other": "not installed"})
    options = argparse.Namespace(json=tmp_path / "made.json")
    with pytest.raises(SystemExit, match="failed: theirs"):
        publish(report, options)
    assert read(json.loads(options.json.read_text())) == report
    shown = capsys.readouterr().out
    assert "Left out: other, not installed." in shown and "Failed: theirs: no memory" in shown


def test_rounds_are_joined_turn_by_turn_and_a_later_success_is_no_failure():
    first = made_report({"ours": [1.0]}, failed={"theirs": "no memory"}, peak=4e9)
    both = joined([first, made_report({"ours": [2.0], "theirs": [6.0]})])
    assert both.comparisons[0].values == {"ours": [1.0, 2.0], "theirs": [None, 6.0]}
    assert both.failed == {} and both.machine["load"] == [0.5, 1.5, 0.5, 1.5]
    # The machine can do what it could once, however busy it was when it was asked again.
    assert both.peak == 4e9
    assert "3.00 x (one turn)" in "\n".join(lines_of(both))


def test_what_only_an_earlier_round_has_stays():
    first, ended = made_report({"ours": [1.0]}), made_report({"ours": [3.0]})
    first.comparisons.append(Comparison("Other", "ms", {"ours": [2.0]}))
    both = joined([first, ended])
    assert {one.title: one.values for one in both.comparisons} == {
        "Made": {"ours": [1.0, 3.0]},
        "Other": {"ours": [2.0]},
    }


def test_a_run_in_which_nobody_could_be_asked_is_joined_too():
    nobody, report = made_report({}), made_report({"ours": [1.0]})
    assert joined([nobody, report]).comparisons[0].values == {"ours": [1.0]}
    assert "Nothing was measured." in lines_of(joined([nobody]))


def test_the_load_is_not_needed(monkeypatch):
    monkeypatch.setattr(tables, "load", lambda: None)
    report = made_report({"ours": [1.0]})
    report.machine["load"] = [None, None]
    assert not any(line.startswith("Load") for line in lines_of(report))
