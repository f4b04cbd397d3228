"""Whether a model fits an image, and how it is applied to it: channels, axes, factor, and what to warn of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from geomedsr.data.sampling import planar_axes
from geomedsr.errors import ModelError
from geomedsr.grid import Factor, Grid, Shape, as_factor
from geomedsr.image import ImageSpec
from geomedsr.run.channels import choose_channels, contradiction, parse_bands

if TYPE_CHECKING:
    from geomedsr.model import Model

__all__ = ["BASELINES", "Fit", "fit", "kind_of", "scale_factor", "spacing_in", "spacing_warning"]

BASELINES = ("nearest", "linear", "cubic", "lanczos")
"""The models of `geomedsr.model.BASELINES`, named here so that a list of models needs no torch."""


@dataclass(frozen=True, slots=True)
class Fit:
    """How a model is applied to an image."""

    channels: tuple[int, ...] | None
    axes: tuple[int, ...] | None
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def kind_of(spec: ImageSpec) -> str | None:
    """What an image seems to be: "medical" (a volume, or in millimetres), "raster" (has a place on earth), or None."""
    if spec.grid.crs or spec.grid.units in ("m", "degree"):
        return "raster"
    return "medical" if spec.grid.units == "mm" or spec.grid.ndim == 3 else None


def fit(model: Model, spec: ImageSpec, file: str, bands: str | None, axes: tuple[int, ...] | None) -> Fit:
    """How the model is applied to an image with this spec.

    Raises:
        ModelError: it cannot be.
    """
    _check_kind(model, spec, file)
    _check_palette(model, spec, file)
    channels, note = _channels(model, spec, file, bands)
    chosen = _axes(model, spec, file, axes)
    doubts = (_contradiction(model, spec, channels, file), spacing_warning(model, spec, chosen, file))
    return Fit(channels, chosen, (note,) if note else (), tuple(doubt for doubt in doubts if doubt))


def _check_kind(model: Model, spec: ImageSpec, file: str) -> None:
    kind = kind_of(spec)
    medical = model.modality in ("mri", "ct")
    if model.modality == "any" or kind is None or medical == (kind == "medical"):
        return
    found = "a medical volume" if kind == "medical" else "a raster with a place on earth"
    raise ModelError(f"{model.name} is made for {model.modality} images; {file} is {found}. See: geomedsr models list.")


def _check_palette(model: Model, spec: ImageSpec, file: str) -> None:
    if spec.extra.get("palette") and model.name != "nearest":
        raise ModelError(
            f"{file} has a colour table: its values are names of classes and cannot be interpolated. Use -m nearest."
        )


def _channels(model: Model, spec: ImageSpec, file: str, bands: str | None) -> tuple[tuple[int, ...] | None, str | None]:
    if bands is None:
        if model.name in BASELINES:
            return None, None
        return choose_channels(model.name, model.channel_names, spec.channels, file)
    index = parse_bands(bands, spec.channels, file)
    wanted = model.task.channels
    if model.name not in BASELINES and wanted not in (1, len(index)):
        names = ", ".join(model.channel_names)
        raise ModelError(f"{model.name} needs {wanted} channels ({names}); --bands {bands} names {len(index)}.")
    return index, None


def _contradiction(model: Model, spec: ImageSpec, channels: tuple[int, ...] | None, file: str) -> str | None:
    """A sentence where the chosen channels are named otherwise; a model of one channel takes any."""
    if len(model.channel_names) < 2:
        return None
    chosen = spec.channels if channels is None else tuple(spec.channels[i] for i in channels)
    return contradiction(model.name, model.channel_names, chosen, file)


def _axes(model: Model, spec: ImageSpec, file: str, axes: tuple[int, ...] | None) -> tuple[int, ...] | None:
    """The axes that a model works on; None where it works on all."""
    has, needs = spec.grid.ndim, model.task.ndim
    if has < needs:
        raise ModelError(f"{model.name} works on volumes of {needs} axes; {file} has {has}.")
    if has == needs:
        if axes is not None and sorted(axes) != list(range(has)):
            raise ModelError(f"{model.name} works on all {has} axes of {file}; leave --axes out.")
        return None
    if axes is None:
        return planar_axes(spec.grid.spacing, spec.grid.shape)
    if len(axes) != needs or len(set(axes)) != needs or not all(0 <= axis < has for axis in axes):
        raise ModelError(
            f"{model.name} works on {needs} axes; --axes takes {needs} different numbers from 0 to {has - 1}."
        )
    return tuple(sorted(axes))


def scale_factor(model: str, fixed: Factor | None, scale: Sequence[int] | None, shape: Shape) -> Factor:
    """The factor that `--scale` gives a model that leaves it open, or the model's own.

    One number is for all axes but those of a single voxel in a volume: a plane kept as a volume stays one plane.

    Raises:
        ModelError: it is missing, or is another than the model's own.
    """
    if fixed is None:
        if scale is None:
            raise ModelError(f"{model} makes an image as much finer as you say: pass --scale 2, or --scale 1,1,4.")
        factor = as_factor(scale, len(shape))
        if len(scale) > 1 or len(shape) < 3 or max(shape) == 1:
            return factor
        return tuple(f if n > 1 else 1 for f, n in zip(factor, shape, strict=True))
    if scale is not None and as_factor(scale, len(fixed)) != fixed:
        own = " x ".join(map(str, fixed))
        raise ModelError(f"{model} makes an image {own} times finer and nothing else; leave --scale out.")
    return fixed


def spacing_warning(model: Model, spec: ImageSpec, axes: tuple[int, ...] | None, file: str) -> str | None:
    """A sentence where the spacing is outside what the model was trained on."""
    if model.spacing is None:
        return None
    low, high = model.spacing
    units = spec.grid.units
    used = tuple(axes or range(spec.grid.ndim))
    trained = f"{low:g} to {high:g} {model.units}".rstrip()
    found = f"{' x '.join(f'{spec.grid.spacing[axis]:.4g}' for axis in used)} {units}".rstrip()
    inside = spacing_in(model.spacing, model.units, used, spec.grid)
    if inside is None:
        return f"{file} has a spacing of {found}, which cannot be compared with the {trained} of {model.name}."
    if inside:
        return None
    return f"{file} has a spacing of {found}; {model.name} was trained on {trained}: judge its result with care."


def spacing_in(trained: tuple[float, float], units: str, axes: tuple[int, ...], grid: Grid) -> bool | None:
    """Whether the spacing on some axes is within what a model was trained on; None where the two cannot be compared."""
    used = [grid.spacing[axis] for axis in axes]
    if grid.metres is not None and units == "m":
        used = [math.sqrt(math.prod(grid.metres))]  # away from the equator no pixel in degrees is a square
    elif grid.units and units and grid.units != units:
        return None
    low, high = trained
    return all(low * 0.99 <= step <= high * 1.01 for step in used)
