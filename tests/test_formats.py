"""One suite for every format in the folder: what is promised of a Source and a Sink, whatever the file.

A new format is found by itself. It need not take every image (a raster has no third axis) nor every suffix that it
reads, but what it takes it must give back.
"""

from __future__ import annotations

import os
import pickle
import random
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from queue import Queue

import numpy as np
import pytest

import geomedsr
from geomedsr import registry
from geomedsr.errors import GeomedsrError, GridError, InputError, OutputError, WriteFailedError
from geomedsr.grid import Box, Grid
from geomedsr.image import Format, ImageSpec, Scaling, Sink, Source, Voxels
from geomedsr.io import format_of

SUFFIXES = [(name, suffix) for name in registry.names("io") for suffix in registry.load("io", name).SUFFIXES]

WKT = (
    'PROJCS["WGS 84 / UTM zone 33N",GEOGCS["WGS 84",DATUM["WGS_1984",SPHEROID["WGS 84",6378137,298.257223563]],'
    'PRIMEM["Greenwich",0],UNIT["degree",0.0174532925199433]],PROJECTION["Transverse_Mercator"],'
    'PARAMETER["latitude_of_origin",0],PARAMETER["central_meridian",15],PARAMETER["scale_factor",0.9996],'
    'PARAMETER["false_easting",500000],PARAMETER["false_northing",0],UNIT["metre",1],AUTHORITY["EPSG","32633"]]'
)
NORTH_UP = np.array([[0.0, 10.0, 499980.0], [-10.0, 0.0, 4600020.0], [0.0, 0.0, 1.0]])
RASTER = Grid.of((37, 41), NORTH_UP, WKT, "m")
OBLIQUE = np.array([[0.8, 0.1, 0.0, -90.0], [-0.1, 0.8, 0.2, 120.0], [0.0, -0.2, 1.2, 30.0], [0.0, 0.0, 0.0, 1.0]])
VOLUME = Grid.from_centres((19, 23, 17), OBLIQUE, units="mm")
GRIDS = (VOLUME, RASTER, Grid.plain((37, 41)), Grid.plain((19, 23, 17)))


@dataclass(frozen=True, eq=False)
class Door:
    """A format, one of its suffixes, and a folder of its own."""

    name: str
    suffix: str
    folder: Path

    @property
    def format(self) -> Format:
        return format_of(Path(f"image{self.suffix}"))

    def path(self, stem: str = "image") -> Path:
        return self.folder / f"{stem}{self.suffix}"

    def sink(self, spec: ImageSpec, path: Path | None = None, **options: str) -> Sink:
        return self.format.create_sink(path or self.path(), spec, options or None)

    def source(self, path: Path | None = None) -> Source:
        return self.format.open_source(path or self.path())

    def takes(self, spec: ImageSpec) -> bool:
        try:
            self.sink(spec, self.path("trial")).abort()
        except GeomedsrError:
            return False
        return True

    def spec(self, dtype: str = "float32", channels: int = 2, nodata: float | None = None) -> ImageSpec:
        """An image that the format can write; the test is skipped where there is none."""
        names = tuple(f"channel {i + 1}" for i in range(channels))
        specs = [ImageSpec(grid, names, np.dtype(dtype), nodata) for grid in GRIDS]
        found = next((spec for spec in specs if self.takes(spec)), None)
        if found is None:
            pytest.skip(f"{self.suffix} is not written, or not with {dtype}")
        return found


def is_written(name: str, suffix: str) -> bool:
    """Whether a format writes anything at all under a suffix: some are only read."""
    with tempfile.TemporaryDirectory() as folder:
        door = Door(name, suffix, Path(folder))
        return any(door.takes(ImageSpec(grid, ("a",), np.dtype("float32"))) for grid in GRIDS)


WRITTEN = [pair for pair in SUFFIXES if is_written(*pair)]


@pytest.fixture(params=WRITTEN, ids="".join)
def door(request: pytest.FixtureRequest, tmp_path: Path) -> Door:
    """Each suffix that is written."""
    name, suffix = request.param
    return Door(name, suffix, tmp_path)


