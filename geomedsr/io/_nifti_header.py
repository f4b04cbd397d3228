"""A NIfTI header as a value: its bytes, checked, and what they say of the grid and of the voxels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from geomedsr.errors import GridError, InputError
from geomedsr.grid import Grid, Shape
from geomedsr.image import Scaling
from geomedsr.io._coding import PLAIN, Coding, is_beyond_float32, scaling_of
from geomedsr.io._nifti_layout import Layout

__all__ = ["CODES", "SIZES", "NiftiHeader", "qform_of", "sform_of", "thickened"]

SIZES = {348: nib.Nifti1Header, 540: nib.Nifti2Header}
CODES = {
    **{"uint8": 2, "int16": 4, "int32": 8, "float32": 16, "float64": 64},
    **{"int8": 256, "uint16": 512, "uint32": 768, "int64": 1024, "uint64": 1280},
}
_DTYPES = {code: (name, 1) for name, code in CODES.items()} | {128: ("uint8", 3), 2304: ("uint8", 4)}
_REFUSED = {1: "binary (one bit)", 32: "complex64", 1536: "float128", 1792: "complex128", 2048: "complex256"}
_MAGICS = {b"n+1\0": True, b"n+2\0": True, b"ni1\0": False, b"ni2\0": False}
_FARTHEST = 2**62
_UNITS = {1: "m", 2: "mm", 3: "um"}
_COLOURS = ("red", "green", "blue", "alpha")


@dataclass(frozen=True)
class NiftiHeader:
    """The header of a file, and all bytes between it and the voxels (extensions and padding).

    What an `ImageSpec` of a NIfTI file carries in `extra["nifti"]`. `order` is the byte order, "<" or ">"; `name`
    stands for the file in messages.
    """

    block: bytes
    order: Literal["<", ">"]
    after: bytes
    name: str

    @classmethod
    def parse(cls, block: bytes, after: bytes, name: str) -> NiftiHeader:
        """The checked header.

        Raises:
            InputError: it is no NIfTI header, or it says what cannot be.
        """
        header = cls(block, cls.order_of(block, name), after, name)
        header._check_magic()
        header._check_spacing()
        _ = header.layout, header.grid
        return header

    @staticmethod
    def order_of(block: bytes, name: str) -> Literal["<", ">"]:
        """The byte order in which the header's size makes sense.

        Raises:
            InputError: there is none, or the header is cut short.
        """
        if not block:
            raise InputError(f"{name} is empty.")
        if block[:2] == b"\x1f\x8b":
            raise InputError(f"{name} is gzip-compressed, though its name does not say so; rename it to end in .gz.")
        sizes: dict[Literal["<", ">"], int] = {
            "<": int.from_bytes(block[:4], "little"),
            ">": int.from_bytes(block[:4], "big"),
        }
        order = next((order for order, size in sizes.items() if size in SIZES), None)
        if order is None:
            raise InputError(f"{name} is not a NIfTI file: it starts with {block[:4]!r}, not with 348 or 540.")
        if len(block) < sizes[order]:
            raise InputError(f"{name} is cut short: its header has {sizes[order]} bytes, and {len(block)} are there.")
        return order

    @property
    def fields(self) -> nib.Nifti1Header:
        """A copy of the header as nibabel has it, not checked by nibabel, free to be changed."""
        return SIZES[len(self.block)](self.block, endianness=self.order, check=False)

    @property
    def is_single(self) -> bool:
        """Whether header and voxels are in one file."""
        return _MAGICS[self._magic]

    @property
    def offset(self) -> int:
        """Where in their file the voxels start, in bytes.

        Raises:
            InputError: at a place that cannot be.
        """
        offset = float(self.fields["vox_offset"])
        if self.is_single and offset == 0:
            # By the standard that is byte 0 or 348, by most readers 352: voxels would be taken from the wrong place.
            raise InputError(
                f"{self.name} says that its voxels start at byte 0, in its header; let vox_offset say where they do."
            )
        least = len(self.block) * self.is_single
        if not (math.isfinite(offset) and offset == int(offset) and least <= offset <= _FARTHEST):
            raise InputError(f"{self.name} says that its voxels start at byte {offset:g}, which cannot be.")
        return int(offset)

    @cached_property
    def layout(self) -> Layout:
        """How the voxels lie in the file.

        Raises:
            InputError: too many axes, or a dtype that has no place here.
        """
        dims = self._dims
        long = [n for n in dims[3:] if n > 1]
        if len(long) > 1:
            raise InputError(
                f"{self.name} has the shape {dims}; beyond three axes only one may be longer than 1 (the channels)."
            )
        dtype, components = self._dtype
        scaling = self._scaling if components == 1 else PLAIN
        coding = Coding(dtype.newbyteorder(self.order), scaling=scaling)
        return Layout(self._shape, long[0] if long else 1, components, coding, self.offset)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The storage type in the machine's byte order."""
        return self.layout.coding.dtype.newbyteorder("=")

    @property
    def scaling(self) -> tuple[Scaling, ...]:
        """What stored numbers mean, for each channel alike; empty where they are physical."""
        return scaling_of([self.layout.coding.scaling] * len(self.channels))

    @property
    def channels(self) -> tuple[str, ...]:
        """The names of the channels: frames, colours, or both."""
        frames, components = self.layout.frames, self.layout.components
        colours = _COLOURS[:components] if components > 1 else ("intensity",)
        if frames == 1:
            return colours
        ends = [f" {colour}" if components > 1 else "" for colour in colours]
        return tuple(f"frame {frame + 1}{end}" for frame in range(frames) for end in ends)

    @property
    def channel_axis(self) -> int:
        """The index in `dim` of the axis that holds the frames."""
        dims = self._dims
        return next((axis for axis, n in enumerate(dims, 1) if axis > 3 and n > 1), 4)

    @property
    def doubts(self) -> tuple[str, ...]:
        """What the header says that cannot be meant, in sentences; the voxels are read all the same."""
        fields = self.fields
        slope, bits = float(fields["scl_slope"]), int(fields["bitpix"])
        meant = 8 * self.dtype.itemsize * self.layout.components
        placeless = int(fields["sform_code"]) <= 0 and int(fields["qform_code"]) <= 0
        told = {
            f"has the slope {slope:g}, which scales nothing; its stored numbers are taken as they are": (
                self._is_unscaled
            ),
            "says by neither a qform nor an sform where it lies; its output will not, either": placeless,
            f"says {bits} bits for a voxel (bitpix), and its data type has {meant}; the data type counts": (
                bits not in (0, meant)
            ),
        }
        return tuple(f"{self.name} {text}." for text, holds in told.items() if holds)

    @cached_property
    def grid(self) -> Grid:
        """Where the voxels are: by the sform if it has a code, else by the qform, else by the spacings alone.

        Without any code the image's centre is the world's origin and x runs against i, as nibabel has it. Then the
        extent does not move when the image is made finer, and the codes stay 0.

        Raises:
            InputError: the affine is singular or not finite.
        """
        fields = self.fields
        units = _UNITS.get(int(fields["xyzt_units"]) & 7, "")
        affine: NDArray[np.float64] | None
        if int(fields["sform_code"]) > 0:
            form, affine = "sform", sform_of(fields)
        elif int(fields["qform_code"]) > 0:
            form, affine = "qform", qform_of(fields)
        else:
            form, affine = "set of spacings", fields.get_base_affine()
        if affine is None or (form == "qform" and not np.isfinite(affine).all()):
            raise InputError(f"The qform of {self.name} is no rotation; mend its quaternion, or give it an sform.")
        try:
            return Grid.from_centres(self._shape, thickened(affine, self._shape), units=units)
        except GridError as error:
            raise InputError(f"The {form} of {self.name} gives no place in the world: {error}") from error

    @property
    def _magic(self) -> bytes:
        return self.block[344:348] if len(self.block) == 348 else self.block[4:8]

    @property
    def _dims(self) -> tuple[int, ...]:
        dim = [int(n) for n in self.fields["dim"]]
        if not 1 <= dim[0] <= 7:
            raise InputError(f"The header of {self.name} says {dim[0]} axes; NIfTI has 1 to 7.")
        dims = tuple(dim[1 : dim[0] + 1])
        if min(dims) < 1:
            raise InputError(f"The header of {self.name} says the shape {dims}; each axis has at least one voxel.")
        return dims

    @property
    def _shape(self) -> Shape:
        first = self._dims[:3]
        return first + (1,) * (3 - len(first))

    @property
    def _dtype(self) -> tuple[np.dtype[Any], int]:
        code = int(self.fields["datatype"])
        if code not in _DTYPES:
            found = _REFUSED.get(code, "unknown")
            raise InputError(f"{self.name} stores {found} voxels (code {code}); convert them to a real type first.")
        name, components = _DTYPES[code]
        return np.dtype(name), components

    @property
    def _scaling(self) -> Scaling:
        slope, inter = float(self.fields["scl_slope"]), float(self.fields["scl_inter"])
        if slope == 0 or not math.isfinite(slope):
            return PLAIN
        if not math.isfinite(inter):
            raise InputError(f"{self.name} has the intercept {inter} with the slope {slope:g}; mend scl_inter.")
        if is_beyond_float32(self._dtype[0], scaling := Scaling(slope, inter)):
            raise InputError(
                f"{self.name} has the slope {slope:g}, which makes numbers beyond float32; mend scl_slope."
            )
        return scaling

    @property
    def _is_unscaled(self) -> bool:
        """Whether there is a scaling that is none; NaN alone is how many writers say that they want none."""
        slope, inter = float(self.fields["scl_slope"]), float(self.fields["scl_inter"])
        lost = slope == 0 or math.isinf(slope) or (math.isnan(slope) and math.isfinite(inter) and inter != 0)
        return lost and self.layout.components == 1

    def _check_magic(self) -> None:
        if self._magic in _MAGICS:
            return
        if len(self.block) == 348 and not self._magic.strip(b"\0"):
            raise InputError(
                f"{self.name} is ANALYZE 7.5, which does not say which side is left; convert it to NIfTI first."
            )
        raise InputError(f"{self.name} is not a NIfTI file: its magic is {self._magic!r}.")

    def _check_spacing(self) -> None:
        axes = min(len(self._dims), 3)
        spacing = [float(value) for value in self.fields["pixdim"][1 : axes + 1]]
        # An axis of one voxel may be without thickness.
        if not all(
            math.isfinite(s) and (s > 0 or (s == 0 and n == 1)) for s, n in zip(spacing, self._dims, strict=False)
        ):
            raise InputError(f"{self.name} has the spacing {tuple(spacing)}; each must be positive: mend pixdim.")


def sform_of(fields: nib.Nifti1Header) -> NDArray[np.float64]:
    """The sform, whatever its code: voxel centres to world."""
    return np.asarray(fields.get_sform(), dtype=np.float64)


def qform_of(fields: nib.Nifti1Header) -> NDArray[np.float64] | None:
    """The qform, whatever its code, or None where its quaternion is no rotation."""
    fields = fields.copy()
    fields["pixdim"][0] = -1 if fields["pixdim"][0] < 0 else 1
    try:
        return np.asarray(fields.get_qform(), dtype=np.float64)
    except (ValueError, HeaderDataError):
        return None


def thickened(affine: NDArray[np.float64], shape: Shape) -> NDArray[np.float64]:
    """The affine with a thickness of 1 for an axis of one voxel that has none."""
    affine = np.array(affine, dtype=np.float64)
    flat = [axis for axis in range(3) if shape[axis] == 1 and not affine[:3, axis].any()]
    if flat and np.isfinite(affine).all():
        # The left singular vectors beyond the rank are at right angles to all other axes.
        normals = np.linalg.svd(affine[:3, :3])[0][:, 3 - len(flat) :]
        affine[:3, flat] = normals
    return affine
