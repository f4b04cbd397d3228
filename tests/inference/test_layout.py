from __future__ import annotations

import numpy as np
import pytest

from geomedsr.errors import ModelError
from geomedsr.grid import Grid
from geomedsr.image import ImageSpec
from geomedsr.inference.layout import layout_of
from geomedsr.task import Task


def spec(shape: tuple[int, ...], channels: int = 1, spacing: tuple[float, ...] | None = None) -> ImageSpec:
    grid = Grid.of(shape, np.diag([*(spacing or (1.0,) * len(shape)), 1.0]))
    return ImageSpec(grid, tuple(f"c{i}" for i in range(channels)), np.dtype(np.float32))


@pytest.mark.parametrize("axes", [(0, 1), (0, 2), (1, 2)])
@pytest.mark.parametrize("seen", [1, 3])
def test_a_batch_is_the_image_and_back(axes: tuple[int, int], seen: int) -> None:
    layout = layout_of(Task(2, seen, (2, 2)), spec((4, 5, 6), 3), axes)
    voxels = np.arange(3 * 4 * 5 * 6, dtype=np.float32).reshape(3, 4, 5, 6)
    batch = layout.to_batch(voxels)
    assert batch.shape == layout.batch_shape((4, 5, 6))
    (other,) = layout.others
    assert np.array_equal(layout.from_batch(batch, (voxels.shape[other + 1],)), voxels)
    first = voxels.take(0, axis=other + 1)
    assert np.array_equal(batch[0], first[:seen])


def test_a_planar_network_leaves_out_the_coarsest_axis() -> None:
    task = Task(2, 1, (2, 2))
    assert layout_of(task, spec((4, 5, 6), spacing=(1.0, 3.0, 1.0))).axes == (0, 2)
    assert layout_of(task, spec((4, 5, 6))).axes == (0, 1)
    assert layout_of(task, spec((4, 5))).axes == (0, 1)


def test_values_of_the_network_s_axes_land_on_the_image_s() -> None:
    layout = layout_of(Task(2, 1, (2, 3)), spec((4, 5, 6)), (0, 2))
    assert layout.on_image((2, 3), 1) == (2, 1, 3)


@pytest.mark.parametrize(
    ("task", "image", "axes", "message"),
    [
        (Task(2, 4, (2, 2)), spec((8, 8), 3), None, "takes 4 channels together; the image has 3"),
        (Task(3, 1, (2, 2, 2)), spec((8, 8)), None, "volumes of 3 axes; the image has 2"),
        (Task(2, 1, (2, 2)), spec((8, 8, 8)), (1, 1), "got the axes"),
        (Task(2, 1, (2, 2)), spec((8, 8, 8)), (0, 3), "got the axes"),
        (Task(2, 1, (2, 2), guide=1), spec((8, 8)), None, "guide"),
    ],
)
def test_what_does_not_fit_is_refused(task: Task, image: ImageSpec, axes: tuple[int, ...] | None, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        layout_of(task, image, axes)
