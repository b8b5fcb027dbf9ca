"""A search: the same trials and the same winner however often it is stopped, and honest scores."""

import errno
import itertools
import json
import math
import os
import shlex
import subprocess
import sys
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
import yaml
from test_extras import run_without
from test_report import Page
from tiny import write_config, write_rows
from trial_double import Killed, Trainer

from pipeline import UserError, command_line, read_config
from pipeline.backbone.defaults import settle
from pipeline.command_line import parse
from pipeline.config import Config, ModelConfig, Range, to_yaml
from pipeline.config_check import check
from pipeline.search import __main__ as command
from pipeline.search.budget import Clock, training_seconds, usual_pace
from pipeline.search.halving import pauses, shares
from pipeline.search.jobs import Worker, _choose, claimed
from pipeline.search.propose import Result, propose
from pipeline.search.results import expected_best
from pipeline.search.search import search
from pipeline.search.space import Setting, space_of, works
from pipeline.search.study import open_study
from pipeline.search.trials import Record, Trial, read_record, read_trial
from pipeline.settings.text import read_file
from pipeline.training.pause import Pause

ROOT = Path(__file__).parents[1]
SPACE = {
    "training.learning_rate": Range(1e-5, 1e-1, log=True),
    "training.warmup": Range(0.0, 0.4),
    "training.batch_size": Range(choices=["8", "16"]),
}


@pytest.fixture
def config(tmp_path) -> Config:
    found = read_config(write_config(tmp_path / "tiny", training={"epochs": 9, "learning_rate": 0.1}))
    found.run_dir, found.export.enabled = str(tmp_path / "run"), False
    found.search.space, found.search.trials, found.search.repeats = dict(SPACE), 12, 2
    return found


def trials_of(folder: Path) -> list[dict]:
    """What search.json says of the trials, with what each proposal knew."""
    rows = json.loads((folder / "search.json").read_text())["trials"]
    return [row | {"known": read_record(folder / "trials" / f"{row['number']:04d}").known} for row in rows]


def test_a_search_finds_better_settings_and_says_so(config, capsys):
    found = search(config, train=Trainer())
    rows = trials_of(found.folder)
    assert len(rows) == 12 and rows[0]["settings"]["training.learning_rate"] == 0.1
    best = max(rows, key=lambda row: row["score"])
    assert found.results["winner"]["trial"] == best["number"] and best["complete"]
    assert found.settings == best["settings"]
    assert not found.results["verdict"]["keep_defaults"]
    assert found.results["winner"]["seeds"] == found.results["defaults"]["seeds"] == [1, 2]
    assert found.results["winner"]["test"]["mean"] > found.results["defaults"]["test"]["mean"] > 0
    assert (
        yaml.safe_load((found.folder / "best.yaml").read_text())["training"]["warmup"]
        == (found.settings["training.warmup"])
    )
    output = capsys.readouterr().out.splitlines()
    assert output[0].startswith("trial   0  macro_f1 ") and output[0].endswith("the defaults")
    assert f"take trial {best['number']}: " in output[-1]
    page = (found.folder / "report.html").read_text()
    assert f"Take trial {best['number']}: " in page and "importance" in page
    assert Page(page).tags.count("svg") == 4 and "://" not in page
    # What does not lead has paused after a third of its epochs.
    assert sum(len(row["scores"]) == 3 for row in rows) >= 4


def test_trials_do_not_depend_on_when_the_search_was_killed(config, tmp_path):
    whole = search(replace(config, run_dir=str(tmp_path / "whole")), train=Trainer())
    total = Trainer()
    search(replace(config, run_dir=str(tmp_path / "counted")), train=total)
    for kill_at in (0, 3, 8, 15, len(total.trained) - 3):
        killed = replace(config, run_dir=str(tmp_path / f"killed-{kill_at}"))
        first, second = Trainer(kill_at), Trainer()
        with pytest.raises(Killed):
            search(killed, train=first)
        found = search(killed, train=second)
        assert trials_of(found.folder) == trials_of(whole.folder)
        assert found.results == whole.results
        # Nothing was trained twice.
        assert first.trained + second.trained == total.trained


def test_the_same_command_again_trains_nothing_and_more_trials_go_on(config):
    first = search(config, train=Trainer())
    idle = Trainer()
    assert search(config, train=idle).results == first.results and not idle.trained
    before = [row["settings"] for row in trials_of(first.folder)]
    config.search.trials = 14
    after = [row["settings"] for row in trials_of(search(config, train=Trainer()).folder)]
    assert after[:12] == before and len(after) == 14


