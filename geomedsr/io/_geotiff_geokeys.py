"""The GeoKeys of a TIFF, looked at for whether they are whole: GDAL drops what is cut, and gives a wrong CRS or none.

Reference: OGC GeoTIFF standard 1.1 (2019), section 7.1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["GeoKeys"]

_DIRECTORY, _DOUBLES, _TEXT = 34735, 34736, 34737
_NAMES = (2048, 3072)
"""The keys whose value is a CRS's code: geographic, projected."""

_USER_DEFINED = 32767


@dataclass(frozen=True, slots=True)
class GeoKeys:
    """The directory of keys, and how many numbers and letters the tags hold that it points into."""

    values: NDArray[np.uint64]
    doubles: int
    letters: int

    @property
    def is_cut(self) -> bool:
        """Whether a key, or what a key points to, is missing."""
        if len(self.values) < 4 or len(self.values) < 4 * (1 + int(self.values[3])):
            return True
        room = {0: _USER_DEFINED << 1, _DIRECTORY: len(self.values), _DOUBLES: self.doubles, _TEXT: self.letters}
        return any(
            int(place) not in room or (place and int(start) + int(count) > room[int(place)])
            for _, place, count, start in self._keys
        )

    @property
    def names_crs(self) -> bool:
        """Whether a code of a CRS is among them."""
        return any(key in _NAMES and place == 0 and 0 < value < _USER_DEFINED for key, place, _, value in self._keys)

    @property
    def _keys(self) -> NDArray[np.uint64]:
        """Shape: (keys, 4): key, the tag with the value, how many, and where there (or the value itself)."""
        keys = self.values[4 : 4 * (1 + int(self.values[3]))]
        return keys[: len(keys) // 4 * 4].reshape(-1, 4)
