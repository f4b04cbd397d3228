"""NIfTI files written byte by byte, so that a test knows what is in them."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from geomedsr.grid import Box
from geomedsr.image import ImageSpec, Voxels
from geomedsr.io.nifti import create_sink, open_source

Edit = Callable[[Any], object]

CODES = {"u1": 2, "i2": 4, "i4": 8, "f4": 16, "f8": 64, "i1": 256, "u2": 512, "u4": 768, "i8": 1024, "u8": 1280}


def header_of(stored: NDArray[Any], *, version: int = 1, order: str = "<", edit: Edit | None = None) -> Any:
    """A header for an array of stored numbers (a colour has three or four fields)."""
    header = {1: nib.Nifti1Header, 2: nib.Nifti2Header}[version](endianness=order)
    header["dim"] = [stored.ndim, *stored.shape, *[1] * (7 - stored.ndim)]
    colours = {3: 128, 4: 2304}.get(len(stored.dtype.names or ()))
    header["datatype"] = colours or CODES[stored.dtype.str[1:]]
    header["bitpix"] = 8 * stored.dtype.itemsize
    header["pixdim"] = 1
    header["xyzt_units"] = 2 | 8
    if edit:
        edit(header)
    return header


def write_nifti(
    path: Path,
    stored: NDArray[Any],
    *,
    version: int = 1,
    order: str = "<",
    after: bytes = bytes(4),
    edit: Edit | None = None,
) -> Path:
    """A file (or the pair of an .hdr) with these stored numbers; `after` follows the header."""
    header = header_of(stored, version=version, order=order, edit=edit)
    voxels = stored.astype(stored.dtype.newbyteorder("<" if order == "<" else ">")).tobytes(order="F")
    suffix = path.name[path.name.index(".") :]
    single = suffix.startswith(".nii")
    header["magic"] = header.single_magic if single else header.pair_magic
    header["vox_offset"] = header.template_dtype.itemsize + len(after) if single else 0
    head = header.binaryblock + after
    pack = gzip.compress if suffix.endswith(".gz") else bytes
    if single:
        path.write_bytes(pack(head + voxels))
    else:
        path.write_bytes(pack(head))
        path.with_name(path.name.replace(".hdr", ".img")).write_bytes(pack(voxels))
    return path


def read_whole(path: Path) -> Voxels:
    """All voxels of a file."""
    source = open_source(path)
    return source.read(Box.whole(source.spec.grid.shape))


def write_whole(path: Path, spec: ImageSpec, voxels: NDArray[Any], options: dict[str, str] | None = None) -> Path:
    """A file of all voxels at once."""
    sink = create_sink(path, spec, options)
    sink.write(Box.whole(spec.grid.shape), np.asarray(voxels, dtype=np.float32))
    sink.commit()
    return path


def upscaled_copy(path: Path, target: Path, factor: tuple[int, ...]) -> Path:
    """The image of a file, each voxel repeated."""
    source = open_source(path)
    voxels = source.read(Box.whole(source.spec.grid.shape))
    for axis, count in enumerate(factor, 1):
        voxels = np.repeat(voxels, count, axis=axis)
    return write_whole(target, source.spec.upscaled(factor), voxels)


def unpacked(path: Path) -> bytes:
    """A file's bytes, decompressed where its name says so."""
    data = path.read_bytes()
    return gzip.decompress(data) if path.name.endswith(".gz") else data


def corners(affine: NDArray[Any], shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Where the outer corners of an image are, of an affine of voxel centres as nibabel gives it."""
    ends = np.array(np.meshgrid(*[(-0.5, n - 0.5) for n in shape[:3]], indexing="ij")).reshape(3, -1)
    return np.asarray((affine[:3, :3].astype(np.float64) @ ends).T + affine[:3, 3])
