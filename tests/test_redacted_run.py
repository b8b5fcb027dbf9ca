"""A whole run on texts of which parts are redacted: none of them is where it must not be."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from tiny import write_config

from export.loading import Classifier
from export.recorded import read_recorded
from export.warmup import inputs_of, read_warmup
from pipeline.backbone.convert import convert
from pipeline.backbone.load import load_checkpoint
from pipeline.behave.__main__ import main as behave
from pipeline.command_line import parse
from pipeline.config import DataConfig
from pipeline.data.load import load
from pipeline.errors import UserError
from pipeline.redaction.kinds import Redaction
from pipeline.redaction.rows import redacted_rows
from pipeline.run import main

KINDS = ["email", "card", "phone"]
# Of every row others; what is left of each in no text that is redacted.
SECRETS = ("user{0:04}@mail.example.org", "4111 1111 1111 1111 and +49 30 {0:04}5678", "TCK-77{0:04}")
LEFT = (b"mail.example.org", b"4111 1111", b"+49 30", b"TCK-77")


def with_secrets(folder: Path, **sections) -> Path:
    """A tiny config whose rows all have something to be redacted."""
    config = write_config(folder, rows=90, **sections)
    path = folder / "train.csv"
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, ["text", "label"])
        writer.writeheader()
        for number, row in enumerate(rows):
            writer.writerow(row | {"text": f"{SECRETS[number % 3].format(number)} {row['text']}"})
    return config


def run(folder: Path, keep: bool, **more) -> Path:
    text = {"redact": KINDS, "redact_patterns": {"ticket": r"TCK-\d+"}}
    training = {"epochs": 1} | more.pop("training", {})
    data = {"keep_redacted_only": keep} | more.pop("data", {})
    config = with_secrets(folder, text=text, training=training, data=data, **more)
    assert main(["--config", str(config), "--run_dir", str(folder / "run")]) == 0
    return folder / "run"


def files_with_secrets(folder: Path) -> list[str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(files) > 20
    return [str(path.relative_to(folder)) for path in files if any(left in path.read_bytes() for left in LEFT)]


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A run that keeps redacted rows alone; it has learned from texts without labels too. Its export is checked."""
    folder = tmp_path_factory.mktemp("kept")
    pool = folder / "pool.csv"
    pool.write_text("text\n" + "".join(f"the goal of {n} user9{n}@mail.example.org\n" for n in range(30)))
    more = {"training": {"self_training": 1, "method": "head"}, "model": {"pooling": "mean"}}
    return run(folder, True, data={"unlabelled": str(pool)}, **more)


def test_nothing_of_the_original_reaches_the_run(kept):
    assert files_with_secrets(kept) == []
    stored = b"".join(path.read_bytes() for path in (kept / "data").rglob("text0.bin"))
    assert all(name in stored for name in (b"[EMAIL]", b"[CARD] and [PHONE]", b"[TICKET]"))
    assert "[EMAIL]" in (kept / "self_training" / "texts.jsonl").read_text()


@pytest.mark.slow
def test_what_is_written_of_texts_is_redacted_though_rows_are_stored_as_they_are(tmp_path):
    folder = run(tmp_path, False, export={"signatures": []})
    assert {Path(name).parts[0] for name in files_with_secrets(folder)} == {"data"}
    assert "[EMAIL]" in (folder / "report.html").read_text()
    recorded = read_recorded(folder / "saved_model/1")
    assert recorded and any("[EMAIL]" in text for text in recorded.texts[0])
    assert b"[TICKET]" in (folder / "saved_model/1/assets.extra/tf_serving_warmup_requests").read_bytes()
    # A typo in what is redacted would let it pass.
    assert behave([str(folder)]) == 0
    assert "[EMAIL]" in (folder / "behaviour.json").read_text()
    assert {Path(name).parts[0] for name in files_with_secrets(folder)} == {"data"}
    # Elsewhere the placeholders are tokens still, and nothing puts them there.
    notes = convert(str(folder), tmp_path / "converted")
    assert any("[TICKET] and [EMAIL] and [CARD] and [PHONE] in texts is found by the served model" in n for n in notes)
    again = load_checkpoint(str(tmp_path / "converted")).text_encoder()
    (ids,) = again.tokenize(["the [EMAIL]"]).to_list()
    assert [again.vocabulary[i] for i in ids] == ["the", "[EMAIL]"]


def test_the_served_model_reads_texts_as_they_are_sent(kept):
    served = Classifier(kept)
    texts = [
        "the goal a@b.com",
        "the goal [EMAIL]",
        "the goal TCK-1",
        "the goal [TICKET]",
        "the goal 4111 1111 1111 1112",
    ]
    answers = served(texts).probabilities
    np.testing.assert_allclose(answers[[0, 2]], answers[[1, 3]], rtol=1e-5)
    assert np.abs(answers[0] - answers[4]).max() > 1e-4
    metadata = json.loads((kept / "saved_model/1/assets.extra/metadata.json").read_text())
    redaction = Redaction.of(KINDS, {"ticket": r"TCK-\d+"}).metadata()
    assert metadata["redaction"] == metadata["model"]["redaction"] == redaction
    assert json.loads((kept / "identity.json").read_text())["redaction"] == redaction