@pytest.fixture(params=SUFFIXES, ids="".join)
def any_door(request: pytest.FixtureRequest, tmp_path: Path) -> Door:
    """Each suffix, also those that are only read."""
    name, suffix = request.param
    return Door(name, suffix, tmp_path)


def values(spec: ImageSpec, seed: int = 0) -> Voxels:
    """Whole numbers that every dtype of a byte or more holds."""
    return np.random.default_rng(seed).integers(1, 100, spec.shape).astype(np.float32)


def shuffled(spec: ImageSpec, step: int = 11) -> list[Box]:
    boxes = list(Box.whole(spec.grid.shape).split((step,) * spec.grid.ndim))
    random.Random(0).shuffle(boxes)
    return boxes


def fill(sink: Sink, voxels: Voxels, boxes: list[Box]) -> None:
    for box in boxes:
        sink.write(box, voxels[(slice(None), *box.slices)])


def written(door: Door, spec: ImageSpec, voxels: Voxels, path: Path | None = None) -> Source:
    sink = door.sink(spec, path)
    fill(sink, voxels, shuffled(spec))
    sink.commit()
    return door.source(path)


def read(source: Source, box: Box | None = None) -> Voxels:
    """A box, also of a format that gives a flat image a third axis of one voxel."""
    shape = source.spec.grid.shape
    if box is None:
        return source.read(Box.whole(shape))
    extra = len(shape) - box.ndim
    voxels = source.read(Box(box.start + (0,) * extra, box.stop + (1,) * extra))
    return voxels.reshape(voxels.shape[: 1 + box.ndim]) if extra else voxels


def listing(folder: Path) -> dict[str, bytes | None]:
    """All that is below a folder, with its bytes."""
    found = sorted(folder.rglob("*"))
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in found}


def test_each_format_writes_something() -> None:
    assert {name for name, _ in WRITTEN} == set(registry.names("io"))


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float32", "float64"])
def test_what_is_written_is_read(door: Door, dtype: str) -> None:
    spec = door.spec(dtype)
    voxels = values(spec)
    source = written(door, spec, voxels)
    assert source.spec.dtype == spec.dtype
    for box in shuffled(spec, 7):
        found = read(source, box)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, voxels[(slice(None), *box.slices)])
    source.close()
    np.testing.assert_array_equal(read(source).ravel(), voxels.ravel())
    source.close()


@pytest.mark.parametrize("grid", GRIDS, ids=["volume", "raster", "plain raster", "plain volume"])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_image_that_is_taken_is_given_back(door: Door, grid: Grid, channels: int) -> None:
    names = tuple(f"channel {i + 1}" for i in range(channels))
    spec = ImageSpec(grid, names, np.dtype("int16"))
    if not door.takes(spec):
        pytest.skip(f"{door.suffix} does not take this image")
    voxels = values(spec)
    source = written(door, spec, voxels)
    found = source.spec.grid
    assert len(source.spec.channels) == channels
    np.testing.assert_array_equal(read(source).ravel(), voxels.ravel())
    assert found.shape[: grid.ndim] == grid.shape
    corners = np.array([found.world((*corner, *(0.5,) * (found.ndim - grid.ndim))) for corner in ends(grid)])
    assert np.abs(corners[:, : grid.ndim] - grid.corners).max() <= 1e-3 * min(grid.spacing)


def ends(grid: Grid) -> list[tuple[int, ...]]:
    return [tuple(c * n for c, n in zip(which, grid.shape, strict=True)) for which in np.ndindex(*(2,) * grid.ndim)]


def test_a_place_on_earth_is_kept_or_refused(door: Door) -> None:
    spec = ImageSpec(RASTER, ("a",), np.dtype("int16"))
    if not door.takes(spec):
        pytest.skip(f"{door.suffix} does not take this image")
    first = written(door, spec, values(spec)).spec
    if first.grid.crs is None:
        pytest.skip(f"{door.suffix} has no coordinate reference systems")
    assert "32633" in first.grid.crs
    second = written(door, first.upscaled((2, 2)), values(first.upscaled((2, 2))), door.path("finer")).spec
    assert second.grid.crs == first.grid.crs


