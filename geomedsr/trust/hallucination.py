"""Detail that the input cannot support.

What an instrument cannot see of an output (its part in the null space of the degradation) is the network's word alone.
A network that was taught well says more where its input is busy and little where it is calm; how much, is learnt from
its outputs for held-out images. Where an output says more than that, or where the instrument would have shown in the
input what is not there, detail may have been invented.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from geomedsr.image import Voxels
from geomedsr.networks._consistency import Projection
from geomedsr.networks._network import Network
from geomedsr.trust.consistency import wider
from geomedsr.trust.instrument import Instrument
from geomedsr.trust.local import activity, looks, power

__all__ = ["Evidence", "Habit", "Habits", "Split", "Surprise", "fit_habits", "split"]

_SIGMA, _WIDE = 1.0, 1.5
_FLOOR = 1e-4


class Evidence(nn.Module):
    """What speaks for invention in a fine image, given the coarse one, as logarithms.

    In this order: how busy the input is there; how much of the output the instrument cannot see; how much of what it
    would see is not in the input.

    Shape: sr (B, C, *(S * factor)), lr (B, C, *S) to (B, C, *(S * factor), 3)
    """

    def __init__(self, instrument: Instrument) -> None:
        super().__init__()
        self.projection = Projection(instrument.matrix, instrument.factor)

    def forward(self, sr: Tensor, lr: Tensor) -> Tensor:
        """The three logarithms."""
        unseen = self.projection(sr, torch.zeros_like(lr))
        supported = self.projection(torch.zeros_like(sr), lr)
        missing = supported - (sr - unseen)
        parts = (activity(supported, _WIDE), power(unseen, _SIGMA), power(missing, _SIGMA))
        return torch.stack([(part + _FLOOR).log() for part in parts], -1)


@dataclass(frozen=True, slots=True)
class Habit:
    """How a logarithm goes with that of the input's activity in held-out outputs: a line, and the distance from it."""

    slope: float
    offset: float
    deviation: float

    def surprise(self, busy: Tensor, found: Tensor) -> Tensor:
        """By how many standard deviations it is more than usual."""
        return (found - (busy * self.slope + self.offset)) * (1.0 / self.deviation)

    def to_json(self) -> dict[str, Any]:
        """The numbers as JSON holds them."""
        return {"slope": self.slope, "offset": self.offset, "deviation": self.deviation}

    @classmethod
    def of(cls, values: dict[str, Any]) -> Habit:
        """The numbers out of JSON."""
        return cls(float(values["slope"]), float(values["offset"]), float(values["deviation"]))


@dataclass(frozen=True, slots=True)
class Habits:
    """What a model usually adds that its instrument cannot see, and what it usually adds against its input."""

    unseen: Habit
    missing: Habit

    def surprise(self, evidence: Tensor) -> Tensor:
        """The more surprising of the two, in standard deviations.

        Shape: (..., 3) to (...)
        """
        busy, unseen, missing = evidence.unbind(-1)
        return torch.maximum(self.unseen.surprise(busy, unseen), self.missing.surprise(busy, missing))


class Surprise(Network):
    """A network that gives, in place of the finer image, how surprising its detail is."""

    def __init__(self, network: Network, instrument: Instrument, habits: Habits) -> None:
        super().__init__(network.task, **network.settings)
        self.network, self.evidence, self.habits = network, Evidence(instrument), habits
        self.multiple_of = network.multiple_of
        self.reach = wider(wider(network.reach, instrument.reach), looks((_WIDE, _WIDE), network.task.factor))

    def forward(self, x: Tensor) -> Tensor:
        """The surprise, in standard deviations."""
        return self.habits.surprise(self.evidence(self.network(x).float(), x))


def fit_habits(evidence: Tensor) -> Habits:
    """The habits that held-out outputs show.

    Shape: evidence (N, 3)
    """
    busy, unseen, missing = evidence.double().unbind(-1)
    return Habits(_fit(busy, unseen), _fit(busy, missing))


def _fit(busy: Tensor, found: Tensor) -> Habit:
    known = torch.stack([busy, torch.ones_like(busy)], 1)
    slope, offset = torch.linalg.lstsq(known, found[:, None]).solution[:, 0].tolist()
    deviation = float((found - (busy * slope + offset)).std())
    return Habit(slope, offset, max(deviation, 1e-6))


@dataclass(frozen=True, slots=True)
class Split:
    """The share of the voxels that an output improved, that it left as blurred as they were, and that it invented."""

    improvement: float
    omission: float
    hallucination: float
    voxels: int


def split(
    lr_up: Voxels, sr: Voxels, hr: Voxels, *, softness: float = 0.8, least: float | None = None
) -> tuple[Split, NDArray[np.float32]]:
    """Which of three things an output did at each voxel, given the truth: 0 improvement, 1 omission, 2 hallucination.

    The distances are mean absolute differences over the channels: of the coarse image, interpolated to the fine grid,
    from the truth (d_ref), of the output from the truth (d_im) and from the interpolated image (d_om). In units of
    d_ref the three scores are d_im + d_om (1 - exp(-s h)), d_om + d_im (1 - exp(-s h)) and exp(-s d_im d_om) with
    h = d_im + d_om - 1 and s the `softness`; the smallest of them names the voxel. Voxels at which all distances are
    at most `least` do not count and are NaN (default: the three quarters of the image that interpolation gets most
    nearly right).

    Shape: (C, *S) each to *S
    Reference: Aybar et al. 2024, DOI 10.1109/LGRS.2024.3401394 (opensr-test)

    Example:
        >>> hr = np.zeros((1, 1, 4), np.float32) + np.float32([0, 8, 8, 8])
        >>> lr_up = np.float32([[[0, 4, 4, 4]]])
        >>> sr = np.float32([[[0, 8, 4, -9]]])
        >>> shares, classes = split(lr_up, sr, hr, least=0)
        >>> classes.tolist()
        [[nan, 0.0, 1.0, 2.0]]
    """
    reference, improving, omitting = (np.abs(a - b).mean(0) for a, b in ((lr_up, hr), (sr, hr), (sr, lr_up)))
    known = np.isfinite(reference) & np.isfinite(improving) & np.isfinite(omitting)
    if least is None:
        least = float(np.quantile(reference[known], 0.75)) if known.any() else 0.0
    counted = known & (np.maximum(np.maximum(reference, improving), omitting) > least)
    scale = np.maximum(reference[counted], np.finfo(np.float32).tiny).astype(np.float64)
    near, far = improving[counted] / scale, omitting[counted] / scale
    bend = 1 - np.exp(-softness * np.maximum(near + far - 1, 0))
    with np.errstate(over="ignore"):
        scores = np.stack([near + far * bend, far + near * bend, np.exp(-softness * near * far)])
    classes = np.full(reference.shape, np.nan, np.float32)
    classes[counted] = scores.argmin(0)
    total = max(int(counted.sum()), 1)
    improvement, omission, hallucination = (float((classes == kind).sum() / total) for kind in range(3))
    return Split(improvement, omission, hallucination, int(counted.sum())), classes
