"""A NIfTI header beside a zarr image, in the form of nifti-zarr: its bytes as the `uint8` array `nifti` of the group.

NGFF has no place for flips, obliques and the codes of the two forms; the header has. It is the header of the finest
level, with all that follows it up to the voxels (the extensions).
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from geomedsr.errors import GeomedsrError, InputError
from geomedsr.grid import Shape
from geomedsr.image import ImageSpec
from geomedsr.io._nifti_header import SIZES, NiftiHeader
from geomedsr.io._nifti_target import target_header

__all__ = ["ARRAY", "KEY", "header_for", "header_from", "header_voxels"]

ARRAY = "nifti"
KEY = "nifti"
"""Under which an `ImageSpec.extra` has a NIfTI header."""

_CUT = {b"nz1\0": b"n+1\0", b"nz2\0": b"n+2\0"}
"""What early nifti-zarr wrote as magic."""


def header_from(voxels: NDArray[np.uint8], name: str, shape: Shape) -> NiftiHeader:
    """The header of an image of this shape that the bytes are.

    Raises:
        InputError: they are no header, or one of another image.
    """
    data = voxels.tobytes()
    size = next((size for size in SIZES if size in (int.from_bytes(data[:4], o) for o in ("little", "big"))), 0)
    block, after = data[:size], data[size:]
    at = 344 if size == 348 else 4
    block = block[:at] + _CUT.get(block[at : at + 4], block[at : at + 4]) + block[at + 4 :]
    header = NiftiHeader.parse(block, after, name)
    if header.grid.shape != shape:
        raise InputError(
            f"{name} is the header of an image of {header.grid.shape}, and the one beside it has {shape}; remove it."
        )
    return header


def header_voxels(header: NiftiHeader) -> NDArray[np.uint8]:
    """The bytes that `header_from` reads."""
    return np.frombuffer(header.block + header.after, np.uint8)


def header_for(spec: ImageSpec, path: Path) -> NiftiHeader | None:
    """The header that tells of an image what NGFF cannot: the source's own while it is true, else one made of it.

    None where NIfTI has no place for the image.
    """
    before = cast(NiftiHeader | None, spec.extra.get(KEY))
    if isinstance(before, NiftiHeader) and _is_true(before, spec):
        return before
    try:
        return target_header(spec, path.name, single=before.is_single if isinstance(before, NiftiHeader) else True)
    except GeomedsrError:
        return None


def _is_true(header: NiftiHeader, spec: ImageSpec) -> bool:
    same = (header.grid, header.dtype, header.scaling) == (spec.grid, spec.dtype, spec.scaling)
    return same and len(header.channels) == len(spec.channels)
