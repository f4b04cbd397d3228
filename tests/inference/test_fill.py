from __future__ import annotations

import numpy as np
import pytest

from geomedsr.inference.fill import REACH, fill, spread

NAN = np.float32(np.nan)


def test_valid_voxels_stay_and_nothing_invalid_remains() -> None:
    rng = np.random.default_rng(0)
    voxels = rng.normal(size=(2, 30, 31)).astype(np.float32)
    holes = rng.random(voxels.shape) < 0.3
    holes[:, 5:25, 5:25] = True
    spoilt = np.where(holes, NAN, voxels)
    filled = fill(spoilt, (0, 1))
    assert np.isfinite(filled).all()
    assert np.array_equal(filled[~holes], voxels[~holes])


def test_a_hole_gets_the_mean_of_its_neighbours() -> None:
    voxels = np.array([[[1, 2, 3], [4, NAN, 6], [7, 8, 9]]], np.float32)
    assert fill(voxels, (0, 1))[0, 1, 1] == 5


def test_infinite_voxels_are_invalid_too() -> None:
    assert fill(np.array([[1, np.inf, 3]], np.float32), (0,))[0, 1] == 2


def test_beyond_reach_is_zero() -> None:
    voxels = np.full((1, 40), NAN)
    voxels[0, 0] = 5
    filled = fill(voxels, (0,))
    assert (filled[0, : REACH + 1] == 5).all()
    assert (filled[0, REACH + 1 :] == 0).all()


def test_only_the_given_axes_are_looked_along() -> None:
    voxels = np.full((1, 3, 2), NAN)
    voxels[0, :, 0] = 7
    assert (fill(voxels, (0,))[0, :, 1] == 0).all()
    assert (fill(voxels, (1,))[0, :, 1] == 7).all()


@pytest.mark.parametrize("shape", [(2, 60, 50), (1, 24, 25, 26)])
def test_a_part_gives_what_the_whole_gives(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(1)
    voxels = rng.normal(size=shape).astype(np.float32)
    voxels[rng.random(shape) < 0.9] = NAN
    steps, axes = 4, tuple(range(len(shape) - 1))
    whole = fill(voxels, axes, steps)
    part = fill(voxels[:, 3:, 2:-1], axes, steps)
    inner = (slice(None), slice(steps, None), slice(steps, -steps))
    assert np.array_equal(part[inner], whole[:, 3:, 2:-1][inner])


def test_a_mask_is_spread_over_the_finer_grid() -> None:
    mask = np.array([[[True, False]]])
    assert spread(mask, (2, 3)).tolist() == [[[True] * 3 + [False] * 3] * 2]
