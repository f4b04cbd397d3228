"""Claim: `geomedsr verify` passes honest outputs and catches planted faults, without any truth.

Upscales pieces of images (those in sample_data, and real ones where GEOMEDSR_DATA points to them), plants one fault
after the other into the outputs, and lets `verify` judge them. A row shows what the check that is made for a fault
found, and the limit above which it fails.

    python -m benchmarks.verify [--size 256] [--only NAME]
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy import ndimage

from geomedsr.grid import Box
from geomedsr.image import Image, ImageSpec, Voxels
from geomedsr.io import format_of
from geomedsr.run.library import upscale
from geomedsr.run.verifying import verify
from geomedsr.trust.verify import Verification

ROOT = Path(__file__).parents[1]
SLICES = 12


@dataclass(frozen=True)
class Case:
    """An image and how it is upscaled; of the `corner` or the middle of it a piece is taken."""

    name: str
    path: Path
    model: str
    choices: Mapping[str, object]
    corner: bool = False


@dataclass(frozen=True)
class Fault:
    """What is done to an output, and the check that must fail."""

    name: str
    check: str
    plant: Callable[[Image, np.random.Generator], Image | None]
    required: bool = True


@dataclass(frozen=True)
class Row:
    """What became of a fault in an image; `caught` by the check that is made for it (or too faint to be
    required), `failed` are all that failed.
    """

    case: str
    fault: str
    found: float
    limit: float
    caught: bool
    failed: tuple[str, ...]

    def __str__(self) -> str:
        told = "passes" if not self.failed else f"fails: {', '.join(self.failed)}"
        figures = f"{self.found:10.4g} {self.limit:8.4g}" if np.isfinite(self.found) else f"{'':19}"
        return f"{self.case:34} {self.fault:28} {figures}  {told}"


def cases() -> Iterator[Case]:
    """The images at hand."""
    sample, data = ROOT / "sample_data", os.environ.get("GEOMEDSR_DATA")
    yield Case("sample head, mri-t1-x2", sample / "mri_t1.nii.gz", "mri-t1-x2", {})
    yield Case("sample head, cubic", sample / "mri_t1.nii.gz", "cubic", {"scale": 2})
    yield Case("sample scene, s2-rgbn-x2", sample / "scene.tif", "s2-rgbn-x2", {}, corner=True)
    yield Case("sample scene, cubic", sample / "scene.tif", "cubic", {"scale": 2}, corner=True)
    if not data:
        return
    mri, raster, ct = Path(data, "mri"), Path(data, "raster"), Path(data, "ct")
    for number in ("11", "12"):
        yield Case(f"head sub-{number}, mri-t1-x2", mri / f"ds002748_sub-{number}_T1w.nii.gz", "mri-t1-x2", {})
    bands = {"bands": "B02,B03,B04,B08"}
    yield Case("Aberystwyth, s2-rgbn-x2", raster / "s2_l2a_aberystwyth_10m_10b.tif", "s2-rgbn-x2", bands)
    spain = {"bands": "B2,B3,B4,B8"}
    yield Case("Spain L1C, s2-rgbn-x2", raster / "s2_l1c_spain_sen1floods11_13b.tif", "s2-rgbn-x2", spain)
    yield Case("Bolzano, s2-rgbn-x2", raster / "s2_l2a_bolzano_10m_5b.tif", "s2-rgbn-x2", {"bands": "1,2,3,4"})
    yield Case("Zion Landsat 8, cubic", raster / "landsat8_zion_30m_b2-b5.tif", "cubic", {"scale": 2})
    yield Case("chest CT, cubic", ct / "lidc0314_chest_1mm_crop.nii.gz", "cubic", {"scale": 2})


def faults() -> tuple[Fault, ...]:
    """What is planted."""
    return (
        Fault("none", "", lambda image, rng: image),
        Fault("shift of half a voxel", "shift", shifted),
        Fault("lost nodata", "nodata", without_nodata),
        Fault("swapped axes", "geometry", swapped),
        Fault("swapped axes, shape kept", "consistency", turned),
        Fault("seam of 1 % of the range", "seam", seam),
        Fault("band clipped at 98 %", "saturation", clipped),
        *(Fault(f"disc of {h:.0%} of the range", "structure", disc(h), h >= 0.1) for h in (0.05, 0.1, 0.2)),
    )


def spans(image: Image) -> np.ndarray:
    """The range of each channel, but for one in a thousand at either end."""
    flat = image.voxels.reshape(len(image.voxels), -1)
    low, high = np.nanquantile(flat, (0.001, 0.999), axis=1)
    return np.asarray(high - low)


def shifted(image: Image, rng: np.random.Generator) -> Image:
    """Moved by half a voxel of the output along a refined axis, by cubic splines."""
    filled = np.nan_to_num(image.voxels)
    moved = np.stack([ndimage.shift(c, [0.5, *[0.0] * (c.ndim - 1)], order=3, mode="nearest") for c in filled])
    return replace_voxels(image, np.where(np.isnan(image.voxels), np.nan, moved))


def without_nodata(image: Image, rng: np.random.Generator) -> Image | None:
    """Invalid voxels become the mean of the valid ones; where there are none, there is nothing to lose."""
    if np.isfinite(image.voxels).all():
        return None
    return replace_voxels(image, np.where(np.isnan(image.voxels), np.nanmean(image.voxels), image.voxels))


def swapped(image: Image, rng: np.random.Generator) -> Image | None:
    """Rows for columns, the shape with them."""
    voxels = np.swapaxes(image.voxels, 1, 2)
    grid = replace(image.spec.grid, shape=voxels.shape[1:])
    return None if voxels.shape == image.voxels.shape else Image(replace(image.spec, grid=grid), voxels.copy())


def turned(image: Image, rng: np.random.Generator) -> Image:
    """Rows for columns in the largest square, which no shape tells."""
    side = min(image.voxels.shape[1:3])
    voxels = image.voxels.copy()
    voxels[:, :side, :side] = np.swapaxes(image.voxels[:, :side, :side], 1, 2)
    return replace_voxels(image, voxels)


def seam(image: Image, rng: np.random.Generator) -> Image:
    """From a column on, all channels are 1 % of their range brighter."""
    voxels, column = image.voxels.copy(), int(rng.integers(image.voxels.shape[2] // 4, 3 * image.voxels.shape[2] // 4))
    step = 0.01 * spans(image).reshape(-1, *[1] * (voxels.ndim - 1))
    voxels[:, :, column:] += step
    return replace_voxels(image, voxels)


def clipped(image: Image, rng: np.random.Generator) -> Image:
    """One channel never exceeds what 2 % of it did."""
    voxels, channel = image.voxels.copy(), int(rng.integers(len(image.voxels)))
    voxels[channel] = np.minimum(voxels[channel], np.nanquantile(voxels[channel], 0.98))
    return replace_voxels(image, voxels)


def disc(height: float) -> Callable[[Image, np.random.Generator], Image | None]:
    """A structure as large as 4 x 4 voxels of the input (in a volume, in as many slices), in one channel."""

    def plant(image: Image, rng: np.random.Generator) -> Image | None:
        voxels, channel = image.voxels.copy(), int(rng.integers(len(image.voxels)))
        centre = place(image, channel, rng)
        if centre is None:
            return None
        grids = np.ogrid[tuple(slice(0, n) for n in voxels.shape[1:])]
        inside = sum((g - c) ** 2 for g, c in zip(grids[:2], centre[:2], strict=True)) <= 16
        for g, c in zip(grids[2:], centre[2:], strict=True):
            inside = inside & (abs(g - c) <= 4)
        voxels[channel][inside] += height * spans(image)[channel]
        return replace_voxels(image, voxels)

    return plant


def place(image: Image, channel: int, rng: np.random.Generator) -> tuple[int, ...] | None:
    """A place away from the borders at which all is valid and, in a head, inside it."""
    voxels, middle = image.voxels[channel], float(np.nanmean(image.voxels[channel]))
    for _ in range(1000):
        centre = tuple(int(rng.integers(min(16, n // 3), n - min(16, n // 3))) for n in voxels.shape)
        around = voxels[tuple(slice(max(c - 10, 0), c + 11) for c in centre)]
        if np.isfinite(around).all() and (voxels.ndim == 2 or around.mean() > middle):
            return centre
    return None


def replace_voxels(image: Image, voxels: np.ndarray) -> Image:
    """The image with others."""
    return Image(image.spec, voxels.astype(np.float32))


def read(path: Path) -> Image:
    """A whole image."""
    source = format_of(path).open_source(path)
    try:
        return Image(source.spec, source.read(Box.whole(source.spec.grid.shape)))
    finally:
        source.close()


def write(path: Path, spec: ImageSpec, voxels: Voxels) -> Path:
    """A whole image as a file."""
    sink = format_of(path).create_sink(path, spec)
    for box in Box.whole(spec.grid.shape).split(sink.spec.chunks or spec.grid.shape):
        sink.write(box, voxels[(slice(None), *box.slices)])
    sink.commit()
    return path


def piece(path: Path, size: int, folder: Path, *, corner: bool) -> Path:
    """The middle or the corner of an image as a file of its own: not square, so that its axes can be told apart."""
    source = format_of(path).open_source(path)
    shape = source.spec.grid.shape
    wanted = (size, size * 15 // 16, SLICES)[: len(shape)]
    start = tuple(0 if corner else max((n - m) // 2, 0) for n, m in zip(shape, wanted, strict=True))
    box = Box(start, tuple(min(a + m, n) for a, m, n in zip(start, wanted, shape, strict=True)))
    spec = replace(source.spec, grid=source.spec.grid.cropped(box), chunks=None)
    target = folder / f"in{'.nii.gz' if len(shape) == 3 else '.tif'}"
    write(target, spec, source.read(box))
    source.close()
    return target


def rows(case: Case, size: int, planted: tuple[Fault, ...] | None = None) -> Iterator[Row]:
    """What `verify` says of an image's output with each fault."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        before = piece(case.path, size, folder, corner=case.corner)
        out = folder / f"out{''.join(before.suffixes)}"
        upscale(before, out, case.model, **case.choices)
        honest = read(out)
        bands = case.choices.get("bands")
        for number, fault in enumerate(planted or faults()):
            image = fault.plant(honest, np.random.default_rng(number))
            if image is None:
                continue
            wrong = write(folder / f"fault{number}{''.join(before.suffixes)}", image.spec, image.voxels)
            yield row(case.name, fault, verify(wrong, before, bands=str(bands) if bands else None))


def row(case: str, fault: Fault, found: Verification) -> Row:
    """The figures of the check that is made for a fault."""
    failed = tuple(dict.fromkeys(check.name for check in found.checks if check.status == "fail"))
    mine = [check for check in found.checks if check.name == fault.check]
    worst = max(mine, key=lambda check: check.found, default=None)
    if worst is None:
        return Row(case, fault.name, np.nan, np.nan, not failed, failed)
    return Row(case, fault.name, worst.found, worst.limit, fault.check in failed or not fault.required, failed)


def main() -> int:
    """Prints the table; exits with the number of surprises."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--only", default="")
    arguments = parser.parse_args()
    print(f"{'image':34} {'fault':28} {'found':>10} {'limit':>8}  verify")
    surprises = 0
    for case in cases():
        if arguments.only not in case.name:
            continue
        for one in rows(case, arguments.size):
            surprises += not one.caught
            print(f"{one}{'' if one.caught else '   <- SURPRISE'}", flush=True)
    print(f"{surprises} surprises")
    return min(surprises, 125)


if __name__ == "__main__":
    sys.exit(main())
