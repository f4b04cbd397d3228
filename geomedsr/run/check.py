"""The check after the work: the written file is opened again and compared with what was promised."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from geomedsr.errors import FailedError
from geomedsr.image import ImageSpec
from geomedsr.io import format_of

__all__ = ["Checked", "check_output", "differences"]


@dataclass(frozen=True, slots=True)
class Checked:
    """What was read back from an output, and by how many of its voxels its corners miss the input's."""

    spec: ImageSpec
    corner_error: float

    def __str__(self) -> str:
        shape = " x ".join(map(str, self.spec.grid.shape))
        spacing = " x ".join(f"{value:.6g}" for value in self.spec.grid.spacing)
        place = f"{spacing} {self.spec.grid.units}".rstrip()
        return f"{shape} voxels of {place}, {self.spec.dtype}, corners within {self.corner_error:.1e} voxel"


def check_output(target: Path, promised: ImageSpec) -> Checked:
    """Opens an output again and compares it with what was promised.

    Raises:
        FailedError: they differ.
    """
    source = format_of(target).open_source(target)
    try:
        written = source.spec
    finally:
        source.close()
    found = differences(written, promised)
    if found:
        raise FailedError(f"{target} is not what it should be: {'; '.join(found)}.")
    return Checked(written, _corner_error(written, promised))


def differences(written: ImageSpec, promised: ImageSpec) -> list[str]:
    """What of an output is not as promised, each as "what: found, wanted"; empty when all is well."""
    pairs = {
        "shape": (written.shape, promised.shape),
        "CRS": (written.grid.crs, promised.grid.crs),
        "dtype": (str(written.dtype), str(promised.dtype)),
        "nodata": (_number(written.nodata), _number(promised.nodata)),
    }
    found = [f"its {what} is {is_}, not {wanted}" for what, (is_, wanted) in pairs.items() if is_ != wanted]
    if not found and _corner_error(written, promised) > 1e-3:
        error = _corner_error(written, promised)
        found.append(f"its corners are {error:.2g} voxels from where they should be")
    return found


def _corner_error(written: ImageSpec, promised: ImageSpec) -> float:
    """The largest distance between corners, in voxels of the output."""
    distance = np.abs(written.grid.corners - promised.grid.corners).max()
    return float(distance / min(promised.grid.spacing))


def _number(value: float | None) -> str:
    """A nodata value to compare and to show: NaN equals NaN."""
    return "none" if value is None else f"{value:.9g}"
