"""NIfTI: what is broken is refused in one sentence with the numbers, and a failed output leaves nothing behind."""

from __future__ import annotations

import errno
import gzip
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest
from nifti_files import header_of, read_whole, unpacked, write_nifti, write_whole

from geomedsr.errors import InputError, OutputError, WriteFailedError
from geomedsr.grid import Box, Grid
from geomedsr.image import Image
from geomedsr.io import _gzip
from geomedsr.io.nifti import create_sink, open_source

VOXELS = np.arange(60, dtype="i2").reshape(5, 4, 3)
WHOLE = Box.whole(VOXELS.shape)


def field(name: str, value: Any, index: int | None = None) -> Callable[[Any], object]:
    def edit(header: Any) -> None:
        if index is None:
            header[name] = value
        else:
            header[name][index] = value

    return edit


def singular(header: Any) -> None:
    header["sform_code"] = 1
    header["srow_x"], header["srow_y"], header["srow_z"] = [1, 0, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0]


def not_finite(header: Any) -> None:
    header.set_sform(np.eye(4), 1)
    header["srow_y"][1] = np.nan


def no_rotation(header: Any) -> None:
    header["qform_code"], header["quatern_b"] = 1, 1.5


BAD_HEADERS = {
    "too many voxels": (field("dim", 500, 3), r"claims 5 x 4 x 500 voxels, 20352 bytes, and a.nii has only 472"),
    "an enormous header": (field("dim", [7, *[32767] * 3, 1, 1, 1, 1]), "claims 32767 x 32767 x 32767 voxels"),
    "no axes": (field("dim", 0, 0), "says 0 axes; NIfTI has 1 to 7"),
    "an axis without voxels": (field("dim", -1, 1), r"the shape \(-1, 4, 3\); each axis has at least one voxel"),
    "complex64": (field("datatype", 32), r"stores complex64 voxels \(code 32\); convert"),
    "complex128": (field("datatype", 1792), "stores complex128 voxels"),
    "float128": (field("datatype", 1536), "stores float128 voxels"),
    "one bit": (field("datatype", 1), "stores binary"),
    "another dtype": (field("datatype", 7), r"stores unknown voxels \(code 7\)"),
    "zero spacing": (field("pixdim", 0, 2), r"has the spacing \(1.0, 0.0, 1.0\); each must be positive"),
    "negative spacing": (field("pixdim", -1, 1), r"has the spacing \(-1.0, 1.0, 1.0\)"),
    "no spacing": (field("pixdim", np.nan, 3), r"has the spacing \(1.0, 1.0, nan\)"),
    "a singular sform": (singular, "The sform of a.nii gives no place in the world: The affine is singular"),
    "an affine with NaN": (not_finite, "The sform of a.nii gives no place in the world: .* not finite"),
    "no rotation": (no_rotation, "The qform of a.nii is no rotation"),
    "no intercept": (lambda h: (field("scl_slope", 2)(h), field("scl_inter", np.nan)(h)), "the intercept nan"),
}


@pytest.mark.parametrize("name", BAD_HEADERS)
def test_a_header_that_cannot_be_is_refused(tmp_path: Path, name: str) -> None:
    edit, message = BAD_HEADERS[name]
    with pytest.raises(InputError, match=message):
        open_source(write_nifti(tmp_path / "a.nii", VOXELS, edit=edit))


