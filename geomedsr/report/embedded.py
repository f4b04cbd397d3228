"""Voxels as texts that a page can hold: PNG for planes, NIfTI for volumes, each as base64."""

from __future__ import annotations

import base64
import io
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geomedsr.grid import Box, Grid
from geomedsr.image import ImageSpec, Scaling
from geomedsr.io import format_of

__all__ = ["nifti", "picture", "png"]


def png(levels: NDArray[np.uint8]) -> str:
    """A grey picture without loss, as a data URL.

    Shape: (rows, columns)
    """
    return _url(levels, "PNG", optimize=True)


def picture(pixels: NDArray[np.uint8]) -> str:
    """A picture for the eye alone, as a data URL: JPEG, which is small.

    Shape: (rows, columns, 3)
    """
    return _url(pixels, "JPEG", quality=90, subsampling=0)


def _url(pixels: NDArray[np.uint8], form: str, **options: int | bool) -> str:
    from PIL import Image as Picture

    stream = io.BytesIO()
    Picture.fromarray(np.ascontiguousarray(pixels)).save(stream, form, **options)
    return f"data:image/{form.lower()};base64,{base64.b64encode(stream.getvalue()).decode()}"


def nifti(levels: NDArray[np.uint8], grid: Grid, ends: tuple[float, float]) -> str:
    """A volume of levels 1 to 255 that stand for the values between the ends, as a compressed NIfTI in base64.

    Shape: (i, j, k)
    """
    slope = (ends[1] - ends[0]) / 254
    scaling = (Scaling(slope, ends[0] - slope),)
    spec = ImageSpec(grid, ("level",), np.dtype(np.uint8), scaling=scaling)
    values = levels.astype(np.float32) * np.float32(slope) + np.float32(scaling[0].intercept)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "volume.nii.gz"
        sink = format_of(path).create_sink(path, spec, {"level": "9"})
        sink.write(Box.whole(grid.shape), values[None])
        sink.commit()
        return base64.b64encode(path.read_bytes()).decode()
