"""What an image's values say against the work that was asked for, judged by a few boxes of it."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from geomedsr.grid import Box, Shape
from geomedsr.image import ImageSpec, Scaling, Source, Voxels

if TYPE_CHECKING:
    from geomedsr.model import Model

__all__ = ["HOUNSFIELD", "look", "look_boxes", "value_warnings"]

HOUNSFIELD = -150.0
"""No MRI has many values below this; air in CT has -1000, fat -100."""

_EXACT = 2.0**24
"""Up to here float32 holds every whole number."""

_FINE = 2.0**12
"""Values that are so many times larger than their spread leave float32 less than 12 bits to tell them apart."""

_MOST = 1 << 22
"""How many values are read at once, at most, all channels counted."""

_TOLERATED = 0.01


def value_warnings(model: Model, source: Source, asked: ImageSpec, file: str) -> tuple[str, ...]:
    """Sentences where sampled values are not what the model was trained on, or cannot be computed or stored.

    `asked` is the output as it will be written. The image is read only where there is something to doubt.
    """
    doubts = (_outside, _eight_bit, _inexact, _saturated)
    bounds = _bounds(model)
    if bounds is None and not _is_stretched(model, source.spec) and not _may_lose(source.spec, asked):
        return ()
    voxels = look(source)
    found = (doubt(model, source.spec, asked, voxels, file) for doubt in doubts) if np.isfinite(voxels).any() else ()
    return tuple(text for text in found if text)


def look(source: Source, size: int = 48) -> Voxels:
    """The voxels of a few small boxes, from the middle and around it; the boxes of a long series are smaller.

    Shape: (C, n)
    """
    shape, channels = source.spec.grid.shape, len(source.spec.channels)
    size = max(4, min(size, int((_MOST / channels) ** (1 / len(shape)))))
    parts = [source.read(box).reshape(channels, -1) for box in look_boxes(shape, size)]
    return np.concatenate(parts, axis=1)


def look_boxes(shape: Shape, size: int) -> list[Box]:
    """A few boxes of `size` voxels on each axis: one in the middle of an image, others around it."""
    boxes = {_box_at(shape, size, places) for places in _places(len(shape))}
    return sorted(boxes, key=lambda box: box.start)


def _places(ndim: int) -> list[tuple[float, ...]]:
    ends = list(itertools.product((0.25, 0.75), repeat=ndim))
    return [(0.5,) * ndim, *(ends if ndim == 2 else ends[:: len(ends) - 1])]


def _box_at(shape: Shape, size: int, places: tuple[float, ...]) -> Box:
    start = tuple(max(0, min(int(n * place) - size // 2, n - size)) for n, place in zip(shape, places, strict=True))
    return Box(start, tuple(min(a + size, n) for a, n in zip(start, shape, strict=True)))


def _bounds(model: Model) -> tuple[float, float] | None:
    return model.values or ((HOUNSFIELD, math.inf) if model.modality == "mri" else None)


def _is_stretched(model: Model, spec: ImageSpec) -> bool:
    """Whether whole numbers of 8 bits would be taken for reflectance."""
    return model.intensity.name == "reflectance" and spec.dtype.itemsize == 1 and not spec.scaling


def _may_lose(spec: ImageSpec, asked: ImageSpec) -> bool:
    return (
        spec.dtype.itemsize > 4 or (spec.dtype.kind in "iu" and spec.dtype.itemsize == 4) or asked.dtype != spec.dtype
    )


def _outside(model: Model, spec: ImageSpec, asked: ImageSpec, voxels: Voxels, file: str) -> str | None:
    low, high = _bounds(model) or (-math.inf, math.inf)
    valid = voxels[np.isfinite(voxels)]
    outside = float(((valid < low) | (valid > high)).mean())
    if outside <= _TOLERATED:
        return None
    limits = f"outside {low:g} to {high:g}" if math.isfinite(high) else f"below {low:g}, as in CT"
    return (
        f"{outside:.0%} of the values sampled in {file} ({valid.min():.4g} to {valid.max():.4g}) are {limits}, "
        f"which {model.name} was not trained on: judge its result with care."
    )


def _eight_bit(model: Model, spec: ImageSpec, asked: ImageSpec, voxels: Voxels, file: str) -> str | None:
    if not _is_stretched(model, spec):
        return None
    valid = voxels[np.isfinite(voxels)]
    whole = model.intensity.digital
    return (
        f"{file} is {spec.dtype} with values of {valid.min():.4g} to {valid.max():.4g}; {model.name} takes "
        f"reflectances, as whole numbers {whole:g} for 1, and a picture stretched to 8 bits is none: judge its result "
        "with care."
    )


def _inexact(model: Model, spec: ImageSpec, asked: ImageSpec, voxels: Voxels, file: str) -> str | None:
    valid = voxels[np.isfinite(voxels)]
    largest, spread = float(np.abs(valid).max()), float(np.ptp(valid))
    if spec.dtype.kind in "iu" and spec.dtype.itemsize >= 4:
        largest = max(float(np.abs(stored).max(initial=0)) for stored in _stored(voxels, spec.scaling))
        if largest > _EXACT:
            return (
                f"{file} is {spec.dtype} with values up to {largest:.0f}; the work is done in float32, which holds "
                f"whole numbers up to {_EXACT:.0f} exactly: the last digits are lost."
            )
    if spec.dtype == np.float64 and largest > _FINE * spread > 0:
        return (
            f"{file} is float64 with values of {valid.min():.9g} to {valid.max():.9g}; the work is done in float32, "
            "with 7 digits, which leave little of such a difference: subtract an offset first."
        )
    return None


def _saturated(model: Model, spec: ImageSpec, asked: ImageSpec, voxels: Voxels, file: str) -> str | None:
    if asked.dtype == spec.dtype or asked.dtype.kind not in "iu":
        return None
    limits = np.iinfo(asked.dtype)
    stored = np.concatenate(_stored(voxels, asked.scaling))
    outside = float(((stored < limits.min) | (stored > limits.max)).mean())
    if outside <= _TOLERATED:
        return None
    return (
        f"{outside:.0%} of the values sampled in {file} ({stored.min():.4g} to {stored.max():.4g} as they are stored) "
        f"do not fit into {asked.dtype}, {limits.min} to {limits.max}, and are held at its ends."
    )


def _stored(voxels: Voxels, scaling: tuple[Scaling, ...]) -> list[NDArray[np.float64]]:
    """The valid stored numbers of each channel."""
    each = scaling or (Scaling(),) * len(voxels)
    physical = [channel[np.isfinite(channel)].astype(np.float64) for channel in voxels]
    return [(values - one.intercept) / one.slope for values, one in zip(physical, each, strict=True)]
