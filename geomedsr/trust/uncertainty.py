"""How far an output may be off: half the width of an interval that holds the truth as often as it says.

Where a network is unsure, it gives another answer for a turned image, and where the image is busy, it errs more. From
both the half-width is learnt on held-out images, as a quantile of the error; then all of it is scaled so that the
interval held the truth of exactly that share of their voxels.

    half-width = scale * spread ** a * gradient ** b

Reference: Koenker and Bassett 1978, DOI 10.2307/1913643 (quantile regression); Romano, Patterson and Candès 2019,
arXiv:1905.03222 (conformalised); Wang et al. 2019, DOI 10.1016/j.neucom.2019.01.103 (spread under flips and turns)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from geomedsr.image import Voxels
from geomedsr.networks._network import Network
from geomedsr.task import Task
from geomedsr.trust.consistency import wider
from geomedsr.trust.local import blurred, gradient, looks

__all__ = ["LEVEL", "Answers", "Widening", "Widths", "coverage", "fit_widening", "turns_of"]

LEVEL = 0.9
"""The share of voxels that the interval holds the truth of."""

_SIGMA = 1.0
_FLOOR = 1e-4
"""In the network's units: what spread and gradient are at least, so that none is divided away."""

_SAMPLE = 200_000


@dataclass(frozen=True, slots=True)
class Turn:
    """A flip of some axes after, perhaps, the swap of the last two."""

    swap: bool
    flips: tuple[int, ...]

    def apply(self, x: Tensor) -> Tensor:
        """The turned batch."""
        return (x.transpose(-2, -1) if self.swap else x).flip(self.flips)

    def undo(self, x: Tensor) -> Tensor:
        """The batch turned back."""
        x = x.flip(self.flips)
        return x.transpose(-2, -1) if self.swap else x


def turns_of(task: Task, quarter: bool) -> list[Turn]:
    """All eight flips and turns of a plane (four without quarter turns), the eight flips of a volume; first, none.

    `quarter` turns are for networks that were taught with them, with one factor for both axes.
    """
    axes = range(2, 2 + task.ndim)
    swaps = (False, True) if quarter and task.ndim == 2 and len(set(task.factor)) == 1 else (False,)
    choices = product((False, True), repeat=task.ndim)
    flips = [tuple(axis for axis, chosen in zip(axes, choice, strict=True) if chosen) for choice in choices]
    return [Turn(swap, flip) for swap in swaps for flip in flips]


class Answers(nn.Module):
    """A network's output, and the logarithms of what its error is foretold by: spread under turns, and gradient.

    Shape: (B, C, *S) to (B, C, *(S * factor)) and (B, C, *(S * factor), 2)
    """

    def __init__(self, network: Network, quarter: bool) -> None:
        super().__init__()
        self.network, self.turns = network, turns_of(network.task, quarter)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Output and features."""
        sr: Tensor = self.network(x).float()
        total, square = torch.zeros_like(sr), torch.zeros_like(sr)
        for turn in self.turns[1:]:  # differences from the first answer: squares of the answers would cancel
            other = turn.undo(self.network(turn.apply(x).contiguous()).float()) - sr
            total, square = total + other, square + other.square()
        count = len(self.turns)
        variance = (square / count - (total / count).square()).clamp(min=0)
        spread = blurred(variance, _SIGMA).sqrt()
        return sr, torch.stack([(spread + _FLOOR).log(), (gradient(sr, _SIGMA) + _FLOOR).log()], -1)


@dataclass(frozen=True, slots=True)
class Widening:
    """The exponents of spread and gradient, and the logarithm of the scale, all in the network's units."""

    spread: float
    gradient: float
    scale: float
    quarter: bool

    def widths(self, features: Tensor) -> Tensor:
        """Half-widths of the interval.

        Shape: (..., 2) to (...)
        """
        return (features[..., 0] * self.spread + features[..., 1] * self.gradient + self.scale).exp()

    def to_json(self) -> dict[str, Any]:
        """The numbers as JSON holds them."""
        return {"spread": self.spread, "gradient": self.gradient, "scale": self.scale, "quarter": self.quarter}

    @classmethod
    def of(cls, values: dict[str, Any]) -> Widening:
        """The numbers out of JSON."""
        return cls(float(values["spread"]), float(values["gradient"]), float(values["scale"]), bool(values["quarter"]))


class Widths(Network):
    """A network that gives, in place of the finer image, half the width of the interval around it."""

    def __init__(self, network: Network, widening: Widening) -> None:
        super().__init__(network.task, **network.settings)
        self.answers, self.widening = Answers(network, widening.quarter), widening
        self.multiple_of = network.multiple_of
        reach = network.reach
        if reach is not None and any(turn.swap for turn in self.answers.turns):
            reach = (max(reach),) * len(reach)
        self.reach = wider(reach, looks((_SIGMA,), network.task.factor, more=1))

    def forward(self, x: Tensor) -> Tensor:
        """The half-widths, in the network's units."""
        return self.widening.widths(self.answers(x)[1])


def coverage(sr: Voxels, hr: Voxels, widths: Voxels) -> float:
    """The share of the voxels, among those that are valid in all three, whose interval holds the truth.

    Example:
        >>> one = np.ones((1, 4), np.float32)
        >>> coverage(one, one * np.float32([1, 2, 3, np.nan]), one)
        0.6666666666666666
    """
    valid = np.isfinite(sr) & np.isfinite(hr) & np.isfinite(widths)
    return float((np.abs(hr - sr) <= widths)[valid].mean()) if valid.any() else float("nan")


def fit_widening(features: Tensor, errors: Tensor, quarter: bool, level: float = LEVEL) -> Widening:
    """What makes the interval hold the truth of a share `level` of the voxels, wherever they lie.

    Shape: features (N, 2), errors (N,), not negative
    """
    chosen = _sample(len(errors))
    known = torch.cat([features[chosen], torch.ones(len(chosen), 1)], 1).double()
    wanted = (errors[chosen].double() + 1e-9).log()
    weights = _quantile_regression(known, wanted, level)
    for feature in (0, 1):  # a greater spread or gradient never means a smaller error, though few images may say so
        if weights[feature] < 0:
            known[:, feature] = 0
            weights = _quantile_regression(known, wanted, level).clamp(min=torch.tensor([0.0, 0.0, -math.inf]))
    first = Widening(float(weights[0]), float(weights[1]), float(weights[2]), quarter)
    ratio = errors.double() / first.widths(features.double())
    rank = min(math.ceil((len(ratio) + 1) * level), len(ratio))
    scale = first.scale + math.log(float(ratio.kthvalue(rank).values))
    return Widening(first.spread, first.gradient, scale, quarter)


def _sample(count: int) -> Tensor:
    return torch.randperm(count, generator=torch.Generator().manual_seed(0))[:_SAMPLE]


def _quantile_regression(known: Tensor, wanted: Tensor, level: float) -> Tensor:
    """The linear function that lies above a share `level` of the wanted values."""
    start = known.abs().amax(0).sign() * torch.tensor([0.5, 0.5, 0.0], dtype=torch.float64)
    weights = start.requires_grad_()
    optimizer = torch.optim.LBFGS([weights], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        rest = wanted - known @ weights
        value = torch.maximum(level * rest, (level - 1) * rest).mean()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    with torch.enable_grad():
        optimizer.step(loss)  # type: ignore[no-untyped-call]
    return weights.detach()
