"""The model in the package that fits an image, by its modality, channels, spacing and the factor asked for, and why."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from geomedsr.data.subject import planar_axes
from geomedsr.errors import InputError, ModelError
from geomedsr.grid import Factor
from geomedsr.image import ImageSpec
from geomedsr.io import format_of
from geomedsr.run.catalogue import Summary, shipped, summary
from geomedsr.run.channels import choose_channels, parse_bands
from geomedsr.run.fit import kind_of, spacing_in
from geomedsr.run.values import HOUNSFIELD, look

__all__ = ["AUTO", "Choice", "choose", "thick_slices"]

AUTO = "auto"

_THICK, _NEARLY_ALIKE = 2.0, 1.5
"""Slices so many times as far apart as their voxels are wide are thick; below the second number a volume is taken as a
whole rather than slice by slice.
"""

_FLAT = 8
"""A volume of fewer slices is none for a network of three axes."""

_CT = 0.01
"""The share of values that only CT has from which an image is taken for one."""

_WORDS = {"mri": "MRI, by its values", "ct": "CT, by its values", "optical": "optical, by its bands"}


@dataclass(frozen=True, slots=True)
class Choice:
    """A model's name, and why it was chosen."""

    name: str
    why: str


@dataclass(frozen=True, slots=True)
class _Wanted:
    """An image and what is asked for, as models are held against it."""

    file: str
    spec: ImageSpec
    modality: str
    scale: tuple[int, ...] | None
    bands: str | None

    @property
    def across(self) -> int | None:
        """The axis that the slices of a volume are stacked along."""
        grid = self.spec.grid
        if grid.ndim != 3:
            return None
        (axis,) = {0, 1, 2} - set(planar_axes(grid.spacing, grid.shape))
        return axis

    @property
    def thickness(self) -> float:
        """How many times as far apart slices are as their voxels are wide; 1 for what has no slices."""
        if self.across is None or self.spec.grid.shape[self.across] < _FLAT:
            return 1.0
        spacing = self.spec.grid.spacing
        within = [step for axis, step in enumerate(spacing) if axis != self.across]
        return spacing[self.across] / math.sqrt(within[0] * within[1])

    def told(self) -> str:
        """The image in words."""
        grid = self.spec.grid
        spacing = f"{' x '.join(f'{step:.4g}' for step in grid.spacing)} {grid.units}".rstrip()
        channels = f", {len(self.spec.channels)} channels" if len(self.spec.channels) > 1 else ""
        ground = f" (about {' x '.join(f'{step:.3g}' for step in grid.metres)} m)" if grid.metres else ""
        return f"{_WORDS[self.modality]}{channels}, {spacing}{ground}"


def choose(path: Path, spec: ImageSpec, scale: tuple[int, ...] | None = None, bands: str | None = None) -> Choice:
    """The model for an image, of those in the package.

    Raises:
        ModelError: none fits; the message says what was found, why each model does not fit, and what to do.
    """
    wanted = _Wanted(path.name, spec, _modality(path, spec), scale, bands)
    models = [one for one in map(summary, shipped()) if one.modality == wanted.modality]
    doubts = {one.name: _doubt(one, wanted) for one in models}
    fitting = [one for one in models if doubts[one.name] is None]
    if not fitting:
        raise ModelError(_nothing(wanted, {name: doubt for name, doubt in doubts.items() if doubt}))
    best = min(fitting, key=lambda one: (_distance(one, wanted), _is_variant(one.name), -(one.gain or 0.0), one.name))
    return Choice(best.name, _why(best, wanted))


def thick_slices(spec: ImageSpec, name: str) -> str | None:
    """A sentence where slices are thick, and a model of the package would make them finer across rather than within."""
    if kind_of(spec) != "medical" or min(summary(name).factor or (1,)) == 1:
        return None
    modality = summary(name).modality
    wanted = _Wanted("", spec, modality, None, None)
    across = [one for one in map(summary, shipped()) if min(one.factor) == 1 and modality in (one.modality, "any")]
    others = [one for one in across if _doubt(one, wanted) is None]
    if wanted.thickness < _THICK or not others:
        return None
    best = min(others, key=lambda one: _distance(one, wanted))
    return (
        f"The slices are {wanted.thickness:.1f} times as far apart as their voxels are wide; {best.name} makes them "
        "finer across the slices."
    )


def _modality(path: Path, spec: ImageSpec) -> str:
    kind = kind_of(spec)
    if kind == "raster":
        return "optical"
    if kind == "medical":
        return "ct" if _has_hounsfield_units(path) else "mri"
    if any(choose_by_name(one, spec) for one in map(summary, shipped()) if one.modality == "optical"):
        return "optical"
    raise ModelError(
        f"{path.name} says neither its place on earth nor that it is in millimetres, so that no model can be chosen "
        "for it; name one with -m. See: geomedsr models list."
    )