def test_a_trial_that_leads_goes_on_at_once(config):
    trainer = Trainer()
    rows = trials_of(search(config, train=trainer).folder)
    begun = Counter(Path(str(each.run_dir)).name for each in trainer.configs)
    rungs = [max(row["scores"][:3]) for row in rows]
    leaders = [row for i, row in enumerate(rows) if rungs[i] > max(rungs[:i], default=0)]
    assert len(leaders) > 2
    assert all(row["complete"] and begun[f"{row['number']:04d}"] == 1 for row in leaders)
    # Another goes on later, when there are more to be the best third of.
    assert max(begun[f"{row['number']:04d}"] for row in rows) == 2


@pytest.mark.parametrize("asked", [13, 14, 20])
def test_killed_between_a_saved_state_and_the_decision_on_it(config, tmp_path, asked):
    whole = search(replace(config, run_dir=str(tmp_path / "whole")), train=Trainer())
    count = itertools.count()

    def killed(config: Config, pause: Pause) -> None:
        def at(epochs: int) -> bool:
            if next(count) == asked:
                raise Killed
            return pause.reached(epochs)

        Trainer()(config, Pause(at, pause.deadline))

    with pytest.raises(Killed):
        search(config, train=killed)
    found = search(config, train=Trainer())
    assert found.results == whole.results and trials_of(found.folder) == trials_of(whole.folder)


