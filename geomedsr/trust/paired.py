"""What scores say together: means, and differences between methods on the same images with their 95 % intervals."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from geomedsr.trust.evaluation import Paired, Score, Summary

__all__ = ["interval", "paired", "summarised"]

_RESAMPLES = 9999
_LEVEL = 0.95
_ENOUGH = 5
"""From so many images on the bias-corrected and accelerated interval is taken; of fewer it makes little sense."""


def summarised(scores: Sequence[Score]) -> tuple[Summary, ...]:
    """Mean and standard deviation of each metric for each method, over the images on which it is finite."""
    found = []
    for method in _ordered(score.method for score in scores):
        mine = [score for score in scores if score.method == method]
        for metric in _ordered(name for score in mine for name in score.values):
            values = [v for score in mine if np.isfinite(v := score.values.get(metric, np.nan))]
            if values:
                found.append(Summary(method, metric, len(values), float(np.mean(values)), float(np.std(values))))
    return tuple(found)


def paired(scores: Sequence[Score], against: str, better: Mapping[str, str]) -> tuple[Paired, ...]:
    """The differences of every other method from `against`, image by image; `better` says which way is up."""
    base = {score.image: score.values for score in scores if score.method == against}
    found = []
    for method in _ordered(score.method for score in scores):
        mine = {score.image: score.values for score in scores if score.method == method}
        if method != against:
            for metric in _ordered(name for values in mine.values() for name in values):
                both = [(mine[i].get(metric, np.nan), base[i].get(metric, np.nan)) for i in mine if i in base]
                differences = np.array([a - b for a, b in both if np.isfinite(a) and np.isfinite(b)])
                if differences.size:
                    found.append(_paired(method, against, metric, differences, better[metric] == "higher"))
    return tuple(found)


def _paired(method: str, against: str, metric: str, differences: NDArray[np.float64], rises: bool) -> Paired:
    ahead = int((differences > 0).sum() if rises else (differences < 0).sum())
    mean = float(differences.mean())
    return Paired(method, against, metric, differences.size, mean, interval(differences), ahead)


def interval(differences: NDArray[np.float64]) -> tuple[float, float] | None:
    """The 95 % bootstrap interval of a mean, the same at every call; None for a single number.

    Reference: Efron 1987, DOI 10.1080/01621459.1987.10478410

    Example:
        >>> interval(np.array([1.0, 1.0, 1.0]))
        (1.0, 1.0)
    """
    from scipy.stats import bootstrap

    if differences.size < 2:
        return None
    if np.ptp(differences) == 0:
        return float(differences[0]), float(differences[0])
    found = bootstrap(
        (differences,),
        np.mean,
        n_resamples=_RESAMPLES,
        confidence_level=_LEVEL,
        method="BCa" if differences.size >= _ENOUGH else "percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return float(found.low), float(found.high)


def _ordered(names: Iterator[str]) -> list[str]:
    """Each name once, in the order in which they come."""
    return list(dict.fromkeys(names))
