"""NIfTI: damaged gzip, bombs, headers that cannot be, and names that are no files."""

from __future__ import annotations

import gzip
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from benchmarks.hostile._case import Command, case, upscale

VOXELS = np.random.default_rng(0).integers(0, 900, (24, 20, 12)).astype("i2")
_CODES = {"i2": 4, "f4": 16}


def head(voxels: NDArray[Any] = VOXELS, **fields: Any) -> Any:  # noqa: ANN401 - the values of a header's fields
    """A header as it should be, but for the fields given; `dim__3=0` sets one number of several."""
    header = nib.Nifti1Header()
    header["dim"] = [voxels.ndim, *voxels.shape, *[1] * (7 - voxels.ndim)]
    header["datatype"], header["bitpix"] = _CODES[voxels.dtype.str[1:]], 8 * voxels.dtype.itemsize
    header["pixdim"], header["xyzt_units"] = 1, 2
    header["sform_code"], header["magic"], header["vox_offset"] = 1, b"n+1", 352
    header["srow_x"], header["srow_y"], header["srow_z"] = [2, 0, 0, 9], [0, 2, 0, 9], [0, 0, 2, 9]
    for name, value in fields.items():
        field, _, index = name.partition("__")
        header[field][int(index) if index else ...] = value
    return header


def image(voxels: NDArray[Any] = VOXELS, **fields: Any) -> bytes:  # noqa: ANN401 - as in head
    """The bytes of a file."""
    return bytes(head(voxels, **fields).binaryblock) + bytes(4) + voxels.tobytes(order="F")


def written(folder: Path, name: str, data: bytes, *more: str) -> Command:
    """A file, and the command that upscales it."""
    (folder / name).write_bytes(data)
    return upscale(name, *more)


def packed(damage: Callable[[bytearray], object] = lambda data: None) -> bytes:
    """A file as gzip, damaged."""
    data = bytearray(gzip.compress(image(), 1, mtime=0))
    damage(data)
    return bytes(data)


def flip(at: int) -> Callable[[bytearray], object]:
    """What turns a byte around."""

    def damage(data: bytearray) -> None:
        data[at] ^= 0xFF

    return damage


def bomb(start: bytes, megabytes: int) -> bytes:
    """Gzip of a start and then zeros, in some thousandth of their size: a member for each MiB."""
    return gzip.compress(start) + gzip.compress(bytes(1 << 20)) * megabytes


@case(r"is a damaged gzip file")
def wrong_crc(folder: Path) -> Command:
    """.nii.gz with a wrong CRC"""
    return written(folder, "a.nii.gz", packed(flip(-6)))


@case(r"is a damaged gzip file")
def wrong_length(folder: Path) -> Command:
    """.nii.gz with a wrong length in its trailer"""
    return written(folder, "a.nii.gz", packed(flip(-2)))


@case(r"is a damaged gzip file")
def no_trailer(folder: Path) -> Command:
    """.nii.gz without its trailer"""
    return written(folder, "a.nii.gz", packed()[:-8])


@case(r"is a damaged gzip file")
def flipped_byte(folder: Path) -> Command:
    """.nii.gz with a flipped byte among its voxels"""
    return written(folder, "a.nii.gz", packed(flip(5000)))


@case(r"is a damaged gzip file|is cut short")
def flipped_start(folder: Path) -> Command:
    """.nii.gz with a flipped byte in its header"""
    return written(folder, "a.nii.gz", packed(flip(60)))


@case(r"is a damaged gzip file")
def half(folder: Path) -> Command:
    """.nii.gz cut in its middle"""
    return written(folder, "a.nii.gz", packed()[:4000])


@case(r"is a damaged gzip file|cut short")
def nothing_but_a_magic(folder: Path) -> Command:
    """.nii.gz of two bytes"""
    return written(folder, "a.nii.gz", b"\x1f\x8b")


