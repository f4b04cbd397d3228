"""An output that does not give back what was written never takes its place, whatever went wrong with it unsaid."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from geomedsr.errors import WriteFailedError
from geomedsr.grid import Box
from geomedsr.image import Image
from geomedsr.io import _staging, format_of
from geomedsr.io._witness import Witness

OLD = b"the old one"
SHAPES = {".nii": (24, 20, 8), ".nii.gz": (24, 20, 8), ".img": (24, 20, 8), ".tif": (40, 48), ".zarr": (40, 48)}


def image(suffix: str) -> Image:
    voxels = np.random.default_rng(0).normal(100, 20, (1, *SHAPES[suffix])).astype(np.float32)
    voxels[0, 3, 4], voxels[0, 5, 6] = np.nan, -0.0
    return Image.of(voxels)


def spoil(staged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte among the voxels turns around on its way to the disk."""
    flush = _staging._flush

    def flipped(path: Path) -> None:
        files = [one for one in (*path.rglob("*"), path) if one.is_file() and not one.name.endswith(".hdr")]
        largest = max(files, key=lambda one: one.stat().st_size, default=None)
        if largest is not None:
            data = bytearray(largest.read_bytes())
            data[len(data) * 3 // 4] ^= 0x10
            largest.write_bytes(data)
        flush(path)

    monkeypatch.setattr(_staging, "_flush", flipped)


@pytest.mark.parametrize("suffix", SHAPES)
@pytest.mark.parametrize("is_spoilt", [False, True])
def test_a_byte_that_turned_around_is_found(
    tmp_path: Path, suffix: str, is_spoilt: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = image(suffix), tmp_path / f"out{suffix}"
    sink = format_of(target).create_sink(target, source.spec)
    for box in Box.whole(source.spec.grid.shape).split((16,) * source.spec.grid.ndim):
        sink.write(box, source.read(box))
    if is_spoilt:
        spoil(target, monkeypatch)
        with pytest.raises(WriteFailedError, match=r"as it was written|cannot be read"):
            sink.commit()
        sink.abort()
        assert list(tmp_path.iterdir()) == []
    else:
        sink.commit()
        assert target.exists()


@pytest.mark.parametrize(
    ("options", "dtype"),
    [
        ({"COMPRESS": "JPEG"}, "uint8"),
        ({"COMPRESS": "LERC", "MAX_Z_ERROR": "5"}, "float32"),
        ({"COMPRESS": "LERC"}, "float32"),
        ({"COMPRESS": "WEBP"}, "uint8"),
        ({"COG": "YES"}, "uint8"),
        ({"COG": "YES", "COMPRESS": "JPEG"}, "uint8"),
        ({"ENDIANNESS": "BIG"}, "int16"),
    ],
)
def test_what_may_lose_numbers_is_not_held_to_them(tmp_path: Path, options: dict[str, str], dtype: str) -> None:
    target, voxels = tmp_path / "out.tif", np.indices((3, 64, 64)).sum(0, dtype=np.float32)
    spec = replace(Image.of(voxels).spec, dtype=np.dtype(dtype), channels=("red", "green", "blue"))
    sink = format_of(target).create_sink(target, spec, options)
    sink.write(Box.whole((64, 64)), voxels)
    sink.commit()
    assert target.exists()


@pytest.mark.parametrize("dtype", ["u1", "<i2", ">i2", "<f4", ">f8", "?"])
def test_numbers_are_compared_not_bytes(dtype: str) -> None:
    box, stored = Box.whole((4, 6)), (np.arange(48).reshape(2, 4, 6) % 7).astype(dtype)
    witness = Witness(Path("out"))
    witness.saw(box, stored)
    witness.check(lambda box: stored.astype(stored.dtype.newbyteorder()).transpose(0, 2, 1).copy().transpose(0, 2, 1))
    other = stored.copy()
    other[0, 0, 0] = 1
    with pytest.raises(WriteFailedError, match=r"in \(0, 0\) to \(4, 6\); check the disk"):
        witness.check(lambda box: other)


def test_any_nan_is_one_and_both_zeros_are() -> None:
    box = Box.whole((2, 2))
    stored = np.array([[[np.nan, 0.0], [1.0, -0.0]]], np.float32)
    other = stored.copy()
    other.view(np.uint32)[0, 0, 0] = 0x7FC12345
    other[0, 0, 1], other[0, 1, 1] = -0.0, 0.0
    witness = Witness(Path("out"))
    witness.saw(box, stored)
    witness.check(lambda box: other)
