"""Building blocks that networks share, for 2 and 3 axes alike."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from geomedsr.grid import Factor, Shape

__all__ = [
    "RRDB",
    "DenseBlock",
    "NearestUpsampler",
    "PixelShuffle",
    "ResidualBlock",
    "Upsampler",
    "ceil_reach",
    "conv",
    "conv_transpose",
    "crop_to",
    "full_precision",
    "nearest_reach",
    "pad_to_multiple",
    "repeat_voxels",
    "stages",
    "true_float32",
    "upsampler_reach",
    "zero_",
]


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


def full_precision(device: str) -> AbstractContextManager[object]:
    """A stretch of code that autocast leaves alone."""
    if not torch.amp.is_autocast_available(device):
        return nullcontext()
    return torch.autocast(device, enabled=False)


def true_float32() -> AbstractContextManager[object]:
    """A stretch in which a GPU's convolutions do not round float32 to TF32, which keeps ten bits."""
    return torch.backends.cudnn.flags(enabled=True, allow_tf32=False)


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """The tensor with its last voxels repeated at the far ends, until `multiple` divides every axis."""
    missing = [-n % multiple for n in reversed(x.shape[2:])]
    if not any(missing):
        return x
    return functional.pad(x, [end for n in missing for end in (0, n)], mode="replicate")


def crop_to(x: Tensor, shape: Sequence[int]) -> Tensor:
    """The tensor without the voxels at the far ends that are more than `shape`."""
    for axis, length in enumerate(shape, start=2):
        x = x.narrow(axis, 0, length)
    return x


def repeat_voxels(x: Tensor, factor: Factor) -> Tensor:
    """Each voxel as a block of `factor` voxels: the nearest neighbour, without arithmetic.

    Shape: (B, C, *S) to (B, C, *(S * factor))
    """
    for axis, f in enumerate(factor, start=2):
        if f > 1:
            x = x.unsqueeze(axis + 1).expand(*x.shape[: axis + 1], f, *x.shape[axis + 1 :]).flatten(axis, axis + 1)
    return x


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


class NearestUpsampler(nn.Module):
    """Repeated voxels and a convolution with its activation, one pair for each step of the factor.

    Shape: (B, width, *S) to (B, width, *(S * factor))
    Reference: Wang et al. 2018 (ESRGAN), arXiv:1809.00219
    """

    def __init__(self, ndim: int, width: int, factor: Factor) -> None:
        super().__init__()
        self.steps = stages(factor)
        self.convs = nn.ModuleList([conv(ndim, width, width) for _ in self.steps])

    def forward(self, x: Tensor) -> Tensor:
        """The finer features."""
        for step, layer in zip(self.steps, self.convs, strict=True):
            x = functional.leaky_relu(layer(repeat_voxels(x, step)), 0.2)
        return x


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


class DenseBlock(nn.Module):
    """Five convolutions, each of which sees the input and all before it; a fifth of the last is added to the input.

    Shape: (B, width, *S) to the same
    Reference: Wang et al. 2018 (ESRGAN), arXiv:1809.00219
    """

    reach = 5

    def __init__(self, ndim: int, width: int, growth: int) -> None:
        super().__init__()
        widths = [width + i * growth for i in range(5)]
        self.convs = nn.ModuleList([conv(ndim, n, growth) for n in widths[:-1]])
        self.last = conv(ndim, widths[-1], width)
        for layer in (*self.convs, self.last):
            # A tenth of He's start: deep stacks of sums begin near the identity.
            nn.init.kaiming_normal_(layer.weight)
            layer.weight.data *= 0.1
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """The input and a correction."""
        seen = x
        for layer in self.convs:
            seen = torch.cat([seen, functional.leaky_relu(layer(seen), 0.2)], 1)
        correction: Tensor = self.last(seen)
        return x + 0.2 * correction


class RRDB(nn.Module):
    """Three dense blocks; a fifth of what they give is added to the input.

    Shape: (B, width, *S) to the same
    Reference: Wang et al. 2018 (ESRGAN), arXiv:1809.00219
    """

    reach = 3 * DenseBlock.reach

    def __init__(self, ndim: int, width: int, growth: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*[DenseBlock(ndim, width, growth) for _ in range(3)])

    def forward(self, x: Tensor) -> Tensor:
        """The input and a correction."""
        correction: Tensor = self.blocks(x)
        return x + 0.2 * correction


def nearest_reach(factor: Factor, tail: int = 2) -> list[Fraction]:
    """How far a `NearestUpsampler` and `tail` 3-wide convolutions behind it look, in voxels of its input."""
    reach = [Fraction(0)] * len(factor)
    scale = [1] * len(factor)
    for step in stages(factor):
        scale = [s * f for s, f in zip(scale, step, strict=True)]
        reach = [r + Fraction(1, s) for r, s in zip(reach, scale, strict=True)]
    return [r + Fraction(tail, s) for r, s in zip(reach, scale, strict=True)]


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
