"""Ten thousand requests to a served model, put together and cut by the emulation of the server's batching."""

import random

import numpy as np
import pytest
from tiny_export import TEXTS, export_tiny

from export.graph import read_graph, signatures
from export.savedmodel import ExportSettings
from export.server.ask import ask, call_of
from export.server.batching import batches, serve
from export.server.inputs import Row, inputs_for

REQUESTS, MOST = 10_000, 32
# What float32 rounds otherwise in a batch of another size. completeness_gap is relative to a small difference.
TOLERANCE = {"completeness_gap": 1e-2}
HOSTILE = [
    b"\xff\xfe\xc3(",
    b"\0",
    b"x" * 5_000,
    b"the team " * 1_000,
    "\u202e\U0001f680".encode() * 50,
    b"\x1b[31m\r\n",
    b"\xed\xa0\x80",
]


def rows_of() -> list[Row]:
    chance = random.Random(1)
    texts = [text.encode("utf-8", "replace") for text in TEXTS] + HOSTILE
    texts += [bytes(chance.randrange(256) for _ in range(chance.randrange(60))) for _ in range(20)]
    return [Row("", text) for text in texts]


@pytest.mark.slow
def test_every_row_of_ten_thousand_requests_is_answered_as_it_is_alone(tmp_path):
    folder = export_tiny(tmp_path, settings=ExportSettings())
    wanted = signatures(read_graph(folder))
    rows, chance = rows_of(), random.Random(2)
    requests = {name: [] for name in wanted}
    for _ in range(REQUESTS):
        # Mostly small, as people ask; some larger than a batch.
        size = chance.choice([1, 1, 1, 2, 3, 5, chance.randint(1, 2 * MOST + 1)])
        requests[chance.choice(list(wanted))].append([chance.randrange(len(rows)) for _ in range(size)])

    asked = [(name, [row]) for name in wanted for row in range(len(rows))]
    for name, own in requests.items():
        for batch in batches([len(request) for request in own], MOST):
            asked.append((name, [row for piece in batch for row in own[piece.request][piece.begin : piece.end]]))
    calls = []
    for name, places in asked:
        arrays = inputs_for(wanted[name], [rows[i] for i in places], ["text"])
        calls.append(call_of(wanted[name], arrays))
    replies = ask(folder, calls)
    assert (replies.error, replies.ended) == (None, None)
    assert [answer for answer in replies.answers if isinstance(answer, str)] == []

    alone = dict(
        zip(((name, places[0]) for name, places in asked[: len(wanted) * len(rows)]), replies.answers, strict=False)
    )
    together = iter(replies.answers[len(alone) :])
    for name, own in requests.items():
        keys = sorted(wanted[name].outputs)
        for request, outputs in zip(own, serve(own, MOST, lambda _: next(together)), strict=True):
            for place, row in enumerate(request):
                for key, values, expected in zip(keys, outputs, alone[name, row], strict=True):
                    if values.dtype == object:
                        assert np.array_equal(values[place], expected[0]), (name, key, rows[row].text)
                    else:
                        tolerance = TOLERANCE.get(key, 1e-4)
                        np.testing.assert_allclose(values[place], expected[0], rtol=0, atol=tolerance, err_msg=key)
    assert sum(map(len, requests.values())) == REQUESTS
