"""Real-ESRGAN's critic: a U-Net that judges every voxel, its layers held to a spectral norm of 1.

Reference: Wang et al. 2021, arXiv:2107.10833; Schönfeld et al. 2020, arXiv:2002.12655
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from geomedsr.critics._critic import Critic, conv, spectral

__all__ = ["UNetCritic", "build"]


class UNetCritic(Critic):
    """A logit for each voxel. Three steps down and up again, each step up fused with its like on the way down."""

    smallest = 8

    def __init__(self, ndim: int, channels: int, width: int = 64) -> None:
        super().__init__()
        if width < 1:
            raise ValueError(f"width is at least 1, not {width}")
        self.mode = "bilinear" if ndim == 2 else "trilinear"
        widths = [width * 2**i for i in range(4)]
        steps = list(pairwise(widths))
        self.entry = conv(ndim, channels, width)
        self.down = spectral(nn.ModuleList([conv(ndim, n, m, 4, 2, bias=False) for n, m in steps]))
        self.up = spectral(nn.ModuleList([conv(ndim, m, n, bias=False) for n, m in reversed(steps)]))
        self.tail = spectral(nn.ModuleList([conv(ndim, width, width, bias=False) for _ in range(2)]))
        self.last = conv(ndim, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """A logit for each voxel."""
        seen = [functional.leaky_relu(self.entry(x), 0.2)]
        for layer in self.down.children():
            seen.append(functional.leaky_relu(layer(seen[-1]), 0.2))
        x = seen.pop()
        for layer in self.up.children():
            like = seen.pop()
            finer = functional.interpolate(x, size=like.shape[2:], mode=self.mode, align_corners=False)
            x = functional.leaky_relu(layer(finer), 0.2) + like
        for layer in self.tail.children():
            x = functional.leaky_relu(layer(x), 0.2)
        logits: Tensor = self.last(x)
        return logits


def build(ndim: int, channels: int, **settings: Any) -> Critic:  # noqa: ANN401 - JSON values
    """The critic of a recipe."""
    return UNetCritic(ndim, channels, **settings)
