"""One of several degradations, drawn anew for each image: no one way of becoming coarse can be relied on.

The first of them is the nominal one: the instrument that the model's outputs are held against.

Reference: Zhang et al. 2021, "Designing a practical degradation model for deep blind image super-resolution",
    DOI 10.1109/ICCV48922.2021.00475, whose shuffled chains this is the simplest case of
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from geomedsr import registry
from geomedsr.degradations._degradation import Degradation
from geomedsr.degradations._noise import Noise, NoiseSetting
from geomedsr.grid import Factor

__all__ = ["Mixture", "build"]


class Mixture:
    """Each image of a batch is degraded by one of `of`, taken in proportion to `shares` (all alike), then noise.

    `of` lists degradations by name, each with its own settings. A GPU runs all of them on the whole batch, so that
    nothing is waited for to know which image takes which; the processor knows, and runs each on its images alone.
    """

    def __init__(
        self,
        of: Sequence[Mapping[str, Any]] = ({"name": "kspace"}, {"name": "blind"}),
        shares: Sequence[float] | None = None,
        noise: NoiseSetting = 0.0,
    ) -> None:
        self.parts = tuple(_part(one) for one in of)
        shares = [1.0] * len(self.parts) if shares is None else shares
        if not self.parts or len(shares) != len(self.parts) or min(shares) <= 0:
            raise ValueError(f"of and shares are lists of one length, each share above 0; got {len(of)} and {shares}")
        self.bounds = [sum(shares[:number]) / sum(shares) for number in range(1, len(shares))]
        reaches = [part.reach for part in self.parts]
        self.reach = None if None in reaches else max(reach for reach in reaches if reach is not None)
        self.noise = Noise.of(noise, "gaussian")

    def __call__(self, hr: Tensor, factor: Factor, rng: torch.Generator) -> Tensor:
        """The coarse batch."""
        drawn = torch.rand(hr.shape[0], generator=rng, device=rng.device).to(hr.device)
        mixed = self._apart if hr.device.type == "cpu" else self._together
        return self.noise(mixed(hr, factor, rng, drawn), rng)

    def _together(self, hr: Tensor, factor: Factor, rng: torch.Generator, drawn: Tensor) -> Tensor:
        lr = self.parts[0](hr, factor, rng)
        for part, bound in zip(self.parts[1:], self.bounds, strict=True):
            chosen = (drawn >= bound).reshape(-1, *[1] * (hr.ndim - 1))
            lr = torch.where(chosen, part(hr, factor, rng), lr)
        return lr

    def _apart(self, hr: Tensor, factor: Factor, rng: torch.Generator, drawn: Tensor) -> Tensor:
        number = torch.bucketize(drawn, torch.tensor(self.bounds), right=True)
        images = [(number == one).nonzero().flatten() for one in range(len(self.parts))]
        lrs = [
            part(hr.index_select(0, own), factor, rng) for part, own in zip(self.parts, images, strict=True) if len(own)
        ]
        return torch.cat(lrs).index_select(0, torch.cat(images).argsort())


def _part(one: Mapping[str, Any]) -> Degradation:
    if not isinstance(one, Mapping) or "name" not in one:
        raise ValueError(f"of: each is a degradation with its name and settings; got {one}")
    settings = {key: value for key, value in one.items() if key != "name"}
    part: Degradation = registry.load("degradations", str(one["name"])).build(**settings)
    return part


def build(**settings: Any) -> Degradation:  # noqa: ANN401 - JSON values
    """The degradation of a recipe."""
    return Mixture(**settings)
