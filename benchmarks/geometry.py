"""Claim: every file comes out in exactly the right place, with all that it said besides its voxels.

Upscales every NIfTI and every raster below a folder by the command line, then compares input and output with nibabel
and rasterio alone: shape, the world coordinates of the corners, CRS, nodata mask, band names, tags, dtype.

    python -m benchmarks.geometry FOLDER [--model cubic] [--scale 2]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import warnings
from itertools import product
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import ColorInterp

NIFTI = (".nii", ".nii.gz")
RASTER = (".tif", ".tiff", ".jp2", ".vrt")
VOLATILE = ("STATISTICS_", "TIFFTAG_SOFTWARE", "OVR_", "GEOMEDSR_PROVENANCE")


def main() -> int:
    """Prints a row a file; exits with the number of files that came out wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="cubic")
    parser.add_argument("--scale", type=int, default=2)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", category=rasterio.errors.NotGeoreferencedWarning)
    files = [p for p in sorted(arguments.folder.rglob("*")) if p.name.lower().endswith(NIFTI + RASTER)]
    wrong = 0
    print(f"{'file':52} {'corners moved / extent':>22}  differences")
    for path in files:
        with tempfile.TemporaryDirectory() as scratch:
            row, failed = one(path, Path(scratch), arguments.model, arguments.scale)
        wrong += failed
        print(row, flush=True)
    print(f"{len(files)} files, {wrong} wrong")
    return min(wrong, 125)


def one(path: Path, scratch: Path, model: str, scale: int) -> tuple[str, bool]:
    """The row of a file, and whether it came out wrong. A refusal is shown with its sentence."""
    suffix = ".nii.gz" if path.name.endswith(".nii.gz") else path.suffix
    out = scratch / f"out{'.tif' if suffix in RASTER else suffix}"
    command = [sys.executable, "-m", "geomedsr", "upscale", str(path), "-o", str(out), "-m", model, "-q"]
    command += ["--scale", str(scale)] if model in ("nearest", "linear", "cubic", "lanczos") else []
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return f"{path.name:52} {'refused':>22}  exit {done.returncode}: {done.stderr.strip()}", done.returncode != 2
    compare = compare_nifti if path.name.lower().endswith(NIFTI) else compare_raster
    moved, differences = compare(path, out, scale)
    allowed = 1e-9 if compare is compare_raster else nifti_rounding(path)
    bad = bool(differences) or moved > allowed
    return f"{path.name:52} {moved:22.2e}  {'; '.join(differences) or 'none'}{' WRONG' if bad else ''}", bad


def nifti_rounding(path: Path) -> float:
    """How far rounding alone may move a corner: NIfTI-1 keeps its affine in float32, NIfTI-2 in float64."""
    image: Any = nib.load(path)
    return 1e-9 if isinstance(image, nib.Nifti2Image) else 4 * float(np.finfo(np.float32).eps)


def corners(affine: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.float64]:
    """The world coordinates of the outer corners, by an affine that maps voxel edges."""
    ends = np.array(list(product(*[(0.0, float(n)) for n in shape])))
    return np.asarray(ends @ affine[:-1, :-1].T + affine[:-1, -1])


def moved_by(before: NDArray[np.float64], after: NDArray[np.float64]) -> float:
    """The largest distance between corners that should be one, relative to the largest coordinate or extent."""
    size = max(float(np.ptp(before, axis=0).max()), float(np.abs(before).max()))
    return float(np.abs(before - after).max()) / size