def test_a_finer_image_has_the_same_extent(door: Door) -> None:
    first = written(door, door.spec("int16"), values(door.spec("int16"))).spec
    factor = (2, 3, 1)[: first.grid.ndim]
    finer = first.upscaled(factor)
    second = written(door, finer, values(finer), door.path("finer")).spec
    assert second.grid.shape == finer.grid.shape
    assert second.grid.same_place(first.grid)
    assert (second.channels, second.dtype, second.nodata) == (first.channels, first.dtype, first.nodata)
    assert second.grid.units == first.grid.units


def test_a_subset_of_channels(door: Door) -> None:
    spec = door.spec("int16", channels=4)
    voxels = values(spec)
    first = written(door, spec, voxels)
    chosen = first.spec.with_channels((3, 1))
    second = written(door, chosen, read(first)[[3, 1]], door.path("chosen"))
    if first.spec.channels == spec.channels:  # the format has a place for names
        assert second.spec.channels == chosen.channels
    np.testing.assert_array_equal(read(second), read(first)[[3, 1]])


@pytest.mark.parametrize(
    ("dtype", "low", "high"), [("uint8", 0, 255), ("int16", -32768, 32767), ("uint16", 0, 65535), ("int8", -128, 127)]
)
def test_numbers_saturate_and_never_wrap(door: Door, dtype: str, low: float, high: float) -> None:
    spec = door.spec(dtype)
    asked = [300.0, -5.0, 1e9, -1e9, np.inf, -np.inf, 7.4, 7.6, high + 1, low - 1]
    stored = [min(300.0, high), max(-5.0, low), high, low, high, low, 7.0, 8.0, high, low]
    voxels = values(spec)
    voxels.reshape(-1)[: len(asked)] = asked
    source = written(door, spec, voxels)
    assert read(source).reshape(-1)[: len(asked)].tolist() == stored


def test_another_dtype_may_be_asked_for(door: Door) -> None:
    wide = door.spec("float32")
    first = written(door, wide, values(wide) + 0.25)
    narrow = replace(first.spec, dtype=np.dtype("uint8"))
    second = written(door, narrow, read(first) + 200, door.path("narrow"))
    assert second.spec.dtype == np.uint8
    # A format without a mask may keep the highest number for what is invalid.
    highest = 255 if second.spec.nodata is None else 254
    np.testing.assert_array_equal(read(second), np.minimum(np.rint(read(first) + 200), highest))


def scaled(spec: ImageSpec) -> Voxels:
    """Physical voxels whose stored numbers are whole."""
    axes = [1] * spec.grid.ndim
    slopes, intercepts = (
        np.reshape([getattr(scaling, name) for scaling in spec.scaling], (-1, *axes)) for name in ("slope", "intercept")
    )
    return np.asarray(values(spec) * slopes + intercepts, np.float32)


