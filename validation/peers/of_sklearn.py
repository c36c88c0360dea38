"""scikit-learn 1.9: its densities, fitted to a fixed sample. No transforms: `score_samples` and `sample`."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from item import Item, collector, on
from sklearn.mixture import BayesianGaussianMixture, GaussianMixture
from sklearn.neighbors import KernelDensity

D = 2


def items() -> Iterable[Item]:
    items, add = collector("scikit-learn")
    for family in (mixtures, kernels):
        family(add)
    return items


def data() -> Any:
    rng = np.random.default_rng(0)
    return np.concatenate([rng.normal(size=(150, D)), 0.5 * rng.normal(size=(150, D)) + 3.0])


def mixtures(add: Callable[..., None]) -> None:
    for kind in (GaussianMixture, BayesianGaussianMixture):
        for covariance in ("full", "tied", "diag", "spherical"):
            add(
                f"{kind.__name__}, covariance_type={covariance}",
                lambda k=kind, c=covariance: k(n_components=2, covariance_type=c, random_state=0).fit(data()),
                on((D,)),
                "an integer random_state repeats the same samples at each call; they are grouped by component",
            )


def kernels(add: Callable[..., None]) -> None:
    for kernel in ("gaussian", "tophat", "epanechnikov", "exponential", "linear", "cosine"):
        add(
            f"KernelDensity, kernel={kernel}",
            lambda k=kernel: KernelDensity(kernel=k, bandwidth=0.8).fit(data()),
            on((D,)),
            "sample: 'Currently, this is implemented only for gaussian and tophat kernels.'",
        )
    for metric in ("manhattan", "chebyshev"):
        add(
            f"KernelDensity, metric={metric}",
            lambda m=metric: KernelDensity(metric=m, bandwidth=0.8).fit(data()),
            on((D,)),
            "docstring: 'the normalization of the density output is correct only for the Euclidean distance metric'",
        )
