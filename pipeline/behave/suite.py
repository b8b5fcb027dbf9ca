"""What is tested: a suite of behaviours, read from YAML. No TensorFlow."""

import re
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Literal

from pipeline.behave import perturb
from pipeline.errors import UserError
from pipeline.settings.bounds import NotNegative, WholeShare
from pipeline.settings.read import build, require
from pipeline.settings.text import read_file

BUILT_IN = Path(__file__).parent
DEFAULT = "general"
PLACE = re.compile(r"\{(\w+)\}")

Perturbation = Literal[
    "whitespace", "punctuation", "case", "characters", "width", "typos", "leet", "spaced", "repeated", "starred",
    "lookalikes", "invisible", "add", "swap", "replace",
]  # fmt: skip


@dataclass
class Behaviour:
    """One test; the kinds are CheckList's (Ribeiro et al., 2020)."""

    name: str = ""
    """As the table calls it."""
    kind: Literal["minimum", "invariance", "direction"] = "invariance"
    """minimum: each text has the answer that the test names. invariance: a changed text has the answer that it had
    before. direction: a change moves the answer one way, or not at all."""
    templates: list[str | list[str]] = field(default_factory=list)
    """Texts with {name} for each word of a lexicon; of models of several texts, lists of as many. None: the run's own
    held-out rows."""
    columns: dict[str, str] = field(default_factory=dict)
    """Cells of columns beside the text that go with the templates; the others are missing."""
    perturb: Perturbation | None = None
    """How a text is changed."""
    phrases: list[str] = field(default_factory=list)
    """Of add: one of them is added."""
    where: Literal["begin", "end"] = "end"
    """Of add: where."""
    words: str | None = None
    """A lexicon. Of swap: its words become each other; of changes of words: only these are changed."""
    pairs: dict[str, str] = field(default_factory=dict)
    """Of replace: words or phrases that stand for each other."""
    label: str | None = None
    """minimum: the answer has this label. direction: the label whose probability moves; none for numbers."""
    not_label: str | None = None
    """minimum: the answer does not have this label."""
    at_least: float | None = None
    """minimum: bounds of the label's probability, or of an answer that is a number."""
    at_most: float | None = None
    moves: Literal["up", "down"] | None = None
    """direction: where to."""
    tolerance: NotNegative | None = None
    """direction: how far the wrong way counts as not moving; none: 0.1 of a probability, or of the standard deviation
    of the numbers in training."""
    limit: WholeShare | None = None
    """The largest share of failures that passes; none: the suite's, or any."""


@dataclass
class Suite:
    """Behaviours, and what they share."""

    include: list[str] = field(default_factory=list)
    """Suites whose tests come first: names of built-in ones, or files beside this one."""
    labels: dict[str, str] = field(default_factory=dict)
    """What labels of the tests are called in the model."""
    lexicons: dict[str, list[str]] = field(default_factory=dict)
    """Words by the name that stands for them."""
    limit: WholeShare | None = None
    """Of each test that has none of its own."""
    tests: list[Behaviour] = field(default_factory=list)


def read_suite(name: str, labels: dict[str, str] | None = None) -> Suite:
    """A suite with all that it includes, its labels called as the model calls them.

    Args:
        name: of a built-in suite, or a file.
        labels: as in Suite.labels, which they override.

    Raises:
        UserError: naming file and key: no such suite, a wrong setting, or a test that says too little or too much.
    """
    suite = _read(find_suite(name, Path()), ())
    require(suite.tests, f"{name}: there are no tests in it.")
    names = suite.labels | (labels or {})
    used = {label for test in suite.tests for label in (test.label, test.not_label) if label is not None}
    for known in labels or {}:
        require(known in used, f"--label {known}: no test of {name} names this label; there are {_listed(used)}.")
    tests = [
        replace(test, label=names.get(test.label or "", test.label), limit=_first(test.limit, suite.limit),
                not_label=names.get(test.not_label or "", test.not_label))
        for test in suite.tests
    ]  # fmt: skip
    return replace(suite, tests=tests)


def find_suite(name: str, folder: Path) -> Path:
    """The file of a suite: a built-in one by its name, or a path from a folder."""
    built_in = BUILT_IN / f"{name}.yaml"
    path = built_in if re.fullmatch(r"\w+", name) and built_in.is_file() else folder / name
    require(path.is_file(), f"{path}: no such suite; built-in ones are {_listed(built_in_names())}.")
    return path


def built_in_names() -> list[str]:
    """Of the suites that come with this package."""
    return sorted(path.stem for path in BUILT_IN.glob("*.yaml"))


