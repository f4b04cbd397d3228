"""An output store that is described once and written by many."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from geomedsr.errors import InputError
from geomedsr.grid import Box, Grid
from geomedsr.image import ImageSpec
from geomedsr.io._zarr_output import ZarrOutput, is_complete
from geomedsr.io.zarr_archive import levels as levels_of
from geomedsr.io.zarr_archive import open_source

SHAPE = (50, 70)
OPTIONS = {"chunks": "8", "shards": "16"}


def described(root: Path | str, dtype: str = "uint16", **options: str) -> ZarrOutput:
    grid = Grid.of(SHAPE, np.diag([2.0, 2.0, 1.0]))
    spec = ImageSpec(grid, ("red", "nir"), np.dtype(dtype), 0.0)
    return ZarrOutput.create(root, spec, {**OPTIONS, **options})


def values(seed: int = 0) -> Any:
    return np.random.default_rng(seed).integers(1, 1000, (2, *SHAPE)).astype(np.float32)


def test_metadata_comes_first_and_the_mark_last(tmp_path: Path) -> None:
    root = tmp_path / "a.zarr"
    output = described(root)
    assert output.spec.chunks == (16, 16)
    assert not is_complete(root)
    assert not any(output.read_object(key) for key in output.object_keys(Box.whole(SHAPE)))
    for box in Box.whole(SHAPE).split((16, 16)):
        pickle.loads(pickle.dumps(output)).write(box, values()[(slice(None), *box.slices)])  # noqa: S301 - our own
    output.finish()
    assert is_complete(root)
    np.testing.assert_array_equal(open_source(root).read(Box.whole(SHAPE)), values())


def test_another_process_writes_the_same_objects(tmp_path: Path) -> None:
    one, other = described(tmp_path / "a.zarr"), ZarrOutput.open(described(tmp_path / "b.zarr").path)
    assert (one.spec.grid, one.spec.channels, one.spec.chunks) == (
        other.spec.grid, other.spec.channels, other.spec.chunks)  # fmt: skip
    box = Box((16, 16), (48, 70))
    for output in (one, other):
        output.write(box, values()[(slice(None), *box.slices)])
    keys = one.object_keys(box)
    assert len(keys) == len(set(keys)) == 2 * 2 * 4
    assert all(one.read_object(key) == other.read_object(key) is not None for key in keys)
    rest = set(one.object_keys(Box.whole(SHAPE))) - set(keys)
    assert not any(one.read_object(key) for key in rest)


def test_an_object_can_be_removed(tmp_path: Path) -> None:
    output = described(tmp_path / "a.zarr")
    box = Box((0, 0), (16, 16))
    output.write(box, values()[(slice(None), *box.slices)])
    key = output.object_keys(box)[1]
    for _ in range(2):
        output.delete_object(key)
    assert output.read_object(key) is None
    found = output.object_keys(box)[0]
    assert output.read_object(found) is not None


def test_what_is_all_fill_is_never_written(tmp_path: Path) -> None:
    output = ZarrOutput.open(described(tmp_path / "a.zarr").path)
    box = Box((0, 0), (16, 16))
    output.write(box, np.full((2, 16, 16), np.nan, np.float32))
    assert not any(output.read_object(key) for key in output.object_keys(box))


def test_a_url_is_written_and_read(tmp_path: Path) -> None:
    root = f"memory://{tmp_path.name}/a.zarr"
    output = described(root)
    output.write(Box.whole(SHAPE), values())
    output.finish()
    assert is_complete(root)
    key = output.object_keys(Box.whole(SHAPE))[0]
    assert output.read_object(key) is not None
    output.delete_object(key)
    assert output.read_object(key) is None


def test_only_an_output_is_opened(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no output of geomedsr"):
        ZarrOutput.open(tmp_path)


@pytest.mark.parametrize("stored", [{"chunks": "64"}, {"chunks": "32", "shards": "64"}])
def test_a_torn_object_of_a_coarser_level_is_made_anew(stored: dict[str, str], tmp_path: Path) -> None:
    shape, roots = (600, 530), (tmp_path / "whole.zarr", tmp_path / "torn.zarr")
    spec = ImageSpec(Grid.plain(shape), ("red",), np.dtype("uint16"), 0.0)
    voxels = np.random.default_rng(0).integers(1, 1000, (1, *shape)).astype(np.float32)
    whole, torn = (ZarrOutput.create(root, spec, {"layout": "ome", **stored}) for root in roots)
    for output in (whole, torn):
        output.write(Box.whole(shape), voxels)
        output.finish()
    coarser = levels_of(torn.path)[1:]
    objects = [path for level in coarser for path in level.rglob("*") if path.is_file() and path.suffix != ".json"]
    assert objects
    for path in objects:
        os.truncate(path, path.stat().st_size // 2)
    ZarrOutput.open(torn.path).finish()
    for one, other in zip(levels_of(torn.path), levels_of(whole.path), strict=True):
        np.testing.assert_array_equal(zarr.open_array(one, mode="r")[...], zarr.open_array(other, mode="r")[...])


def test_what_a_killed_writer_left_half_written_is_no_part_of_an_output(tmp_path: Path) -> None:
    output = described(tmp_path / "a.zarr")
    output.write(Box.whole(SHAPE), values())
    key = output.path / output.object_keys(Box.whole(SHAPE))[0]
    for left in (key.with_suffix(f".{'0' * 32}.partial"), output.path / "zarr.json.77.partial"):
        left.write_bytes(b"half")
    output.finish()
    assert not list(output.path.rglob("*.partial"))
    np.testing.assert_array_equal(open_source(output.path).read(Box.whole(SHAPE)), values())
