"""An image is a value, and the image in memory is a Source and a Sink like any other."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from geomedsr.errors import GridError
from geomedsr.grid import Box, Grid
from geomedsr.image import Image, ImageSpec, Sink, Source

SPEC = ImageSpec(
    Grid.plain((4, 6)), ("red", "green", "blue"), np.dtype("uint8"), 0.0, (2, 2), {"geotiff": {"tags": ("a", "b")}}
)


def test_a_finer_spec_changes_the_grid_alone() -> None:
    finer = SPEC.upscaled((2, 3))
    assert finer.grid == SPEC.grid.upscaled((2, 3))
    assert finer.shape == (3, 8, 18)
    assert (finer.channels, finer.dtype, finer.nodata) == (SPEC.channels, SPEC.dtype, SPEC.nodata)
    assert (finer.chunks, finer.extra) == (SPEC.chunks, SPEC.extra)
    assert SPEC.nbytes == 3 * 4 * 6
    assert finer.nbytes == 3 * 8 * 18


def test_nbytes_does_not_overflow() -> None:
    huge = ImageSpec(Grid.plain((2**21, 2**21, 2**21)), ("a",), np.dtype("float64"))
    assert huge.nbytes == 2**66


def test_chosen_channels_are_counted_in_the_file() -> None:
    chosen = SPEC.with_channels((2, 0))
    assert chosen.channels == ("blue", "red")
    assert chosen.extra == {"geotiff": {"tags": ("a", "b")}, "channels": (2, 0)}
    again = chosen.with_channels((1,))
    assert again.channels == ("red",)
    assert again.extra["channels"] == (0,)
    assert SPEC.extra == {"geotiff": {"tags": ("a", "b")}}


def test_a_spec_is_picklable() -> None:
    assert pickle.loads(pickle.dumps(SPEC)) == SPEC  # noqa: S301 - our own bytes


def test_an_image_in_memory_is_a_source_and_a_sink() -> None:
    image = Image.empty(SPEC)
    assert isinstance(image, Source)
    assert isinstance(image, Sink)
    assert np.isnan(image.voxels).all()
    values = np.arange(72, dtype=np.float32).reshape(SPEC.shape)
    for box in Box.whole((4, 6)).split((3, 4)):
        image.write(box, values[(slice(None), *box.slices)])
    image.commit()
    image.abort()
    image.close()
    np.testing.assert_array_equal(image.read(Box((1, 2), (4, 5))), values[:, 1:4, 2:5])


def test_what_is_read_is_a_copy() -> None:
    image = Image.of(np.zeros((1, 3, 3)))
    image.read(Box.whole((3, 3)))[...] = 1
    assert not image.voxels.any()


def test_an_image_of_an_array() -> None:
    image = Image.of(np.ones((2, 3, 4, 5), dtype=np.int16))
    assert image.spec.channels == ("channel 1", "channel 2")
    assert image.spec.grid == Grid.plain((3, 4, 5))
    assert image.voxels.dtype == np.float32
    placed = Image.of(np.ones((1, 2, 2)), SPEC.grid.with_shape((2, 2)).upscaled((1, 1)))
    assert placed.spec.grid.shape == (2, 2)


def test_voxels_of_another_shape_are_refused() -> None:
    with pytest.raises(GridError, match="voxels have the shape"):
        Image(SPEC, np.zeros((3, 4, 5), dtype=np.float32))


@pytest.mark.parametrize("box", [Box((0, 0), (5, 6)), Box((-1, 0), (2, 2)), Box((0, 0, 0), (1, 1, 1))])
def test_a_box_outside_is_refused(box: Box) -> None:
    image = Image.empty(SPEC)
    with pytest.raises(GridError, match="is not inside"):
        image.read(box)
    with pytest.raises(GridError, match="is not inside"):
        image.write(box, np.zeros((3, *box.shape), dtype=np.float32))
