"""Thick slices: each coarse voxel integrates the fine ones under the profile that the slice was excited with.

Lengths are in coarse voxels, the distance from slice to slice, so thickness and gap sum to 1; a thickness above 1
means that slices overlap. `box` is the ideal profile (and a CT's nominal one), `gaussian` has the thickness as its full
width at half maximum, `sinc` is what a radio-frequency pulse gives that is a sinc cut off after `lobes` zero crossings
on either side: a box with soft edges and ripples, by the small-tip-angle Fourier transform of the pulse.

Reference: Pauly, Nishimura and Macovski 1989, DOI 10.1016/0022-2364(89)90265-5
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from geomedsr.degradations._axis import reduce_axis
from geomedsr.degradations._degradation import Degradation, Separable
from geomedsr.degradations._noise import Noise, NoiseSetting
from geomedsr.degradations._range import Range, Setting

__all__ = ["SliceProfile", "build"]

_ENDS = {"box": 0.5, "gaussian": 1.7, "sinc": 2.0}
"""How far from its centre each profile is followed, in thicknesses: to its end, four sigma, and the third ripple."""

_STEPS = 512
_LARGEST_FACTOR = 8


class SliceProfile(Separable):
    """A slice profile on every axis with a factor above 1, then Rician noise.

    Give `thickness` or `gap`, not both; without either the slices touch.
    """

    def __init__(
        self,
        profile: str = "gaussian",
        thickness: Setting | None = None,
        gap: Setting | None = None,
        lobes: Setting = 3.0,
        noise: NoiseSetting = 0.0,
    ) -> None:
        if profile not in _ENDS:
            raise ValueError(f"profile is one of {', '.join(_ENDS)}; got {profile}")
        self.profile = profile
        self.thickness = _thickness(thickness, gap)
        self.lobes = Range.of("lobes", lobes, 1, 10)
        self.ranges = (self.thickness, self.lobes) if profile == "sinc" else (self.thickness,)
        self.noise = Noise.of(noise, "rician")
        self.reach = self._margin(_LARGEST_FACTOR)

    def along(self, x: Tensor, axis: int, factor: int, rng: torch.Generator) -> Tensor:
        """The batch with one axis made coarse."""
        drawn = (torch.as_tensor(one.draw(x.shape[0], rng), device=rng.device).double() for one in self.ranges)
        return reduce_axis(x, axis, factor, self._taps(factor, *(value.reshape(-1, 1) for value in drawn)))

    def _margin(self, factor: int) -> int:
        """How many fine voxels beyond its own a slice looks at."""
        return max(0, math.ceil((_ENDS[self.profile] * self.thickness.high - 0.5) * factor - 1e-9))

    def _taps(self, factor: int, thickness: Tensor, lobes: Tensor | None = None) -> Tensor:
        """The share of each fine voxel: what of the profile lies inside it.

        Shape: (B, 1) both to (B, 1, K)
        """
        width = factor + 2 * self._margin(factor)
        edges = (torch.arange(width + 1, dtype=torch.float64, device=thickness.device) - width / 2) / factor
        below = _below(self.profile, edges / thickness, lobes)
        taps = below.diff(dim=-1)
        return (taps / taps.sum(-1, keepdim=True))[:, None]


def _thickness(thickness: Setting | None, gap: Setting | None) -> Range:
    if thickness is not None and gap is not None:
        raise ValueError("thickness and gap say the same, as they sum to the distance of slices, 1; give one of them")
    if gap is not None:
        left = Range.of("gap", gap, 0, 0.95)
        return Range(1 - left.high, 1 - left.low)
    return Range.of("thickness", 1.0 if thickness is None else thickness, 0.05, 4)


def _below(profile: str, place: Tensor, lobes: Tensor | None) -> Tensor:
    """The profile's integral from its centre to `place`, in thicknesses.

    Shape: place (B, N), lobes (B, 1)
    """
    if profile == "box":
        return place.clamp(-0.5, 0.5)
    if profile == "gaussian":
        return 0.5 * torch.erf(2 * math.sqrt(math.log(2)) * place)
    assert lobes is not None
    # The pulse is sinc(t) for |t| <= lobes; its Fourier transform is integrated over place under the sum over time.
    time = lobes * (torch.arange(_STEPS, dtype=torch.float64, device=place.device) + 0.5) / _STEPS
    waves = place[..., None] * torch.sinc(2 * time[:, None] * place[..., None])
    return 2 * lobes * (torch.sinc(time)[:, None] * waves).mean(-1)


def build(**settings: Any) -> Degradation:  # noqa: ANN401 - JSON values
    """The degradation of a recipe."""
    return SliceProfile(**settings)
