"""Interpolation as a network without weights: the baselines, and the skip that the others correct.

Each output voxel is a fixed weighted sum of its neighbours, computed as separate multiplications and additions of
shifted slices: every voxel sees the same operations in the same order wherever it lies, so a tile gives the same bits
as the whole image. (`torch.nn.functional.interpolate` computes positions from the index and does not.)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from geomedsr.grid import Factor
from geomedsr.networks._network import Network
from geomedsr.task import Task

__all__ = ["KERNELS", "Interpolate", "build", "upsample"]


def _nearest(t: float) -> float:
    return 1.0 if -0.5 < t <= 0.5 else 0.0


def _linear(t: float) -> float:
    return max(0.0, 1.0 - abs(t))


def _cubic(t: float) -> float:
    t = abs(t)
    if t < 1:
        return 1.5 * t**3 - 2.5 * t**2 + 1
    return -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2 if t < 2 else 0.0


def _lanczos(t: float) -> float:
    if t == 0:
        return 1.0
    return 3 * math.sin(math.pi * t) * math.sin(math.pi * t / 3) / (math.pi * t) ** 2 if abs(t) < 3 else 0.0


KERNELS: dict[str, tuple[Callable[[float], float], int]] = {
    "nearest": (_nearest, 0),
    "linear": (_linear, 1),
    "cubic": (_cubic, 2),
    "lanczos": (_lanczos, 3),
}
"""Each kernel and its support in input voxels: Keys 1981 (a = -1/2), DOI 10.1109/TASSP.1981.1163711, for cubic;
Lanczos of three lobes, normalised."""


@lru_cache(maxsize=64)
def phases(kernel: str, factor: int) -> tuple[tuple[tuple[int, float], ...], ...]:
    """For each of the `factor` places inside an input voxel: the neighbours' offsets and weights.

    Example:
        >>> phases("linear", 2)
        (((-1, 0.25), (0, 0.75)), ((0, 0.75), (1, 0.25)))
    """
    weight, support = KERNELS[kernel]
    table = []
    for phase in range(factor):
        place = (phase + 0.5) / factor - 0.5
        taps = [(k, weight(k - place)) for k in range(-support, support + 1)]
        total = sum(w for _, w in taps)
        table.append(tuple((k, w / total) for k, w in taps if abs(w) > 1e-12))
    return tuple(table)


def _upsample_axis(x: Tensor, axis: int, kernel: str, factor: int) -> Tensor:
    length, support = x.shape[axis], KERNELS[kernel][1]
    first, last = x.narrow(axis, 0, 1), x.narrow(axis, length - 1, 1)
    repeat = [-1] * x.ndim
    repeat[axis] = support
    padded = torch.cat([first.expand(repeat), x, last.expand(repeat)], axis) if support else x
    places = []
    for taps in phases(kernel, factor):
        terms = (padded.narrow(axis, support + k, length) * w for k, w in taps)
        total = next(terms)
        for term in terms:
            total = total + term
        places.append(total)
    return torch.stack(places, axis + 1).flatten(axis, axis + 1)


def upsample(x: Tensor, kernel: str, factor: Factor) -> Tensor:
    """The tensor with every axis `factor` times finer; the border voxels are repeated outwards.

    Shape: (B, C, *S) to (B, C, *(S * factor))
    """
    for axis, f in enumerate(factor, start=2):
        if f > 1:
            x = _upsample_axis(x, axis, kernel, f)
    return x


class Interpolate(Network):
    """Nearest, linear, cubic or Lanczos interpolation of each channel alone."""

    def __init__(self, task: Task, kernel: str = "cubic") -> None:
        if kernel not in KERNELS:
            raise ValueError(f"The interpolation '{kernel}' is not known; known are {', '.join(KERNELS)}.")
        super().__init__(task, kernel=kernel)
        self.kernel = kernel
        support = KERNELS[kernel][1]
        self.reach = tuple(support if f > 1 else 0 for f in task.factor)

    def forward(self, x: Tensor) -> Tensor:
        """The finer image."""
        return upsample(x, self.kernel, self.task.factor)


def build(task: Task, **settings: Any) -> Network:  # noqa: ANN401 - JSON values
    """The network of a task."""
    return Interpolate(task, **settings)