def compare_nifti(path: Path, out: Path, scale: int) -> tuple[float, list[str]]:
    """Corners and header, by nibabel alone."""
    a, b = nib.load(path), nib.load(out)
    factor = tuple(round(n / m) for n, m in zip(b.shape[:3], a.shape[:3], strict=True))
    pairs = {
        "shape": (tuple(n * f for n, f in zip(a.shape[:3], factor, strict=True)), b.shape[:3]),
        "factor": (scale in factor and set(factor) <= {1, scale}, True),
        "frames": (a.shape[3:], b.shape[3:]),
        "dtype": (a.header.get_data_dtype(), b.header.get_data_dtype()),
        "qform code": (int(a.header["qform_code"]), int(b.header["qform_code"])),
        "sform code": (int(a.header["sform_code"]), int(b.header["sform_code"])),
        "units": (a.header.get_xyzt_units(), b.header.get_xyzt_units()),
        "scaling": (str(a.dataobj.slope) + str(a.dataobj.inter), str(b.dataobj.slope) + str(b.dataobj.inter)),
        "extensions": (extensions(a), extensions(b)[:-1]),  # the last is our own: how it was made
    }
    moved = [0.0]
    for form in ("get_sform", "get_qform"):
        (first, first_code), (second, _) = getattr(a, form)(coded=True), getattr(b, form)(coded=True)
        if first_code:
            ends = (corners(edges(first), a.shape[:3]), corners(edges(second), b.shape[:3]))
            moved.append(moved_by(*ends))
    return max(moved), [f"{name} {x} -> {y}" for name, (x, y) in pairs.items() if x != y]


def extensions(image: Any) -> list[int]:  # noqa: ANN401  (nibabel has no types)
    """The codes of a header's extensions."""
    return [int(extension.get_code()) for extension in image.header.extensions]


def edges(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """NIfTI's affine maps voxel centres: half a voxel back."""
    moved = np.array(affine, np.float64)
    moved[:3, 3] -= moved[:3, :3].sum(axis=1) / 2
    return moved


def compare_raster(path: Path, out: Path, scale: int) -> tuple[float, list[str]]:
    """Corners, masks and metadata, by rasterio alone."""
    with rasterio.open(path) as a, rasterio.open(out) as b:
        pairs: dict[str, tuple[Any, Any]] = {
            "shape": ((a.height * scale, a.width * scale), (b.height, b.width)),
            "bands": (a.count, b.count),
            "CRS": (a.crs, b.crs),
            "dtypes": (a.dtypes, b.dtypes),
            "nodata": (tuple(map(str, a.nodatavals)), tuple(map(str, b.nodatavals))),
            "band names": (a.descriptions, b.descriptions),
            "scales": (a.scales, b.scales),
            "offsets": (a.offsets, b.offsets),
            "units": (a.units, b.units),
            "colours": (a.colorinterp, b.colorinterp),
            "mask kinds": (a.mask_flag_enums, b.mask_flag_enums),
            "tags": (tags(a), tags(b)),
        }
        differences = [f"{name} {x} -> {y}" for name, (x, y) in pairs.items() if x != y]
        for band in a.indexes if not named_alpha(a) else ():
            finer = np.kron(a.read_masks(band) > 0, np.ones((scale, scale), bool))
            if not np.array_equal(finer, b.read_masks(band) > 0):
                differences.append(f"mask of band {band}: {np.mean(finer != (b.read_masks(band) > 0)):.2%} differ")
        if a.transform.is_identity and a.crs is None:
            return 0.0, [*differences, *([] if b.transform.is_identity else ["a place in the world was invented"])]
        ends = [corners(np.array(d.transform).reshape(3, 3), (d.width, d.height)) for d in (a, b)]
    return moved_by(*ends), differences


def named_alpha(dataset: Any) -> bool:  # noqa: ANN401  (rasterio has no types)
    """Whether a measured band, named as one, counts as alpha only because it is the fourth of four 8-bit bands."""
    bands = zip(dataset.colorinterp, dataset.descriptions, strict=True)
    return any(colour == ColorInterp.alpha and name for colour, name in bands)


def tags(dataset: Any) -> list[dict[str, str]]:  # noqa: ANN401  (rasterio has no types)
    """The tags of the file and of each band, without those that an image of another size makes untrue."""
    every = [dataset.tags(), *[dataset.tags(band) for band in dataset.indexes]]
    kept = [{k: v for k, v in one.items() if not k.startswith(VOLATILE)} for one in every]
    kept[0].setdefault("AREA_OR_POINT", "Area")  # what every GeoTIFF says, and other formats leave out
    return kept


if __name__ == "__main__":
    sys.exit(main())