def test_the_first_proposals_are_spread_over_the_space(config):
    config.search.space = {
        "training.learning_rate": Range(1e-5, 1e-1, log=True),
        "training.warmup": Range(0.0, 0.4),
        "training.epochs": Range(1, 16),
    }
    study = open_study(config)
    known = [Result({"training.learning_rate": 0.1, "training.warmup": 0.1, "training.epochs": 9}, {0: 0.5})]
    for number in range(1, 9):
        settings = propose(study.space, 0, number, known, True, lambda _: True)
        assert settings is not None
        known.append(Result(settings, {0: 0.1 * number}))
    drawn = [result.settings for result in known[1:]]
    eighths = [
        {int(2 * (math.log10(each["training.learning_rate"]) + 5)) for each in drawn},
        {int(20 * each["training.warmup"]) for each in drawn},
        {(each["training.epochs"] - 1) // 2 for each in drawn},
    ]
    assert eighths == [set(range(8))] * 3
    # What is known then decides nothing yet.
    assert propose(study.space, 0, 8, known[:3], True, lambda _: True) == drawn[7]


def test_a_proposal_follows_from_the_seed_the_number_and_the_results_that_it_names(config):
    search(config, train=Trainer())
    study = open_study(config)
    trials = study.trials()
    for trial in trials[1:]:
        known = trial.record.known
        earlier = [other.as_known(epochs, study.higher) for other, epochs in zip(trials, known, strict=False)]
        allowed = lambda settings: works(study.config, settings)  # noqa: E731
        assert propose(study.space, 0, trial.number, earlier, True, allowed) == trial.record.settings
        assert propose(study.space, 1, trial.number, earlier, True, allowed) != trial.record.settings


def test_nothing_is_proposed_twice_and_a_small_space_ends(config):
    config.search.space = {"training.batch_size": Range(choices=["8", "16", "32"])}
    found = search(config, train=Trainer())
    assert sorted(row["settings"]["training.batch_size"] for row in trials_of(found.folder)) == [8, 16, 32]


def test_settings_that_cannot_work_are_not_proposed(config):
    config.training.accumulation, config.training.batch_size = 8, 8
    config.search.space = {"training.batch_size": Range(8, 24)}
    found = search(config, train=Trainer())
    assert {row["settings"]["training.batch_size"] for row in trials_of(found.folder)} == {8, 16, 24}


def test_trials_know_nothing_of_the_test_rows(config, tmp_path):
    config.data.test, config.evaluation.cross_validation = str(tmp_path / "test.csv"), 3
    trainer = Trainer()
    with pytest.raises(AssertionError, match="the test rows are opened"):
        search(config, train=trainer)
    folder = Path(config.run_dir) / "search"
    assert (folder / "winners.json").is_file() and len(open_study(config).trials()) == 12
    of_trials = [each for each in trainer.configs if Path(each.run_dir).parent.name == "trials"]
    assert {(each.data.test, each.data.test_fraction, each.evaluation.score_test) for each in of_trials} == {
        (None, 0.0, False)
    }
    write_rows(tmp_path / "test.csv", 9)
    after = Trainer()
    found = search(config, train=after)
    assert found.results["winner"]["test"]["values"]
    assert {Path(each.run_dir).parent.name for each in after.configs} == {"final"}
    # Nor do they train more models than their own.
    assert {each.evaluation.cross_validation for each in of_trials} == {0}
    assert {each.evaluation.cross_validation for each in after.configs} == {3}


def test_a_winner_that_changes_after_the_test_rows_were_read_is_told(config):
    config.search.trials = 2
    config.search.space = {"training.learning_rate": Range(2e-2, 2e-1, log=True)}
    first = search(config, train=Trainer()).results["winner"]["trial"]
    config.search.trials = 30
    found = search(config, train=Trainer())
    assert found.results["winner"]["trial"] != first
    assert found.results["selection"]["test_rows_read_before"] == [first]
    assert f"Test rows were read before, when trial {first} had won" in (found.folder / "report.html").read_text()


def test_test_rows_that_nobody_scored_are_not_called_read(config):
    config.search.trials, config.search.repeats = 2, 0
    config.search.space = {"training.learning_rate": Range(2e-2, 2e-1, log=True)}
    first = search(config, train=Trainer()).results["winner"]["trial"]
    config.search.trials = 30
    found = search(config, train=Trainer())
    assert found.results["winner"]["trial"] != first
    assert found.results["selection"]["test_rows_read_before"] == []
    assert "Test rows were read before" not in (found.folder / "report.html").read_text()


def test_the_defaults_are_kept_where_the_gain_is_no_more_than_seeds_explain(config, capsys):
    config.training.learning_rate, config.training.warmup = 1e-3, 0.2
    found = search(config, train=Trainer())
    assert found.results["verdict"]["keep_defaults"] and found.results["winner"]["trial"] == 0
    assert "keep the defaults" in capsys.readouterr().out
    assert yaml.safe_load((found.folder / "best.yaml").read_text()) is None

    config.training.learning_rate, config.run_dir = 0.0009995, config.run_dir + "-near"
    config.search.space = {"training.learning_rate": Range(9.99e-4, 1.001e-3)}
    found = search(config, train=Trainer())
    verdict = found.results["verdict"]
    assert found.results["winner"]["trial"] > 0
    assert verdict["keep_defaults"] and 0 < verdict["gain"] < verdict["noise"]
    config.search.repeats, config.run_dir = 0, config.run_dir + "-none"
    assert "not trained again" in search(config, train=Trainer()).results["verdict"]["sentence"]


def test_a_trial_that_may_go_on_is_waited_for(config, tmp_path):
    """Its own worker decides whether it does, and another must not take the winner to be known before."""
    config.search.trials = 3
    study, seen = open_study(config), []

    def train(config: Config, pause: Pause) -> None:
        def reached(epochs: int) -> bool:
            if any(trial.waiting and not claimed(trial.folder) for trial in study.trials()):
                with study.lock:
                    job, busy = _choose(study, study.trials(), Clock(tmp_path / "clock.json", None), Worker(1, 2))
                seen.append(busy)
                if job:
                    job.lock.release()
            return pause.reached(epochs)

        Trainer()(config, Pause(reached, pause.deadline))

    search(config, train=train)
    assert seen and all(seen)


def test_a_search_of_an_earlier_version_is_not_taken_up(config):
    config.search.trials = 2
    folder = search(config, train=Trainer()).folder
    record = folder / "trials" / "0001.json"
    record.write_text(
        json.dumps({key: value for key, value in json.loads(record.read_text()).items() if key != "pace"})
    )
    with pytest.raises(UserError, match="holds a search of an earlier version"):
        search(config, train=Trainer())


WHOLE = (Setting("a", 1, 2, log=True), Setting("a", 8, 64, log=True), Setting("a", 1, 8), Setting("a", choices=(3, 5)))


@pytest.mark.parametrize("setting", WHOLE)
def test_all_values_of_a_whole_number_are_proposed(setting):
    found = {setting.at(share) for share in np.linspace(0, 1, 4000, endpoint=False)}
    assert found == set(setting.choices or range(setting.low, setting.high + 1))


@pytest.mark.parametrize("rate", [0.1, 1e-3], ids=["winner", "defaults"])
def test_the_model_of_the_settings_to_take_is_exported_and_no_other(config, rate):
    config.training.learning_rate, config.training.warmup, config.export.enabled = rate, 0.2, True
    trainer = Trainer()
    found = search(config, train=trainer)
    number = 0 if rate == 1e-3 else found.results["winner"]["trial"]
    assert found.saved_model == found.folder / f"final/{number:04d}-seed-1/saved_model/1"
    assert sum(each.export.enabled for each in trainer.configs) == 1
    assert all(claimed(each) for each in [*found.folder.glob("trials/*[0-9]"), *found.folder.glob("final/*[0-9]")])
    assert found.settings == trials_of(found.folder)[number]["settings"]
    assert search(config, train=Trainer()).saved_model == found.saved_model


def test_a_finished_search_is_scored_and_exported_under_other_settings(config):
    """What is left to do is for `train` to know: it has all trainings with new seeds, and the model to export."""
    first = search(config, train=Trainer())
    config.evaluation.batch_size, config.export.enabled = 7, True
    again = Trainer(test_gap=0.2)
    found = search(config, train=again)
    assert not again.trained and len(again.configs) == 4
    assert {Path(str(each.run_dir)).parent.name for each in again.configs} == {"final"}
    assert {each.evaluation.batch_size for each in again.configs} == {7}
    assert sum(each.export.enabled for each in again.configs) == 1 and found.saved_model is not None
    gap = first.results["winner"]["test"]["mean"] - found.results["winner"]["test"]["mean"]
    assert gap == pytest.approx(0.19)
    assert json.loads((found.folder / "search.json").read_text()) == found.results
    config.export.force = True
    assert search(config, train=(third := Trainer())).saved_model == found.saved_model
    assert [each.export.force for each in third.configs if each.export.enabled] == [True]


@pytest.mark.parametrize("higher", [True, False])
def test_a_score_that_is_undefined_is_worse_than_any_other(tmp_path, higher):
    rows = [{"seconds": 1.0, "validation_r2": 0.2}, {"seconds": 1.0}]
    state = {"identity": {"data": "x"}, "progress": {"finished": False, "history": rows}}
    (tmp_path / "checkpoints" / "1").mkdir(parents=True)
    (tmp_path / "checkpoints" / "1" / "progress.json").write_text(json.dumps(state))
    trial = read_trial(1, tmp_path, Record({}), [1, 3], "r2", higher)
    assert len(trial.scores) == 2 and trial.score(higher) == 0.2


def test_a_trial_without_a_defined_score_is_none_that_wins(config):
    """As the correlation of equal predictions has none: the search goes on."""
    config.training.learning_rate, config.search.trials = 1e-4, 20
    found = search(config, train=Trainer(undefined=lambda one: one.training.learning_rate > 1e-3))
    rows = trials_of(found.folder)
    without = [row for row in rows if row["settings"]["training.learning_rate"] > 1e-3]
    assert without and all(row["score"] is None and None in row["scores"] for row in without)
    assert found.settings["training.learning_rate"] <= 1e-3 and len(found.results["expected_best"]) < 20


def test_a_search_whose_scores_are_all_undefined_keeps_the_defaults(config):
    found = search(config, train=Trainer(undefined=lambda one: True))
    assert found.results["verdict"]["sentence"] == "keep the defaults: no other settings scored better."
    assert found.results["selection"]["score_that_won"] is None


def test_what_new_seeds_that_fail_say(config):
    """The winner is taken where the defaults alone fail, and some that fail are said."""
    config.search.repeats = 3

    def said(name: str, **double) -> str:
        config.run_dir = str(Path(str(config.run_dir)).parent / name)
        found = search(config, train=Trainer(**double))
        assert found.results["verdict"]["keep_defaults"] == found.results["verdict"]["sentence"].startswith("keep")
        return found.results["verdict"]["sentence"]

    def of_defaults(*seeds: int):
        return lambda one: one.training.learning_rate == 0.1 and one.training.seed in seeds

    number = search(config, train=Trainer()).results["winner"]["trial"]
    assert said("all", fails=of_defaults(1, 2, 3)) == (
        f"take trial {number}: with 3 of 3 new seeds the defaults' training fails, and the winner's with none."
    )
    some = said("some", fails=of_defaults(2))
    assert some.startswith(f"take trial {number}: ") and "(with 1 of 3 new seeds the defaults' training fails)." in some
    assert "one seed does not tell how much is luck (with 2 of 3" in said("two", fails=of_defaults(1, 3))
    assert "fails or has no macro_f1, and" in said("undefined", undefined=of_defaults(1, 2, 3))
    of_winner = lambda one: one.training.learning_rate != 0.1 and one.training.seed == 2  # noqa: E731
    assert said("winner", fails=of_winner) == "keep the defaults: with seed 2 the winner's training fails."
    lost = said("lost", undefined=of_winner)
    assert lost == "keep the defaults: with seed 2 the winner's training has no macro_f1."


def test_a_trial_of_another_checkpoint_is_the_run_that_its_settings_make(config, tmp_path):
    """The pooling and the length are that checkpoint's, not those that the config's own has decided."""
    for name in ("plain", "mean"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text('{"model_type": "bert", "max_position_embeddings": 512}')
    kind = "sentence_transformers.models."
    modules = [{"name": "0", "path": "", "type": f"{kind}Transformer"},
               {"name": "1", "path": "1_Pooling", "type": f"{kind}Pooling"}]  # fmt: skip
    (tmp_path / "mean" / "modules.json").write_text(json.dumps(modules))
    (tmp_path / "mean" / "1_Pooling").mkdir()
    (tmp_path / "mean" / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}')
    (tmp_path / "mean" / "sentence_bert_config.json").write_text('{"max_seq_length": 256}')
    plain, mean = (str(tmp_path / name) for name in ("plain", "mean"))
    config.text.vocabulary, config.text.sequence_length, config.model = None, None, ModelConfig(backbone=plain)
    config.search.space = {"model.backbone": Range(choices=[plain, mean])}
    for _ in range(2):
        study = open_study(config)
        assert (study.config.model.pooling, study.config.text.sequence_length) == ("fresh", 128)
        for source, expected in ((plain, ("fresh", 128)), (mean, ("mean", 256))):
            trial = settle(study.trial_run({"model.backbone": source}, tmp_path / "none"), tmp_path / "none")
            assert (trial.model.pooling, trial.text.sequence_length) == expected
    config.model.revision, config.run_dir = "0" * 40, str(tmp_path / "other")
    with pytest.raises(UserError, match=r"search\.space\.model\.backbone goes without model\.revision"):
        open_study(config)


def test_a_training_that_fails_is_a_result(config, capsys):
    config.training.learning_rate = 1e-4
    found = search(config, train=Trainer(higher_than=1e-3))
    failed = [row for row in trials_of(found.folder) if row["failed"]]
    assert failed and all(row["settings"]["training.learning_rate"] > 1e-3 for row in failed)
    assert any(None in row["known"] for row in trials_of(found.folder))
    assert "failed: the loss is not finite any more" in capsys.readouterr().out
    config.training.learning_rate, config.run_dir = 1e-2, config.run_dir + "-other"
    with pytest.raises(UserError, match="the config's own settings fail: the loss"):
        search(config, train=Trainer(higher_than=1e-3))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_not_the_settings_fault(config, number):
    """TensorFlow has one kind of error for a full disk and a full memory."""
    asked = []

    def train(config: Config, pause: Pause) -> None:
        name = Path(str(config.run_dir)).name
        asked.append(name)
        if name == "0001":
            words = f"{config.run_dir}/checkpoints/variables; {os.strerror(number)}"
            raise tf.errors.ResourceExhaustedError(None, None, words)
        Trainer()(config, pause)

    with pytest.raises(tf.errors.ResourceExhaustedError, match=os.strerror(number)):
        search(config, train=train)
    found = search(config, train=Trainer())
    assert asked == ["0000", "0001"] and not trials_of(found.folder)[1]["failed"]


def test_a_memory_that_does_not_do_is_the_settings_fault(config):
    def train(config: Config, pause: Pause) -> None:
        if Path(str(config.run_dir)).name == "0001":
            raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")
        Trainer()(config, pause)

    found = search(config, train=train)
    assert [row["number"] for row in trials_of(found.folder) if row["failed"]] == [1]


class FakeTime(SimpleNamespace):
    """Seconds that pass when an epoch is trained."""

    def __init__(self, monkeypatch):
        super().__init__(now=1000.0)
        fake = SimpleNamespace(monotonic=lambda: self.now, sleep=self.pass_by)
        for name in ("search.budget", "search.work", "search.search", "training.pause"):
            monkeypatch.setattr(f"pipeline.{name}.time", fake)

    def pass_by(self, seconds: float = 1.0) -> None:
        self.now += seconds


def test_the_pace_of_a_training_is_that_of_its_usual_epoch():
    assert usual_pace([10.0]) is None
    assert usual_pace([10.0, 15.0]) == 5
    # The first traces the model, and a machine may be busy for a while.
    assert usual_pace([10.0, 15.0, 17.0, 27.0, 29.0]) == 2

    def trained(pace: float, overhead: float, size: int) -> Trial:
        record = Record({"training.batch_size": size}, pace=pace, overhead=overhead)
        return Trial(0, Path("0000"), record, [9], scores=[0.5], seconds=[7.0])

    trials = [trained(2, 30, 16), trained(3, 8, 16), trained(4, 9, 32), trained(0, 0, 32)]
    assert training_seconds(trials[:3], 16, 9) == 9 * 3 + 9
    assert training_seconds(trials[:3], 64, 9) == 9 * 4 + 9
    assert training_seconds(trials, 32, 9) == 9 * 7 + 9
    assert training_seconds([], 32, 9) == 0


def test_what_waits_is_ended_where_the_time_is_too_short_for_new_settings(config, monkeypatch):
    time = FakeTime(monkeypatch)
    config.search.minutes, config.search.trials, config.search.repeats = 40 / 60, None, 0
    config.training.learning_rate, config.training.warmup = 1e-3, 0.2
    rows = trials_of(search(config, train=Trainer(tick=time.pass_by)).folder)
    assert rows[0]["complete"] and 40 - 6 < time.now - 1000 <= 40
    # The defaults are best: but for the lack of time none of the first three would have gone on.
    waited = [row for row in rows[1:] if len(row["scores"]) in (3, 9)]
    ended = [row for row in waited if row["complete"]]
    assert ended and max(waited, key=lambda row: max(row["scores"][:3])) in ended


@pytest.mark.parametrize("minutes", [1, 2, 3])
def test_minutes_hold_for_trials_and_the_trainings_of_the_winner(config, monkeypatch, minutes):
    time = FakeTime(monkeypatch)
    config.search.minutes, config.search.trials = minutes, None
    found = search(config, train=Trainer(tick=time.pass_by))
    assert 60 * minutes - 12 <= time.now - 1000 <= 60 * minutes
    assert len(found.results["winner"]["seeds"]) == 2
    # The budget is of all starts together.
    idle = Trainer(tick=time.pass_by)
    search(config, train=idle)
    assert not idle.trained
    config.search.minutes = minutes + 1
    more = Trainer(tick=time.pass_by)
    search(config, train=more)
    # There is always time kept for the trainings of another winner.
    assert 60 - 36 <= len(more.trained) <= 60 + 12


def test_a_budget_that_ends_in_a_trial_stops_it_at_the_batch_and_more_minutes_go_on(config, monkeypatch):
    time = FakeTime(monkeypatch)
    config.search.minutes = 0.1
    first = Trainer(tick=time.pass_by)
    with pytest.raises(UserError, match=r"no trial was trained to its end in 0\.1 minutes"):
        search(config, train=first)
    assert len(first.trained) == 7
    config.search.minutes = 3
    second = Trainer(tick=time.pass_by)
    search(config, train=second)
    assert second.trained[0] == ("0000", 7)


def test_workers_share_the_trials_and_no_training_is_done_twice(config, tmp_path):
    (tmp_path / "search.yaml").write_text(to_yaml(config))
    program = (
        "import json, sys, time; from trial_double import Trainer; from pipeline import read_config\n"
        "from pipeline.search import jobs, search; jobs.WAIT = 0.05\n"
        "trainer = Trainer(tick=lambda: time.sleep(0.01))\n"
        "found = search.search(read_config('search.yaml'), jobs.Worker(int(sys.argv[1]), 2), trainer)\n"
        "json.dump([trainer.trained, found.results['winner']['trial']], open(f'{sys.argv[1]}.json', 'w'))\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    processes = [
        subprocess.Popen([sys.executable, "-c", program, str(index)], cwd=tmp_path, env=environment)
        for index in range(2)
    ]
    assert [process.wait(120) for process in processes] == [0, 0]
    found = [json.loads((tmp_path / f"{index}.json").read_text()) for index in range(2)]
    trained = [tuple(each) for of_worker, _ in found for each in of_worker]
    assert len(trained) == len(set(trained)) and all(of_worker for of_worker, _ in found)
    assert len({winner for _, winner in found}) == 1
    rows = trials_of(Path(config.run_dir) / "search")
    assert [row["number"] for row in rows] == list(range(12))
    assert len({json.dumps(row["settings"]) for row in rows}) == 12


def test_data_that_changed_and_another_search_are_refused(config):
    search(config, train=Trainer())
    state = Path(config.run_dir) / "search/trials/0003/checkpoints/00000001/progress.json"
    text = state.read_text()
    state.write_text(text.replace("train.csv", "other.csv"))
    with pytest.raises(UserError, match="the data changed"):
        search(config, train=Trainer())
    state.write_text(text)
    for section, name, value in (
        ("search", "seed", 1),
        ("search", "halving", None),
        ("training", "schedule", "cosine"),
        ("evaluation", "threshold", 0.4),
    ):
        other = read_config(write_config(Path(config.run_dir).parent / "tiny"))
        other = replace(config, **{section: replace(getattr(config, section), **{name: value})})
        with pytest.raises(UserError, match=f"{name}.*another --run_dir"):
            search(other, train=Trainer())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: setattr(c.data, "validation_fraction", 0), "a search needs validation rows"),
        (lambda c: (setattr(c.corpus, "train", "x"), setattr(c.model, "max_sequence_length", 512)), "would pre-train"),
        (lambda c: c.search.space.update({"training.rate": Range(0, 1)}), "training.rate is not a setting"),
        (lambda c: c.search.space.update({"training.seed": Range(0, 9)}), "training.seed cannot be searched"),
        (lambda c: c.search.space.update({"training.lora": Range(0, 9)}), "training.lora is not a setting"),
        (lambda c: c.search.space.update({"training.privacy.epsilon": Range(1, 9)}), "tell about the private rows"),
        (lambda c: c.search.space.update({"training.lora.kernels": Range(choices=["key", "query"])}), "single value"),
        (lambda c: setattr(c.data, "unlabelled", "pool.csv"), "a search goes without data.unlabelled"),
        (
            lambda c: c.search.space.update({"training.drop_suspicious": Range(choices=[True, False])}),
            "drop_suspicious cannot be searched: it has to be the same for all trials",
        ),
        (lambda c: c.search.space.update({"training.self_training": Range(1, 3)}), "self_training cannot be searched"),
        (
            lambda c: (
                setattr(c.training, "drop_suspicious", True),
                c.search.space.update({"model.pooling": Range(choices=["mean", "first"])}),
            ),
            "model.pooling decides which rows training.drop_suspicious leaves out",
        ),
        (lambda c: c.search.space.update({"data.train": Range(choices=["a", "b"])}), "data.train cannot be searched"),
        (lambda c: c.search.space.update({"training.warmup": Range(0.1, 1.5)}), r"warmup\.high is 1\.5: it must be"),
        (lambda c: c.search.space.update({"training.warmup": Range(0.3, 0.1)}), "low 0.3 is not below high 0.1"),
        (lambda c: c.search.space.update({"training.warmup": Range(0, 0.1, log=True)}), "low must be above 0"),
        (lambda c: c.search.space.update({"training.epochs": Range(1.5, 3)}), r"epochs\.low is 1\.5"),
        (lambda c: c.search.space.update({"training.xla": Range(0, 1)}), "xla"),
        (lambda c: c.search.space.update({"training.warmup": Range(0.1)}), "give low and high, or choices"),
        (lambda c: c.search.space.update({"training.warmup": Range(choices=["0.1"])}), "two different values"),
        (lambda c: c.search.space.update({"model.pooling": Range(choices=["mean", "mean"])}), "two different values"),
        (lambda c: setattr(c.search, "trials", None), "both null"),
        (lambda c: setattr(c.search, "halving", 1), r"search\.halving is 1"),
    ],
)
def test_wrong_settings_are_one_sentence(config, change, message):
    change(config)
    with pytest.raises(UserError, match=message):
        search(config, train=Trainer())


