"""Fréchet's distance, by which pictures that nobody can call right or wrong are measured."""

import numpy as np

from training.data.dataset import Array


def distance(some: Array, others: Array) -> float:
    """Between the normal distributions with the means and covariances of two sets of features,
    (N, F) and (M, F): |m - m'|^2 + tr(C + C' - 2 (C C')^1/2). Of Inception's features it is the
    FID; it is 0 for sets with the same mean and covariance."""
    mean, covariance = _moments(some)
    other_mean, other_covariance = _moments(others)
    values, vectors = np.linalg.eigh(covariance)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    # The eigenvalues of C C' are those of this symmetric matrix; rounding puts some below 0.
    shared = np.linalg.eigvalsh(root @ other_covariance @ root).clip(0)
    spread = np.trace(covariance) + np.trace(other_covariance) - 2 * np.sqrt(shared).sum()
    return max(0.0, float(np.square(mean - other_mean).sum() + spread))


def _moments(features: Array) -> tuple[Array, Array]:
    wide = features.astype(np.float64)
    return wide.mean(axis=0), np.atleast_2d(np.cov(wide, rowvar=False))