@case(r"is a damaged gzip file")
def trailing_garbage(folder: Path) -> Command:
    """.nii.gz with other bytes behind its end"""
    return written(folder, "a.nii.gz", packed() + b"and more")


@case(r"check ok", code=0)
def many_members(folder: Path) -> Command:
    """.nii.gz of several members, as bgzip writes it: read as one"""
    data = image()
    parts = [gzip.compress(data[i : i + 1000]) for i in range(0, len(data), 1000)]
    return written(folder, "a.nii.gz", b"".join(parts))


@case(r"is not a gzip file")
def plain_as_gzip(folder: Path) -> Command:
    """.nii under the name .nii.gz"""
    return written(folder, "a.nii.gz", image())


@case(r"claims to unpack to 8\.6 GB, \d+ times as much; .* pass --max-unpacked 9GB")
def bomb_of_voxels(folder: Path) -> Command:
    """Gzip bomb: 8 MB that claim to be, and unpack to, 8 GiB of zeros"""
    start = bytes(head(dim=[3, 2048, 2048, 1024, 1, 1, 1, 1]).binaryblock) + bytes(4)
    return written(folder, "a.nii.gz", bomb(start, 8 << 10))


@case(r"goes on after its voxels")
def bomb_behind(folder: Path) -> Command:
    """Gzip bomb: a small image, and 2 GB of zeros behind it"""
    return written(folder, "a.nii.gz", bomb(image(), 2 << 10))


@case(r"has 209\.7 MB of words about itself, .* pass --max-text")
def bomb_of_header(folder: Path) -> Command:
    """Gzip bomb: 200 MB of extensions before the voxels"""
    return written(folder, "a.nii.gz", bomb(image(vox_offset=200 << 20), 300))


@case(r"claims 32767 x 32767 x 32767 voxels")
def enormous(folder: Path) -> Command:
    """Header of 32767 x 32767 x 32767 voxels"""
    return written(folder, "a.nii", image(dim=[3, 32767, 32767, 32767, 1, 1, 1, 1]))


@case(r"claims 32767 x 32767 x 32767 voxels|voxels in all channels")
def enormous_packed(folder: Path) -> Command:
    """The same, as gzip"""
    return written(folder, "a.nii.gz", gzip.compress(image(dim=[3, 32767, 32767, 32767, 1, 1, 1, 1])))


@case(r"voxels")
def overflowing(folder: Path) -> Command:
    """NIfTI-2 of 2^62 voxels on each axis"""
    header = nib.Nifti2Header()
    header["dim"] = [3, 2**62, 2**62, 2**62, 1, 1, 1, 1]
    header["datatype"], header["bitpix"], header["pixdim"], header["vox_offset"] = 4, 16, 1, 544
    return written(folder, "a.nii", header.binaryblock + VOXELS.tobytes())


@case(r"says that its voxels start at byte 0, in its header")
def no_offset(folder: Path) -> Command:
    """vox_offset 0 in a single file"""
    return written(folder, "a.nii", image(vox_offset=0))


@case(r"voxels start at byte 1e\+30, which cannot be")
def wild_offset(folder: Path) -> Command:
    """vox_offset 1e30"""
    return written(folder, "a.nii", image(vox_offset=1e30))


@case(r"voxels start at byte nan")
def nan_offset(folder: Path) -> Command:
    """vox_offset NaN"""
    return written(folder, "a.nii", image(vox_offset=np.nan))


@case(r"The affine is singular")
def singular_sform(folder: Path) -> Command:
    """Singular sform"""
    return written(folder, "a.nii", image(srow_y=[2, 0, 0, 9]))


@case(r"not finite")
def nan_sform(folder: Path) -> Command:
    """NaN in the sform"""
    return written(folder, "a.nii", image(srow_y__1=np.nan))


