"""Between what a band stores and what it means: scale, offset and nodata, without wrapping and without leaks."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Coding", "holds"]


def holds(dtype: np.dtype[Any], value: float | None) -> bool:
    """Whether a dtype can store a value exactly enough to find it again.

    Example:
        >>> holds(np.dtype("uint8"), 255.0), holds(np.dtype("uint8"), -9999.0), holds(np.dtype("int16"), float("nan"))
        (True, False, False)
    """
    if value is None:
        return False
    if dtype.kind == "f":
        return not math.isfinite(value) or abs(value) <= float(np.finfo(dtype).max)
    info = np.iinfo(dtype)
    return math.isfinite(value) and float(value).is_integer() and info.min <= int(value) <= info.max


@dataclass(frozen=True, slots=True)
class Coding:
    """How one band stores physical values: physical = stored * scale + offset; `nodata` is a stored value.

    Example:
        >>> coding = Coding(np.dtype("uint8"), nodata=0.0)
        >>> coding.store(np.array([-5.0, 1.5, 300.0, np.nan], np.float32))
        array([  1,   2, 255,   0], dtype=uint8)
    """

    dtype: np.dtype[Any]
    nodata: float | None = None
    scale: float = 1.0
    offset: float = 0.0

    @property
    def is_plain(self) -> bool:
        """Whether stored values are the physical ones."""
        return self.scale == 1.0 and self.offset == 0.0

    def for_dtype(self, dtype: np.dtype[Any]) -> Coding:
        """The coding in another storage type; a nodata value that does not fit becomes NaN, or none."""
        if self.nodata is None or holds(dtype, self.nodata):
            return replace(self, dtype=dtype)
        return replace(self, dtype=dtype, nodata=math.nan if dtype.kind == "f" else None)

    def physical(self, stored: NDArray[Any]) -> NDArray[np.float32]:
        """The physical values, NaN where the stored value is nodata."""
        with np.errstate(over="ignore", invalid="ignore"):
            if self.is_plain:
                values = stored.astype(np.float32)
            else:
                values = (stored.astype(np.float64) * self.scale + self.offset).astype(np.float32)
        if self.nodata is not None and holds(stored.dtype, self.nodata):
            values[stored == stored.dtype.type(self.nodata)] = np.nan
        return values

    def store(self, values: NDArray[np.float32]) -> NDArray[Any]:
        """What to store: rounded half to even, saturated, NaN as nodata, and no valid value as nodata."""
        exact: NDArray[Any] = values
        if not self.is_plain:
            exact = (values.astype(np.float64) - self.offset) / self.scale
        elif self.dtype.itemsize > 2:
            exact = values.astype(np.float64)
        return self._as_float(exact) if self.dtype.kind == "f" else self._as_integer(exact)

    def _as_float(self, exact: NDArray[Any]) -> NDArray[Any]:
        limit = float(np.finfo(self.dtype).max)
        # An infinity is a value of its own; only what was finite and is too large saturates.
        with np.errstate(over="ignore", invalid="ignore"):
            stored = np.where(np.isinf(exact), exact, np.clip(exact, -limit, limit)).astype(self.dtype)
        if self.nodata is not None and not math.isnan(self.nodata):
            nodata = self.dtype.type(self.nodata)
            inward = 0.0 if nodata else float(np.finfo(self.dtype).tiny)
            stored[stored == nodata] = np.nextafter(nodata, self.dtype.type(inward)) if nodata else inward
            stored[np.isnan(exact)] = nodata
        return np.asarray(stored)

    def _as_integer(self, exact: NDArray[Any]) -> NDArray[Any]:
        low, high = _limits(self.dtype)
        invalid = np.isnan(exact)
        rounded = np.clip(np.rint(exact), low, high)
        rounded[invalid] = 0
        stored = rounded.astype(self.dtype)
        if self.nodata is not None:
            nodata = int(self.nodata)
            hit = stored == nodata
            # To the neighbour on the value's own side, and inward at the ends of the type.
            up = exact[hit] > nodata if low < nodata < high else np.full(int(hit.sum()), nodata <= low)
            stored[hit] = np.where(up, min(nodata + 1, int(high)), max(nodata - 1, int(low))).astype(self.dtype)
            stored[invalid] = nodata
        return np.asarray(stored)


def _limits(dtype: np.dtype[Any]) -> tuple[float, float]:
    """The smallest and largest float64 that a dtype of whole numbers stores without wrapping."""
    info = np.iinfo(dtype)
    high = float(info.max)
    return float(info.min), high if int(high) <= info.max else math.nextafter(high, 0.0)
