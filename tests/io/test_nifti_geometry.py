"""NIfTI: the image stays in its place, by each form alone, and what the header says stays true."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nibabel.nifti1 import Nifti1Extension
from nibabel.quaternions import quat2mat
from nifti_files import corners, read_whole, unpacked, upscaled_copy, write_nifti, write_whole
from numpy.typing import NDArray

from geomedsr.grid import Box
from geomedsr.io.nifti import open_source

FACTORS = [(2, 2, 1), (3, 3, 3), (1, 1, 4)]
SHAPE = (7, 5, 3)


@st.composite
def affines(draw: st.DrawFn, *, sheared: bool) -> NDArray[np.float64]:
    """Voxel centres to world: any rotation, flips, spacings and origin; shears where asked for."""
    quaternion = np.array(draw(st.lists(st.floats(-1, 1), min_size=4, max_size=4)))
    length = np.linalg.norm(quaternion)
    quaternion = quaternion / length if length > 0.1 else np.array([1.0, 0, 0, 0])
    zooms = np.array(draw(st.lists(st.floats(0.2, 6), min_size=3, max_size=3)))
    flips = np.array(draw(st.lists(st.sampled_from([1, -1]), min_size=3, max_size=3)))
    shear = np.eye(3)
    if sheared:
        shear[np.triu_indices(3, 1)] = draw(st.lists(st.floats(-0.6, 0.6), min_size=3, max_size=3))
    affine = np.eye(4)
    affine[:3, :3] = quat2mat(quaternion) @ shear @ np.diag(zooms * flips)
    affine[:3, 3] = draw(st.lists(st.floats(-300, 300), min_size=3, max_size=3))
    return affine


def assert_same_extent(before: NDArray[Any], after: NDArray[Any], factor: tuple[int, ...], version: int = 1) -> None:
    """The outer corners agree as far as the format's numbers can say."""
    old = corners(before, SHAPE)
    new = corners(after, tuple(n * f for n, f in zip(SHAPE, factor, strict=True)))
    # Columns and origin are rounded once each, to half a unit in the last place of float32; nibabel rounds once more.
    roundings = 4 * np.finfo(np.float32 if version == 1 else np.float64).eps
    assert np.abs(new - old).max() <= roundings * np.abs(old).max()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sform=affines(sheared=True),
    qform=affines(sheared=False),
    codes=st.tuples(st.integers(0, 5), st.integers(0, 5)),
    factor=st.sampled_from(FACTORS),
    version=st.sampled_from([1, 2]),
    order=st.sampled_from("<>"),
)
def test_each_form_keeps_its_extent_and_its_code(
    tmp_path: Path, sform: Any, qform: Any, codes: tuple[int, int], factor: Any, version: int, order: str
) -> None:
    def edit(header: Any) -> None:
        header.set_qform(qform, codes[1])
        header.set_sform(sform, codes[0])

    path = write_nifti(tmp_path / "a.nii", np.zeros(SHAPE, "u1"), version=version, order=order, edit=edit)
    upscaled_copy(path, tmp_path / "b.nii", factor)
    before, after = nib.load(path).header, nib.load(tmp_path / "b.nii").header
    assert (int(after["sform_code"]), int(after["qform_code"])) == codes
    assert after.endianness == order
    assert_same_extent(before.get_sform(), after.get_sform(), factor, version)
    if codes[1] or any(before[f"qoffset_{axis}"] or before[f"quatern_{q}"] for axis, q in ("xb", "yc", "zd")):
        assert_same_extent(before.get_qform(), after.get_qform(), factor, version)
    assert_same_extent(before.get_best_affine(), after.get_best_affine(), factor, version)
    for field in ("quatern_b", "quatern_c", "quatern_d"):
        assert before[field] == after[field]
    spacing = before["pixdim"][1:4].astype(np.float64) / factor
    assert np.array_equal(after["pixdim"][1:4], spacing.astype(after["pixdim"].dtype))


def header_in(path: Path) -> Any:
    """The header as it stands in the file; an image of nibabel has its slope set aside."""
    block = path.read_bytes()
    return nib.Nifti1Header(block[:348], check=False) if block[0] == 92 else nib.Nifti2Header(block[:540], check=False)


def test_halving_loses_nothing_but_the_rounding_of_the_origin(tmp_path: Path) -> None:
    affine = np.array([[-0.75, 0, 0, 90], [0, 0.75, 0, -126], [0, 0, 1.5, -72], [0, 0, 0, 1]])

    def edit(header: Any) -> None:
        header.set_qform(affine, 1)
        header.set_sform(affine, 1)

    path = write_nifti(tmp_path / "a.nii", np.zeros(SHAPE, "u1"), edit=edit)
    after = nib.load(upscaled_copy(path, tmp_path / "b.nii", (2, 2, 2)))
    for form in (after.get_sform(), after.get_qform()):
        assert np.array_equal(corners(form, (14, 10, 6)), corners(affine, SHAPE))


