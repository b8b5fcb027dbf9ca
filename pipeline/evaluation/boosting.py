"""Rows of columns as gradient boosting takes them, alone and with what TF-IDF makes of the texts."""

from collections.abc import Callable
from typing import Any

import numpy as np

from pipeline.data.split import Split
from pipeline.features.columns import Category, Column, Date, Number, Vector

# Categories of a column, the most that the trees take; dimensions that are left of TF-IDF's.
MOST_CODES, DIMENSIONS = 254, 64


def column_matrix(train: Split, columns: tuple[Column, ...]) -> Callable[[Split], np.ndarray]:
    """From the rows of a split to float64 [n, F], NaN where a cell is missing or a category is not known.

    Numbers are as they are, dates days since 1970, and categories their places among the most frequent of the training
    rows, by how often they are there.
    """
    codes = {}
    for column, cells in zip(columns, train.beside(), strict=True):
        if isinstance(column, Category):
            names, counts = np.unique(cells[cells != b""], return_counts=True)
            common = names[np.argsort(-counts, kind="stable")][:MOST_CODES]
            codes[column.name] = {name: float(code) for code, name in enumerate(common)}

    def values(column: Column, cells: np.ndarray) -> np.ndarray:
        if isinstance(column, Number):
            return np.array([[float(cell) if cell else np.nan] for cell in cells])
        if isinstance(column, Category):
            return np.array([[codes[column.name].get(cell, np.nan)] for cell in cells])
        if isinstance(column, Date):
            days = [np.datetime64(cell.decode(), "s") if cell else np.datetime64("NaT") for cell in cells]
            seconds = np.array(days, "datetime64[s]")
            return np.where(np.isnat(seconds), np.nan, seconds.astype(np.int64) / 86400)[:, np.newaxis]
        assert isinstance(column, Vector)
        return np.array([cell.split() if cell else [np.nan] * column.size for cell in cells], np.float64)

    def matrix(split: Split) -> np.ndarray:
        found = zip(columns, split.beside(), strict=True)
        return np.concatenate([values(*pair).reshape(len(split), -1) for pair in found], axis=1)

    return matrix


def with_texts(columns: list[np.ndarray], texts: list[Any], seed: int = 0) -> list[np.ndarray]:
    """Matrices of rows, float64 [n, F], with DIMENSIONS of TF-IDF's behind them.

    Args:
        columns: of `column_matrix`, the training rows' first.
        texts: of the same rows, sparse.
        seed: of the decomposition, which is the training rows'.
    """
    from sklearn.decomposition import TruncatedSVD

    size = min(DIMENSIONS, min(texts[0].shape) - 1)
    if size < 1:
        return columns
    reduced = TruncatedSVD(size, random_state=seed).fit(texts[0])
    return [np.concatenate([own, reduced.transform(text)], axis=1) for own, text in zip(columns, texts, strict=True)]