def test_a_config_file_may_hold_the_space(tmp_path):
    path = tmp_path / "search.yaml"
    path.write_text(
        "data: {train: rows.csv}\nmodel: {backbone: somewhere}\nsearch:\n  trials: 5\n  space:\n"
        "    training.learning_rate: {low: 1e-5, high: 1e-4, log: true}\n    training.epochs: {low: 2, high: 5}\n"
        "    training.ema: {choices: [null, 0.99]}\n    model.pooling: {choices: [mean, first]}\n"
    )
    config = read_config(path)
    check(config)
    rate, epochs, ema, pooling = space_of(config)
    assert (rate.low, rate.high, rate.log) == (1e-5, 1e-4, True)
    assert (epochs.low, epochs.high, epochs.whole) == (2, 5, True)
    assert ema.choices == (None, 0.99) and pooling.choices == ("mean", "first")
    assert asdict(config.search)["trials"] == 5


def test_a_setting_within_a_setting_is_searched(config):
    config.training.trainable, config.training.learning_rate = "lora", 1e-3
    config.search.space = {"training.lora.rank": Range(1, 64), "training.warmup": Range(0.18, 0.22)}
    trainer = Trainer()
    found = search(config, train=trainer)
    tried = {row["settings"]["training.lora.rank"] for row in trials_of(found.folder)}
    assert len(tried) > 4 and {each.training.lora.rank for each in trainer.configs} == tried
    assert not found.results["verdict"]["keep_defaults"]
    best = read_file(Config, found.folder / "best.yaml")["training"]
    assert best["lora"] == {"rank": found.settings["training.lora.rank"]} and "warmup" in best


