"""What was written, remembered box by box as checksums, and held against what the finished file gives back.

Libraries report a failed write late or never: GDAL by a line in a log, zarr not at all where an object is missing.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

from geomedsr.errors import WriteFailedError
from geomedsr.grid import Box

__all__ = ["Witness"]


class Witness:
    """Sees the stored numbers of each box once, on their way into `target`.

    Example:
        >>> witness = Witness(Path("out.tif"))
        >>> witness.saw(Box.whole((2, 2)), np.eye(2)[None])
        >>> witness.check(lambda box: np.eye(2)[None])
    """

    def __init__(self, target: Path) -> None:
        self._target = target
        self._seen: list[tuple[Box, int]] = []

    def saw(self, box: Box, stored: NDArray[Any]) -> None:
        """Remembers what was stored in a box: (C, *box.shape)."""
        self._seen.append((box, _checksum(stored)))

    def check(self, read: Callable[[Box], NDArray[Any]]) -> None:
        """Reads every box again.

        Raises:
            WriteFailedError: one has other numbers than were stored.
        """
        for box, checksum in self._seen:
            if _checksum(read(box)) != checksum:
                raise WriteFailedError(
                    f"{self._target} did not read back as it was written, in {box.start} to {box.stop}; check the "
                    "disk. It was thrown away, and what was there before is as it was."
                )


def _checksum(stored: NDArray[Any]) -> int:
    """The CRC of numbers in the machine's byte order; there are many NaNs and two zeros, which count as one each."""
    if stored.dtype.kind == "f":
        stored = np.where(np.isnan(stored), np.nan, stored + 0)
    plain = np.ascontiguousarray(stored, stored.dtype.newbyteorder("="))
    return int(isal_zlib.crc32(plain.data.cast("B")))
