"""The end of a network in one layer: a convolution, a shuffle and a convolution, with nothing in between, are linear.

EDSR widens its features to `prod(factor)` times as many, shuffles them into the finer image and sums those up: for a
factor of 2 in three axes that is more than half of all its multiplications, and most of its memory. Their product is
one convolution from the coarse features to the fine voxels, a little wider and far thinner.

At the border the two differ: the second convolution sees zeros outside, where the product would see what the first
gives there. The outermost voxels are therefore computed as they were. Everything else agrees to rounding, and is the
same in every tile, bit for bit, as each convolution is.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from geomedsr.grid import Factor
from geomedsr.networks._blocks import PixelShuffle, Upsampler
from geomedsr.networks._network import Network

__all__ = ["JoinedTail", "inner_rows", "join_tail", "without"]

_CONVOLUTIONS = (nn.Conv2d, nn.Conv3d)
_CONVOLVE = {2: functional.conv2d, 3: functional.conv3d}
_TOLERANCE = 1e-4


class JoinedTail(nn.Module):
    """A convolution that widens, a shuffle and a convolution, as one convolution and a shuffle.

    Shape: (B, width, *S) to (B, C, *(S * factor))
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, wide: nn.Conv2d | nn.Conv3d, shuffle: PixelShuffle, tail: nn.Conv2d | nn.Conv3d) -> None:
        super().__init__()
        self.apart = nn.Sequential(wide, shuffle, tail)
        self.shuffle = shuffle
        gathered, self.look = _gathered(tail.weight.detach().double(), shuffle.factor)
        self._reach = tuple(length // 2 for length in wide.kernel_size)
        self.register_buffer("weight", _composed(gathered, wide.weight.detach().double()).float())
        self.register_buffer("bias", _bias(gathered, wide, tail).float())

    @property
    def _depth(self) -> list[int]:
        """How many voxels from a border on the layers apart must see, to give what the border changes."""
        return [2 * look + reach for look, reach in zip(self.look, self._reach, strict=True)]

    def forward(self, x: Tensor) -> Tensor:
        """The finer image."""
        if any(length < deep for length, deep in zip(x.shape[2:], self._depth, strict=True)):
            apart: Tensor = self.apart(x)
            return apart
        y = self._inside(x, [length // 2 for length in self.weight.shape[2:]])
        for axis in range(2, x.ndim):
            y = self._with_ends(y, x, axis)
        return y

    def rows(self, x: Tensor, axis: int, before: int, after: int) -> Tensor:
        """The rows across one axis of which `x` has all that they see, but `before` and `after` outside the image.

        All axes are at least as long as what a border changes.
        """
        padding = [length // 2 for length in self.weight.shape[2:]]
        look, factor = padding[axis - 2], self.shuffle.factor[axis - 2]
        first, last = (look - before) * factor, (look - after) * factor
        if before or after:
            y = inner_rows(self._inside(x, padding), axis, first, last)
        else:
            y = self._inside(x, without(padding, axis))
        kept = (*(slice(None),) * axis, slice(first, x.shape[axis] * factor - last))
        for other in (a for a in range(2, x.ndim) if a != axis):
            y = self._with_ends(y, x, other, kept)
        return self._with_ends(y, x, axis, near=before == look, far=after == look)

    def _inside(self, x: Tensor, padding: Sequence[int]) -> Tensor:
        y: Tensor = self.shuffle(_CONVOLVE[len(padding)](x, self.weight, self.bias, padding=padding))
        return y

    def _with_ends(
        self, y: Tensor, x: Tensor, axis: int, kept: tuple[slice, ...] = (), near: bool = True, far: bool = True
    ) -> Tensor:
        """The finer image with what the borders of an axis change; `kept` is what `y` holds of what `x` gives."""
        deep, factor = self._depth[axis - 2], self.shuffle.factor[axis - 2]
        edge = self.look[axis - 2] * factor
        parts = [y.narrow(axis, edge * near, y.shape[axis] - edge * near - edge * far)]
        if near:
            parts.insert(0, self.apart(x.narrow(axis, 0, deep))[kept].narrow(axis, 0, edge))
        if far:
            end = x.narrow(axis, x.shape[axis] - deep, deep)
            parts.append(self.apart(end)[kept].narrow(axis, deep * factor - edge, edge))
        return torch.cat(parts, axis) if len(parts) > 1 else y


def inner_rows(y: Tensor, axis: int, first: int, last: int) -> Tensor:
    """The tensor without so many rows at the beginning and at the end of an axis, a view."""
    return y.narrow(axis, first, y.shape[axis] - first - last)


def without(padding: Sequence[int], axis: int) -> tuple[int, ...]:
    """A convolution's padding with none on one of the tensor's axes."""
    return (*padding[: axis - 2], 0, *padding[axis - 1 :])


def join_tail(network: Network) -> Network:
    """The network, changed in place where it ends in what can be joined and that saves work; else as it is."""
    for module in list(network.modules()):
        upsampler, tail = getattr(module, "upsampler", None), getattr(module, "tail", None)
        if isinstance(module, Network) and isinstance(upsampler, Upsampler) and isinstance(tail, _CONVOLUTIONS):
            _join(module, upsampler, tail)
    return network


def _join(network: Network, upsampler: Upsampler, tail: nn.Conv2d | nn.Conv3d) -> None:
    *before, wide, shuffle = upsampler
    assert isinstance(wide, _CONVOLUTIONS)
    assert isinstance(shuffle, PixelShuffle)
    joined = JoinedTail(wide, shuffle, tail)
    if joined.weight[:, 0].numel() > wide.weight[:, 0].numel():
        return
    example = torch.rand(1, network.task.channels, *(2 * network.multiple_of + 8,) * network.task.ndim)
    with torch.no_grad():
        wanted = network(example)
        network.upsampler, network.tail = nn.Sequential(*before), joined
        found = network(example)
    if not torch.allclose(found, wanted, rtol=0, atol=_TOLERANCE * max(1.0, float(wanted.abs().max()))):
        network.upsampler, network.tail = upsampler, tail  # it does something between the two


def _gathered(weight: Tensor, factor: Factor) -> tuple[Tensor, tuple[int, ...]]:
    """A convolution of the finer image as one of what is shuffled into it, and how far that looks on each axis.

    Fine voxel s q + phase sees s q + phase + tap - centre = s (q + place) + other phase.

    Shape: (C, width, *kernel) to (C * prod(factor), width * prod(factor), *(2 * look + 1))
    """
    outputs, width, *kernel = weight.shape
    reach = [length // 2 for length in kernel]
    look = tuple(-(-r // f) for r, f in zip(reach, factor, strict=True))
    gathered = weight.new_zeros(outputs, *factor, width, *factor, *(2 * n + 1 for n in look))
    everything = slice(None)
    for phase in product(*(range(f) for f in factor)):
        for tap in product(*(range(length) for length in kernel)):
            seen = [p + t - r for p, t, r in zip(phase, tap, reach, strict=True)]
            other = [s % f for s, f in zip(seen, factor, strict=True)]
            place = [s // f + n for s, f, n in zip(seen, factor, look, strict=True)]
            there: tuple[Any, ...] = (everything, *phase, everything, *other, *place)
            here: tuple[Any, ...] = (everything, everything, *tap)
            gathered[there] = weight[here]
    ndim = len(factor)
    return gathered.flatten(1 + ndim, 1 + 2 * ndim).flatten(0, ndim), look


def _composed(second: Tensor, first: Tensor) -> Tensor:
    """The kernel of two convolutions, one after the other: the convolution of their kernels."""
    axes = tuple(range(2, first.ndim))
    padding = [length - 1 for length in first.shape[2:]]
    return _CONVOLVE[len(axes)](second, first.transpose(0, 1).flip(axes), padding=padding)


def _bias(gathered: Tensor, wide: nn.Conv2d | nn.Conv3d, tail: nn.Conv2d | nn.Conv3d) -> Tensor:
    bias = gathered.new_zeros(len(gathered))
    if wide.bias is not None:
        bias = bias + (gathered.flatten(2).sum(2) @ wide.bias.detach().double())
    if tail.bias is not None:
        bias = bias + tail.bias.detach().double().repeat_interleave(len(gathered) // len(tail.bias))
    return bias
