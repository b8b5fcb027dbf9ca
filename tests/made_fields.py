"""Invented rows with the columns that the recipes of fields ask for. They prove that a recipe runs, and nothing else:
no score of them says anything about a field."""

import csv
from collections.abc import Iterator
from pathlib import Path
from random import Random

FILLER = ["the", "a", "of", "and", "in", "on", "with", "was", "new", "old", "team", "report", "today", "again"]
INSULTS = {"toxic": ["stupid", "awful"], "insult": ["idiot", "clown"], "threat": ["hurt", "burn"]}
KINDS = {
    "care": ["nurse", "patient", "ward"],
    "code": ["python", "server", "deploy"],
    "kitchen": ["cook", "menu", "oven"],
}
SPECIALTIES = {"heart": ["chest", "pulse", "valve"], "bones": ["knee", "fracture", "joint"], "skin": ["rash", "itch"]}
NEWS = {"negative": ["loss", "fell", "layoffs"], "neutral": ["office", "meeting"], "positive": ["profit", "rose"]}


def comments(chance: Random) -> dict[str, object]:
    """A comment for abuse.yaml."""
    given = {label: int(chance.random() < 0.3) for label in INSULTS}
    words = [chance.choice(INSULTS[label]) for label, yes in given.items() if yes]
    identity = chance.choice(["young", "old", ""])
    return {"text": sentence(chance, [*words, identity], 4, 16), **given, "identity": identity}


def job_posts(chance: Random) -> dict[str, object]:
    """A post for recruitment.yaml."""
    kind = chance.choice(list(KINDS))
    return {
        "title": f"{chance.choice(KINDS[kind])} {chance.choice(['junior', 'senior'])}",
        "description": sentence(chance, KINDS[kind], 10, 60),
        "salary": chance.choice(["", 20_000 + 1000 * len(kind) + chance.randrange(5000)]),
        "place": chance.choice(["Lagos", "Lima", "Oslo", ""]),
        "posted": f"2024-{chance.randint(1, 12):02}-{chance.randint(1, 28):02}",
        "company": f"company {chance.randrange(40)}",
        "kind": kind,
    }


def notes(chance: Random) -> dict[str, object]:
    """A note for medicine.yaml, longer than a sequence, of a patient with several."""
    specialty, patient = chance.choice(list(SPECIALTIES)), chance.randrange(40)
    known = f"Seen on 2024-03-{chance.randint(1, 28):02}, MRN: 10{patient:04}, call +49 30 12{patient:04}."
    return {
        "text": f"{known} {sentence(chance, SPECIALTIES[specialty] * 3, 40, 120)}",
        "specialty": specialty,
        "patient": f"P{patient}",
    }


def headlines(chance: Random) -> dict[str, object]:
    """A sentence for financial_news.yaml."""
    label = chance.choice(list(NEWS))
    return {"text": f'{sentence(chance, NEWS[label], 4, 20)} "quoted', "label": label}


def sentence(chance: Random, words: list[str], fewest: int, most: int) -> str:
    """The words among others, in any order."""
    found = [word for word in words if word] + [chance.choice(FILLER) for _ in range(chance.randint(fewest, most))]
    chance.shuffle(found)
    return " ".join(found)


FIELDS = {"abuse": comments, "recruitment": job_posts, "medicine": notes, "financial_news": headlines}
"""Who makes a row, by the name of the recipe."""


def words_of(name: str) -> list[str]:
    """Words for a vocabulary."""
    kinds = {"abuse": INSULTS, "recruitment": KINDS, "medicine": SPECIALTIES, "financial_news": NEWS}[name]
    return sorted({*FILLER, *(word for words in kinds.values() for word in words)})


def write_rows(name: str, path: Path, rows: int) -> Path:
    """A file as the recipe of this name reads it."""
    chance = Random(0)
    found = [FIELDS[name](chance) for _ in range(rows)]
    with open(path, "w", newline="") as file:
        if name == "financial_news":
            # As the Financial PhraseBank is written.
            file.writelines(_phrases(found))
        else:
            writer = csv.DictWriter(file, list(found[0]))
            writer.writeheader()
            writer.writerows(found)
    return path


def _phrases(rows: list[dict[str, object]]) -> Iterator[str]:
    for row in rows:
        yield f"{row['text']}@{row['label']}\r\n"