def _read(path: Path, above: tuple[Path, ...]) -> Suite:
    require(path.resolve() not in above, f"{path} includes itself.")
    own: Suite = build(Suite, read_file(Suite, path))
    parts = [_read(find_suite(name, path.parent), (*above, path.resolve())) for name in own.include]
    lexicons, labels = {}, {}
    for part in (*parts, own):
        lexicons |= part.lexicons
        labels |= part.labels
    for number, test in enumerate(own.tests, 1):
        try:
            _check(test, lexicons)
        except UserError as error:
            raise UserError(f"{path}: test {test.name or number}: {error}") from None
    tests = [replace(test, limit=_first(test.limit, part.limit)) for part in parts for test in part.tests] + own.tests
    names = [test.name for test in tests]
    for name in names:
        require(names.count(name) == 1, f"{path}: two tests are called {name!r}.")
    return replace(own, labels=labels, lexicons=lexicons, tests=tests)


def _check(test: Behaviour, lexicons: dict[str, list[str]]) -> None:
    require(test.name, "it has no name.")
    known = f"there is no such lexicon but {_listed(lexicons) or 'none'}."
    for text in chain(*([one] if isinstance(one, str) else one for one in test.templates)):
        for name in PLACE.findall(text):
            require(lexicons.get(name), f"the template {text!r} has {{{name}}}; {known}")
    require(not test.words or lexicons.get(test.words), f"words: {test.words}: {known}")
    require(test.templates or not test.columns, "columns go with templates.")
    _check_change(test, lexicons)
    _check_kind(test)


def _check_change(test: Behaviour, lexicons: dict[str, list[str]]) -> None:
    """What a change needs is there, and nothing that it does not use."""
    uses = {"add": {"phrases"}, "swap": {"words"}, "replace": {"pairs"}}
    needed = uses.get(test.perturb or "", set())
    allowed = {"words"} if test.perturb in perturb.WORDS else needed
    for name in ("phrases", "words", "pairs"):
        given = bool(getattr(test, name))
        require(given or name not in needed, f"perturb: {test.perturb} needs {name}.")
        require(not given or name in allowed, f"{name} {'is' if name == 'words' else 'are'} not used by perturb: "
                f"{test.perturb or 'null'}.")  # fmt: skip
    enough = test.perturb != "swap" or len(set(lexicons[str(test.words)])) == len(lexicons[str(test.words)]) > 1
    require(enough, f"perturb: swap needs at least two different words in {test.words}, each once.")


def _check_kind(test: Behaviour) -> None:
    """The kind's own settings are there, and no other kind's."""
    wanted = [name for name in ("not_label", "at_least", "at_most") if getattr(test, name) is not None]
    if test.kind == "minimum":
        require(test.templates, "kind: minimum needs templates.")
        require(wanted or test.label is not None, "kind: minimum needs label, not_label, at_least or at_most.")
        require(test.label is None or test.not_label is None, "label and not_label: give one of the two.")
        require(test.not_label is None or len(wanted) == 1, "bounds are of a label's probability: give label.")
    else:
        require(test.perturb, f"kind: {test.kind} needs perturb.")
        require(not wanted, f"{', '.join(wanted)}: only of kind: minimum.")
    if test.kind == "direction":
        require(test.moves, "kind: direction needs moves: up or down.")
    else:
        require(test.moves is None and test.tolerance is None, "moves and tolerance are only of kind: direction.")
    require(test.kind != "invariance" or test.label is None, "label is not of kind: invariance.")


def change_of(test: Behaviour, lexicons: dict[str, list[str]], kept: tuple[str, ...] = ()) -> perturb.Change | None:
    """How a test changes texts; None: not at all.

    Args:
        test: of a suite with these lexicons.
        lexicons: words by name.
        kept: parts of texts that stay as they are.
    """
    name, words = test.perturb, lexicons[test.words] if test.words else ()
    if name is None:
        return None
    if name == "add":
        return perturb.add(test.phrases, test.where == "end")
    if name in ("whitespace", "punctuation"):
        # They take nothing away from what is inside a text.
        return perturb.TEXTS[name]
    if name == "swap":
        change = perturb.swap(words)
    elif name == "replace":
        change = perturb.replace(test.pairs)
    else:
        change = perturb.TEXTS[name] if name in perturb.TEXTS else perturb.in_words(perturb.WORDS[name], words)
    return perturb.sparing(change, kept)


def _first(*values: float | None) -> float | None:
    return next((value for value in values if value is not None), None)


def _listed(names) -> str:
    return ", ".join(sorted(names))
