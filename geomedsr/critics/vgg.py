"""SRGAN's critic: eight convolutions that halve the image four times, and two dense layers over what is left.

Reference: Ledig et al. 2017, arXiv:1609.04802
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from torch import Tensor, nn

from geomedsr.critics._critic import Critic, conv, norm

__all__ = ["VGGCritic", "build"]


class VGGCritic(Critic):
    """One logit for each image.

    `cells` is the side of what the dense layers see (others are averaged to it): 6 is the published network on patches
    of 96; by default 6 with two axes and 2 with three, where 6 would take 113 million weights.
    """

    smallest = 17

    def __init__(
        self,
        ndim: int,
        channels: int,
        width: int = 64,
        dense: int = 1024,
        cells: int | None = None,
        norm: str = "batch",
    ) -> None:
        super().__init__()
        cells = (6 if ndim == 2 else 2) if cells is None else cells
        if min(width, dense, cells) < 1:
            raise ValueError(f"width, dense and cells are at least 1, not {width}, {dense}, {cells}")
        widths = [width * 2**i for i in range(4)]
        layers: list[nn.Module] = [conv(ndim, channels, width), nn.LeakyReLU(0.2)]
        layers += _step(ndim, width, width, 2, norm)
        for before, after in pairwise(widths):
            layers += _step(ndim, before, after, 1, norm) + _step(ndim, after, after, 2, norm)
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(cells) if ndim == 2 else nn.AdaptiveAvgPool3d(cells)
        self.head = nn.Sequential(
            nn.Flatten(), nn.Linear(widths[-1] * cells**ndim, dense), nn.LeakyReLU(0.2), nn.Linear(dense, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        """A logit for each image."""
        logits: Tensor = self.head(self.pool(self.features(x)))
        return logits


def _step(ndim: int, inputs: int, outputs: int, stride: int, kind: str) -> list[nn.Module]:
    return [conv(ndim, inputs, outputs, stride=stride), norm(ndim, kind, outputs), nn.LeakyReLU(0.2)]


def build(ndim: int, channels: int, **settings: Any) -> Critic:  # noqa: ANN401 - JSON values
    """The critic of a recipe."""
    return VGGCritic(ndim, channels, **settings)