def test_only_one_axis_more_may_be_long(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii", np.zeros((2, 2, 2, 3, 2), "i2"))
    with pytest.raises(InputError, match=r"has the shape \(2, 2, 2, 3, 2\); beyond three axes only one"):
        open_source(path)
    assert len(open_source(write_nifti(path, np.zeros((2, 2, 2, 3, 1, 1, 1), "i2"))).spec.channels) == 3


def test_a_negative_qfac_is_no_negative_spacing(tmp_path: Path) -> None:
    def edit(header: Any) -> None:
        header["pixdim"][0], header["qform_code"] = -1, 1

    grid = open_source(write_nifti(tmp_path / "a.nii", VOXELS, edit=edit)).spec.grid
    assert grid.matrix[2, 2] == -1


def bad_bytes() -> dict[str, tuple[bytes, str]]:
    header = header_of(VOXELS)
    header["vox_offset"] = 352
    header["magic"] = b"n+1"
    head = header.binaryblock
    body = bytes(4) + VOXELS.tobytes(order="F")
    far = header.copy()
    far["vox_offset"] = 100
    return {
        "empty": (b"", "a.nii is empty"),
        "text": (b"samples = 300\n" * 90, "a.nii is not a NIfTI file: it starts with b'samp'"),
        "half a header": (head[:200], "its header has 348 bytes, and 200 are there"),
        "a header alone": (head, "claims 5 x 4 x 3 voxels, 472 bytes, and a.nii has only 348"),
        "cut short": (head + body[:-1], "472 bytes, and a.nii has only 471"),
        "wrong magic": (head[:344] + b"abc\0" + body, r"not a NIfTI file: its magic is b'abc\\x00'"),
        "ANALYZE": (head[:344] + bytes(4) + body, "a.nii is ANALYZE 7.5, which does not say which side is left"),
        "a pair's header": (head[:344] + b"ni1\0" + body, "voxels are in an .img file beside it"),
        "voxels in the header": (far.binaryblock + body, "its voxels start at byte 100, which cannot be"),
        "gzip": (gzip.compress(head + body), "is gzip-compressed, though its name does not say so"),
    }


@pytest.mark.parametrize("name", bad_bytes())
def test_a_file_that_is_something_else_is_refused(tmp_path: Path, name: str) -> None:
    content, message = bad_bytes()[name]
    (tmp_path / "a.nii").write_bytes(content)
    with pytest.raises(InputError, match=message):
        open_source(tmp_path / "a.nii")


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"There is no file .*a\.nii"):
        open_source(tmp_path / "a.nii")
    (tmp_path / "b.nii").mkdir()
    with pytest.raises(InputError, match="is not a file"):
        open_source(tmp_path / "b.nii")
    header = write_nifti(tmp_path / "c.hdr", VOXELS)
    (tmp_path / "c.img").unlink()
    with pytest.raises(InputError, match=r"c.hdr needs c.img beside it, and there is none"):
        open_source(header)
    with pytest.raises(InputError, match="There is no file"):
        open_source(tmp_path / "c.img")


