"""Any image of any shape, dtype, affine and chunks goes through each format and comes back, also twice as fine."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from geomedsr import upscale
from geomedsr.grid import Box, Grid
from geomedsr.image import Image, ImageSpec, Scaling
from geomedsr.io import format_of

SUFFIXES = (".nii", ".nii.gz", ".img", ".tif", ".zarr")
DTYPES = ("uint8", "int16", "uint16", "int32", "float32", "float64")
EXAMPLES = settings(
    deadline=None,
    max_examples=6,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],  # to make a fault smaller takes minutes of files
    suppress_health_check=[HealthCheck.too_slow],
)

step = st.floats(0.01, 200) | st.floats(-200, -0.01)
far = st.floats(-1e6, 1e6)


@st.composite
def grids(draw: st.DrawFn, ndim: int, crs: str | None) -> Grid:
    """A grid of any steps, flips and turned axes."""
    shape = tuple(draw(st.integers(1 if ndim == 3 else 2, 13)) for _ in range(ndim))
    steps = np.diag([draw(step) for _ in range(ndim)])
    if ndim == 3:
        angle = draw(st.floats(0, 3))
        turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
        steps = turn @ steps[:, list(draw(st.permutations(range(3))))]
    else:
        steps = steps[::-1]  # rows run along y
    affine = np.eye(ndim + 1)
    affine[:ndim, :ndim], affine[:ndim, ndim] = steps, [draw(far) for _ in range(ndim)]
    return Grid.of(shape, affine, crs, "mm" if ndim == 3 else "m")


@st.composite
def images(draw: st.DrawFn, suffix: str) -> tuple[Image, dict[str, str]]:
    """An image that a format takes, with voxels that its dtype holds, and creation options for it."""
    ndim = 3 if suffix in (".nii", ".nii.gz", ".img") else 2 if suffix == ".tif" else draw(st.sampled_from((2, 3)))
    grid = draw(grids(ndim, "EPSG:32632" if ndim == 2 else None))
    dtype, channels = np.dtype(draw(st.sampled_from(DTYPES))), draw(st.integers(1, 3))
    scaling = Scaling(draw(st.sampled_from((1.0, 0.5, 2.0))), draw(st.sampled_from((0.0, 16.0, -8.0))))
    has_nodata = dtype.kind in "iu" and suffix not in (".nii", ".nii.gz", ".img") and draw(st.booleans())
    spec = ImageSpec(
        grid,
        tuple(f"one {i}" for i in range(channels)),
        dtype,
        nodata=0.0 if has_nodata else None,
        scaling=(scaling,) * channels if dtype.kind in "iu" else (),
        has_holes=has_nodata or dtype.kind == "f",
    )
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    voxels = rng.integers(1, 120, spec.shape).astype(np.float32)
    if spec.scaling:
        voxels = voxels * np.float32(scaling.slope) + np.float32(scaling.intercept)
    if spec.has_holes:
        voxels[rng.random(spec.shape) < 0.1] = np.nan
    return Image(spec, voxels), draw(options(suffix, ndim))


def options(suffix: str, ndim: int) -> st.SearchStrategy[dict[str, str]]:
    """Blocks, chunks and compressions of a format."""
    if suffix == ".tif":
        size = st.sampled_from(({}, {"BLOCKSIZE": "16"}, {"COG": "YES"}, {"INTERLEAVE": "PIXEL"}))
        return st.tuples(size, st.sampled_from(({}, {"COMPRESS": "NONE"}, {"COMPRESS": "ZSTD"}))).map(
            lambda two: {**two[0], **two[1]}
        )
    if suffix == ".zarr":
        sides = st.lists(st.integers(1, 6), min_size=ndim, max_size=ndim)
        kinds = st.sampled_from(({"zarr_format": "2"}, {"zarr_format": "3"}, {"zarr_format": "3", "shards": "twice"}))
        packed = st.sampled_from(("blosc", "zstd", "gzip", "none"))
        return st.tuples(sides, kinds, packed).map(lambda three: _zarr_options(*three))
    return st.just({})


def _zarr_options(sides: list[int], kind: dict[str, str], compressor: str) -> dict[str, str]:
    def text(times: int) -> str:
        return ",".join(str(times * side) for side in sides)

    shards = {"shards": text(2)} if "shards" in kind else {}
    return {**kind, "chunks": text(1), "compressor": compressor, **shards}


def written(image: Image, path: Path, options: dict[str, str]) -> ImageSpec:
    """The image in a file, written in boxes; what its format promised of it."""
    form = format_of(path)
    sink = form.create_sink(path, image.spec, options)
    for box in Box.whole(image.spec.grid.shape).split((7,) * image.spec.grid.ndim):
        sink.write(box, image.read(box))
    sink.commit()
    return form.target_spec(path, image.spec)


@pytest.mark.parametrize("suffix", SUFFIXES)
@EXAMPLES
@given(data=st.data())
def test_an_image_comes_back_and_can_be_made_finer(suffix: str, data: st.DataObject) -> None:
    image, options = data.draw(images(suffix))
    with tempfile.TemporaryDirectory() as scratch:
        path, fine = Path(scratch) / f"a{suffix}", Path(scratch) / f"fine{suffix}"
        promised = written(image, path, options)
        source = format_of(path).open_source(path)
        found, voxels = source.spec, source.read(Box.whole(image.spec.grid.shape))
        source.close()
        assert (found.shape, found.dtype, repr(found.nodata)) == (promised.shape, promised.dtype, repr(promised.nodata))
        assert replace(found.grid, crs=None).same_place(replace(image.spec.grid, crs=None))
        assert found.grid.crs == promised.grid.crs
        stays = np.isfinite(image.voxels)
        assert np.array_equal(voxels[stays], image.voxels[stays])
        if found.has_holes:
            assert np.isnan(voxels[~stays]).all()
        report = upscale(path, fine, "nearest", scale=2, device="cpu")
        assert report.after is not None
        assert report.after.grid.same_place(found.grid)
        source = format_of(fine).open_source(fine)
        finer = source.read(Box.whole(source.spec.grid.shape))
        source.close()
        for axis, (n, m) in enumerate(zip(found.grid.shape, source.spec.grid.shape, strict=True), start=1):
            voxels = voxels.repeat(m // n, axis)
        assert np.array_equal(finer, voxels, equal_nan=True)