@case(r"has the spacing \(nan, 1.0, 1.0\)")
def nan_spacing(folder: Path) -> Command:
    """NaN pixdim"""
    return written(folder, "a.nii", image(pixdim__1=np.nan))


@case(r"is no rotation")
def nan_quaternion(folder: Path) -> Command:
    """NaN quaternion"""
    return written(folder, "a.nii", image(sform_code=0, qform_code=1, quatern_c=np.nan))


@case(r"says the shape \(24, 0, 12\)")
def no_rows(folder: Path) -> Command:
    """An axis of 0 voxels"""
    return written(folder, "a.nii", image(dim__2=0))


@case(r"says the shape \(24, -20, 12\)")
def negative_axis(folder: Path) -> Command:
    """An axis of -20 voxels"""
    return written(folder, "a.nii", image(dim__2=-20))


@case(r"says 0 axes")
def no_axes(folder: Path) -> Command:
    """dim[0] = 0"""
    return written(folder, "a.nii", image(dim__0=0))


@case(r"says 8 axes")
def eight_axes(folder: Path) -> Command:
    """dim[0] = 8"""
    return written(folder, "a.nii", image(dim__0=8))


@case(r"has 30000 channels, more than the 10000 allowed")
def many_frames(folder: Path) -> Command:
    """30,000 frames of 8 voxels"""
    voxels = np.zeros((2, 2, 2, 30000), "i2")
    return written(folder, "a.nii", image(voxels))


@case(r"has the slope inf, .* taken as they are", code=0)
def infinite_slope(folder: Path) -> Command:
    """Slope inf: a warning, the field kept"""
    return written(folder, "a.nii", image(scl_slope=np.inf))


@case(r"has the slope 0, .* taken as they are", code=0)
def zero_slope(folder: Path) -> Command:
    """Slope 0: a warning, the field kept"""
    return written(folder, "a.nii", image(scl_slope=0, scl_inter=3))


@case(r"has the slope nan, .* taken as they are", code=0)
def lost_intercept(folder: Path) -> Command:
    """Slope NaN with an intercept of 5: a warning"""
    return written(folder, "a.nii", image(scl_slope=np.nan, scl_inter=5))


@case(r"has the slope 3e\+38, which makes numbers beyond float32")
def wild_slope(folder: Path) -> Command:
    """Slope 3e38"""
    return written(folder, "a.nii", image(scl_slope=3e38))


@case(r"says by neither a qform nor an sform where it lies", code=0)
def no_forms(folder: Path) -> Command:
    """Neither qform nor sform: a warning, both codes stay 0"""
    return written(folder, "a.nii", image(sform_code=0))


@case(r"bitpix", code=0)
def wrong_bitpix(folder: Path) -> Command:
    """Bitpix that contradicts the data type: a warning, the type counts"""
    return written(folder, "a.nii", image(bitpix=64))


@case(r"stores complex64 voxels")
def complex_voxels(folder: Path) -> Command:
    """Complex voxels"""
    return written(folder, "a.nii", image(datatype=32))


@case(r"stores binary \(one bit\) voxels")
def bits(folder: Path) -> Command:
    """Voxels of one bit"""
    return written(folder, "a.nii", image(datatype=1))


@case(r"stores float128 voxels")
def long_floats(folder: Path) -> Command:
    """float128 voxels"""
    return written(folder, "a.nii", image(datatype=1536))


@case(r"stores unknown voxels \(code 7777\)")
def unknown_type(folder: Path) -> Command:
    """An unknown data type"""
    return written(folder, "a.nii", image(datatype=7777))


@case(r"check ok", code=0)
def all_nan(folder: Path) -> Command:
    """NaN in all voxels"""
    return written(folder, "a.nii", image(np.full((9, 8, 7), np.nan, "f4")))


@case(r"valid in one of both alone", code=0)
def all_infinite(folder: Path) -> Command:
    """Infinity in all voxels: they become invalid, which is told"""
    return written(folder, "a.nii", image(np.full((9, 8, 7), np.inf, "f4")))


