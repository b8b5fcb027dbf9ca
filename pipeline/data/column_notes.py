"""What the columns beside text and target do to a run, for its reader and for its fingerprint."""

from dataclasses import replace
from typing import Any

import numpy as np

from pipeline.data.extra_columns import GROUP, LANGUAGE, TIME, WEIGHT, shown_names
from pipeline.data.sampling import quotas
from pipeline.data.split import Split
from pipeline.errors import UserError

LANGUAGES_SHOWN = 12


def without_weightless(train: Split) -> tuple[Split, list[str]]:
    """The training rows without those of weight 0, which would teach nothing, and a note that counts these.

    Raises:
        UserError: no row has a weight.
    """
    if train.weights is None:
        return train, []
    weighty = train.weights > 0
    column = train.store.columns[WEIGHT].column
    if not weighty.any():
        raise UserError(f"data.weight_column {column!r}: all {len(train)} training rows have the weight 0.")
    if weighty.all():
        return train, []
    left_out, rows = int((~weighty).sum()), len(train)
    are = "has" if left_out == 1 else "have"
    note = (
        f"{left_out} of {rows} training rows {are} the weight 0 in data.weight_column {column!r}: left out of training."
    )
    return replace(train, rows=train.rows[weighty]), [note]


def language_note(train: Split) -> list[str]:
    """How many rows of each language an epoch draws, where that is not their number."""
    if train.temperature == 1:
        return []
    names, counts = shown_names(train.store.columns[LANGUAGE].names), np.bincount(train.extra(LANGUAGE))
    drawn = quotas(counts, train.temperature)
    order = [code for code in np.argsort(-counts, kind="stable") if counts[code]]
    shown = [f"{names[code]} {drawn[code]} (has {counts[code]})" for code in order[:LANGUAGES_SHOWN]]
    more = f", and {len(order) - LANGUAGES_SHOWN} more languages" if len(order) > LANGUAGES_SHOWN else ""
    return [f"rows that an epoch draws at data.language_temperature {train.temperature:g}: {', '.join(shown)}{more}."]


def column_numbers(split: Split) -> dict[str, Any]:
    """Numbers about the columns, for the report."""
    found, columns = {}, split.store.columns
    if GROUP in columns:
        found["groups"] = len(np.unique(split.extra(GROUP)))
    if TIME in columns:
        times = split.extra(TIME)
        found |= {"oldest": columns[TIME].shown(times.min()), "newest": columns[TIME].shown(times.max())}
    if LANGUAGE in columns:
        codes, counts = np.unique(split.extra(LANGUAGE), return_counts=True)
        names = shown_names(columns[LANGUAGE].names)
        found["languages"] = {names[code]: int(count) for code, count in zip(codes, counts, strict=True)}
    return found


def column_digests(split: Split) -> list[str]:
    """What changes with any cell that decides which rows are trained on, how often and how much; empty without such
    columns."""
    roles = [GROUP, TIME, WEIGHT] + ([LANGUAGE] if split.temperature != 1 else [])
    return [f"{role}={split.store.columns[role].digest[:16]}" for role in roles if role in split.store.columns]