def test_the_usual_space_lies_around_the_config(config):
    config.search.space = None
    keys = {setting.key: setting for setting in space_of(config)}
    assert keys["training.epochs"].low == 5 and keys["training.epochs"].high == 18
    assert keys["training.learning_rate"].holds(0.1) and keys["training.batch_size"].choices == (4, 8, 16)
    assert all(setting.holds(value) for setting, value in zip(keys.values(), [
        0.1, 9, 8, 0.1, 0.01, 1.0, 0.1], strict=True))  # fmt: skip


def test_rungs_are_shares_of_a_trial_of_any_length():
    assert shares(None, 9) == [1.0]
    assert shares(3, 2) == [1.0]
    assert shares(3, 6) == pytest.approx([1 / 3, 1])
    assert shares(3, 6) == shares(3, 1000) and shares(2, 6) == [0.5, 1]
    assert [pauses(shares(3, 9), epochs) for epochs in (1, 2, 3, 9)] == [[1, 1], [1, 2], [1, 3], [3, 9]]


def test_the_expected_best_is_that_of_draws_at_random():
    assert expected_best([0.5, None, 0.9], True) == pytest.approx([0.7, 0.8])
    assert expected_best([3.0, 1.0], False) == pytest.approx([2.0, 1.5])
    assert expected_best([], True) == []
    many = expected_best([0.1, 0.4, 0.2, 0.3], True)
    assert many == sorted(many) and many[0] == pytest.approx(0.25)
    by_hand = [sum(max(pair) for pair in pairs) / 16 for pairs in [[(a, b) for a in (0.1, 0.4, 0.2, 0.3)
                                                                    for b in (0.1, 0.4, 0.2, 0.3)]]]  # fmt: skip
    assert many[1] == pytest.approx(by_hand[0])


