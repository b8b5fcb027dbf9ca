"""Windows of rows answered while others are read and written; batches answered at once."""

import io
import threading
from types import SimpleNamespace

import numpy as np
import pytest

from export import answered, at_once
from export.answered import Asking, Input
from export.answers import Answers
from export.texts import Row


class Lengths:
    """In place of a Classifier: a text's answer is its length. It answers as the threads that it is given do."""

    inputs = ("text",)
    task = SimpleNamespace(answer_names=("value",))

    def __init__(self):
        self.wait = threading.Event()
        self.wait.set()
        self.asked = []
        self.given: at_once.Asked

    def begin(self, threads, texts, batch_size):
        values = np.zeros(len(texts), np.float32)

        def fill(start):
            assert self.wait.wait(10)
            self.asked.append(start)
            batch = texts[start : start + batch_size]
            values[start : start + batch_size] = [len(text) for text in batch]
            return len(batch)

        calls = [threads.submit(fill, start) for start in range(0, len(texts), batch_size)]
        self.given = at_once.Asked(Answers({"value": values}), calls)
        return self.given


def row(number, text="text"):
    return Row(f"line {number}", [text], (text,) if text else None, "" if text else "has no text", False)


@pytest.fixture(autouse=True)
def small_windows(monkeypatch):
    monkeypatch.setattr(answered, "WINDOW", 4)
    monkeypatch.setattr(at_once, "calls_at_once", lambda batch_size: 2)


def test_rows_keep_their_order_and_those_without_text_their_place():
    rows, done = [row(number, "x" * (number % 5)) for number in range(22)], []
    windows = list(answered.answered(Lengths(), rows, Asking(2, progress=done.append)))
    assert [len(window.rows) for window in windows] == [4, 4, 4, 4, 4, 2]
    assert [found for window in windows for found in window.rows] == rows
    assert [value for window in windows for value in window.answers["value"]] == [n % 5 or None for n in range(22)]
    assert sum(done) == 22


def test_nothing_is_given_for_nothing():
    assert list(answered.answered(Lengths(), [], Asking(2))) == []


def test_full_windows_before_a_row_that_cannot_be_read_are_answered():
    def rows():
        yield from map(row, range(10))
        raise ValueError("line 10 is broken")

    windows, found = answered.answered(Lengths(), rows(), Asking(2)), []
    with pytest.raises(ValueError, match="line 10 is broken"):
        found.extend(windows)
    assert [len(window.rows) for window in found] == [4, 4]


def test_a_program_that_waits_for_answers_gets_those_of_a_full_window():
    read = []

    def rows():
        for number in range(8):
            read.append(number)
            yield row(number)

    windows = answered.answered(Lengths(), rows(), Asking(2, ahead=False))
    assert [one.place for one in next(windows).rows] == [f"line {number}" for number in range(4)]
    assert read == [0, 1, 2, 3]


def test_a_window_has_the_columns_of_what_was_read_by_then():
    columns = ["text"]

    def rows():
        for number in range(12):
            if number == 5:
                columns.append("more")
            yield row(number)

    assert [w.known for w in answered.answered(Lengths(), rows(), Asking(2, columns=columns))] == [1, 2, 2]


def test_columns_that_are_known_before_are_written_though_the_first_rows_lack_them():
    columns, file = ["text", "more"], io.BytesIO()
    windows = answered.answered(Lengths(), map(row, range(6)), Asking(2, columns=columns))
    assert list(answered.store(windows, Input(columns, {}), "csv", file, lambda *_: "")) == [4, 2]
    assert file.getvalue().splitlines()[:2] == [b"text,more,value,reason", b"text,,4.0,"]


def test_whoever_stops_does_not_wait_for_what_has_not_begun():
    model = Lengths()
    windows = answered.answered(model, map(row, range(12)), Asking(1))
    next(windows)
    model.wait.clear()
    threading.Timer(0.05, model.wait.set).start()
    windows.close()
    assert len(model.asked) < 12


def test_the_error_of_a_call_is_raised_once_and_the_rest_is_dropped():
    model = Lengths()

    def failing(threads, texts, batch_size):
        return at_once.Asked(Answers({}), [threads.submit(lambda: 1 // 0)])

    model.begin = failing
    with pytest.raises(ZeroDivisionError):
        list(answered.answered(model, map(row, range(9)), Asking(2)))
