"""The header of an output: everything of the input's header that is still true, and the new geometry."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from geomedsr.errors import GridError, InputError, OutputError
from geomedsr.grid import Factor, Grid
from geomedsr.image import ImageSpec
from geomedsr.io._coding import PLAIN
from geomedsr.io._nifti_extensions import with_provenance
from geomedsr.io._nifti_header import CODES, NiftiHeader, qform_of, sform_of, thickened

__all__ = ["target_header", "volume_grid"]

_SIGNATURE = b"geomedsr"
_LONGEST_DESCRIP = 79  # 80 bytes with the zero at the end
_MOST_VOXELS = 32767  # on an axis of NIfTI-1
_UNIT_CODES = {"m": 1, "mm": 2, "um": 3}
_SCANNER, _ALIGNED = 1, 2
_COLOUR_CODES = {3: 128, 4: 2304}


def target_header(spec: ImageSpec, name: str, *, single: bool) -> NiftiHeader:
    """The header for an image to be written, in one file or beside the voxels' file.

    Raises:
        OutputError: NIfTI has no place for such an image.
    """
    remembered = spec.extra.get("nifti")
    source = remembered if isinstance(remembered, NiftiHeader) else None
    draft = _Draft.of(source) if source else _Draft.fresh(spec)
    draft.set_voxels(spec, source)
    draft.set_place(volume_grid(spec.grid), source)
    draft.sign()
    return draft.finished(name, source, single=single, provenance=spec.provenance)


def volume_grid(grid: Grid) -> Grid:
    """A grid of 3 axes: a flat one becomes one voxel thick, its centre at height 0.

    Raises:
        OutputError: it has neither 2 nor 3 axes.
    """
    if grid.ndim == 3:
        return grid
    if grid.ndim != 2:
        raise OutputError(f"NIfTI holds images of 2 or 3 axes; this one has {grid.ndim}.")
    flat, affine = grid.centre_affine(), np.eye(4)
    affine[:2, :2], affine[:2, 3] = flat[:2, :2], flat[:2, 2]
    return Grid.from_centres((*grid.shape, 1), affine, grid.crs, grid.units)


@dataclass
class _Draft:
    """A header under work, as nibabel has it, and the bytes that follow it."""

    fields: nib.Nifti1Header
    after: bytes

    @classmethod
    def of(cls, source: NiftiHeader) -> _Draft:
        return cls(source.fields, source.after)

    @classmethod
    def fresh(cls, spec: ImageSpec) -> _Draft:
        """An empty header, with the units and the CRS in words."""
        fields, crs = nib.Nifti1Header(), spec.grid.crs
        fields["dim"] = [spec.grid.ndim, 1, 1, 1, 1, 1, 1, 1]
        fields["xyzt_units"] = _UNIT_CODES.get(spec.grid.units, 0)
        fields["pixdim"] = 1
        if crs and crs.isascii():
            fields["descrip"] = crs[:_LONGEST_DESCRIP].encode()
        return cls(fields, b"")

    def set_voxels(self, spec: ImageSpec, source: NiftiHeader | None) -> None:
        """Shape, dtype and scaling."""
        components = _components(spec, source)
        shape, frames = volume_grid(spec.grid).shape, len(spec.channels) // components
        if max(*shape, frames) > _MOST_VOXELS:
            self._promote()
        axis = source.channel_axis if source else 4
        dim = self.fields["dim"]
        longest = 4 if frames > 1 else 3 if shape[2] > 1 else 1
        dim[0] = max(int(dim[0]), longest)
        dim[1 : min(int(dim[0]), 3) + 1] = shape[: int(dim[0])]
        if axis <= dim[0]:
            dim[axis] = frames
        scaling = spec.scaling[0] if spec.scaling else PLAIN
        before = (source.layout.components, source.dtype, source.layout.coding.scaling) if source else None
        # Where nothing changes, a slope that scales nothing (0 or NaN) stays as it is.
        if before != (components, spec.dtype, scaling):
            self._set_dtype(spec, components)
            self.fields["scl_slope"], self.fields["scl_inter"] = scaling.slope, scaling.intercept

    def set_place(self, grid: Grid, source: NiftiHeader | None) -> None:
        """Both forms and the spacings, in NIfTI-2 where they need it; slice times where they still hold."""
        self._set_forms(grid, source)
        if not self._is_placed(grid):
            self._promote()
            self._set_forms(grid, source)
        if source:
            self._clear_slices(source, grid)

    def _set_forms(self, grid: Grid, source: NiftiHeader | None) -> None:
        factor = _factor(source.grid, grid) if source else None
        if source is None or factor is None:
            self._place(grid, fresh=source is None)
        elif factor != (1, 1, 1):
            self._refine(source, factor)

    def _is_placed(self, grid: Grid) -> bool:
        """Whether a reader finds the image in its place, to a thousandth of a voxel.

        The float32 of NIfTI-1 is true to that for whatever lies within metres of the origin, not for maps.
        """
        try:
            found = NiftiHeader(self.fields.binaryblock, self.fields.endianness, b"", "the output").grid
        except InputError:
            return False
        return replace(found, crs=grid.crs).same_place(grid)

    def sign(self) -> None:
        """The tool's name at the end of the description, where it fits."""
        text = self.fields["descrip"].item().split(b"\0")[0]
        signed = text if text.endswith(_SIGNATURE) else b"; ".join(part for part in (text, _SIGNATURE) if part)
        if len(signed) <= _LONGEST_DESCRIP:
            self.fields["descrip"] = signed

    def finished(
        self, name: str, source: NiftiHeader | None, *, single: bool, provenance: str | None = None
    ) -> NiftiHeader:
        """The header with its magic and offset right, and an extension that says how the image was made."""
        size = self.fields.template_dtype.itemsize
        self.fields["magic"] = self.fields.single_magic if single else self.fields.pair_magic
        after = with_provenance(self.after, provenance, self.fields.endianness) if provenance else self.after
        if single:
            after = after or bytes(4)
            is_as_before = source is not None and source.is_single and len(source.block) == size
            if not is_as_before:
                after += bytes(-(size + len(after)) % 16)
        self.fields["vox_offset"] = size + len(after) if single else 0
        return NiftiHeader(self.fields.binaryblock, self.fields.endianness, after, name)

    def _promote(self) -> None:
        """Makes it NIfTI-2, which has the same fields, only wider: NIfTI-1 counts to 32767 on an axis."""
        if isinstance(self.fields, nib.Nifti2Header):
            return
        wider = nib.Nifti2Header(endianness=self.fields.endianness)
        for field in set(wider.template_dtype.names) & set(self.fields.template_dtype.names):
            if field not in ("sizeof_hdr", "magic"):
                wider[field] = self.fields[field]
        self.fields = wider

    def _set_dtype(self, spec: ImageSpec, components: int) -> None:
        name = spec.dtype.newbyteorder("=").name
        if name not in CODES:
            raise OutputError(f"NIfTI cannot store {name}; it can store {', '.join(sorted(CODES))}.")
        self.fields["datatype"] = _COLOUR_CODES.get(components, CODES[name])
        self.fields["bitpix"] = 8 * spec.dtype.itemsize * components

    def _refine(self, source: NiftiHeader, factor: Factor) -> None:
        """Each form moves by itself: its columns are divided, its extent stays, its code is left alone."""
        fields, before = self.fields, source.fields
        fields["pixdim"][1:4] = _refined_spacing(before["pixdim"][1:4], factor)
        sform = _refined(sform_of(before), source.grid, factor)
        if sform is not None:
            self._set_sform(_rounded(sform, sform.matrix[:3, :3], fields["srow_x"].dtype))
        qform = _refined(qform_of(before), source.grid, factor) if _has_qform(before) else None
        if qform is not None:
            # The columns as every reader will make them of the rounded spacings.
            columns = qform_of(fields)
            assert columns is not None
            self._set_offset(_rounded(qform, columns[:3, :3], np.dtype(np.float64)))

    def _place(self, grid: Grid, *, fresh: bool) -> None:
        """Both forms anew from a grid that is not the input's cut finer. A sheared one has no qform."""
        fields, affine = self.fields, grid.centre_affine()
        codes = int(fields["sform_code"]), int(fields["qform_code"])
        fresh_code = _ALIGNED if grid.crs else _SCANNER
        fields["pixdim"][1:4] = grid.spacing
        if grid.is_sheared:
            fields["qform_code"] = 0
        elif codes[1] > 0 or fresh:
            fields.set_qform(affine, fresh_code)
            fields["qform_code"] = max(codes[1], 0) or fresh_code
        self._set_sform(_rounded(grid, affine[:3, :3], fields["srow_x"].dtype))
        fields["sform_code"] = next((code for code in codes if code > 0), fresh_code)

    def _set_sform(self, affine: NDArray[np.float64]) -> None:
        for row, field in zip(affine, ("srow_x", "srow_y", "srow_z"), strict=False):
            self.fields[field] = row

    def _set_offset(self, affine: NDArray[np.float64]) -> None:
        for row, field in zip(affine, ("qoffset_x", "qoffset_y", "qoffset_z"), strict=False):
            self.fields[field] = row[3]

    def _clear_slices(self, source: NiftiHeader, grid: Grid) -> None:
        """Slice times are true as long as the slices are the ones that were taken; else they would lie."""
        named = int(self.fields["dim_info"]) >> 4 & 3
        axis = named - 1 if named else 2
        if grid.shape[axis] != source.grid.shape[axis]:
            for field in ("slice_start", "slice_end", "slice_code", "slice_duration"):
                self.fields[field] = 0


