"""Float voxels as a file's stored numbers: rounded and saturated, never wrapped, invalid ones kept apart."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["invalid_code", "saturated", "stored"]


def saturated(values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """The values in `dtype`, rounded to even and held at its ends; NaN becomes 0 where `dtype` has none.

    Example:
        >>> saturated(np.array([300.0, -1.0, 2.5, np.nan]), np.dtype(np.uint8)).tolist()
        [255, 0, 2, 0]
    """
    if dtype.kind == "f":
        if dtype.itemsize >= values.dtype.itemsize:
            return values.astype(dtype)
        limit = float(np.finfo(dtype).max)  # infinities stay; what was finite stays so
        return np.where(np.isinf(values), values, np.clip(values, -limit, limit)).astype(dtype)
    if dtype.kind == "b":
        return np.asarray(np.nan_to_num(values) >= 0.5)
    low, high = _ends(dtype)
    # float32 holds the ends of types up to 16 bits, float64 those up to 32: one that is rounded up would wrap.
    rounded: NDArray[Any] = np.rint(
        values, dtype=np.float32 if dtype.itemsize <= 2 and values.dtype == np.float32 else np.float64
    )
    np.clip(rounded, low, high, out=rounded)
    rounded[np.isnan(rounded)] = 0
    return rounded.astype(dtype)


def _ends(dtype: np.dtype[Any]) -> tuple[float, float]:
    """The lowest and highest float64 that `dtype` holds."""
    info = np.iinfo(dtype)
    high = float(info.max)
    return float(info.min), high if int(high) <= info.max else float(np.nextafter(high, 0))


def invalid_code(nodata: float | None, dtype: np.dtype[Any]) -> float | None:
    """The stored number for "invalid": `nodata`, or the type's lowest where `dtype` cannot hold that; None for None.

    Example:
        >>> invalid_code(float("nan"), np.dtype(np.int16))
        -32768.0
    """
    if nodata is None or (dtype.kind == "f" and (not np.isfinite(nodata) or abs(nodata) <= float(np.finfo(dtype).max))):
        return nodata
    if dtype.kind == "f":
        return float("nan")
    if dtype.kind == "b":
        return None
    low, high = _ends(dtype)
    return nodata if low <= nodata <= high and float(nodata).is_integer() else low


def stored(voxels: NDArray[Any], dtype: np.dtype[Any], code: float | None) -> NDArray[Any]:
    """Voxels as stored numbers: NaN as `code`, and a valid voxel that lands on `code` moves one step away from it.

    Example:
        >>> stored(np.array([np.nan, 0.2, 7.0]), np.dtype(np.uint8), 0.0).tolist()
        [0, 1, 7]
    """
    numbers = saturated(voxels, dtype)
    if code is None or np.isnan(code):
        return numbers
    invalid = np.isnan(voxels)
    value = code if dtype.kind == "f" else int(code)
    numbers[(numbers == value) & ~invalid] = _neighbour(value, dtype)
    numbers[invalid] = value
    return numbers


def _neighbour(value: float, dtype: np.dtype[Any]) -> float:
    """The next number of the type: the one above, or the one below the highest."""
    if dtype.kind == "f":
        return float(np.nextafter(dtype.type(value), dtype.type(np.inf)))
    return value + 1 if value < np.iinfo(dtype).max else value - 1
