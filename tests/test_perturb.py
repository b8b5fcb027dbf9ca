"""What behavioural tests do to texts: typos, other names, tricks with words."""

from random import Random

import pytest

from pipeline.behave import perturb
from pipeline.behave.suite import Behaviour, change_of

SENTENCE = "Mary is not in Paris, and whoever reads this knows it."


def change(name, text, seed=0, **settings):
    test = Behaviour(name=name, perturb=name, **settings)
    found = change_of(test, {"names": ["Mary", "Anna", "Ruth"], "kinds": ["old", "young"], "bad": ["idiot", "笨蛋"]})
    assert found is not None
    return found(text, Random(seed))


def test_changes_of_whole_texts():
    assert change("whitespace", "a b").split() == ["a", "b"] and change("whitespace", "a b") != "a b"
    assert change("punctuation", "Good!?") == "Good"
    assert change("punctuation", "Good") in ("Good.", "Good!") and change("punctuation", "很好") in ("很好。", "很好！")
    assert change("case", "all small") == "ALL SMALL" and change("case", "ALL CAPITALS") == "all capitals"
    assert change("width", "价格100元,好!") == "价格１００元，好！"
    assert change("width", "价格１００元，好！") == "价格100元,好!"
    assert change("width", "price 100") == "price 100"


def test_swapped_characters_are_the_same_ones():
    text = "这个酒店的房间很大"
    found = change("characters", text)
    assert found != text and sorted(found) == sorted(text)
    assert sum(one != other for one, other in zip(text, found, strict=True)) == 2
    assert change("characters", SENTENCE) == SENTENCE


@pytest.mark.parametrize("name", sorted(perturb.WORDS))
def test_one_word_in_ten_is_changed(name):
    words = " ".join(["wonderful"] * 25)
    found = change(name, words)
    assert 0 < sum(word != "wonderful" for word in found.split(" ")) <= (3 if name != "spaced" else 30)
    assert change(name, words) == found
    assert change(name, "a bc def 好") == "a bc def 好"


def test_tricks_with_words():
    assert change("leet", "An idiot!", words="bad") == "An 1d107!"
    assert change("lookalikes", "idiot", words="bad") == "іdіоt"
    assert change("invisible", "idiot", words="bad").replace("\u200b", "") == "idiot"
    assert change("starred", "Idiot", words="bad").count("*") == 1
    assert set(change("repeated", "idiot", words="bad")) == set("idiot")
    assert len(change("spaced", "你真是笨蛋啊", words="bad")) == 7
    # Nothing but the words of the lexicon, as whole words.
    assert change("leet", "idiotic people", words="bad") == "idiotic people"
    typo = change("typos", "wonderful")
    assert sorted(typo) == sorted("wonderful") and (typo[0], typo[-1]) == ("w", "l")


def test_words_become_others():
    assert change("swap", SENTENCE, words="names") in (
        SENTENCE.replace("Mary", "Anna"),
        SENTENCE.replace("Mary", "Ruth"),
    )
    assert change("swap", "Old and young, older", words="kinds") == "Young and old, older"
    assert change("swap", "mary and Marys", words="names") == "mary and Marys"
    pairs = {"is not": "isn't", "it is": "it's"}
    assert change("replace", "It's true, he is not", pairs=pairs) == "It is true, he isn't"
    assert change("add", "Good.", phrases=["www.x.org"]) == "Good. www.x.org"
    assert change("add", "很好。", phrases=["强烈推荐！"], where="begin") == "强烈推荐！很好。"


def test_a_name_is_swapped_for_the_same_in_both_texts_of_a_pair():
    rows = [("Mary came.", "Who came? Mary.")] * 20
    found = perturb.changed_rows(rows, perturb.swap(["Mary", "Anna", "Ruth", "Olga"]), "0 names")
    names = [(one.split()[0], other.split()[-1].rstrip(".")) for one, other in found]
    assert all(one == other != "Mary" for one, other in names) and len(set(names)) == 3
    assert found == perturb.changed_rows(rows, perturb.swap(["Mary", "Anna", "Ruth", "Olga"]), "0 names")


def test_between_placeholders_a_change_is_the_same():
    names = ["Mary", "Anna", "Ruth", "Olga"]
    swapped = change_of(Behaviour(name="x", perturb="swap", words="names"), {"names": names}, ("[EMAIL]",))
    cased = change_of(Behaviour(name="x", perturb="case"), {}, ("[EMAIL]",))
    assert swapped is not None and cased is not None
    row = ("Mary [EMAIL] wrote [EMAIL] to Mary [EMAIL], not Anna", "[EMAIL] is Mary")
    for one, other in perturb.changed_rows([row] * 20, swapped, "0 x"):
        shift = (names.index(one.split()[0]) - names.index("Mary")) % len(names)
        expected = {name: names[(i + shift) % len(names)] for i, name in enumerate(names)}
        wanted = tuple(" ".join(expected.get(word, word) for word in text.split(" ")) for text in row)
        assert (one, other) == wanted and shift
    for (text,) in perturb.changed_rows([("Write to [EMAIL] now [EMAIL] PLEASE",)] * 20, cased, "0 x"):
        assert text in ("WRITE TO [EMAIL] NOW [EMAIL] PLEASE", "write to [EMAIL] now [EMAIL] please")


def test_placeholders_stay():
    test = Behaviour(name="x", perturb="case")
    changed = change_of(test, {}, ("[EMAIL]", "[CARD]"))
    assert changed is not None
    for seed in range(9):
        found = changed("Write to [EMAIL] now", Random(seed))
        assert found.lower() == "write to [email] now" and "[EMAIL]" in found and found != "Write to [EMAIL] now"
