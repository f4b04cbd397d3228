"""Data consistency: the fine image is moved, by as little as will do, to where it degrades to the coarse one.

x + D+ (y - D x) for a degradation D that is a small matrix on each axis. With the singular value decomposition
A = U S V' of each axis' matrix, D's singular values are the products of the axes', so the pseudo-inverse and its damped
form need nothing larger than those matrices: V' on x, U' on y, a weight for each coefficient, V back.

Reference: Bahat and Michaeli 2020, arXiv:1912.01839 (the layer); Tikhonov and Arsenin 1977 (the damping)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from geomedsr.grid import Factor
from geomedsr.networks._blocks import full_precision
from geomedsr.networks._network import Network

__all__ = ["AxisMatrix", "Consistent", "Projection"]

AxisMatrix = Callable[[int, int], Tensor]
"""Fine length and factor of an axis, to the degradation's matrix on it: (coarse, fine), with the channels in front
where theirs differ. A separable degradation's `matrix` is one."""

_SMALLEST = 1e-5
"""What D weakens more than this, against what it weakens least, is taken for lost."""


@dataclass(frozen=True, slots=True)
class _Axis:
    """A = left @ diag(values) @ right': (m, m), (m,), (n, m), each perhaps with channels in front."""

    left: Tensor
    values: Tensor
    right: Tensor


class Projection(nn.Module):
    """x + D+ (y - D x): the image nearest to x, in the least squares, that degrades to y.

    What D cannot see of x stays as it is; what of y no image can degrade to is left out. `damping` is the variance of
    y's noise over that of x's errors: above 0 the noise is not taken over, but weighed against x (Tikhonov), and the
    result degrades to y only nearly.

    Intensities may be offset and scaled, as D keeps constants. D looks at whole axes, so the result for a tile is not
    exactly that of the image.

    Shape: x (B, C, *(S * factor)), y (B, C, *S) to that of x
    """

    def __init__(self, matrix: AxisMatrix, factor: Factor, damping: float = 0.0) -> None:
        super().__init__()
        if damping < 0:
            raise ValueError(f"The damping is a ratio of variances, at least 0; got {damping}.")
        self.matrix, self.factor, self.damping = matrix, factor, damping
        self._axes: dict[tuple[int, int], _Axis] = {}

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """The consistent image, in float32 or better."""
        dtype = torch.promote_types(x.dtype, torch.float32)
        with full_precision(x.device.type):
            return self._projected(x.to(dtype), y.to(dtype))

    def _projected(self, x: Tensor, y: Tensor) -> Tensor:
        # An axis with the factor 1 is not degraded: there is nothing to turn.
        axes = {i: self._axis(x.shape[i], f) for i, f in enumerate(self.factor, start=2) if f > 1}
        seen, wanted = x, y
        strength = torch.ones((), dtype=torch.float64)
        for i, axis in axes.items():
            seen, wanted = _turned(seen, i, axis.right), _turned(wanted, i, axis.left)
            strength = strength * _spread(axis.values, i, x.ndim)
        known = strength > _SMALLEST * strength.max()
        gain = torch.where(known, strength / (strength.square() + self.damping).clamp(min=1e-300), 0.0)
        change = gain.to(x) * (wanted - strength.to(x) * seen)
        for i, axis in axes.items():
            change = _turned(change, i, axis.right.mT)
        return x + change

    def _axis(self, length: int, factor: int) -> _Axis:
        key = (length, factor)
        if key not in self._axes:
            left, values, right = torch.linalg.svd(self.matrix(length, factor).double().cpu(), full_matrices=False)
            self._axes[key] = _Axis(left, values, right.mT)
        return self._axes[key]


def _turned(x: Tensor, axis: int, basis: Tensor) -> Tensor:
    """The coefficients of an axis in a basis: (n, m), or (C, n, m) with a basis for each channel."""
    last = x.movedim(axis, -1)
    found = last.flatten(2, -2) @ basis.to(x)
    return found.reshape(*last.shape[:-1], -1).movedim(-1, axis)


def _spread(values: Tensor, axis: int, ndim: int) -> Tensor:
    """Singular values, (m,) or (C, m), in the shape in which they meet (B, C, *S)."""
    view = [1] * ndim
    view[axis] = values.shape[-1]
    if values.ndim == 2:
        view[1] = values.shape[0]
    return values.reshape(view)


class Consistent(Network):
    """A network that ends with the projection: what comes out degrades to what went in, in training and after it.

    It looks at the whole image, through the pseudo-inverse, however little the network itself does.
    """

    def __init__(self, network: Network, matrix: AxisMatrix, damping: float = 0.0) -> None:
        super().__init__(network.task, **network.settings)
        self.network = network
        self.projection = Projection(matrix, network.task.factor, damping)
        self.multiple_of = network.multiple_of
        self.reach = None

    def forward(self, x: Tensor) -> Tensor:
        """The finer image."""
        finer: Tensor = self.projection(self.network(x), x)
        return finer

    def auxiliary_loss(self, hr: Tensor) -> Tensor | None:
        """That of the network before the projection."""
        return self.network.auxiliary_loss(hr)

    def for_inference(self) -> Network:
        """The same projection after the network that is shipped."""
        return Consistent(self.network.for_inference(), self.projection.matrix, self.projection.damping)
