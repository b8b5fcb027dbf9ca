"""Which texts to label: unlike each other, and such that the model is unsure of them."""

import numpy as np

# Times as many texts as are asked for: the least sure of all, of which k-means takes some of every kind
# (Zhdanov, 2019: Diverse mini-batch Active Learning).
CANDIDATES = 10
# k-means of more takes longer than people wait for it.
MOST_ROWS = 20_000


def choose(vectors: np.ndarray, count: int, seed: int, unsure: np.ndarray | None = None) -> np.ndarray:
    """int64 [count]: a row of every cluster of k-means. Where nothing is known of them, the one nearest to its centre,
    the largest cluster's first; else, of clusters of the least sure rows, the least sure one, in that order.

    Args:
        vectors: float32 [n, hidden].
        count: n at most.
        seed: of k-means, and of the sample where there are very many rows.
        unsure: float [n], the larger the less sure; None: nothing is known.
    """
    if unsure is None:
        kept = min(len(vectors), MOST_ROWS)
        rows = np.sort(np.random.default_rng(seed).choice(len(vectors), kept, replace=False))
    else:
        rows = np.argsort(-unsure, kind="stable")[: min(CANDIDATES * count, MOST_ROWS)]
    count = min(count, len(rows))
    clusters, distances = _clusters(vectors[rows], count, seed)
    # The best of each cluster first.
    best = distances if unsure is None else -unsure[rows]
    order = np.lexsort((best, clusters))
    heads = order[np.flatnonzero(np.diff(clusters[order], prepend=-1))]
    if unsure is None:
        heads = heads[np.argsort(-np.bincount(clusters)[clusters[heads]], kind="stable")]
    else:
        heads = heads[np.argsort(best[heads], kind="stable")]
    # Of fewer different vectors there are fewer clusters.
    rest = np.setdiff1d(np.arange(len(rows)), heads)
    return rows[np.concatenate([heads, rest[np.argsort(best[rest], kind="stable")]])[:count]]


def _clusters(vectors: np.ndarray, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The cluster of each row, and its distance to the cluster's centre."""
    import warnings

    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        # There are fewer different vectors than clusters.
        warnings.simplefilter("ignore", ConvergenceWarning)
        # One start, which its default for k-means++ is.
        fitted = KMeans(count, random_state=seed).fit(vectors)
    clusters = np.asarray(fitted.labels_, np.int64)
    return clusters, np.linalg.norm(vectors - fitted.cluster_centers_[clusters], axis=1)


def unlike(vectors: np.ndarray, known: np.ndarray) -> np.ndarray:
    """float [n]: how far rows are from the nearest of others, [m, hidden]; stands for what a model cannot say of
    itself."""
    from sklearn.neighbors import NearestNeighbors

    return NearestNeighbors(n_neighbors=1).fit(known).kneighbors(vectors)[0][:, 0]
