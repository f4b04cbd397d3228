"""How far a network looks whose layers stride or cut windows: an output voxel is followed back, layer by layer.

What such a network sees of its surroundings depends on the voxel's place in the period of its strides; the reach is
that of the worst place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

__all__ = ["Look", "strided", "transposed", "walked", "wide", "windowed"]

Look = Callable[[int, int], tuple[int, int]]
"""The first and last voxel of a layer's output, to the first and last voxel of its input that they depend on."""


def wide(radius: int) -> Look:
    """A convolution that keeps the shape."""
    return lambda first, last: (first - radius, last + radius)


def strided(kernel: int, stride: int, padding: int) -> Look:
    """A convolution that makes the axis `stride` times coarser."""
    return lambda first, last: (first * stride - padding, last * stride - padding + kernel - 1)


def transposed(kernel: int, stride: int, padding: int) -> Look:
    """A transposed convolution, or (kernel = stride, padding = 0) a pixel shuffle."""
    return lambda first, last: (-((kernel - 1 - first - padding) // stride), (last + padding) // stride)


def windowed(width: int, offset: int = 0) -> Look:
    """Attention inside windows of `width` voxels, which begin at `offset` and at every multiple of `width` from it."""
    return lambda first, last: (
        (first - offset) // width * width + offset,
        (last - offset) // width * width + offset + width - 1,
    )


def walked(looks: Sequence[Look], factor: int, period: int = 1) -> int:
    """The reach on one axis of layers, first to last, whose strides and windows repeat every `period` input voxels.

    Example:
        >>> walked([wide(1), transposed(4, 2, 1), wide(1)], 2)
        2
    """
    farthest = 0
    for place in range(period):
        first, last = place * factor, place * factor + factor - 1
        for look in reversed(looks):
            first, last = look(first, last)
        farthest = max(farthest, place - first, last - place)
    return farthest