def _has_hounsfield_units(path: Path) -> bool:
    source = format_of(path).open_source(path)
    try:
        voxels = look(source)
    finally:
        source.close()
    valid = voxels[np.isfinite(voxels)]
    if not valid.size:
        raise InputError(f"{path.name} has no valid voxel where it was looked at; name a model with -m.")
    return float((valid < HOUNSFIELD).mean()) > _CT


def choose_by_name(one: Summary, spec: ImageSpec) -> bool:
    """Whether an image has all of a model's channels by name."""
    try:
        return choose_channels(one.name, one.channels, spec.channels, "")[1] is None
    except ModelError:
        return False


def _doubt(one: Summary, wanted: _Wanted) -> str | None:
    """Why a model is not for an image, in a few words; None where it is."""
    spec = wanted.spec
    if len(one.factor) > spec.grid.ndim or (len(one.factor) == 3 and min(spec.grid.shape) < _FLAT):
        return f"works on volumes of at least {_FLAT} voxels on each axis"
    if not _has_channels(one, wanted):
        return f"needs {', '.join(one.channels)} by name, or --bands"
    if wanted.scale is not None and not _is_asked(one, wanted):
        return f"makes {_by(one.factor)} times finer"
    if min(one.factor) == 1 and (wanted.thickness < _THICK or one.factor[wanted.across or 0] == 1):
        return f"is for thick slices across axis {1 + max(range(3), key=lambda axis: one.factor[axis])} of the file"
    used = _used(one, wanted)
    if one.spacing is not None and not spacing_in(one.spacing, one.units, used, spec.grid):
        return f"was trained on {one.spacing[0]:g} to {one.spacing[1]:g} {one.units}"
    return None


def _used(one: Summary, wanted: _Wanted) -> tuple[int, ...]:
    """The axes of an image that a model works on."""
    grid = wanted.spec.grid
    return planar_axes(grid.spacing, grid.shape) if len(one.factor) < grid.ndim else tuple(range(grid.ndim))


def _has_channels(one: Summary, wanted: _Wanted) -> bool:
    if len(one.channels) == 1:
        return True
    if wanted.bands is not None:
        return len(parse_bands(wanted.bands, wanted.spec.channels, wanted.file)) == len(one.channels)
    return choose_by_name(one, wanted.spec)


def _is_asked(one: Summary, wanted: _Wanted) -> bool:
    """Whether a factor is the one that `--scale` asks for: one number is for all axes that become finer, as many as the
    image has are for its own axes, of which a planar model leaves that across its slices.
    """
    scale = wanted.scale or ()
    if len(scale) == 1:
        return set(one.factor) - {1} == {scale[0]}
    whole = [1] * wanted.spec.grid.ndim
    for axis, factor in zip(_used(one, wanted), one.factor, strict=True):
        whole[axis] = factor
    return scale in (one.factor, tuple(whole))


def _is_variant(name: str) -> bool:
    """Whether a model is one that is asked for by name: smaller than it could be, or with detail that is made up."""
    return name.endswith(("-tiny", "-gan"))


def _distance(one: Summary, wanted: _Wanted) -> tuple[float, float]:
    """How far a model is from what the image's shape asks for, less is better; then how far its factor is from 2."""
    solid = len(one.factor) == 3
    if wanted.thickness >= _THICK:
        across = one.factor[wanted.across or 0] if solid and min(one.factor) == 1 else 1
        return abs(math.log(wanted.thickness / across)), 0.0
    is_alike = wanted.across is not None and wanted.thickness < _NEARLY_ALIKE
    return float(solid != is_alike), abs(max(one.factor) - 2.0)


def _why(one: Summary, wanted: _Wanted) -> str:
    reasons = [wanted.told()]
    if one.spacing is not None:
        reasons.append(f"trained on {one.spacing[0]:g} to {one.spacing[1]:g} {one.units}")
    if wanted.thickness >= _THICK:
        reasons.append(f"slices {wanted.thickness:.1f} times as far apart as their voxels are wide")
    if one.gain is not None:
        reasons.append(f"{one.gain:+.1f} dB over cubic on its test images")
    return f"{one.name} was chosen for {wanted.file}: {'; '.join(reasons)}; {_by(one.factor)} times finer."


def _nothing(wanted: _Wanted, doubts: dict[str, str]) -> str:
    found = "; ".join(f"{name} {doubt}" for name, doubt in doubts.items())
    asked = f", asked for {_by(wanted.scale)} times finer" if wanted.scale else ""
    scale = ",".join(map(str, wanted.scale or (2,)))
    return (
        f"No model in the package fits {wanted.file} ({wanted.told()}{asked}): {found or 'there is none of its kind'}. "
        f"Name one with -m to use it all the same, or interpolate: -m cubic --scale {scale}."
    )


def _by(factor: Factor) -> str:
    return " x ".join(map(str, factor))
