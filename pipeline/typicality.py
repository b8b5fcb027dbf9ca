"""How well a text fits what a model was trained on: where its pooled vector lies among those of the training rows.

Lee, Lee, Lee and Shin, 2018 (arXiv:1807.03888): the Mahalanobis distance to the nearest class mean, under one
covariance of all rows about the means of their classes; of tasks without classes, to one mean. The covariance is shrunk
(Ledoit and Wolf, 2004), for there may be fewer rows than dimensions. What a distance means is told by rows that nothing
was trained on: `fit` is the conformal p-value of a text, the share of those rows that lie at least as far away. Of
texts of their kind at most a share s then has a fit of s or less (Bates et al., 2023).
"""

from dataclasses import dataclass

import numpy as np

from pipeline.tasks.targets import Groups

# More training rows change the means and the covariance less than they take time.
MOST_ROWS = 20_000
# Points at which the distances of held-out rows are kept; between them the fit is interpolated.
MOST_POINTS = 1000


@dataclass(frozen=True)
class Typicality:
    """Statistics of vectors, and what follows for others.

    Attributes:
        mean: float64 [H], of the training rows.
        whitening: float64 [H, H]; vectors less `mean`, times it, have the identity as covariance within classes.
        centers: float64 [M, H], the means of the classes, whitened.
        distances, fits: float64 [P], rising squared distances and the falling fit at each; between them it is a line,
            which is never below the p-value.
        rows: of how many training rows, and of how many held-out ones.
    """

    mean: np.ndarray
    whitening: np.ndarray
    centers: np.ndarray
    distances: np.ndarray
    fits: np.ndarray
    rows: tuple[int, int]

    def squared_distances(self, vectors: np.ndarray) -> np.ndarray:
        """float64 [n], to the nearest center, of vectors, float [n, H]."""
        return _nearest((vectors.astype(np.float64) - self.mean) @ self.whitening, self.centers)

    def fit_of(self, vectors: np.ndarray) -> np.ndarray:
        """float64 [n], from 0 to 1, of vectors, float [n, H]."""
        found = self.squared_distances(vectors)
        last, least = self.distances[-1], 1 / (self.rows[1] + 1)
        beyond = least + (self.fits[-1] - least) * last / np.maximum(found, last)
        inside = np.interp(found, np.append(0.0, self.distances), np.append(1.0, self.fits))
        return np.where(found > last, beyond, inside)


def find_typicality(vectors: np.ndarray, groups: Groups, held_out: np.ndarray) -> Typicality:
    """The statistics of a trained model's pooled vectors.

    Args:
        vectors: float32 [n, H], of training rows.
        groups: of these rows; where each has one, classes are told apart.
        held_out: float32 [m, H], of rows that nothing was trained on.
    """
    vectors = vectors.astype(np.float64)
    mean = vectors.mean(axis=0)
    centred = vectors - mean
    classes = groups.members if (groups.counts == 1).all() else np.zeros(len(vectors), np.int64)
    known, place = np.unique(classes, return_inverse=True)
    centers = np.zeros((len(known), vectors.shape[1]))
    np.add.at(centers, place, centred)
    centers /= np.bincount(place)[:, np.newaxis]
    whitening = _whitening(centred - centers[place])
    found = Typicality(mean, whitening, centers @ whitening, np.zeros(1), np.ones(1), (len(vectors), len(held_out)))
    distances, fits = _points(np.sort(found.squared_distances(held_out)))
    return Typicality(mean, whitening, found.centers, distances, fits, found.rows)


def _whitening(residuals: np.ndarray) -> np.ndarray:
    """[H, H], which makes the covariance of residuals, [n, H] with mean 0, the identity."""
    from sklearn.covariance import ledoit_wolf

    covariance, _ = ledoit_wolf(residuals, assume_centered=True)
    values, directions = np.linalg.eigh(covariance)
    # A dimension in which nothing varies says nothing, not everything.
    least = max(values[-1], np.finfo(float).tiny) * 1e-6
    return directions / np.sqrt(np.maximum(values, least))


def _nearest(points: np.ndarray, centers: np.ndarray) -> np.ndarray:
    squares = (points**2).sum(axis=1)[:, np.newaxis] - 2 * points @ centers.T + (centers**2).sum(axis=1)
    return squares.min(axis=1).clip(0)


def _points(ordered: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """At most MOST_POINTS of n ordered distances with the fit at each: at a distance, the share of the n, and the row
    itself, that lie as far or farther; where points are left out, as much as at the first of these."""
    kept = np.unique(np.linspace(0, len(ordered) - 1, min(len(ordered), MOST_POINTS)).astype(int))
    # Of equal distances the first, whose fit is the largest.
    kept = kept[np.append(True, np.diff(ordered[kept]) > 0)]
    before = np.append(0, kept[:-1] + 1)
    return ordered[kept], (len(ordered) - before + 1) / (len(ordered) + 1)
