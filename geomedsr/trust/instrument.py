"""The instrument that an output is held against: the linear map by which its input is taken to have become coarse."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from geomedsr.degradations.slice_profile import SliceProfile
from geomedsr.errors import RecipeError
from geomedsr.grid import Factor, Shape
from geomedsr.model import build_degradation
from geomedsr.networks._consistency import AxisMatrix
from geomedsr.recipe import Recipe

__all__ = ["WHOLE", "Instrument", "along", "instrument_of", "strengths"]

WHOLE = 1 << 24
"""A reach that no image has: tiles are as long as the image on such an axis."""

_NEGLIGIBLE = 1e-6
"""The share of a voxel's weights that lies beyond the reach: less than float32 resolves."""

_PROBE = 64
_SMALLEST = 1e-5


@dataclass(frozen=True)
class Instrument:
    """A small matrix for each axis, as a separable degradation's `matrix` gives it, and the factor of each axis.

    `assumption` says why it is not the one that the model was trained for; empty where it is.
    """

    name: str
    matrix: AxisMatrix
    factor: Factor
    assumption: str = ""

    def degraded(self, x: Tensor) -> Tensor:
        """What the instrument makes of a fine batch.

        Shape: (B, C, *(S * factor)) to (B, C, *S)
        """
        for axis, f in enumerate(self.factor, start=2):
            if f > 1:
                x = along(x, axis, _matrix(self.matrix, x.shape[axis], f).to(x))
        return x

    @property
    def reach(self) -> Shape:
        """How far its pseudo-inverse looks, in coarse voxels on each axis; `WHOLE` where that has no end."""
        return tuple(_reach(self.matrix, f) if f > 1 else 0 for f in self.factor)


def instrument_of(recipe: Recipe | None, factor: Factor) -> Instrument:
    """The instrument of a recipe's degradation or, where that is no one linear map on each axis, the plain average."""
    if recipe is None:
        return _average(factor, "an interpolation was made for none")
    try:
        matrix: AxisMatrix = build_degradation(recipe, recipe.nominal).matrix  # type: ignore[attr-defined]
        largest = max(factor)
        matrix(8 * largest, largest)
    except (AttributeError, ValueError, RecipeError):
        return _average(factor, f"the model's own, {recipe.degradation.name}, differs from image to image")
    return Instrument(recipe.nominal.name, matrix, factor)


def _average(factor: Factor, why: str) -> Instrument:
    return Instrument("average", SliceProfile("box").matrix, factor, why)


def along(x: Tensor, axis: int, matrix: Tensor) -> Tensor:
    """A matrix applied to one axis: (m, n), or (C, m, n) with one for each channel.

    Shape: x (B, C, ..., n, ...) to (B, C, ..., m, ...)
    """
    last = x.movedim(axis, -1)
    found = last.flatten(2, -2) @ matrix.mT
    return found.reshape(*last.shape[:-1], -1).movedim(-1, axis)


@lru_cache(maxsize=16)
def _matrix(matrix: AxisMatrix, length: int, factor: int) -> Tensor:
    return matrix(length, factor)


@lru_cache(maxsize=64)
def _reach(matrix: AxisMatrix, factor: int) -> int:
    """How far a voxel of the projection looks, until what is left of its weights is negligible."""
    down = matrix(_PROBE * factor, factor).double()
    up = torch.linalg.pinv(down, rtol=_SMALLEST)
    middle = _PROBE // 2
    rows = slice(middle * factor, (middle + 1) * factor)
    seen = (up @ down).abs()[..., rows, :].unflatten(-1, (_PROBE, factor)).sum(-1)
    weights = torch.maximum(seen, up.abs()[..., rows, :]).flatten(0, -2).amax(0)
    place = (torch.arange(_PROBE) - middle).abs()
    for reach in range(middle - 1):
        if float(weights[place > reach].sum()) < _NEGLIGIBLE * float(weights.sum()):
            return reach
    return WHOLE


def strengths(instrument: Instrument, residual: Tensor) -> tuple[Tensor, Tensor]:
    """The coefficients of a coarse batch in the instrument's singular vectors, and its singular values for them."""
    found, strength = residual.double(), torch.ones((), dtype=torch.float64)
    for axis, f in enumerate(instrument.factor, start=2):
        if f > 1:
            left, values, _ = torch.linalg.svd(instrument.matrix(residual.shape[axis] * f, f).double())
            found = along(found, axis, left.mT)
            view = [1] * residual.ndim
            view[axis] = values.shape[-1]
            if values.ndim == 2:
                view[1] = values.shape[0]
            strength = strength * values.reshape(view)
    return found, strength