def test_a_launcher_says_which_worker_it_is():
    config = {"cluster": {"worker": ["a:1", "b:1", "c:1"]}, "task": {"type": "worker", "index": 2}}
    environment = {"TF_CONFIG": json.dumps(config)}
    assert command.this_worker(environment) == Worker(2, 3) and not environment
    environment = {"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "1"}
    assert command.this_worker(environment) == Worker(1, 4) and "SLURM_STEP_NUM_TASKS" not in environment
    assert command.this_worker({}) == Worker(0, 1)


def test_the_command_is_explained_and_names_the_missing_extra(tmp_path, capsys):
    assert command.main(["--help"]) == 0
    assert "--trials N, --minutes M" in capsys.readouterr().out
    words = ["--config", "x", "--trials", "3", "--minutes=5", "--search.seed", "1", "--a.b", "c"]
    assert command.words_of_run(words, {}) == ["--config", "x", "--a.b", "c"]
    process = run_without(
        "from pipeline.search.__main__ import main; raise SystemExit(main(sys.argv[1:]))",
        "--config", str(write_config(tmp_path, rows=9)), "--run_dir", str(tmp_path / "run"), "--trials", "2",
    )  # fmt: skip
    assert process.returncode == 2
    assert process.stderr.strip().endswith(
        "the extra search (optuna is not installed): pip install 'bert-pipeline[search]'."
    )
    assert not (tmp_path / "run").exists()


def test_a_bucket_is_no_folder_to_search_in(config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config.run_dir = "s3://bucket/run"
    with pytest.raises(UserError, match="run_dir s3://bucket/run: a run works in a folder of this machine"):
        search(config, train=Trainer())
    assert not (tmp_path / "s3:").exists()


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("keep", [True, False])
def test_the_command_that_is_printed_trains_what_was_found(config, tmp_path, capsys, monkeypatch, named, keep):
    rate, folder = ("1e-3", "kept") if keep else ("0.1", "changed")
    given = str(tmp_path / "tiny" / "tiny.yaml")
    monkeypatch.setattr(command_line, "DEFAULT_RECIPE", given)
    monkeypatch.setattr(command, "DEFAULT_RECIPE", given)
    monkeypatch.setattr(command, "_search", lambda config, worker: search(config, worker, Trainer()))
    words = [
        *(["--config", given] if named else []), "--run_dir", str(tmp_path / f"my run, {folder}"),
        "--training.learning_rate", rate, "--training.warmup=0.2", "--training.epochs", "9", "--export.enabled=false",
        "--training.method", "auto", "--trials", "12", "--search.space",
        "{training.learning_rate: {low: 1e-5, high: 1e-1, log: true}, training.batch_size: {choices: [8, 16]}}",
    ]  # fmt: skip
    assert command.main(words) == 0
    said = capsys.readouterr().out
    assert said.startswith("note: training.method auto: all trials fine_tune")
    (line,) = [line for line in said.splitlines() if "pipeline.run" in line]
    found = parse(shlex.split(line)[3:])
    best = json.loads((Path(str(found.run_dir)) / "search" / "search.json").read_text())
    assert best["verdict"]["keep_defaults"] == keep
    settings = best["defaults" if keep else "winner"]["settings"]
    assert found.training.learning_rate == settings["training.learning_rate"]
    assert found.training.batch_size == settings["training.batch_size"]
    assert (found.training.method, found.training.warmup, found.training.epochs) == ("fine_tune", 0.2, 9)
    assert found.data.train == str(tmp_path / "tiny" / "train.csv") and not found.export.enabled


def test_a_search_halves_by_epochs_of_fine_tuning(config, capsys):
    config.training.method = "auto"
    assert open_study(config).config.training.method == "fine_tune"
    assert "all trials fine_tune" in capsys.readouterr().out
    for name, value in (("method", "head"), ("updates", 60)):
        other = read_config(write_config(Path(str(config.run_dir)) / name, training={"epochs": 9, name: value}))
        other.run_dir, other.model.pooling = str(Path(str(config.run_dir)) / name / "run"), "mean"
        with pytest.raises(UserError, match=r"halves trials by their epochs: give --training\.updates null"):
            open_study(other)
