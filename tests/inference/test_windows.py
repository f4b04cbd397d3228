from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geomedsr.grid import Shape
from geomedsr.inference.windows import Demand, Work, choose_window, halve


def work(shape: Shape, halo: int = 8, factor: int = 2, chunk: int | None = 64, multiple: int = 1) -> Work:
    ndim = len(shape)
    chunks = None if chunk is None else (chunk,) * ndim
    return Work(shape, (factor,) * ndim, (halo,) * ndim, chunks, (multiple,) * ndim)


def per_voxel(count: int, least: int = 0) -> Callable[[Shape], Demand]:
    return lambda window: Demand(count * math.prod(window), math.prod(window) > least)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.integers(20, 300), min_size=2, max_size=3),
    st.integers(0, 6),
    st.integers(1, 3),
    st.integers(20_000, 1_000_000),
)
def test_the_window_fits_and_covers_the_image(shape: list[int], halo: int, multiple: int, budget: int) -> None:
    job = work(tuple(shape), halo, multiple=multiple)
    window = choose_window(job, per_voxel(4), budget, budget)
    if window is None:
        assert 4 * math.prod(job.smallest) > budget / 8  # only where hardly the smallest one fits
        return
    assert 4 * math.prod(window) <= budget
    assert all(w % multiple == 0 for w in window)
    assert job.plan(window).window == window


def test_a_large_image_is_cut_with_little_redundancy() -> None:
    job = work((16_000, 16_000), chunk=512)
    window = choose_window(job, per_voxel(800), 512 << 20, 4 << 30)
    assert window is not None
    assert job.plan(window).redundancy < 1.08
    assert 800 * math.prod(window) <= 512 << 20


def test_slabs_are_preferred_where_they_fit() -> None:
    window = choose_window(work((100, 100, 3000), 4, chunk=None), per_voxel(100), 200 << 20, 200 << 20)
    assert window is not None
    assert window[:2] == (100, 100)


def test_more_memory_is_spent_only_where_it_saves_much() -> None:
    flat = choose_window(work((2000, 2000), 4), per_voxel(500), 256 << 20, 8 << 30)
    deep = choose_window(work((200, 200, 200), 20), per_voxel(500), 256 << 20, 8 << 30)
    assert flat is not None
    assert deep is not None
    assert 500 * math.prod(flat) <= 256 << 20
    assert 500 * math.prod(deep) > 256 << 20


def test_windows_are_large_where_that_is_possible() -> None:
    demand = per_voxel(4, least=5000)
    window = choose_window(work((300, 300), 2, chunk=None), demand, 40_000, 40_000)
    assert window is not None
    assert math.prod(window) > 5000
    tiny = choose_window(work((30, 30), 2), demand, 40_000, 40_000)
    assert tiny == (30, 30)


def test_several_tiles_rather_than_one_where_they_cost_nothing() -> None:
    job = Work((200, 200, 60), (2, 2, 1), (8, 8, 0), None, (1, 1, 1))
    window = choose_window(job, per_voxel(100), 8 << 30, 8 << 30)
    assert window is not None
    assert len(job.plan(window)) >= 4
    assert job.plan(window).redundancy < 1.05


@pytest.mark.parametrize("multiple", [1, 4])
def test_halving_ends_at_the_smallest(multiple: int) -> None:
    job = work((200, 300), 9, multiple=multiple)
    window: Shape | None = job.padded
    seen = []
    while window is not None:
        assert len(job.plan(window)) > 0
        seen.append(window)
        window = halve(job, window)
    assert seen[-1] == job.smallest
    assert len(seen) < 30


def test_an_axis_on_which_tiles_go_on_costs_no_halo() -> None:
    job = work((4000, 4000), 36, chunk=512)
    window = choose_window(job, per_voxel(400), 640 << 20, 640 << 20, carries=(0, 1))
    assert window is not None
    assert window[1] == 4000  # full rows, and the first axis goes on
    assert job.carried(job.plan(window).counts, (0, 1)) == 0
    assert all(tile.write.start[0] % 512 == 0 for tile in job.plan(window))


def test_the_first_axis_that_is_split_goes_on() -> None:
    job = work((100, 100, 100))
    assert job.carried((3, 2, 1), (0, 1, 2)) == 0
    assert job.carried((1, 2, 4), (0, 1, 2)) == 1
    assert job.carried((1, 1, 4), (0, 1)) == 0
    assert job.carried((3, 2, 1), ()) is None