@case(r"check ok", code=0)
def wild_extension(folder: Path) -> Command:
    """An extension that claims 2 GB: kept as it is, not followed"""
    after = b"\1\0\0\0" + struct.pack("<ii", 2**31 - 16, 6) + bytes(24)
    data = bytes(head(vox_offset=348 + len(after)).binaryblock) + after + VOXELS.tobytes(order="F")
    return written(folder, "a.nii", data)


@case(r"check ok", code=0)
def negative_extension(folder: Path) -> Command:
    """An extension of -16 bytes: kept as it is, not followed"""
    after = b"\1\0\0\0" + struct.pack("<ii", -16, 6) + bytes(24)
    data = bytes(head(vox_offset=348 + len(after)).binaryblock) + after + VOXELS.tobytes(order="F")
    return written(folder, "a.nii", data)


@case(r"check ok", code=0)
def other_order(folder: Path) -> Command:
    """The other byte order: read and kept"""
    header = head().as_byteswapped()
    return written(folder, "a.nii", header.binaryblock + bytes(4) + VOXELS.byteswap().tobytes(order="F"))


@case(r"is empty")
def empty(folder: Path) -> Command:
    """An empty file"""
    return written(folder, "a.nii", b"")


@case(r"cut short")
def cut(folder: Path) -> Command:
    """.nii cut in its voxels"""
    return written(folder, "a.nii", image()[:-9])


@case(r"is ANALYZE 7.5")
def analyze(folder: Path) -> Command:
    """ANALYZE 7.5, which does not say which side is left"""
    (folder / "a.img").write_bytes(VOXELS.tobytes(order="F"))
    return written(folder, "a.hdr", image(magic=b"")[:348])


@case(r"needs a.img beside it")
def lone_header(folder: Path) -> Command:
    """A header whose voxels' file is missing"""
    return written(folder, "a.hdr", image(magic=b"ni1", vox_offset=0)[:348])


@case(r"is not a file|holds no image")
def a_folder(folder: Path) -> Command:
    """A folder named a.nii"""
    (folder / "a.nii").mkdir()
    return upscale("a.nii")


@case(r"is not a file")
def a_pipe(folder: Path) -> Command:
    """A named pipe that nobody writes to"""
    os.mkfifo(folder / "a.nii")
    return upscale("a.nii")


@case(r"is not a file")
def a_device(folder: Path) -> Command:
    """A link to /dev/zero"""
    (folder / "a.nii").symlink_to("/dev/zero")
    return upscale("a.nii")


@case(r"is not a file")
def a_packed_device(folder: Path) -> Command:
    """A link to /dev/urandom named .nii.gz"""
    (folder / "a.nii.gz").symlink_to("/dev/urandom")
    return upscale("a.nii.gz")


@case(r"needs a.img beside it|is not a file")
def a_partner_pipe(folder: Path) -> Command:
    """A pair whose voxels are a named pipe"""
    os.mkfifo(folder / "a.img")
    return written(folder, "a.hdr", image(magic=b"ni1", vox_offset=0)[:348])


@case(r"is the input")
def itself(folder: Path) -> Command:
    """Output = input"""
    (folder / "a.nii").write_bytes(image())
    return upscale("a.nii", "--overwrite", out="a.nii")


@case(r"is the input")
def itself_by_link(folder: Path) -> Command:
    """Output = input by a symbolic link"""
    (folder / "a.nii").write_bytes(image())
    (folder / "b.nii").symlink_to("a.nii")
    return upscale("a.nii", "--overwrite", out="b.nii")


@case(r"is the input")
def itself_by_hard_link(folder: Path) -> Command:
    """Output = input by a hard link"""
    (folder / "a.nii").write_bytes(image())
    os.link(folder / "a.nii", folder / "b.nii")
    return upscale("a.nii", "--overwrite", out="b.nii")
