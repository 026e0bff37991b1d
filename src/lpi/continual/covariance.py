"""The covariance that all tasks have in common, from sums alone: what the metric `mahalanobis` measures with."""

from typing import Any

from lpi.continual.keys import TaskKeys

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating[Any]]
Doubles = npt.NDArray[np.float64]

LEAST = 1e-10  # mean squared length of the deviations (of features of unit length) below which they are rounding errors


def oas_shrinkage(covariance: Floats, count: int) -> float:
    """Share of the identity that Oracle Approximating Shrinkage mixes in (Chen et al., 2010), always above zero.

    Depends on the covariance and the number of samples only. As in scikit-learn, without the paper's terms in 2 / E.

    Args:
        covariance: (E, E) of deviations from a known centre; not zero.
        count: of the deviations that it was made of.
    """
    squares, mean_square = float(np.mean(covariance**2)), (np.trace(covariance) / len(covariance)) ** 2
    excess = (count + 1) * (squares - mean_square / len(covariance))
    return float(min(1.0, (squares + mean_square) / excess)) if excess > 0 else 1.0


class CommonCovariance:
    """The shrunk covariance of the deviations of all tasks' features from their own centres, task after task.

    Of a task only its sums are needed (`TaskKeys`), and they are added up: 8 E² bytes, however many tasks there are.

    Args:
        width: E.
    """

    def __init__(self, width: int):
        self._scatter, self._count = np.zeros((width, width)), 0

    def add(self, keys: TaskKeys) -> None:
        """One more task."""
        self._scatter += keys.scatter
        self._count += keys.count

    def shrunk(self) -> Doubles:
        """(E, E), positive definite; the identity where no feature deviates from its centre."""
        covariance: Doubles = self._scatter / max(1, self._count)
        mean = np.trace(covariance) / len(covariance)
        identity = np.eye(len(covariance))
        if mean * len(covariance) < LEAST:
            return identity
        share = oas_shrinkage(covariance, self._count)
        shrunk: Doubles = (1 - share) * covariance + share * mean * identity
        return shrunk

    def whitening(self) -> Doubles:
        """(E, E) W, so that |x W| is the Mahalanobis length of x."""
        whitening: Doubles = np.linalg.inv(np.linalg.cholesky(self.shrunk())).T
        return whitening
