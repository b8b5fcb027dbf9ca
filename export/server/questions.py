"""What a model is asked before a server gets it: what was recorded, its warm-up, and what clients may send.

Time goes with the tokens of what is asked. So it is short texts that are asked in every company, and long ones in few.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tensorflow.core.protobuf import meta_graph_pb2

from export.graph import signatures
from export.recorded import Recorded, read_recorded
from export.server.ask import Call, call_of
from export.server.batching import batches
from export.server.inputs import Row, inputs_for, text_inputs
from export.server.memory import calls_for
from export.versions import ModelError
from export.warmup import COSTLY, inputs_of, read_warmup

RECORDED, WARMUP, ROWS, MANY, MEMORY = "recorded", "warm-up", "rows", "many", "memory"
# Rows of the largest batch, whatever else was recorded.
LEAST_MANY, MOST_MANY = 64, 512
INVALID = b"\xff\xfe\xc3( and a word"
LENGTHS = (10, 1_000, 100_000)
# Bytes of a text that is no longer short.
LONG = 100
# That a signature of COSTLY may work on the texts which fill its memory: it takes it at once, or not at all.
MEMORY_SECONDS = 5.0


@dataclass(frozen=True)
class Question:
    """One request."""

    purpose: str
    """RECORDED: all recorded texts, then one by one; WARMUP; ROWS: some of Questions.rows; MANY: a large batch;
    MEMORY: as many full texts for each signature."""
    signature: str
    call: Call
    rows: tuple[int, ...] = ()
    """Of Questions.rows."""


@dataclass
class Questions:
    """All that is asked, in this order."""

    rows: list[Row] = field(default_factory=list)
    """Texts as hostile as clients may send them."""
    asked: list[Question] = field(default_factory=list)
    thorough: bool = True
    """Requests are cut at every place, and memory is measured; False: they are cut at some."""
    known_batch: int = 1
    """Rows of the largest request among the recorded and those of the warm-up."""

    @property
    def calls(self) -> list[Call]:
        return [question.call for question in self.asked]

    @property
    def before_memory(self) -> int:
        """How many are not asked for memory; they are the first."""
        return sum(question.purpose != MEMORY for question in self.asked)

    @property
    def ends_with_costly(self) -> bool:
        """Whether the last question is one that is meant to be ended."""
        return bool(self.asked) and self.asked[-1].purpose == MEMORY and self.asked[-1].signature in COSTLY

    def named(self, rows: Sequence[int]) -> str:
        """The rows of one request, for messages."""
        return self.rows[rows[0]].about if len(rows) == 1 else f"a batch of {len(rows)}"

    def rows_for(self, signature: str) -> list[int]:
        """Those that a signature is asked: a few of one that runs the model dozens of times for each."""
        if signature not in COSTLY:
            return list(range(len(self.rows)))
        return [i for i, row in enumerate(self.rows) if row.about in _FOR_COSTLY]

    def requests_for(self, signature: str) -> list[tuple[list[list[int]], int]]:
        """(requests, rows of a batch) in all the ways in which a signature is asked: there and back, cut in pieces."""
        rows = self.rows_for(signature)
        short = [i for i in rows if self.is_short(i)]
        # Of 5: a batch with rows of both, and a request in pieces.
        if signature in COSTLY:
            return [([short, short[::-1]], 5)]
        found = [([rows, rows[::-1]], 5)]
        if self.thorough:
            found += [([short, short[::-1]], size) for size in (*range(2, len(short) + 1), 2 * len(short))]
        return found

    def is_short(self, row: int) -> bool:
        """Whether a row is asked in every company."""
        return len(self.rows[row].text) < LONG

    def largest_batch(self, signature: str) -> int:
        """Rows of the largest in `requests_for`."""
        return max(min(most, sum(map(len, requests))) for requests, most in self.requests_for(signature))


def about_length(characters: int) -> str:
    """What a row of that many characters is called."""
    return f"a text of {characters:,} characters"


SHORT, ABOUT_INVALID = "a short text", "a text that is no UTF-8"
_FOR_COSTLY = (SHORT, ABOUT_INVALID, about_length(10), about_length(1_000))


def questions_for(folder: Path, graph: meta_graph_pb2.MetaGraphDef, thorough: bool) -> Questions:
    """What cannot be read or asked is left out: the rules say so."""
    wanted = signatures(graph)
    names = text_inputs(wanted)
    try:
        recorded = read_recorded(folder)
    except ModelError:
        recorded = None
    found = Questions(_rows(recorded), thorough=thorough)

    def put(purpose: str, name: str, inputs: dict[str, np.ndarray], outputs: Sequence[str], rows=()) -> None:
        signature = wanted.get(name)
        if signature and set(inputs) == set(signature.inputs) and set(outputs) <= set(signature.outputs):
            found.asked.append(Question(purpose, name, call_of(signature, inputs, outputs), tuple(rows)))

    if recorded is not None and len(recorded.texts) == len(names):
        count = len(recorded.predictions)
        by_input = dict(zip(recorded.inputs or names, recorded.texts, strict=True))
        own = [Row("", b"", cells={name: column[i] for name, column in by_input.items()}) for i in range(count)]
        for name, signature in wanted.items():
            if name == "serving_default" or list(signature.inputs) == ["inputs"]:
                for rows in (own, *([row] for row in own)):
                    put(RECORDED, name, inputs_for(signature, rows, names), sorted(signature.outputs))
        found.known_batch = count
    try:
        for log in read_warmup(folder):
            name, inputs = inputs_of(log)
            put(WARMUP, name, inputs, list(wanted[name].outputs) if name in wanted else [])
            found.known_batch = max([found.known_batch, *(len(value) for value in inputs.values() if value.ndim)])
    except ModelError:
        pass
    for name, signature in wanted.items():
        for purpose, rows in _batches(found, name):
            inputs = inputs_for(signature, [found.rows[i] for i in rows], names)
            put(purpose, name, inputs, sorted(signature.outputs), rows)
    if thorough:
        # Last, as they may end the process.
        found.asked += [Question(MEMORY, name, call) for name, call in calls_for(folder, graph).items()]
    return found


def _batches(questions: Questions, name: str) -> list[tuple[str, list[int]]]:
    """(purpose, rows) of each request for one signature, each only once."""
    rows = questions.rows_for(name)
    found = [[row] for row in rows]
    for requests, most in questions.requests_for(name):
        for batch in batches([len(request) for request in requests], most):
            together = [row for piece in batch for row in requests[piece.request][piece.begin : piece.end]]
            if together not in found:
                found.append(together)
    asked = [(ROWS, batch) for batch in found]
    if name not in COSTLY:
        size = min(MOST_MANY, max(LEAST_MANY, 2 * questions.known_batch))
        # Long texts, which cost most, are asked in the batches above.
        usual = [i for i in rows if questions.is_short(i)]
        asked.append((MANY, [usual[i % len(usual)] for i in range(size)]))
    return asked


def _rows(recorded: Recorded | None) -> list[Row]:
    columns = recorded.texts if recorded else [["A few words of a text."]]
    longest = max(range(len(columns[0])), key=lambda i: len(columns[0][i]))
    words = columns[0][longest].strip() or "a"
    long = {about_length(count): (f"{words} " * (1 + count // len(words)))[:count] for count in LENGTHS}
    ten, thousand, most = long.items()
    texts = [
        (SHORT, "a"),
        thousand,
        ("an empty text", ""),
        (ABOUT_INVALID, INVALID),
        most,
        ten,
        ("a text of control characters and emoji", "\0\x1b[31m\u202e \U0001f680 漢字\r\n"),
        ("a recorded text" if recorded else "a usual text", words),
    ]
    # The other text of a pair is as hostile as the next row's, and a short pair has two short texts.
    short = [text for _, text in texts if len(text) < LONG]
    after = {text: short[(i + 1) % len(short)] for i, text in enumerate(short)}
    return [_row(about, text, after.get(text, texts[(i + 1) % len(texts)][1])) for i, (about, text) in enumerate(texts)]


def _row(about: str, text: str | bytes, other: str | bytes = b"") -> Row:
    text, other = (part if isinstance(part, bytes) else part.encode("utf-8", "replace") for part in (text, other))
    return Row(about, text, other)
