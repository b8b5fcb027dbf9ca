"""Texts out of templates: {name} becomes each word of the lexicon of that name. No TensorFlow."""

import math
from collections.abc import Mapping, Sequence
from random import Random

from pipeline.behave.suite import PLACE


def filled(
    templates: Sequence[str | list[str]], lexicons: Mapping[str, Sequence[str]], count: int, seed: str
) -> list[tuple[str, ...]]:
    """At most about `count` different rows of texts, as many of each template where it has so many.

    Args:
        templates: a text, or a list of the texts of a row; the same name stands for the same word in all of them.
        lexicons: words by name.
        count: of rows; each template has at least one.
        seed: decides which, where there are more.

    Example:
        filled(["{who} is {what}."], {"who": ["She", "He"], "what": ["kind"]}, 10, "")
        [("She is kind.",), ("He is kind.",)]
    """
    found: dict[tuple[str, ...], None] = {}
    each, chance = max(1, count // len(templates)), Random(seed)
    for template in templates:
        texts = [template] if isinstance(template, str) else template
        names = list(dict.fromkeys(name for text in texts for name in PLACE.findall(text)))
        sizes = [len(lexicons[name]) for name in names]
        total = math.prod(sizes)
        for number in sorted(chance.sample(range(total), min(each, total))):
            words = {}
            for name, size in zip(names, sizes, strict=True):
                number, which = divmod(number, size)
                words[name] = lexicons[name][which]
            found[tuple(PLACE.sub(lambda match, words=words: words[match.group(1)], text) for text in texts)] = None
    return list(found)
