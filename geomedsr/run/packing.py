"""A pack: the images of a recipe as a data folder of its own, which trains on machines that have none of the files.

Each image keeps its name and its place below the folder, so a recipe's patterns find it as they found the file; behind
the name lies a folder with the voxels as zarr and `image.json` with all that a training asks of an image besides.
Neither the files nor the libraries that read them are needed any more. The voxels are the same to the bit: integers
where all of them are such, compressed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geomedsr.errors import InputError, OutputError, WriteFailedError
from geomedsr.grid import Box, Grid
from geomedsr.image import ImageSpec, Source, Voxels
from geomedsr.io import format_of, suffix_of

if TYPE_CHECKING:
    from geomedsr.recipe import Recipe

__all__ = ["Packed", "is_pack", "open_packed", "pack_files", "stem_of"]

_ABOUT, _VOXELS, _INDEX = "image.json", "voxels.zarr", "pack.json"
_FORMAT = 1
_BLOCK = 128
"""Voxels of a chunk along an axis, at most."""

_WHOLE = tuple(np.dtype(name) for name in ("uint8", "int16", "uint16", "int32"))
"""What whole numbers are stored as: the first that holds them all."""


def pack_files(recipe: Recipe, data: Path, out: Path) -> list[Path]:
    """Packs all images that a recipe names below `data` (also true coarse ones and masks), and gives their paths in it.

    Raises:
        RecipeError: a pattern matches nothing, a file is in two parts of the split, or an image cannot be learnt from.
        OutputError: `out` holds something already.
        WriteFailedError: the disk is full, or refuses.
    """
    from geomedsr.run.training import open_subjects

    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise OutputError(f"{out} is not empty; choose another folder, or remove it.")
    if not out.parent.is_dir():
        raise OutputError(f"The folder {out.parent} does not exist; make it first, or choose another output.")
    paths: list[Path] = []

    def opener(path: Path) -> Source:
        paths.append(path)
        return format_of(path).open_source(path)

    open_subjects(recipe, data, opener)  # all that a training checks is checked before anything is written
    try:
        targets = [_packed(path, out / path.relative_to(data)) for path in dict.fromkeys(paths)]
        (out / _INDEX).write_text(json.dumps({"geomedsr_pack": _FORMAT}) + "\n", encoding="utf-8")
    except OSError as error:
        raise WriteFailedError(f"{out} could not be written: {error.strerror or error}.") from error
    return targets


def is_pack(folder: Path) -> bool:
    """Whether a data folder is a pack, complete."""
    return (folder / _INDEX).is_file()


def open_packed(path: Path) -> Source:
    """An image of a pack.

    Raises:
        InputError: there is none, or it is broken.
    """
    from geomedsr.io import zarr_archive

    values = _about(path)
    try:
        grid, dtype = Grid.from_json(values["grid"]), np.dtype(values["dtype"])
        spec = ImageSpec(grid, tuple(values["channels"]), dtype, values["nodata"], has_holes=values["has_holes"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path / _ABOUT} is not understood: {error}.") from error
    return Packed(spec, zarr_archive.open_source(path / _VOXELS))


def stem_of(path: Path) -> str:
    """The name of the packed image without the suffix of its file, whose format need not be known here."""
    return str(_about(path)["stem"])


@dataclass
class Packed:
    """Stored voxels under the spec of the image that they are from."""

    spec: ImageSpec
    source: Source

    def read(self, box: Box) -> Voxels:
        """The voxels of a box."""
        return self.source.read(box)

    def close(self) -> None:
        """Lets go of the stored voxels' handles."""
        self.source.close()


def _about(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((path / _ABOUT).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{path} is no image of a pack: {error}.") from error


def _packed(path: Path, target: Path) -> Path:
    """The image at `path`, written."""
    source = format_of(path).open_source(path)
    spec, stem = source.spec, path.name.removesuffix(suffix_of(path) or "")
    target.mkdir(parents=True)
    _write(source, target / _VOXELS)
    source.close()
    values = {
        "stem": stem,
        "grid": spec.grid.to_json(),
        "channels": list(spec.channels),
        "dtype": str(spec.dtype),
        "nodata": spec.nodata,
        "has_holes": spec.has_holes,
    }
    (target / _ABOUT).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    return target


def _write(source: Source, target: Path) -> None:
    from geomedsr.io import zarr_archive

    # Without its CRS, which the stored grid does not need, and other machines may not know.
    grid, channels = replace(source.spec.grid, crs=None), source.spec.channels
    chunks = tuple(min(n, _BLOCK) for n in grid.shape)
    spec = ImageSpec(grid, channels, _storage(source), chunks=chunks)
    sink = zarr_archive.create_sink(target, spec, {"compressor": "zstd", "layout": "plain"})
    try:
        for box in Box.whole(grid.shape).split(sink.spec.chunks or chunks):
            sink.write(box, source.read(box))
        sink.commit()
    except BaseException:
        sink.abort()
        raise


def _storage(source: Source) -> np.dtype[Any]:
    """The smallest type that holds every voxel as it is."""
    kinds = list(_WHOLE)
    for voxels in _boxes(source):
        if not kinds or not np.isfinite(voxels).all() or (voxels != np.round(voxels)).any():
            return np.dtype(np.float32)
        low, high = float(voxels.min()), float(voxels.max())
        kinds = [kind for kind in kinds if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max]
    return kinds[0] if kinds else np.dtype(np.float32)


def _boxes(source: Source) -> Iterator[Voxels]:
    shape = source.spec.grid.shape
    for box in Box.whole(shape).split(tuple(min(n, _BLOCK) for n in shape)):
        yield source.read(box)