@pytest.mark.parametrize("in_memory", [True, False])
def test_a_damaged_gzip_file_is_refused_at_the_first_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_memory: bool
) -> None:
    if not in_memory:
        monkeypatch.setattr(_gzip, "_IN_MEMORY", 0)
    voxels = np.random.default_rng(0).integers(0, 99, (40, 40, 40)).astype("i2")
    path = write_nifti(tmp_path / "a.nii.gz", voxels)
    whole = path.read_bytes()
    assert np.array_equal(read_whole(path)[0], voxels)
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 255
    wrong_sum = bytearray(whole)
    wrong_sum[-6] ^= 1
    for content in (whole[:-9], whole[: len(whole) // 2], flipped, wrong_sum, whole + b"more"):
        path.write_bytes(content)
        source = open_source(path)
        with pytest.raises(InputError, match=r"a.nii.gz is a damaged gzip file"):
            source.read(Box((0, 0, 0), (1, 1, 1)))


def test_a_gzip_file_that_is_none_or_too_small_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.nii.gz"
    path.write_bytes(write_nifti(tmp_path / "a.nii", VOXELS).read_bytes())
    with pytest.raises(InputError, match="is not a gzip file, though its name says so"):
        open_source(path)
    write_nifti(path, VOXELS, edit=field("dim", 500, 3))
    with pytest.raises(InputError, match=r"is cut short: 20352 bytes are needed, and it unpacks to 472"):
        read_whole(path)
    write_nifti(path, VOXELS, edit=field("dim", 30000, 3))
    with pytest.raises(InputError, match=r"claims 5 x 4 x 30000 voxels, 1200352 bytes, and a.nii.gz has only"):
        open_source(path)


def left_behind(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def full_disk(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


class FullDisk:
    """A stream that takes a little and then no more."""

    def __enter__(self) -> FullDisk:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def write(self, _: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


def full_stream(_: object) -> Any:
    return FullDisk()


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".hdr"])
def test_a_full_disk_shows_before_the_first_voxel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    monkeypatch.setattr(os, "posix_fallocate", full_disk)
    with pytest.raises(WriteFailedError, match="The disk is full"):
        create_sink(tmp_path / f"a{suffix}", Image.of(VOXELS[None]).spec)
    assert left_behind(tmp_path) == []


def test_a_disk_that_fills_while_packing_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "a.nii.gz"
    target.write_text("the old one")
    monkeypatch.setattr(_gzip.Packer, "_stream", full_stream)
    sink = create_sink(target, Image.of(VOXELS[None]).spec)
    sink.write(WHOLE, VOXELS[None].astype(np.float32))
    with pytest.raises(WriteFailedError, match="The disk is full"):
        sink.commit()
    sink.abort()
    assert left_behind(tmp_path) == ["a.nii.gz"]
    assert target.read_text() == "the old one"


def test_a_temporary_folder_that_is_full_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_nifti(tmp_path / "a.nii.gz", VOXELS)

    def scratch(**_: object) -> IO[bytes]:
        return open("/dev/full", "wb", buffering=0)

    monkeypatch.setattr(_gzip, "_IN_MEMORY", 0)
    monkeypatch.setattr(tempfile, "TemporaryFile", scratch)
    with pytest.raises(WriteFailedError, match=r"cannot take the unpacked voxels .*; let TMPDIR name another"):
        read_whole(path)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".hdr", ".img.gz"])
def test_abort_leaves_nothing_and_keeps_what_was(tmp_path: Path, suffix: str) -> None:
    target = tmp_path / f"a{suffix}"
    target.write_text("the old one")
    sink = create_sink(target, Image.of(VOXELS[None]).spec)
    sink.write(Box((0, 0, 0), (5, 4, 2)), VOXELS[None, :, :, :2].astype(np.float32))
    sink.abort()
    sink.abort()
    assert left_behind(tmp_path) == [target.name]
    assert target.read_text() == "the old one"


def test_an_output_with_missing_voxels_does_not_appear(tmp_path: Path) -> None:
    sink = create_sink(tmp_path / "a.nii", Image.of(VOXELS[None]).spec)
    sink.write(Box((0, 0, 0), (5, 4, 2)), VOXELS[None, :, :, :2].astype(np.float32))
    with pytest.raises(WriteFailedError, match="was given 40 of its 60 voxels"):
        sink.commit()
    sink.abort()
    assert left_behind(tmp_path) == []


def test_the_partner_of_an_output_is_not_overwritten_unasked(tmp_path: Path) -> None:
    (tmp_path / "a.img").write_text("something else")
    with pytest.raises(OutputError, match=r"a.img exists, and would be written along with a.hdr"):
        create_sink(tmp_path / "a.hdr", Image.of(VOXELS[None]).spec)
    assert left_behind(tmp_path) == ["a.img"]


def test_options_are_the_level_and_nothing_else(tmp_path: Path) -> None:
    image = Image.of(np.random.default_rng(0).normal(size=(1, 30, 30, 30)).round(1))
    sizes = {}
    for level in "0259":
        path = write_whole(tmp_path / f"a{level}.nii.gz", image.spec, image.voxels, {"level": level})
        sizes[level] = path.stat().st_size
        assert np.array_equal(read_whole(path), image.voxels)
    assert sizes["9"] <= sizes["5"] < sizes["2"] < sizes["0"]
    assert unpacked(tmp_path / "a0.nii.gz") == unpacked(tmp_path / "a9.nii.gz")
    for name, options, message in (
        ("b.nii.gz", {"compress": "zstd"}, "NIfTI has no option 'compress'"),
        ("b.nii.gz", {"level": "best"}, "The level is 0 to 9; it cannot be 'best'"),
        ("b.nii", {"level": "2"}, "b.nii is not compressed and has no level"),
    ):
        with pytest.raises(OutputError, match=message):
            create_sink(tmp_path / name, image.spec, options)


@pytest.mark.parametrize("shape", [(9,), (2, 3, 4, 5)])
def test_an_image_of_other_than_two_or_three_axes_is_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    spec = Image.of(np.ones((1, *shape)), Grid.plain(shape)).spec
    with pytest.raises(OutputError, match=f"2 or 3 axes; this one has {len(shape)}"):
        create_sink(tmp_path / "a.nii", spec)
