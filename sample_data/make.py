"""Makes the two sample images: `python -m sample_data.make [--out FOLDER] [--truth FOLDER]`.

Both are simulated on a finer grid and brought to their own by area averaging, as an instrument does. The finer image
that they were averaged from, twice as fine in each image plane and free of noise, is the truth that a result can be
held against; it is written where `--truth` says.
"""

from __future__ import annotations

import argparse
import gzip
from itertools import product
from pathlib import Path

import nibabel as nib
import numpy as np
import rasterio
import torch
from numpy.typing import NDArray
from rasterio.enums import ColorInterp
from rasterio.transform import Affine

from sample_data.head import Head, Points
from sample_data.noise import Floats
from sample_data.scene import CELL, landscape

HERE = Path(__file__).parent
SEED = 20

HEAD_SHAPE = (192, 224, 36)
HEAD_SPACING = (0.8, 0.8, 1.2)
HEAD_CENTRE = (0.0, -1.0, 9.0)
HEAD_TILT = (12.0, 10.0)
"""Degrees about the first and about the third world axis."""
HEAD_CUT = (2, 2, 3)
"""Simulated points in a voxel on each axis."""
HEAD_SLOPE = 0.5
WHITE_MATTER = 850.0
HEAD_NOISE = 18.0

SCENE_SHAPE = (400, 420)
SCENE_PIXEL = 10.0
SCENE_ORIGIN = (604_200.0, 5_361_800.0)
SCENE_BANDS = (("B2", 492.4), ("B3", 559.8), ("B4", 664.6), ("B8", 832.8))
SCENE_SCALE = 0.0001
SCENE_BLUR = 0.44
"""Standard deviation of the optics' blur in pixels: an MTF of 0.25 at Nyquist together with the pixel itself."""


def rotation() -> NDArray[np.float64]:
    """How the head's slices lie in the world."""
    a, b = np.deg2rad(HEAD_TILT)
    pitch = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    yaw = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
    return np.asarray(pitch @ yaw)


def head_affine(factor: tuple[int, int, int] = (1, 1, 1)) -> NDArray[np.float64]:
    """The affine of the head's voxel centres, on a grid `factor` times finer that covers the same place."""
    affine = np.eye(4)
    affine[:3, :3] = rotation() * HEAD_SPACING / np.array(factor)
    middle = (np.array(HEAD_SHAPE) * factor - 1) / 2
    affine[:3, 3] = np.array(HEAD_CENTRE) - affine[:3, :3] @ middle
    return affine


def head_fine(head: Head, rows: range, slices: range) -> Floats:
    """The signal of some rows and slices, averaged over the slices' thickness, twice as fine in plane.

    The shading is that of a receive coil.
    """
    affine = head_affine(HEAD_CUT)
    # One point more on both sides, since the head needs the gradients of its folds.
    index = [
        np.arange(part.start * cut - 1, part.stop * cut + 1)
        for part, cut in zip((rows, range(HEAD_SHAPE[1]), slices), HEAD_CUT, strict=True)
    ]
    grid = np.stack(np.meshgrid(*index, indexing="ij"))
    world = np.tensordot(affine[:3, :3], grid, 1) + affine[:3, 3, None, None, None]
    x, y, z = (torch.from_numpy(axis.astype(np.float32)) for axis in world)
    spacing = [edge / cut for edge, cut in zip(HEAD_SPACING, HEAD_CUT, strict=True)]
    signal = head.signal(Points(x, y, z, (spacing[0], spacing[1], spacing[2])))
    shading = 1.02 + 0.11 * torch.cos((x - 25) / 70) * torch.cos((y + 30) / 95) - 0.0016 * z
    shaded = (signal * shading)[1:-1, 1:-1, 1:-1] * (WHITE_MATTER / 0.88)
    thick = shaded.reshape(*shaded.shape[:2], len(slices), HEAD_CUT[2]).mean(dim=3)
    return np.asarray(thick.numpy(), dtype=np.float32)


def head_stored(fine: Floats, rows: range, slices: range) -> NDArray[np.int16]:
    """What the scanner stores of the signal: area average, Rician noise (seeded by slice), steps of `HEAD_SLOPE`."""
    coarse = fine.reshape(len(rows), 2, HEAD_SHAPE[1], 2, len(slices)).mean(axis=(1, 3))
    for number, k in enumerate(slices):
        noise = np.random.default_rng((SEED, k)).normal(0, HEAD_NOISE, (2, *HEAD_SHAPE[:2]))
        real, imaginary = noise[:, rows.start : rows.stop]
        coarse[:, :, number] = np.hypot(coarse[:, :, number] + real, imaginary)
    return np.asarray(np.rint(coarse / HEAD_SLOPE), dtype=np.int16)


def write_head(path: Path, voxels: NDArray[np.int16], affine: NDArray[np.float64]) -> None:
    """A NIfTI file with both transforms set, and no time in its compression."""
    image = nib.Nifti1Image(voxels, affine)
    image.set_qform(affine, code=1)
    image.set_sform(affine, code=1)
    image.header.set_slope_inter(HEAD_SLOPE, 0)
    image.header.set_xyzt_units("mm")
    image.header["descrip"] = b"simulated T1 head, no person"
    image.header["cal_max"] = 1.25 * WHITE_MATTER
    path.write_bytes(gzip.compress(image.to_bytes(), 9, mtime=0))