def _components(spec: ImageSpec, source: NiftiHeader | None) -> int:
    """How many channels make one stored voxel: 3 or 4 where whole colours are kept, else 1."""
    components = source.layout.components if source else 1
    chosen = spec.extra.get("channels", tuple(range(len(spec.channels))))
    assert isinstance(chosen, tuple)
    is_whole = len(chosen) % components == 0 and all(c % components == i % components for i, c in enumerate(chosen))
    return components if is_whole and spec.dtype == np.uint8 else 1


def _factor(before: Grid, after: Grid) -> Factor | None:
    """How many times finer the grid became, or None where something else happened to it."""
    try:
        factor = after.ratio_to(before)
    except GridError:
        return None
    return factor if before.upscaled(factor).same_place(after) else None


def _refined(affine: NDArray[np.float64] | None, grid: Grid, factor: Factor) -> Grid | None:
    """The finer grid of one form, or None where the form is no affine at all (its code is 0 then)."""
    if affine is None:
        return None
    try:
        return Grid.from_centres(grid.shape, thickened(affine, grid.shape)).upscaled(factor)
    except GridError:
        return None


def _refined_spacing(spacing: NDArray[Any], factor: Factor) -> NDArray[np.float64]:
    """The spacings divided; a single voxel without thickness has the thickness 1 once it is cut."""
    before = np.asarray(spacing, dtype=np.float64)
    is_cut_flat = (before == 0) & (np.array(factor) > 1)
    return np.asarray(np.where(is_cut_flat, 1.0, before) / factor)


def _has_qform(fields: nib.Nifti1Header) -> bool:
    """Whether there is anything in the qform: with code 0 it is often left blank."""
    names = ("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z")
    return int(fields["qform_code"]) > 0 or any(float(fields[name]) != 0 for name in names)


def _rounded(grid: Grid, columns: NDArray[np.float64], dtype: np.dtype[Any]) -> NDArray[np.float64]:
    """The centre affine with columns as the format stores them, the middle of the image held where it is.

    Rounding a column moves the far end of a long axis most; held in the middle, both ends share what is lost.
    """
    affine = np.eye(4)
    affine[:3, :3] = columns.astype(dtype)
    middle = np.array(grid.shape) / 2
    affine[:3, 3] = grid.world(middle.tolist()) - affine[:3, :3] @ (middle - 0.5)
    return affine
