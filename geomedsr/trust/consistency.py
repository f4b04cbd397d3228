"""Any network's output, moved by as little as will do to where the instrument makes the input of it.

Reference: Bahat and Michaeli 2020, arXiv:1912.01839 (the projection); Morozov 1966 (how much of it, under noise)
"""

from __future__ import annotations

import math

from torch import Tensor

from geomedsr.networks._blocks import pad_to_multiple
from geomedsr.networks._consistency import Consistent, Projection
from geomedsr.networks._network import Network
from geomedsr.trust.instrument import WHOLE, Instrument, strengths

__all__ = ["Tied", "bare", "damping_for", "noise_of", "padded", "wider"]

_RATIOS = (-8.0, 8.0)
"""Dampings that are sought, as powers of ten: all of the projection, and none of it."""


_MEDIAN = 0.6744897501960817
"""The median of a standard normal variable's absolute value."""


class Tied(Network):
    """A network whose output is consistent with its input, and which is still run tile by tile.

    The projection's weights fade with the distance (or, for an instrument that looks at whole axes, do not: then a
    tile is as long as the image there). The reach leaves out less than a millionth of them, so what a tile gives
    differs from the whole image's by less than a millionth of the largest inconsistency that was taken away.
    """

    def __init__(self, network: Network, instrument: Instrument, damping: float = 0.0) -> None:
        network = bare(network)
        super().__init__(network.task, **network.settings)
        self.network, self.instrument = network, instrument
        self.projection = Projection(instrument.matrix, instrument.factor, damping)
        self.reach = wider(network.reach, instrument.reach)
        self._pads = self.reach is not None and min(self.reach) >= WHOLE
        self.multiple_of = 1 if self._pads else network.multiple_of

    def forward(self, x: Tensor) -> Tensor:
        """The finer image."""
        # Padded here and not by the tile where the instrument must look at the image without its padding.
        finer = padded(self.network, x) if self._pads else self.network(x)
        consistent: Tensor = self.projection(finer, x)
        return consistent


def padded(network: Network, x: Tensor) -> Tensor:
    """The network's output for an image of any shape, which it sees padded to what it strides by."""
    finer: Tensor = network(pad_to_multiple(x, network.multiple_of))
    for axis, f in enumerate(network.task.factor, start=2):
        finer = finer.narrow(axis, 0, x.shape[axis] * f)
    return finer


def bare(network: Network) -> Network:
    """The network without a projection of its own, which would look at the whole image."""
    return network.network if isinstance(network, Consistent | Tied) else network


def wider(reach: tuple[int, ...] | None, more: tuple[int, ...]) -> tuple[int, ...] | None:
    """The reach of what looks `more` voxels further (None: everywhere, still)."""
    return None if reach is None else tuple(min(a + b, WHOLE) for a, b in zip(reach, more, strict=True))


def damping_for(residual: Tensor, instrument: Instrument, noise: float) -> float:
    """The damping that takes an inconsistency away down to the noise and no further (the discrepancy principle).

    `residual` is the input less what the instrument makes of the output, `noise` the input's standard deviation in
    the same units.

    Shape: residual (B, C, *S)
    """
    found, strength = strengths(instrument, residual)

    def left(power: float) -> float:
        damping = 10.0**power
        return float((damping / (strength.square() + damping) * found).square().mean().sqrt())

    low, high = _RATIOS
    if noise <= 0 or left(low) >= noise:
        return 0.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if left(middle) < noise else (low, middle)
    return float(10.0**low)


def noise_of(lr: Tensor) -> float:
    """The standard deviation of an image's noise, from the diagonal differences in blocks of two by two voxels.

    The tenth of the blocks counts that differ least along and across, which white noise does independently of the
    diagonal; what fine detail there is even there adds to it. Blocks without any difference (the air around a head
    that was cut out) do not count.

    Shape: (B, C, *S)
    Reference: Donoho and Johnstone 1994, DOI 10.1093/biomet/81.3.425
    """
    even = lr[..., : lr.shape[-2] // 2 * 2, : lr.shape[-1] // 2 * 2]
    a, b, c, d = (even[..., i::2, j::2] for i in (0, 1) for j in (0, 1))
    varied = ~((a == b) & (a == c) & (a == d))
    edges, detail = ((a + b - c - d).square() + (a - b + c - d).square())[varied], ((a - b - c + d) / 2)[varied]
    if not detail.numel():
        return 0.0
    calmest = detail[edges.argsort()[: math.ceil(len(edges) / 10)]]
    return float(calmest.abs().double().median() / _MEDIAN)