def make_head(out: Path, truth: Path | None) -> None:
    """Writes `mri_t1.nii.gz`, made piece by piece."""
    head = Head(SEED)
    fine = np.empty((2 * HEAD_SHAPE[0], 2 * HEAD_SHAPE[1], HEAD_SHAPE[2]), dtype=np.float32)
    for row, k in product(range(0, HEAD_SHAPE[0], 32), range(0, HEAD_SHAPE[2], 4)):
        fine[2 * row : 2 * (row + 32), :, k : k + 4] = head_fine(head, range(row, row + 32), range(k, k + 4))
    stored = head_stored(fine, range(HEAD_SHAPE[0]), range(HEAD_SHAPE[2]))
    write_head(out / "mri_t1.nii.gz", stored, head_affine())
    if truth:
        exact = np.asarray(np.rint(fine / HEAD_SLOPE), dtype=np.int16)
        write_head(truth / "mri_t1_truth.nii.gz", exact, head_affine((2, 2, 1)))


def blurred(bands: Floats, sigma: float) -> Floats:
    """The bands after a Gaussian blur, `sigma` in cells."""
    reach = int(np.ceil(4 * sigma))
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma) ** 2)
    kernel = (kernel / kernel.sum()).reshape(1, 1, 1, -1)
    image = torch.from_numpy(bands)[:, None]
    for turned in (kernel, kernel.transpose(2, 3)):
        pad = (reach, reach, 0, 0) if turned is kernel else (0, 0, reach, reach)
        image = torch.nn.functional.conv2d(torch.nn.functional.pad(image, pad, mode="replicate"), turned)
    return np.asarray(image[:, 0].numpy(), dtype=np.float32)


def scene_seen(land: Floats, pixel: float) -> Floats:
    """The landscape through optics whose blur is that of a sensor with this pixel (m), averaged over its pixels."""
    cells = round(pixel / CELL)
    bands, rows, columns = land.shape
    blur = blurred(land, SCENE_BLUR * cells)
    blocks = blur.reshape(bands, rows // cells, cells, columns // cells, cells)
    return np.asarray(blocks.mean(axis=(2, 4)), dtype=np.float32)


def swath(shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Where the sensor saw the ground: right of a slanted edge that cuts the upper left corner."""
    row, column = np.meshgrid(np.arange(shape[0]), np.arange(shape[1]), indexing="ij")
    return np.asarray((column + 0.5) / shape[1] + 0.26 * (row + 0.5) / shape[0] > 0.16)


def scene_stored(seen: Floats, noise: float) -> NDArray[np.uint16]:
    """What is stored: photon and read noise (`noise` 1 is the sensor's), steps of `SCENE_SCALE`, 0 off the swath."""
    sigma = noise * np.sqrt(0.0009**2 + 0.0045**2 * seen)
    noisy = seen + sigma * np.random.default_rng((SEED, 99)).standard_normal(seen.shape)
    stored = np.clip(np.rint(noisy / SCENE_SCALE), 1, 10_000)
    return np.where(swath((seen.shape[1], seen.shape[2])), stored, 0).astype(np.uint16)


def write_scene(path: Path, stored: NDArray[np.uint16], pixel: float) -> None:
    """A tiled GeoTIFF with band names, wavelengths, scale and nodata."""
    profile = {"driver": "GTiff", "dtype": "uint16", "count": 4, "crs": "EPSG:32632", "nodata": 0}
    layout = {"tiled": True, "blockxsize": 128, "blockysize": 128, "compress": "deflate", "predictor": 2, "zlevel": 9}
    east, north = SCENE_ORIGIN
    placed = Affine(pixel, 0, east, 0, -pixel, north)
    size = {"height": stored.shape[1], "width": stored.shape[2], "transform": placed}
    with rasterio.open(path, "w", **profile, **layout, **size) as file:
        file.write(stored)
        file.scales = (SCENE_SCALE,) * 4
        file.colorinterp = (ColorInterp.blue, ColorInterp.green, ColorInterp.red, ColorInterp.undefined)
        file.update_tags(SIMULATED="a landscape that is nowhere", QUANTITY="surface reflectance")
        for number, (name, wavelength) in enumerate(SCENE_BANDS, start=1):
            file.set_band_description(number, name)
            file.update_tags(number, CENTRE_WAVELENGTH_NM=str(wavelength))


def make_land() -> Floats:
    """The landscape on the simulation's cells."""
    cells = round(SCENE_PIXEL / CELL)
    return landscape(SCENE_SHAPE[0] * cells, SCENE_SHAPE[1] * cells, SEED)


def make_scene(out: Path, truth: Path | None) -> None:
    """Writes `scene.tif`."""
    land = make_land()
    write_scene(out / "scene.tif", scene_stored(scene_seen(land, SCENE_PIXEL), 1.0), SCENE_PIXEL)
    if truth:
        write_scene(truth / "scene_truth.tif", scene_stored(scene_seen(land, SCENE_PIXEL / 2), 0.0), SCENE_PIXEL / 2)


def main() -> None:
    """Reads the arguments and makes both images."""
    parser = argparse.ArgumentParser(description="Make the sample images.")
    parser.add_argument("--out", type=Path, default=HERE, help="where the images go")
    parser.add_argument(
        "--truth", type=Path, default=None, help="where the finer images go that they were averaged from"
    )
    arguments = parser.parse_args()
    for folder in filter(None, (arguments.out, arguments.truth)):
        folder.mkdir(parents=True, exist_ok=True)
    make_head(arguments.out, arguments.truth)
    make_scene(arguments.out, arguments.truth)


if __name__ == "__main__":
    main()
