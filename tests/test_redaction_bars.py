"""How much of made sentences of 20 locales is found, and how little of what is none of it."""

import random

import numpy as np
import pytest
import tensorflow as tf
from made_personal import CHECKSUMMED, LOCALES, false_of_kind, false_share, made_numbers, made_personal, recall, share

from pipeline.redaction.kinds import KINDS, Redaction
from pipeline.redaction.redactor import Redactor
from pipeline.redaction.wide import DIGITS

# Digits in a row that could be any number, where no word says that they are one, are half of these countries' numbers
# in the sample.
PLAIN = ("en_AU", "it_IT", "ru_RU")
WIDE = str.maketrans("0123456789", "０１２３４５６７８９")
GAPS = (
    " ", " ", " ", " ", "-", ".", "/", "  ", " (", ") ", "\u3000", "－", " call ", ", ", " x", "年", "\u00a0", "\u2011",
)  # fmt: skip


@pytest.fixture(scope="module")
def redactor():
    return Redactor(Redaction.of(list(KINDS)))


@pytest.fixture(scope="module")
def made():
    return made_personal(each=12, seed=1)


def test_recall_and_precision(redactor, made):
    counts = recall(redactor, made)
    assert {kind for kind, _ in counts} == set(KINDS) and len(LOCALES) == 20
    for kind in KINDS:
        assert share(counts, kind) >= (0.99 if kind in CHECKSUMMED else 0.95), kind
    for locale in LOCALES:
        # Of 12, one may be missed.
        assert share(counts, "phone", locale) >= (0.7 if locale in PLAIN else 0.9), locale
    assert sum(false_of_kind(redactor, made).values()) <= 0.01 * len(made)


def test_other_spaces_and_hyphens_are_as_good(redactor, made):
    others = str.maketrans(" -", "\u202f\u2011")
    apart = [one for one in made if one.kind not in ("url", "email", "ip") and set(one.made) & set(" -")]
    assert len(apart) > 300
    texts = [f"{one.made}\n{one.made.translate(others)}" for one in apart]
    for one, text in zip(apart, redactor(texts).numpy(), strict=True):
        plain, other = text.decode().split("\n")
        assert other == plain.translate(others), one.made


def test_amounts_dates_versions_and_order_numbers_are_left(redactor):
    made = made_numbers(each=400, seed=1)
    without_dates = Redactor(Redaction.of([kind for kind in KINDS if kind != "date"]))
    for one in (redactor, without_dates):
        assert max(false_share(one, made).values()) <= 0.01, false_share(one, made)


@pytest.fixture(scope="module")
def texts(made):
    """Sentences, parts of them put together, and digits in groups."""
    chance = random.Random(0)
    things = [one.made for one in (*made, *made_numbers(each=40, seed=2))]
    between = ["", "", " ", ", ", "-", "/", ".", "(", ")", "+", "#", "_", "x", " call ", "\n", ":", "[", "]"]
    found = ["".join(chance.choice(things) + chance.choice(between) for _ in range(5)) for _ in range(1500)]
    found += ["".join(chance.choices("0123456789+-./ ()@ab:#", k=40)) for _ in range(500)]
    for _ in range(3000):
        groups = ["".join(chance.choices("0123456789", k=chance.choice((1, 2, 3, 4, 4, 4, 5, 8)))) for _ in range(7)]
        wide = [chance.choice((group, group.translate(WIDE))) for group in groups]
        parts = [part + chance.choice(GAPS) for part in chance.choice((groups, groups, wide))]
        found.append(chance.choice(("", "call ", "手机", "call GB29")) + "".join(parts))
    return [*found, *(one.text for one in made)]


def test_redacted_text_holds_nothing_more_to_redact(redactor, texts):
    once = redactor(texts).numpy()
    again = redactor(once).numpy()
    assert [pair for pair in zip(once, again, strict=True) if pair[0] != pair[1]] == []


def test_whatever_is_found_has_the_sign_of_its_kind(redactor, texts):
    """All is looked at closely here, for a character that no text has."""
    found = redactor.found([f"{text} \U000bffff" for text in texts])
    kinds = np.array(redactor.redaction.names)[found.kind.numpy()]
    for name, kind in KINDS.items():
        own = tf.boolean_mask(found.text, kinds == name)
        signed = tf.strings.regex_full_match(own, rf"(?s).*(?:{kind.sign}|[{DIGITS}]).*").numpy()
        assert len(signed) > 30, name
        assert own.numpy()[~signed].tolist() == [], name