def test_a_server_warms_up_with_what_is_looked_at_closely(kept):
    redaction = Redaction.of(KINDS, {"ticket": r"TCK-\d+"})
    logs = [inputs_of(log) for log in read_warmup(kept / "saved_model/1")]
    texts = [inputs["text"] for _, inputs in logs if "text" in inputs]
    assert texts and all(text[0].startswith(redaction.rehearsal.encode()) for text in texts)


def test_labels_of_the_run_are_looked_at_without_the_original(kept, tmp_path, capsys):
    from pipeline.labels.__main__ import main as labels

    assert labels(["check", str(kept), "--output", str(tmp_path / "suspicious.csv")]) == 0
    assert not any(left in (tmp_path / "suspicious.csv").read_bytes() for left in LEFT)


def test_what_is_written_for_people_to_label_is_redacted(tmp_path):
    """Also where rows are stored as they are read. A labelled text is known again as it was written."""
    from pipeline.labels.__main__ import main as labels
    from pipeline.labels.drop import without_suspicious
    from pipeline.training.workers import Workers

    text = {"redact": KINDS, "redact_patterns": {"ticket": r"TCK-\d+"}}
    config = with_secrets(tmp_path, text=text, training={"drop_suspicious": True})
    names = ["check", "--output", str(tmp_path / "suspicious.csv")], ["next", "--output", str(tmp_path / "next.csv")]
    begun = ["--config", str(config), "--run_dir", str(tmp_path / "run")]
    pool = tmp_path / "pool.csv"
    pool.write_text("note,text\n" + "".join(f"x,the goal of user{n}@mail.example.org with {n}\n" for n in range(9)))
    assert labels([*names[0], *begun]) == 0
    assert labels([*names[1], *begun, "--unlabelled", str(pool), "--count", "5"]) == 0
    settings = parse(begun)
    data = load(settings.data, tmp_path / "run/data")
    left = without_suspicious(settings, data, Workers())
    assert data.train and left.train and len(left.train) < len(data.train)
    for path in (tmp_path / "suspicious.csv", tmp_path / "next.csv", tmp_path / "run/dropped.csv"):
        written = path.read_bytes()
        assert b"[EMAIL]" in written and not any(one in written for one in LEFT), path
    # Asked again, with what was written labelled, the others come.
    labelled = tmp_path / "labelled.csv"
    rows = [row.split(",") for row in (tmp_path / "next.csv").read_text().splitlines()[1:]]
    labelled.write_text("text,label\n" + "".join(f"{row[0]},{'ab'[n % 2]}\n" for n, row in enumerate(rows)))
    again = [*begun, "--data.train", str(labelled), "--unlabelled", str(pool), "--output", str(tmp_path / "more.csv")]
    assert labels(["next", *again]) == 0
    assert len((tmp_path / "more.csv").read_text().splitlines()) == 1 + 4


def test_rows_that_are_no_text_stay_and_others_are_redacted():
    rows = [(1, ["a@b.com", None, "a@b.com"]), (2, "is too short"), (3, [5, "x@y.org", "z"])]
    found = list(redacted_rows(iter(rows), 2, Redaction.of(["email"])))
    assert found == [(1, [b"[EMAIL]", None, "a@b.com"]), (2, "is too short"), (3, [5, b"[EMAIL]", "z"])]


def test_stores_know_what_was_redacted(tmp_path):
    config = parse(["--config", str(with_secrets(tmp_path)), "--data.keep_redacted_only", "true", *redact("email")])
    other = parse(["--config", str(tmp_path / "tiny.yaml"), "--data.keep_redacted_only", "true", *redact("phone")])
    found = [load(one.data, tmp_path / "cache", redaction=one.kept_redaction) for one in (config, other)]
    assert found[0].fingerprint != found[1].fingerprint
    with pytest.raises(ValueError, match="nothing says what"):
        load(config.data, tmp_path / "cache")
    plain = load(DataConfig(train=config.data.train), tmp_path / "cache")
    assert plain.fingerprint not in {one.fingerprint for one in found}


def redact(kind: str) -> list[str]:
    return ["--text.redact", f"[{kind}]"]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"text": {"redact": ["emial"]}}, "did you mean email?"),
        ({"text": {"redact_patterns": {"Ticket": "x"}}}, "a name has small letters"),
        ({"text": {"redact": ["email"], "redact_patterns": {"email": "x"}}}, "has a kind of this name"),
        *(
            ({"text": {"redact_patterns": {name: "x"}}}, rf"\[{name.upper()}\].* is a special token")
            for name in ("mask", "cls", "sep", "pad", "unk")
        ),
        ({"text": {"redact_patterns": {"ticket": "(?=x)"}}}, "is no RE2 pattern"),
        ({"text": {"redact_patterns": {"ticket": "x*"}}}, "matches the empty text"),
        ({"data": {"keep_redacted_only": True}}, "name what is to be redacted"),
        (
            {"text": {"redact": ["email"]}, "corpus": {"train": "a.txt"}, "model": {"max_sequence_length": 128}},
            "corpus.train is not redacted",
        ),
    ],
)
def test_what_cannot_work_is_refused(tmp_path, settings, said):
    with pytest.raises(UserError, match="(?s)" + said.replace("?", r"\?")):
        parse(["--config", str(write_config(tmp_path, **settings))])


def test_the_default_is_no_redaction(tmp_path):
    config = parse(["--config", str(write_config(tmp_path))])
    assert not config.text.redaction and not config.kept_redaction