def assert_same_voxels(found: Voxels, expected: Voxels) -> None:
    # The slope may be kept in float32, and a voxel is float32 itself: one rounding each, of the largest term.
    np.testing.assert_allclose(found.ravel(), expected.ravel(), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("scaling", [(Scaling(1e-4, -0.1),) * 2, (Scaling(1e-4), Scaling(2.0, 273.15))])
@pytest.mark.parametrize("dtype", ["int16", "uint16", "int32", "float32"])
def test_scaled_voxels_are_given_back(door: Door, scaling: tuple[Scaling, ...], dtype: str) -> None:
    spec = replace(door.spec(dtype), scaling=scaling)
    source = written(door, spec, scaled(spec))
    assert_same_voxels(read(source), scaled(spec))
    assert source.spec.dtype in (np.dtype(dtype), np.float32)
    if source.spec.dtype.kind == "i":
        np.testing.assert_allclose([s.slope for s in source.spec.scaling], [s.slope for s in scaling], rtol=1e-7)
    second = written(door, source.spec.with_channels((1,)), read(source)[1:], door.path("second"))
    assert_same_voxels(read(second), scaled(spec)[1])


@pytest.mark.parametrize("suffix", [".nii.gz", ".tif", ".zarr"])
@pytest.mark.parametrize("dtype", ["int16", "uint16", "float32"])
def test_scaled_voxels_mean_the_same_in_another_format(door: Door, suffix: str, dtype: str) -> None:
    other = Door("other", suffix, door.folder)
    spec = replace(door.spec("int16"), scaling=(Scaling(1e-4, -0.1),) * 2)
    first = written(door, spec, scaled(spec))
    asked = replace(first.spec, dtype=np.dtype(dtype))
    if not other.takes(asked):
        pytest.skip(f"{suffix} does not take the axes of {door.suffix}")
    second = written(other, asked, read(first), other.path("second"))
    assert second.spec.dtype == asked.dtype
    assert_same_voxels(read(second), scaled(spec))
    assert bool(second.spec.scaling) == (dtype != "float32")


@pytest.mark.parametrize("second", [Scaling(1e-4, -0.1), Scaling(2.0)], ids=["one scaling", "two scalings"])
def test_a_run_from_format_to_format_passes_its_own_check(tmp_path: Path, second: Scaling) -> None:
    door = Door("geotiff", ".tif", tmp_path)
    spec = replace(door.spec("uint16", nodata=0.0), scaling=(Scaling(1e-4, -0.1), second))
    first = written(door, spec, scaled(spec))
    report = geomedsr.upscale(door.path(), tmp_path / "image.zarr", "nearest", scale=(2,))
    assert report.after is not None
    assert report.after.dtype == (np.uint16 if second == spec.scaling[0] else np.float32)
    fine = read(format_of(report.output).open_source(report.output))
    assert_same_voxels(fine[:, ::2, 1::2], read(first))


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32", "float64"])
@pytest.mark.parametrize("nodata", [None, 7.0, -9999.0, float("nan")])
@pytest.mark.parametrize("grid", GRIDS[:2], ids=["volume", "raster"])
def test_what_is_promised_is_read_back(door: Door, dtype: str, nodata: float | None, grid: Grid) -> None:
    spec = ImageSpec(grid, ("a", "b"), np.dtype(dtype), nodata, scaling=(Scaling(0.5),) * 2)
    if not door.takes(spec):
        pytest.skip(f"{door.suffix} does not take this image")
    promised = door.format.target_spec(door.path(), spec)
    found = written(door, spec, values(spec)).spec
    assert (found.shape, found.dtype, found.scaling) == (promised.shape, promised.dtype, promised.scaling)
    assert found.channels == promised.channels
    np.testing.assert_equal(found.nodata, promised.nodata)
    assert found.grid.same_place(promised.grid)


def test_nan_survives_in_floats(door: Door) -> None:
    spec = door.spec("float32", nodata=float("nan"))
    voxels = values(spec)
    voxels[0].reshape(-1)[::3] = np.nan
    source = written(door, spec, voxels)
    np.testing.assert_array_equal(read(source).ravel(), voxels.ravel())


@pytest.mark.parametrize(
    ("dtype", "nodata"), [("uint16", 0.0), ("uint8", 255.0), ("int16", -32768.0), ("float32", -1.0)]
)
def test_no_valid_voxel_becomes_nodata(door: Door, dtype: str, nodata: float) -> None:
    spec = door.spec(dtype, nodata=nodata)
    voxels = values(spec)
    voxels.reshape(-1)[:40] = nodata
    voxels.reshape(-1)[20:60] = np.nan
    source = written(door, spec, voxels)
    if source.spec.nodata is None:
        pytest.skip(f"{door.suffix} has no nodata value")
    assert source.spec.nodata == nodata
    np.testing.assert_array_equal(np.isnan(read(source)).ravel(), np.isnan(voxels).ravel())


def test_sources_are_pickled_before_and_after_reading(door: Door) -> None:
    spec = door.spec()
    voxels = values(spec)
    source = written(door, spec, voxels)
    for _ in range(2):
        other = pickle.loads(pickle.dumps(source))  # noqa: S301 - our own bytes
        np.testing.assert_array_equal(read(other).ravel(), voxels.ravel())
        assert pickle.loads(pickle.dumps(source.spec)).grid == source.spec.grid  # noqa: S301 - our own bytes
        other.close()
        read(source)
    source.close()


def test_what_is_read_is_fresh(door: Door) -> None:
    spec = door.spec()
    source = written(door, spec, values(spec))
    read(source)[...] = np.nan
    np.testing.assert_array_equal(read(source).ravel(), values(spec).ravel())
    source.close()


def test_one_thread_reads_while_one_writes(door: Door) -> None:
    spec = door.spec()
    source = written(door, spec, values(spec))
    sink = door.sink(source.spec, door.path("copy"))
    queue: Queue[tuple[Box, Voxels] | None] = Queue(2)
    whole = Box.whole(source.spec.grid.shape)

    def reading() -> None:
        for box in whole.split((9,) * whole.ndim):
            queue.put((box, source.read(box)))
        queue.put(None)

    reader = threading.Thread(target=reading)
    reader.start()
    for box, voxels in iter(queue.get, None):
        sink.write(box, voxels)
    reader.join()
    sink.commit()
    np.testing.assert_array_equal(read(door.source(door.path("copy"))), read(source))


def outside(grid: Grid) -> Iterator[Box]:
    whole = Box.whole(grid.shape)
    yield Box(whole.start, (*whole.stop[:-1], whole.stop[-1] + 1))
    yield Box((-1, *whole.start[1:]), whole.stop)
    yield whole.shifted(whole.shape)


def test_a_box_outside_is_refused(door: Door) -> None:
    spec = door.spec()
    source = written(door, spec, values(spec))
    sink = door.sink(spec, door.path("other"))
    for box in outside(source.spec.grid):
        with pytest.raises(GridError, match="is not inside"):
            source.read(box)
    for box in outside(spec.grid):
        with pytest.raises(GridError, match="is not inside"):
            sink.write(box, np.zeros((2, *box.shape), np.float32))
    sink.abort()


def test_a_sink_says_what_it_writes(door: Door) -> None:
    sink = door.sink(door.spec("int16"))
    assert sink.spec.grid.shape == door.spec("int16").grid.shape
    assert sink.spec.dtype == np.int16
    chunks = sink.spec.chunks
    assert chunks is None or len(chunks) == sink.spec.grid.ndim
    sink.abort()


# The target


def test_nothing_appears_before_commit_and_nothing_is_left_beside(door: Door) -> None:
    spec = door.spec()
    sink = door.sink(spec)
    fill(sink, values(spec), shuffled(spec))
    assert not door.path().exists()
    sink.commit()
    assert door.path().exists()
    assert all(path.name.startswith("image.") for path in door.folder.iterdir())
    before = listing(door.folder)
    sink.abort()
    assert listing(door.folder) == before


def test_an_image_with_holes_does_not_appear(door: Door) -> None:
    spec = door.spec()
    sink = door.sink(spec)
    fill(sink, values(spec), shuffled(spec)[:-1])
    with pytest.raises(WriteFailedError, match=r"\d+ of its \d+ voxels"):
        sink.commit()
    sink.abort()
    assert list(door.folder.iterdir()) == []


@pytest.mark.parametrize("share", [0, 1, 2])
def test_abort_leaves_nothing(door: Door, share: int) -> None:
    spec = door.spec()
    sink = door.sink(spec)
    boxes = shuffled(spec)
    fill(sink, values(spec), boxes[: len(boxes) * share // 2])
    sink.abort()
    sink.abort()
    assert list(door.folder.iterdir()) == []


def test_a_target_is_replaced_whole_or_not_at_all(door: Door) -> None:
    spec = door.spec()
    written(door, spec, values(spec)).close()
    old = listing(door.folder)
    other = replace(spec, grid=spec.grid.upscaled((2,) * spec.grid.ndim), channels=("only",))
    sink = door.sink(other)
    fill(sink, values(other, 1), shuffled(other)[:3])
    sink.abort()
    assert listing(door.folder) == old
    source = written(door, other, values(other, 1))
    np.testing.assert_array_equal(read(source).ravel(), values(other, 1).ravel())
    source.close()
    fresh = door.folder / "fresh"
    fresh.mkdir()
    written(door, other, values(other, 1), fresh / door.path().name).close()
    assert listing(fresh).keys() == {name for name in listing(door.folder) if not name.startswith("fresh")}


def test_a_reader_keeps_the_old_image_while_it_is_replaced(door: Door) -> None:
    spec = door.spec()
    source = written(door, spec, values(spec))
    if door.path().is_dir():
        pytest.skip("the objects of a store are opened one by one")
    np.testing.assert_array_equal(read(source).ravel(), values(spec).ravel())
    written(door, spec, values(spec, 1)).close()
    np.testing.assert_array_equal(read(source).ravel(), values(spec).ravel())
    source.close()


def test_two_runs_at_one_target_are_refused(door: Door) -> None:
    spec = door.spec()
    sink = door.sink(spec)
    with pytest.raises(OutputError, match="being written by another run"):
        door.sink(spec)
    fill(sink, values(spec), shuffled(spec))
    sink.commit()
    np.testing.assert_array_equal(read(door.source()).ravel(), values(spec).ravel())


def test_a_missing_folder_is_refused(door: Door) -> None:
    spec = door.spec()
    with pytest.raises(OutputError, match="does not exist"):
        door.sink(spec, door.folder / "missing" / door.path().name)


def test_a_read_only_folder_is_refused(door: Door) -> None:
    spec = door.spec()
    door.folder.chmod(0o500)
    try:
        if os.access(door.folder, os.W_OK):
            pytest.skip("the superuser may write into a read-only folder")
        with pytest.raises(OutputError, match="read-only"):
            door.sink(spec)
    finally:
        door.folder.chmod(0o700)


def test_unknown_options_are_refused(door: Door) -> None:
    spec = door.spec()
    with pytest.raises(GeomedsrError, match=r"(?i)nonsense") as refusal:
        door.sink(spec, nonsense="1")
    assert len(str(refusal.value)) < 500
    assert list(door.folder.iterdir()) == []


# Bad input


def absent(path: Path) -> None:
    """Nothing is there."""


def empty(path: Path) -> None:
    path.touch()


def garbage(path: Path) -> None:
    path.write_bytes(np.random.default_rng(0).bytes(3000))


def text(path: Path) -> None:
    path.write_text("not an image " * 100)


def folder(path: Path) -> None:
    path.mkdir()


def folder_of_junk(path: Path) -> None:
    path.mkdir()
    (path / "image.txt").write_text("junk")


def loop(path: Path) -> None:
    path.symlink_to(path.name)


@pytest.mark.parametrize("made", [absent, empty, garbage, text, folder, folder_of_junk, loop], ids=lambda f: f.__name__)
def test_what_is_no_image_is_refused(any_door: Door, made: Callable[[Path], None]) -> None:
    made(any_door.path())
    with pytest.raises(InputError) as refusal:
        read(any_door.source())
    assert any_door.path().name in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_what_is_cut_short_is_refused(door: Door, share: float) -> None:
    spec = door.spec()
    written(door, spec, np.random.default_rng(0).normal(size=spec.shape).astype(np.float32)).close()
    files = [path for path in door.folder.rglob("*") if path.is_file()]
    largest = max(files, key=lambda path: path.stat().st_size)
    os.truncate(largest, int(largest.stat().st_size * share))
    with pytest.raises(InputError) as refusal:
        read(door.source())
    assert "\n" not in str(refusal.value)


def test_a_file_has_one_member(door: Door) -> None:
    spec = door.spec()
    written(door, spec, values(spec)).close()
    assert len(list(door.format.members(door.path()))) == 1
