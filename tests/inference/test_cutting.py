from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geomedsr.grid import Grid, Shape
from geomedsr.image import ImageSpec
from geomedsr.inference.cutting import Cut, asked_cut, block_bytes, choose_cut
from geomedsr.inference.tasks import Blocks
from geomedsr.inference.windows import Demand, Work


def work(shape: Shape, chunk: int, halo: int = 20, factor: int = 2, multiple: int = 1) -> Work:
    ndim = len(shape)
    return Work(shape, (factor,) * ndim, (halo,) * ndim, (chunk,) * ndim, (multiple,) * ndim)


def per_voxel(count: int) -> Callable[[Cut], Demand]:
    return lambda cut: Demand(count * math.prod(cut.window), large=True)


def seen(job: Work, cut: Cut) -> float:
    """The voxels that the network sees over those of the image."""
    blocks = Blocks(tuple(n * f for n, f in zip(job.shape, job.factor, strict=True)), cut.step)
    made = job.plan(cut.window)
    return sum(map(made.pieces, blocks)) * math.prod(cut.window) / math.prod(job.shape)


def check_blocks(job: Work, cut: Cut) -> None:
    """Blocks are whole objects: they end where these do."""
    assert job.chunks is not None
    rows = zip(job.shape, job.factor, job.chunks, cut.step, strict=True)
    assert all(step == n * f or step % chunk == 0 for n, f, chunk, step in rows)
    assert job.plan(cut.window).window == cut.window


AXIS = st.tuples(st.integers(10, 200), st.integers(1, 3), st.integers(4, 90), st.integers(0, 6), st.integers(1, 4))


@settings(max_examples=40, deadline=None)
@given(st.lists(AXIS, min_size=1, max_size=2), st.integers(500, 100_000))
def test_a_cut_fits_and_its_blocks_are_whole_objects(axes: list[tuple[int, int, int, int, int]], limit: int) -> None:
    shape, factor, chunks, halo, multiple = (tuple(values) for values in zip(*axes, strict=True))
    job = Work(shape, factor, halo, chunks, multiple)
    cut = choose_cut(job, per_voxel(4), limit, limit)
    if cut is None:
        assert 4 * math.prod(job.smallest) > limit
        return
    check_blocks(job, cut)
    assert 4 * math.prod(cut.window) <= limit


@settings(max_examples=40, deadline=None)
@given(AXIS, st.integers(1, 120))
def test_a_tile_that_is_asked_for_is_at_most_so_large(axis: tuple[int, int, int, int, int], tile: int) -> None:
    length, factor, chunk, halo, multiple = axis
    job = Work((length,), (factor,), (halo,), (chunk,), (multiple,))
    cut = asked_cut(job, (tile,))
    check_blocks(job, cut)
    blocks = Blocks((length * factor,), cut.step)
    assert all(
        piece.write.size <= (tile + 2 * (halo + multiple)) * factor  # a window at the border keeps a halo, too
        for box in blocks
        for piece in job.plan(cut.window).refit(box)
        if tile < length
    )


@pytest.mark.parametrize(("chunk", "most"), [(512, 1.05), (1024, 1.05), (1500, 1.07), (4096, 1.05)])
def test_a_window_fits_its_objects_whatever_these_are(chunk: int, most: float) -> None:
    """Where the window was chosen first, it saw 2.7 times the voxels of such an image, in objects of 1024."""
    job = work((2048, 2048), chunk)
    cut = choose_cut(job, per_voxel(1800), 512 << 20, 8 << 30)
    assert cut is not None
    check_blocks(job, cut)
    assert seen(job, cut) < most


def test_memory_is_taken_as_far_as_it_pays() -> None:
    job = work((100_000, 100_000), 4096)
    costs = []
    for limit in (512 << 20, 4 << 30, 64 << 30):
        cut = choose_cut(job, per_voxel(1800), 512 << 20, limit)
        assert cut is not None
        costs.append((1800 * math.prod(cut.window), round(seen(work((8192, 8192), 4096), cut), 2)))
    assert [seen for _, seen in costs] == [1.19, 1.08, 1.08]
    assert costs[1] == costs[2], "of what is at hand no more than what it saves is worth"


def test_small_objects_are_joined_to_a_block_of_one_window() -> None:
    job = work((4000, 4000), 64, halo=2)
    cut = choose_cut(job, per_voxel(100), 32 << 20, 32 << 20)
    assert cut is not None
    assert math.prod(cut.step) > 100 * 64 * 64
    assert sum(map(job.plan(cut.window).pieces, Blocks((8000, 8000), cut.step))) == len(Blocks((8000, 8000), cut.step))


def test_an_archive_of_any_size_is_cut_at_once() -> None:
    job = work((10**7, 10**7), 1024)
    cut = choose_cut(job, per_voxel(800), 512 << 20, 8 << 30)
    assert cut is not None
    assert len(Blocks((2 * 10**7,) * 2, cut.step)) > 10**7


def test_a_block_takes_room_beside_its_windows() -> None:
    after = ImageSpec(Grid.plain((4096, 4096)), ("a", "b"), np.dtype(np.uint16), chunks=(1024, 2048))
    assert block_bytes(Cut((1,), (2048, 2048)), after) == 2 * (2 * 2048 * 2048 + 3 * 1024 * 2048)
