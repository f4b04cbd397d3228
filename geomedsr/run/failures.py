"""Where a model fails, shown on the sample images: where it errs most, and what becomes of inputs out of its scope."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from geomedsr.errors import InputError
from geomedsr.grid import Box
from geomedsr.image import Image, Voxels
from geomedsr.io import format_of
from geomedsr.run.simulating import Judge
from geomedsr.stage import Part

if TYPE_CHECKING:
    from geomedsr.model import Model

__all__ = ["Failure", "draw_failures"]

SAMPLES = {"mri": "mri_t1.nii.gz", "ct": "mri_t1.nii.gz", "optical": "scene.tif"}
"""There is no sample of CT: the head stands in for it, its values spread over those of air and bone."""

_SIZES = {2: (192, 192), 3: (96, 112, 36)}
_WINDOW, _STEP, _ENLARGED, _GAP = 96, 8, 2, 6
_COLOURS = 96
_HOUNSFIELD = (1.6, -1000.0)


@dataclass(frozen=True, slots=True)
class Failure:
    """A case, its picture's file name, and what is seen there."""

    name: str
    picture: str
    told: str


def draw_failures(model: Model, folder: Path, samples: Path) -> list[Failure]:
    """Draws each case into the model's folder `pictures` and tells what it shows.

    Raises:
        InputError: the sample images are not there.
    """
    hr, axes = _sample(model, samples)
    (folder / "pictures").mkdir(exist_ok=True)
    return [_drawn(name, part, model, folder, hr, axes) for name, part in _cases(model)]


def _cases(model: Model) -> Iterator[tuple[str, Part | None]]:
    """What is done to the sample, by the heading of the case; None is the model's own degradation."""
    assert model.recipe is not None
    own = model.recipe.nominal
    yield "Where it errs most", None
    yield "An input with 6 % noise", Part.model_validate({"name": own.name, **own.settings, "noise": 0.06})
    if min(model.task.factor) == 1:
        yield "Thin slices with wide gaps", Part.model_validate({"name": "slice_profile", "gap": 0.7})
        return
    yield "An input softer than its spacing says", Part.model_validate({"name": "blind", "blur": 0.8, "mix": 1})
    if own.name != "kspace":
        yield "An input with ringing, as Fourier resampling leaves it", Part(name="kspace")


def _sample(model: Model, samples: Path) -> tuple[Image, tuple[int, int] | None]:
    """The middle of the sample of the model's modality, and the axes that a planar model works on."""
    path = samples / SAMPLES.get(model.modality, "mri_t1.nii.gz")
    if not path.is_file():
        raise InputError(f"There is no {path.name} in {samples}; name the folder of the sample images.")
    source = format_of(path).open_source(path)
    shape, planar = source.spec.grid.shape, model.task.ndim < source.spec.grid.ndim
    size = (*_SIZES[2], 1) if planar else _SIZES[len(shape)]
    start = tuple((n - min(n, m)) // 2 for n, m in zip(shape, size, strict=True))
    box = Box(start, tuple(a + min(n, m) for a, n, m in zip(start, shape, size, strict=True)))
    spec = replace(source.spec, grid=source.spec.grid.cropped(box), extra={}, scaling=(), dtype=np.dtype(np.float32))
    voxels = source.read(box)
    source.close()
    if model.modality == "ct":
        voxels = (voxels * _HOUNSFIELD[0] + _HOUNSFIELD[1]).astype(np.float32)
    return Image(spec, voxels), (0, 1) if planar else None


def _drawn(
    name: str, part: Part | None, model: Model, folder: Path, hr: Image, axes: tuple[int, int] | None
) -> Failure:
    """One case: three panels of the same place, where the model is farthest from the truth."""
    found = {}
    judge = Judge((str(folder),), axes=axes, degradation=part)
    for method, sr, reference in judge.simulated(folder, hr):
        found["cubic" if method == "cubic" else "model"] = sr.voxels
        truth = reference.voxels
    cubic, ours, true = (_plane(voxels, model) for voxels in (found["cubic"], found["model"], truth))
    place = _farthest(ours, true)
    file = f"{'-'.join(name.lower().replace('%', 'percent').replace(',', '').split())}.png"
    _paint([panel[(slice(None), *place)] for panel in (cubic, ours, true)], folder / "pictures" / file)
    span = float(np.nanmax(true) - np.nanmin(true))
    here, all_over = (
        [_psnr(x[at], true[at], span) for x in (ours, cubic)] for at in ((slice(None), *place), (slice(None),))
    )
    told = (
        f"In this place {here[0]:.1f} dB against {here[1]:.1f} dB of cubic; in the whole plane {all_over[0]:.1f} "
        f"against {all_over[1]:.1f} dB."
    )
    return Failure(name, f"pictures/{file}", told)


def _plane(voxels: Voxels, model: Model) -> Voxels:
    """What is drawn: a scene, or the middle plane of a volume that has the finer axes in it."""
    if voxels.ndim == 3:
        return voxels
    across = 2 if max(model.task.factor[:2]) > 1 else 1
    return np.asarray(np.take(voxels, voxels.shape[across + 1] // 2, across + 1), np.float32)


def _farthest(sr: Voxels, hr: Voxels) -> tuple[slice, slice]:
    """The window in which the error is largest, among those without an invalid voxel where there are such."""
    error = np.square(sr - hr).mean(axis=0)
    size = tuple(min(_WINDOW, n) for n in error.shape)
    places = [
        (i, j)
        for i in range(0, error.shape[0] - size[0] + 1, _STEP)
        for j in range(0, error.shape[1] - size[1] + 1, _STEP)
    ]
    sums = [float(error[i : i + size[0], j : j + size[1]].mean()) for i, j in places]
    i, j = places[int(np.nanargmax(sums))] if not np.isnan(sums).all() else places[0]
    return slice(i, i + size[0]), slice(j, j + size[1])


def _psnr(sr: Voxels, hr: Voxels, span: float) -> float:
    return float(10 * np.log10(span**2 / max(float(np.nanmean(np.square(sr - hr))), 1e-20)))


def _paint(panels: list[Voxels], path: Path) -> None:
    """The panels side by side, stretched alike, every voxel as it is, in few colours so that the file is small."""
    from PIL import Image as Picture

    from geomedsr.report.pair import shown_channels

    names = ("blue", "green", "red", "nir")[: len(panels[0])] if len(panels[0]) > 1 else ("grey",)
    shown = list(shown_channels(names, 2))
    low, high = np.nanpercentile(panels[-1][shown], (0.5, 99.5))
    pixels = [_pixels(panel[shown], float(low), float(high)) for panel in panels]
    gap = np.full((pixels[0].shape[0], _GAP, pixels[0].shape[2]), 255, np.uint8)
    row = np.concatenate([part for one in pixels for part in (one, gap)][:-1], axis=1)
    row = np.asarray(np.repeat(np.repeat(row, _ENLARGED, 0), _ENLARGED, 1))
    picture = Picture.fromarray(row[..., 0] if row.shape[2] == 1 else row)
    picture.quantize(_COLOURS).save(path, format="PNG", optimize=True)


def _pixels(panel: Voxels, low: float, high: float) -> NDArray[np.uint8]:
    bright = np.nan_to_num((panel - low) / max(high - low, 1e-9)).clip(0, 1) ** 0.8
    return np.asarray(np.moveaxis(np.rint(255 * bright), 0, -1), np.uint8)