def test_without_any_form_the_spacings_speak(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii", np.zeros(SHAPE, "u1"), edit=lambda h: h["pixdim"].__setitem__(1, 0.5))
    grid = open_source(path).spec.grid
    assert list(grid.spacing) == [0.5, 1, 1]
    assert np.array_equal(grid.centre_affine(), nib.load(path).affine)
    after = nib.load(upscaled_copy(path, tmp_path / "b.nii", (2, 2, 2)))
    assert_same_extent(nib.load(path).affine, after.affine, (2, 2, 2))
    assert (int(after.header["sform_code"]), int(after.header["qform_code"])) == (0, 0)
    assert float(after.header["qoffset_x"]) == 0  # a blank form stays blank
    assert not after.header["srow_x"].any()


@pytest.mark.parametrize("forms", ["sform", "qform", "both"])
@pytest.mark.parametrize(
    ("origin", "spacing", "version"),
    [
        ((437280.0, 5673200.0, 0.0), 10.0, 2),  # a map in UTM metres: float32 counts them in halves
        ((-250.0, -250.0, -1400.0), 0.75, 1),  # CT of the legs
        ((90.0, -126.0, -72.0), 0.3, 1),
    ],
)
def test_only_what_lies_too_far_for_float32_becomes_nifti_2(
    tmp_path: Path, origin: tuple[float, ...], spacing: float, version: int, forms: str
) -> None:
    affine = np.diag([spacing, -spacing, spacing, 1.0])
    affine[:3, 3] = origin

    def edit(header: Any) -> None:
        header.set_qform(affine, 0 if forms == "sform" else 1)
        header.set_sform(affine, 0 if forms == "qform" else 3)

    path = write_nifti(tmp_path / "a.nii", np.zeros(SHAPE, "u1"), edit=edit, after=extensions())
    upscaled_copy(path, tmp_path / "b.nii", (3, 3, 3))
    after = nib.load(tmp_path / "b.nii")
    assert isinstance(after, nib.Nifti2Image) == (version == 2)
    finer = tuple(3 * n for n in SHAPE)
    assert np.abs(corners(after.affine, finer) - corners(nib.load(path).affine, SHAPE)).max() <= 1e-3 * spacing / 3
    assert len(after.header.extensions) == 3


def test_a_flat_image_with_a_flat_form_keeps_its_extent(tmp_path: Path) -> None:
    def edit(header: Any) -> None:
        header["pixdim"][3] = 0
        header["sform_code"] = 1
        header["srow_x"], header["srow_y"], header["srow_z"] = [0, 0, 0, 9], [2, 0, 0, -3], [0, 3, 0, 5]

    path = write_nifti(tmp_path / "a.nii", np.zeros((7, 5), "u1"), edit=edit)
    assert open_source(path).spec.grid.spacing == (2, 3, 1)
    after = nib.load(upscaled_copy(path, tmp_path / "b.nii", (2, 3, 1))).header
    form = after.get_sform()
    assert np.array_equal(form[:3, :2], [[0, 0], [1, 0], [0, 1]])
    assert np.array_equal(form[:3, 3], [9, -3.5, 4])


@pytest.mark.parametrize("sheared", [False, True])
def test_a_crop_is_placed_by_both_forms(tmp_path: Path, sheared: bool) -> None:
    affine = np.array([[0, -2, 0.5 * sheared, 9], [1.5, 0, 0, -4], [0, 0, 3, 2], [0, 0, 0, 1]])

    def edit(header: Any) -> None:
        header.set_qform(affine, 2)
        header.set_sform(affine, 4)

    path = write_nifti(tmp_path / "a.nii", np.arange(105, dtype="u1").reshape(SHAPE), edit=edit)
    source, box = open_source(path), Box((2, 1, 0), (6, 4, 2))
    spec = replace(source.spec, grid=source.spec.grid.cropped(box))
    after = nib.load(write_whole(tmp_path / "b.nii", spec, source.read(box)))
    moved = affine.copy()
    moved[:3, 3] += affine[:3, :3] @ box.start
    assert np.allclose(after.get_sform(), moved, atol=1e-5)
    assert int(after.header["sform_code"]) == 4
    assert int(after.header["qform_code"]) == (0 if sheared else 2)
    if not sheared:
        assert np.allclose(after.get_qform(), moved, atol=1e-5)


def full(header: Any) -> None:
    """Something in every field that has nothing to do with the shape."""
    header["dim_info"] = 1 | 2 << 2 | 3 << 4
    header["intent_code"], header["intent_name"], header["intent_p1"] = 1001, b"thickness", 2.5
    header["cal_min"], header["cal_max"], header["toffset"] = 10, 900, 0.5
    header["descrip"], header["aux_file"] = b"5.0.10 TE=3.2", b"aux.txt"
    header["slice_start"], header["slice_end"], header["slice_code"], header["slice_duration"] = 0, 2, 3, 0.05
    header["scl_slope"], header["scl_inter"] = 2, -100
    header["qform_code"], header["sform_code"] = 1, 0
    header["pixdim"][:5] = -1, 0.5, 0.5, 2, 2.2
    header["quatern_b"], header["quatern_c"], header["qoffset_x"] = 0.25, 0.5, 30


@pytest.mark.parametrize("version", [1, 2])
def test_the_header_survives(tmp_path: Path, version: int) -> None:
    path = write_nifti(tmp_path / "a.nii", np.ones((*SHAPE, 2), "i2"), version=version, edit=full)
    upscaled_copy(path, tmp_path / "b.nii", (2, 2, 1))
    before, after = header_in(path), header_in(tmp_path / "b.nii")
    assert after["descrip"].item() == b"5.0.10 TE=3.2; geomedsr"
    changed = {field for field in before if not np.array_equal(before[field], after[field])}
    assert changed == {"descrip", "dim", "pixdim", "qoffset_x", "qoffset_y", "qoffset_z"}


@pytest.mark.parametrize(
    ("axis", "factor", "stays"), [(3, (2, 2, 1), True), (3, (1, 1, 4), False), (1, (1, 1, 4), True)]
)
def test_slice_times_go_when_the_slices_do(tmp_path: Path, axis: int, factor: Any, stays: bool) -> None:
    def edit(header: Any) -> None:
        full(header)
        header["dim_info"] = axis << 4

    path = write_nifti(tmp_path / "a.nii", np.ones(SHAPE, "i2"), edit=edit)
    after = nib.load(upscaled_copy(path, tmp_path / "b.nii", factor)).header
    times = [float(after[f"slice_{name}"]) for name in ("start", "end", "code", "duration")]
    assert times == pytest.approx([0, 2, 3, 0.05] if stays else [0, 0, 0, 0])
    assert int(after["dim_info"]) == axis << 4


@pytest.mark.parametrize(
    ("before", "after"),
    [(b"", b"geomedsr"), (b"x" * 69, b"x" * 69 + b"; geomedsr"), (b"x" * 70, b"x" * 70), (b"y; geomedsr",) * 2],
)
def test_the_name_is_signed_where_it_fits(tmp_path: Path, before: bytes, after: bytes) -> None:
    path = write_nifti(tmp_path / "a.nii", np.ones(SHAPE, "i2"), edit=lambda h: h.__setitem__("descrip", before))
    out = nib.load(upscaled_copy(path, tmp_path / "b.nii", (1, 1, 1)))
    assert out.header["descrip"].item() == after


def extensions() -> bytes:
    contents = [(6, b"a comment"), (4, b"<xml/>" * 30), (0, bytes(range(24)))]
    found = b"\1\0\0\0"
    for code, content in contents:
        size = (len(content) + 8 + 15) // 16 * 16
        found += np.array([size, code], "<i4").tobytes() + content.ljust(size - 8, b"\0")
    return found


@pytest.mark.parametrize("before", ["a.nii", "a.nii.gz", "a.hdr"])
@pytest.mark.parametrize("after", ["b.nii", "b.nii.gz", "b.hdr", "b.hdr.gz"])
def test_extensions_survive(tmp_path: Path, before: str, after: str) -> None:
    path = write_nifti(tmp_path / before, np.ones(SHAPE, "i2"), after=extensions())
    upscaled_copy(path, tmp_path / after, (2, 1, 1))
    out = nib.load(tmp_path / after)
    found = [(e.get_code(), e.content) for e in out.header.extensions]
    assert found == [(e.get_code(), e.content) for e in nib.load(path).header.extensions]
    assert isinstance(out.header.extensions[0], Nifti1Extension)
    assert np.array_equal(np.asarray(out.dataobj), np.ones((14, 5, 3)))
    assert unpacked(tmp_path / after)[348 : 348 + len(extensions())] == extensions()
    assert read_whole(tmp_path / after).shape == (1, 14, 5, 3)
