"""Building blocks that networks share, for 2 and 3 axes alike."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from geomedsr.grid import Factor, Shape

__all__ = ["PixelShuffle", "ResidualBlock", "Upsampler", "ceil_reach", "conv", "conv_transpose", "stages", "zero_"]


def conv(ndim: int, inputs: int, outputs: int, kernel: int = 3, **more: Any) -> nn.Conv2d | nn.Conv3d:  # noqa: ANN401
    """A convolution that keeps the shape, for 2 or 3 axes."""
    layer = nn.Conv2d if ndim == 2 else nn.Conv3d
    return layer(inputs, outputs, kernel, padding=kernel // 2, **more)


def conv_transpose(
    ndim: int, inputs: int, outputs: int, kernel: Shape, stride: Shape, padding: Shape, output_padding: Shape
) -> nn.ConvTranspose2d | nn.ConvTranspose3d:
    """A transposed convolution, for 2 or 3 axes."""
    layer: Any = nn.ConvTranspose2d if ndim == 2 else nn.ConvTranspose3d
    made: nn.ConvTranspose2d | nn.ConvTranspose3d = layer(inputs, outputs, kernel, stride, padding, output_padding)
    return made


def zero_(layer: nn.Module) -> nn.Module:
    """The layer with weights and bias zero: what it adds to a skip is nothing at first."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def stages(factor: Factor) -> list[Factor]:
    """The factor as steps of small primes on each axis: (4, 4) is (2, 2) twice, (1, 6) is (1, 2) then (1, 3).

    Example:
        >>> stages((4, 2))
        [(2, 2), (2, 1)]
    """
    left = list(factor)
    steps: list[Factor] = []
    while max(left) > 1:
        step = tuple(next((p for p in range(2, n + 1) if n % p == 0), 1) for n in left)
        steps.append(step)
        left = [n // s for n, s in zip(left, step, strict=True)]
    return steps


class PixelShuffle(nn.Module):
    """Channels to space, with a factor for each axis.

    Shape: (B, C * prod(factor), *S) to (B, C, *(S * factor))
    Reference: Shi et al. 2016, arXiv:1609.05158
    """

    def __init__(self, factor: Factor) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """Interleaves groups of channels."""
        if len(self.factor) == 2 and self.factor[0] == self.factor[1]:
            return functional.pixel_shuffle(x, self.factor[0])
        ndim = len(self.factor)
        batch, channels, *shape = x.shape
        x = x.reshape(batch, channels // math.prod(self.factor), *self.factor, *shape)
        order = [axis for i in range(ndim) for axis in (2 + ndim + i, 2 + i)]
        finer = [n * f for n, f in zip(shape, self.factor, strict=True)]
        return x.permute(0, 1, *order).reshape(batch, -1, *finer)


class Upsampler(nn.Sequential):
    """Convolution and pixel shuffle, one pair for each step of the factor.

    Shape: (B, width, *S) to (B, width, *(S * factor))
    """

    def __init__(self, ndim: int, width: int, factor: Factor) -> None:
        layers: list[nn.Module] = []
        for step in stages(factor):
            layers += [conv(ndim, width, width * math.prod(step)), PixelShuffle(step)]
        super().__init__(*layers)


class ResidualBlock(nn.Module):
    """Two convolutions and a skip, without normalisation.

    Shape: (B, width, *S) to the same
    Reference: Lim et al. 2017 (EDSR), arXiv:1707.02921
    """

    def __init__(self, ndim: int, width: int, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale
        self.first = conv(ndim, width, width)
        self.second = conv(ndim, width, width)

    def forward(self, x: Tensor) -> Tensor:
        """The input and a correction."""
        correction: Tensor = self.second(functional.relu(self.first(x)))
        return x + (correction if self.scale == 1.0 else correction * self.scale)


def upsampler_reach(factor: Factor, tail: int = 1) -> list[Fraction]:
    """How far an `Upsampler` and `tail` 3-wide convolutions behind it look, in voxels of its input."""
    reach = [Fraction(0)] * len(factor)
    scale = [1] * len(factor)
    for step in stages(factor):
        reach = [r + Fraction(1, s) for r, s in zip(reach, scale, strict=True)]
        scale = [s * f for s, f in zip(scale, step, strict=True)]
    return [r + Fraction(tail, s) for r, s in zip(reach, scale, strict=True)]


def ceil_reach(*parts: list[Fraction]) -> Shape:
    """The sum of reaches, rounded up to whole voxels."""
    return tuple(math.ceil(sum(axis, Fraction(0))) for axis in zip(*parts, strict=True))
