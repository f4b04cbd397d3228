"""Between what a file stores and what it means: scaling and nodata, rounding and saturation."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geomedsr.image import ImageSpec, Scaling

__all__ = [
    "PLAIN",
    "Coding",
    "fitting_nodata",
    "holds",
    "is_beyond_float32",
    "nodata_without_mask",
    "scaling_of",
    "spare_nodata",
    "with_one_scaling",
]

PLAIN = Scaling()
"""Stored numbers are the physical ones."""

_FLOAT32_OVERFLOWS = 2.0**128 - 2.0**103
"""From here on, a number is infinite in float32."""


@dataclass(frozen=True, slots=True)
class Coding:
    """How physical voxels are stored; `nodata` is the stored number that means "invalid" (None: there is none).

    Example:
        >>> coding = Coding(np.dtype("uint8"), nodata=0.0)
        >>> coding.store(np.array([-5.0, 1.5, 300.0, np.nan], np.float32))
        array([  1,   2, 255,   0], dtype=uint8)
    """

    dtype: np.dtype[Any]
    nodata: float | None = None
    scaling: Scaling = PLAIN

    @property
    def is_plain(self) -> bool:
        """Whether stored numbers are the physical ones."""
        return self.scaling == PLAIN

    def physical(self, stored: NDArray[Any]) -> NDArray[np.float32]:
        """The physical voxels, fresh, NaN where the stored number is nodata."""
        with np.errstate(over="ignore", invalid="ignore"):
            if self.is_plain:
                voxels = stored.astype(np.float32)
            else:
                exact = stored.astype(np.float64) * self.scaling.slope + self.scaling.intercept
                voxels = exact.astype(np.float32)
        if self.nodata is not None and holds(self.dtype, self.nodata):
            voxels[self._is_nodata(stored)] = np.nan
        return voxels

    def store(self, voxels: NDArray[np.floating[Any]]) -> NDArray[Any]:
        """The numbers to store: rounded half to even, saturated, NaN as nodata, and no valid voxel as nodata.

        Without nodata, NaN in a whole number becomes what stands for the physical 0.
        """
        exact: NDArray[Any] = voxels
        if not self.is_plain:
            exact = (voxels.astype(np.float64) - self.scaling.intercept) / self.scaling.slope
        if self.dtype.kind == "b":
            return np.asarray(exact >= 0.5)
        return self._as_float(exact) if self.dtype.kind == "f" else self._as_integer(exact)

    def _as_float(self, exact: NDArray[Any]) -> NDArray[Any]:
        limit = float(np.finfo(self.dtype).max)
        if self.dtype.itemsize >= exact.itemsize:
            stored = exact.astype(self.dtype)
        else:
            # An infinity is a value of its own; only what was finite and is too large saturates.
            stored = np.where(np.isinf(exact), exact, np.clip(exact, -limit, limit)).astype(self.dtype)
        if self.nodata is not None and not math.isnan(self.nodata):
            stored[self._is_nodata(stored)] = _beside(self.dtype.type(self.nodata))
            stored[np.isnan(exact)] = self.nodata
        return stored

    def _is_nodata(self, stored: NDArray[Any]) -> NDArray[np.bool_]:
        """Where nodata is stored: for real numbers also what differs from it by no more than its rounding as text."""
        assert self.nodata is not None
        with np.errstate(over="ignore"):
            nodata = self.dtype.type(self.nodata)
        if self.dtype.kind != "f" or not np.isfinite(nodata) or not nodata:
            return np.asarray(stored == nodata)
        low, high = _around(nodata)
        return np.asarray((stored >= low) & (stored <= high))

    def _as_integer(self, exact: NDArray[Any]) -> NDArray[Any]:
        invalid = np.isnan(exact)
        # float32 holds the ends of types up to 16 bits, float64 those up to 32: one that is rounded up would wrap.
        rounded = np.rint(exact, dtype=exact.dtype if self.dtype.itemsize <= 2 else np.float64)
        rounded[invalid] = np.rint(-self.scaling.intercept / self.scaling.slope)
        stored = _saturated(rounded, self.dtype)
        if self.nodata is not None:
            nodata, (low, high) = int(self.nodata), _ends(self.dtype)
            hit = stored == nodata
            # To the neighbour on the voxel's own side, and inward at the ends of the type.
            up = exact[hit] > nodata if low < nodata < high else np.full(np.count_nonzero(hit), nodata <= low)
            stored[hit] = np.where(up, min(nodata + 1, high), max(nodata - 1, low)).astype(self.dtype)
            stored[invalid] = nodata
        return stored


def _around(nodata: np.floating[Any]) -> tuple[Any, Any]:
    """The least and the greatest number of a dtype that GDAL takes for a nodata (not 0): |a - b| < 2 eps |a + b|.

    Files tell nodata as text, often with too few digits; eps is that of float32, for float64 too. In float32 a sum
    that overflows hides as well: with the lowest number as nodata, that is all below -1e31.

    Example:
        >>> [float(end) for end in _around(np.float32(-9999.0))]
        [-9999.00390625, -9998.99609375]
    """
    dtype, size, slack = nodata.dtype.type, abs(float(nodata)), 2.0 * float(np.finfo(np.float32).eps)
    near, far = size * (1 - slack) / (1 + slack), size * (1 + slack) / (1 - slack)
    if nodata.dtype.itemsize == 4:
        near = min(near, np.nextafter(_FLOAT32_OVERFLOWS - size, 0.0))
    with np.errstate(over="ignore"):
        # The ends do not count, and rounding may have put them on either side.
        low, high = dtype(near), dtype(far)
        low = np.nextafter(low, dtype(np.inf)) if float(low) <= near else low
        high = np.nextafter(high, dtype(0)) if float(high) >= far else high
    return (-high, -low) if nodata < 0 else (low, high)


def _beside(nodata: np.floating[Any]) -> Any:  # noqa: ANN401 - a number of the nodata's own dtype
    """The number next to nodata, towards 0, that nobody takes for nodata."""
    dtype = nodata.dtype.type
    if not nodata:
        return np.finfo(dtype).tiny
    low, high = _around(nodata) if np.isfinite(nodata) else (nodata, nodata)
    return np.nextafter(high if nodata < 0 else low, dtype(0))


def holds(dtype: np.dtype[Any], value: float) -> bool:
    """Whether a dtype can store a number exactly enough to find it again.

    Example:
        >>> holds(np.dtype("uint8"), 255.0), holds(np.dtype("uint8"), -9999.0), holds(np.dtype("int16"), float("nan"))
        (True, False, False)
    """
    if dtype.kind == "f":
        return not math.isfinite(value) or abs(value) <= float(np.finfo(dtype).max)
    if dtype.kind == "b" or not float(value).is_integer():
        return False
    low, high = _ends(dtype)
    return low <= int(value) <= high


def fitting_nodata(nodata: float | None, dtype: np.dtype[Any]) -> float | None:
    """The nodata where `dtype` can store it; else NaN where it has one, and None where it has not.

    Example:
        >>> fitting_nodata(-9999.0, np.dtype(np.int16)), fitting_nodata(-9999.0, np.dtype(np.uint8))
        (-9999.0, None)
    """
    if nodata is None or holds(dtype, nodata):
        return nodata
    return math.nan if dtype.kind == "f" else None


def spare_nodata(dtype: np.dtype[Any]) -> float | None:
    """A number that says "invalid" where a file has none: NaN, or the end of the type that is needed least.

    That is the lowest of signed and the highest of unsigned numbers, for their 0 is a good voxel and a label. It
    hides no valid voxel, for `Coding.store` moves those beside it. A truth value has none to spare.

    Example:
        >>> spare_nodata(np.dtype(np.int16)), spare_nodata(np.dtype(np.uint8))
        (-32768.0, 255.0)
    """
    if dtype.kind not in "iu":
        return math.nan if dtype.kind == "f" else None
    low, high = _ends(dtype)
    end = float(low or high)
    # The largest 64-bit integers are no floats.
    return end if holds(dtype, end) else float(np.nextafter(end, 0.0))


def is_beyond_float32(dtype: np.dtype[Any], scaling: Scaling) -> bool:
    """Whether the numbers of a whole-number type become physical ones that float32 has no room for.

    Example:
        >>> is_beyond_float32(np.dtype("int16"), Scaling(1e34)), is_beyond_float32(np.dtype("int16"), Scaling(1e35))
        (False, True)
    """
    if dtype.kind == "f":
        return False
    ends = (end * scaling.slope + scaling.intercept for end in _ends(dtype))
    return max(abs(end) for end in ends) >= _FLOAT32_OVERFLOWS


def nodata_without_mask(spec: ImageSpec) -> float | None:
    """The spec's nodata where its dtype can store it; else a spare one, if voxels may be invalid.

    Example:
        >>> from geomedsr.grid import Grid
        >>> spec = ImageSpec(Grid.plain((4, 5)), ("a",), np.dtype(np.uint8), has_holes=True)
        >>> nodata_without_mask(spec), nodata_without_mask(replace(spec, nodata=7.0))
        (255.0, 7.0)
    """
    fitting = fitting_nodata(spec.nodata, spec.dtype)
    may_be_invalid = spec.nodata is not None or (spec.has_holes and spec.dtype.kind != "f")
    return spare_nodata(spec.dtype) if fitting is None and may_be_invalid else fitting


def scaling_of(channels: Iterable[Scaling]) -> tuple[Scaling, ...]:
    """What `ImageSpec.scaling` says of these channels: nothing where all are plain."""
    found = tuple(channels)
    return found if any(scaling != PLAIN for scaling in found) else ()


def with_one_scaling(spec: ImageSpec) -> ImageSpec:
    """The spec for a format that has one scaling for all channels; where they differ, it holds float32.

    A real number is stored as it is, without scaling; a nodata that was a scaled number then becomes NaN.

    Example:
        >>> from geomedsr.grid import Grid
        >>> two = (Scaling(0.1), Scaling(0.2))
        >>> spec = ImageSpec(Grid.plain((4, 5)), ("a", "b"), np.dtype(np.int16), -1.0, scaling=two)
        >>> with_one_scaling(spec).dtype, with_one_scaling(spec).nodata
        (dtype('float32'), nan)
        >>> with_one_scaling(spec.with_channels((1,))).dtype
        dtype('int16')
    """
    if len(set(spec.scaling)) > 1:
        spec = replace(spec, dtype=np.dtype(np.float32))
    if spec.scaling and spec.dtype.kind == "f":
        spec = replace(spec, scaling=(), nodata=None if spec.nodata is None else math.nan)
    return spec


def _ends(dtype: np.dtype[Any]) -> tuple[int, int]:
    info = np.iinfo(dtype)
    return int(info.min), int(info.max)


def _saturated(rounded: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Whole numbers as an integer type, the largest and the smallest standing for what lies beyond.

    Example:
        >>> _saturated(np.array([-3.0, 7.0, 1e30]), np.dtype(np.uint64)).tolist()
        [0, 7, 18446744073709551615]
    """
    low, high = _ends(dtype)
    # The largest 64-bit integers are no floats: the float nearest to them lies above, and casting it would wrap.
    top = rounded.dtype.type(high)
    highest = top if int(top) <= high else np.nextafter(top, rounded.dtype.type(0))
    stored: NDArray[Any] = np.clip(rounded, low, highest).astype(dtype)
    if highest != top:
        stored[rounded >= top] = high
    return stored
