"""Rules on what is answered, and on what is run at all: hand-made models that break each."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from hand_made import HandMade, edit, save, subject

from export import check as checking
from export.graph import read_graph
from export.server import rules
from export.server.ask import Replies, ask
from export.server.questions import Questions, questions_for
from export.server.rules.subject import Broken, NotChecked
from export.server.safety import why_not_run
from export.server.sandbox import Limits

RULES = ("any_bytes", "any_length", "any_batch_size", "company", "finite", "utf8_outputs")


class Faulty(HandMade):
    """Each method is a signature with one fault."""

    def fails_on_bytes(self, text):
        return {"size": tf.strings.length(tf.strings.unicode_transcode(text, "UTF-8", "UTF-8", errors="strict"))}

    def fails_on_ten(self, text):
        return self._fails(text, tf.reduce_any(tf.strings.length(text) == 10))

    def fails_on_long(self, text):
        return self._fails(text, tf.reduce_max(tf.strings.length(text)) > 5_000)

    def fails_on_many(self, text):
        return self._fails(text, tf.shape(text)[0] > 32)

    def follows_neighbours(self, text):
        size = tf.cast(tf.strings.length(text), tf.float32)
        return {"share": size / tf.reduce_max(size + 1.0)}

    def changes_when_many(self, text):
        size = tf.strings.length(text)
        return {"size": size + tf.cast(tf.shape(text)[0] > 32, tf.int32)}

    def width_of_batch(self, text):
        return {"letters": tf.strings.bytes_split(tf.strings.substr(text, 0, 12)).to_tensor("")}

    def rows_fewer(self, text):
        return {"unique": tf.unique(text).y}

    def not_a_number(self, text):
        size = tf.cast(tf.strings.length(text), tf.float32)
        return {"log": tf.math.log(size - 1.0)}

    def not_utf8(self, text):
        return {
            "name": tf.gather(tf.constant([b"short", b"caf\xe9"]), tf.cast(tf.strings.length(text) > 100, tf.int32))
        }

    def greedy(self, text):
        # 16 GiB a row, of which little is answered.
        rows = tf.shape(text, tf.int64)[0]
        much = tf.fill(tf.stack([rows, 1 << 32]), tf.cast(tf.strings.length(text)[0], tf.float32))
        return {"largest": tf.reduce_max(much, axis=1)}

    def echoes(self, text):
        return {"echo_bytes": tf.identity(text)}

    def _fails(self, text, condition):
        with tf.control_dependencies([tf.debugging.Assert(tf.logical_not(condition), ["no more"])]):
            return {"size": tf.strings.length(text)}


FAULTS = {
    "fails_on_bytes": ("any_bytes", "fails for a text that is no UTF-8: "),
    "fails_on_ten": ("any_length", "fails for a text of 10 characters: "),
    "fails_on_long": ("any_length", "fails for a text of 100,000 characters: "),
    "fails_on_many": ("any_batch_size", "fails for a batch of 64: "),
    "follows_neighbours": ("company", "share for a short text differs by "),
    "changes_when_many": ("any_batch_size", "size for a short text is another than alone: row 1 of a batch of 64"),
    "width_of_batch": ("company", r"letters for a .* has shape \[12\], and \[\d+\] alone"),
    "rows_fewer": ("company", r"unique has shape \[\d\] for \d+ rows"),
    "not_a_number": ("finite", "log of not_a_number, asked for a short text, is -inf"),
    "not_utf8": ("utf8_outputs", r"name of not_utf8, asked for a text of 1,000 characters, is b'caf\\xe9'"),
}


@pytest.fixture(scope="module")
def faulty(tmp_path_factory) -> tuple[Path, Questions, Replies]:
    """One process answers for all."""
    model = Faulty()
    names = [*FAULTS, "greedy", "echoes"]
    folder = save(model, tmp_path_factory.mktemp("faulty") / "1", **{name: getattr(model, name) for name in names})
    questions = questions_for(folder, read_graph(folder), thorough=False)
    # TensorFlow waits for memory, ten seconds each time that there is none.
    greedy = [i for i, question in enumerate(questions.asked) if question.signature == "greedy"]
    kept = [question for i, question in enumerate(questions.asked) if i not in greedy[1:]]
    questions = dataclasses.replace(questions, asked=kept)
    return folder, questions, ask(folder, questions.calls, limits=Limits(memory_bytes=4 << 30))


def found(faulty, name: str) -> dict[str, str]:
    """What rules on answers find of one signature alone."""
    folder, questions, replies = faulty
    own = [i for i, question in enumerate(questions.asked) if question.signature == name]
    one = subject(
        folder,
        replies=Replies(answers=[replies.answers[i] for i in own]),
        questions=Questions(questions.rows, [questions.asked[i] for i in own], thorough=False),
    )
    for other in set(one.graph.signature_def) - {name}:
        del one.graph.signature_def[other]
    messages = {}
    for rule in RULES:
        try:
            getattr(rules, rule)(one)
        except Broken as error:
            messages[rule] = str(error)
        except NotChecked as reason:
            messages[rule] = f"not checked: {reason}"
    return messages


@pytest.mark.parametrize("name", FAULTS)
def test_a_faulty_signature_breaks_the_rule_of_its_fault(name, faulty):
    rule, message = FAULTS[name]
    with pytest.raises(Broken, match=message):
        raise Broken(found(faulty, name).get(rule, "nothing"))


@pytest.mark.parametrize("name", ["serving_default", "classify", "echoes"])
def test_a_sound_signature_breaks_none(name, faulty):
    assert found(faulty, name) == {}


def test_more_memory_than_allowed_is_a_failed_request(faulty):
    _, questions, replies = faulty
    assert replies.ended is None and replies.peak_bytes < 4e9
    (answer,) = (a for a, one in zip(replies.answers, questions.asked, strict=True) if one.signature == "greedy")
    assert "OOM" in answer


@pytest.mark.slow
def test_a_model_that_never_answers_is_ended_at_the_time_limit(tmp_path):
    def forever(text):
        # Grows not, and its end depends on what it was given.
        size = tf.strings.length(text)
        return {"size": tf.while_loop(lambda n: tf.reduce_min(n) > -1, lambda n: (tf.abs(n) + 1) % 7, [size])[0]}

    folder = save(HandMade(), tmp_path / "1", forever=forever)
    findings = {f.rule: f for f in checking.check(folder, limits=Limits(seconds=8.0))}
    ending = findings["every request ends"]
    assert ending.result == "failed" and "forever, asked for" in ending.found
    assert ending.found.endswith("did not answer within 8 s")
    assert findings["company"].result == findings["memory"].result == "not checked"
    assert findings["company"].found == "a request had ended the process before"


class Explaining(HandMade):
    """With a signature of the costly ones, which never ends for a large batch, or takes memory and ends."""

    def __init__(self, row_bytes: int):
        super().__init__()
        self.row_floats = row_bytes // 4

    def explain(self, text):
        rows, size = tf.shape(text)[0], tf.cast(tf.strings.length(text), tf.float32)
        much = tf.reduce_max(tf.fill(tf.stack([rows, self.row_floats]), size[0]))
        most = 0 if self.row_floats > 1 else 100 * (rows // 16)
        slow = tf.while_loop(lambda n: n < most, lambda n: tf.math.floormod(n + 1, 7), [0 * rows])[0]
        return {"attributions": size[:, tf.newaxis] + 0 * (much + tf.cast(slow, tf.float32))}


@pytest.mark.parametrize(("row_bytes", "result"), [(4, "ok"), (32 << 20, "failed")])
def test_a_costly_signature_is_asked_for_little_and_it_is_said(row_bytes, result, tmp_path, monkeypatch):
    if result == "failed":
        # On a busy machine a gigabyte takes its time.
        monkeypatch.setattr("export.server.questions.MEMORY_SECONDS", 100.0)
    model = Explaining(row_bytes)
    folder = save(model, tmp_path / "1", explain=model.explain)
    findings = {f.rule: f for f in checking.check(folder)}
    memory = findings.pop("memory")
    assert {f.result for f in findings.values()} == {"ok"}, [f for f in findings.values() if f.result != "ok"]
    assert memory.result == result
    assert memory.found.endswith(", as far as it got in 5 s") == (result == "ok")
    assert result == "ok" or memory.found.startswith("explain takes ")
    assert findings["any length"].found == "3 for each of 3 signatures; explain: 2"
    assert findings["any batch size"].found.endswith("; explain in batches of 5")
    assert findings["company"].found.endswith("; explain asked only for short texts, cut at some")


def test_long_texts_which_take_the_time_are_asked_little(tmp_path):
    model = Explaining(4)
    folder = save(model, tmp_path / "1", explain=model.explain)
    questions = questions_for(folder, read_graph(folder), thorough=True)
    rows = {name: [] for name in ("serving_default", "explain")}
    for question in questions.asked:
        if question.signature in rows:
            rows[question.signature] += question.rows
    long = {name: sum(not questions.is_short(row) for row in asked) for name, asked in rows.items()}
    # Alone, there and back; explain: alone.
    assert long == {"serving_default": 2 + 4, "explain": 1}
    assert len(rows["explain"]) < 16


def test_a_model_that_writes_when_it_is_loaded_is_not_run(tmp_path):
    class Writes(HandMade):
        def __init__(self):
            super().__init__()
            self.table = tf.lookup.StaticHashTable(_Writing(str(tmp_path / "written")), 0)

        def serve(self, text):
            return super().serve(text) | {"known": self.table.lookup(text)}

    folder = save(Writes(), tmp_path / "1")
    (tmp_path / "written").unlink(missing_ok=True)
    findings = {f.rule: f for f in checking.check(folder)}
    assert not (tmp_path / "written").exists()
    assert findings["no side effects"].result == "failed" and "operation WriteFile" in findings["no side effects"].found
    for rule in ("loads", "every request ends", "answers of serving default", "company", "finite", "memory"):
        assert findings[rule].result == "not checked", rule
    assert findings["loads"].found.startswith("it is not safe to run: operation WriteFile")


class _Writing(tf.lookup.KeyValueTensorInitializer):
    """Fills a table, and a file with it."""

    def __init__(self, path: str):
        super().__init__(tf.constant(["a"]), tf.constant([1]))
        self.path = path

    def initialize(self, table):
        tf.io.write_file(self.path, "x")
        return super().initialize(table)


class WithTable(HandMade):
    """Looks texts up in a table that its initialisation fills."""

    def __init__(self):
        super().__init__()
        entries = tf.lookup.KeyValueTensorInitializer(tf.constant(["a", "b"]), tf.constant([1, 2]))
        self.table = tf.lookup.StaticHashTable(entries, -1)

    def known(self, text):
        return {"place": self.table.lookup(text)}


def test_a_read_only_table_and_a_linked_folder_with_zeros_are_sound(tmp_path):
    model = WithTable()
    folder = save(model, tmp_path / "store" / "of-today", known=model.known)
    (tmp_path / "saved_model").mkdir()
    (tmp_path / "saved_model" / "0001").symlink_to(folder, target_is_directory=True)
    findings = checking.check(tmp_path)
    assert {f.result for f in findings} == {"ok"}, [f for f in findings if f.result != "ok"]
    assert next(f for f in findings if f.rule == "version folder").found == "0001"


OPERATIONS = [
    "WriteFile", "ReadFile", "PrintV2", "SaveV2", "RestoreV2", "AssignVariableOp", "MutableHashTableV2",
    "LookupTableImportV2", "TextLineDataset", "CacheDataset", "EagerPyFunc", "PyFuncStateless", "MatchingFiles",
    "DebugIdentity", "NotYetInvented",
]  # fmt: skip


@pytest.mark.parametrize("place", ["graph", "function", "initialisation"])
def test_side_effects_are_refused_wherever_they_are(place, faulty, sound_copy):
    registry = faulty[2].operations
    missed = []
    for operation in OPERATIONS:
        graph = read_graph(sound_copy)
        assert why_not_run(graph, registry) is None
        if place == "function":
            function = graph.graph_def.library.function.add()
            function.signature.name = "helper"
            function.node_def.add(name="node", op=operation)
        else:
            graph.graph_def.node.add(name="node", op=operation)
        if place == "initialisation":
            graph.signature_def["__saved_model_init_op"].outputs["node"].name = "node"
        if why_not_run(graph, registry) is None:
            missed.append(operation)
    # What fills a table is part of the initialisation.
    assert missed == (["LookupTableImportV2"] if place == "initialisation" else [])


def test_the_saver_may_not_write_other_files(faulty, sound_copy):
    graph = read_graph(sound_copy)
    saver = next(f for f in graph.graph_def.library.function if "traced_save" in f.signature.name)
    saver.node_def.add(name="node", op="WriteFile")
    assert f"WriteFile of node node of function {saver.signature.name}" in why_not_run(graph, faulty[2].operations)


@pytest.mark.parametrize("device", ["/GPU:0", "/device:GPU:0", "/job:worker/task:1", "/device:CPU:1", "/device:TPU:0"])
def test_pinned_devices(device, sound_copy):
    edit(sound_copy, lambda graph: setattr(graph.graph_def.library.function[0].node_def[0], "device", device))
    with pytest.raises(Broken, match=f"asks for {device}"):
        rules.no_pinned_devices(subject(sound_copy))


def test_nan_weights_are_found_where_nothing_is_recorded(tmp_path):
    model = HandMade()
    model.kernel.assign(np.full([2, 3], np.nan))
    folder = save(model, tmp_path / "1")
    shutil.rmtree(folder / "assets.extra")
    (folder / "assets.extra").mkdir()
    findings = {f.rule: f for f in checking.check(folder, at_export=True)}
    assert findings["finite"].result == "failed" and "is nan" in findings["finite"].found
    assert findings["company"].result == "ok" and "as none is recorded" in findings["company"].found


def test_a_rule_is_not_checked_where_nothing_was_asked(sound):
    for rule in RULES:
        with pytest.raises(NotChecked):
            getattr(rules, rule)(subject(sound))
