"""The check after the work: the written file is opened again and compared with what was promised."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from geomedsr.errors import WrongOutputError
from geomedsr.grid import Grid
from geomedsr.image import ImageSpec
from geomedsr.io import boundless, format_of
from geomedsr.run.channels import MADE_UP
from geomedsr.run.description import crs_name
from geomedsr.run.glance import Seen

__all__ = ["Checked", "check_output", "differences"]


@dataclass(frozen=True, slots=True)
class Checked:
    """What was read back from an output, by how many of its voxels its corners miss the input's, and what a glance
    at its values saw.
    """

    spec: ImageSpec
    corner_error: float
    seen: Seen = field(default_factory=Seen)

    def __str__(self) -> str:
        shape = " x ".join(map(str, self.spec.grid.shape))
        spacing = " x ".join(f"{value:.6g}" for value in self.spec.grid.spacing)
        place = f"{spacing} {self.spec.grid.units}".rstrip()
        seen = f", {self.seen}" if str(self.seen) else ""
        return f"{shape} voxels of {place}, {self.spec.dtype}, corners within {self.corner_error:.1e} voxel{seen}"


def check_output(
    target: Path,
    promised: ImageSpec,
    before: ImageSpec | None = None,
    *,
    name: Path | None = None,
    rest: str = "It was thrown away",
) -> Checked:
    """Opens an output again and compares it with what was promised (an input without a place asks for none).

    It is called `name` when it is told of: while it is staged, that is where it is going to be. `rest` is what becomes
    of one that is wrong.

    Raises:
        WrongOutputError: they differ.
    """
    with boundless():
        source = format_of(target).open_source(target)
    try:
        written = source.spec
    finally:
        source.close()
    placeless = before is not None and _is_plain(before.grid) and _is_plain(written.grid)
    if placeless:
        promised = replace(promised, grid=written.grid.with_shape(promised.grid.shape))
    found = differences(written, promised)
    if found:
        raise WrongOutputError(
            f"{name or target} did not come out as it should: {'; '.join(found)}. {rest}, and what was there before is "
            "as it was."
        )
    return Checked(written, _corner_error(written, promised))


def differences(written: ImageSpec, promised: ImageSpec) -> list[str]:
    """What of an output is not as promised, each as "what: found, wanted"; empty when all is well."""
    pairs = {
        "shape": (written.shape, promised.shape),
        "dtype": (str(written.dtype), str(promised.dtype)),
        "nodata": (_number(written.nodata), _number(promised.nodata)),
        "channels": (_named(written), _named(promised)),
    }
    found = [f"its {what} is {is_}, not {wanted}" for what, (is_, wanted) in pairs.items() if is_ != wanted]
    if written.grid.crs != promised.grid.crs:
        found.append(f"its CRS is {crs_name(written.grid.crs)}, not {crs_name(promised.grid.crs)}")
    if not found and _corner_error(written, promised) > 1e-3:
        error = _corner_error(written, promised)
        found.append(f"its corners are {error:.2g} voxels from where they should be")
    return found


def _corner_error(written: ImageSpec, promised: ImageSpec) -> float:
    """The largest distance between corners, in voxels of the output."""
    distance = np.abs(written.grid.corners - promised.grid.corners).max()
    return float(distance / min(promised.grid.spacing))


def _is_plain(grid: Grid) -> bool:
    return grid.crs is None and grid.affine == Grid.plain(grid.shape).affine


def _named(spec: ImageSpec) -> tuple[str, ...]:
    """The channels' names without those that a format made up; one channel alone needs none."""
    return tuple("" if MADE_UP.fullmatch(name) or len(spec.channels) == 1 else name for name in spec.channels)


def _number(value: float | None) -> str:
    """A nodata value to compare and to show: NaN equals NaN."""
    return "none" if value is None else f"{value:.9g}"
