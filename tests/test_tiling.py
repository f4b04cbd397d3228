from __future__ import annotations

import itertools
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geomedsr.errors import GridError
from geomedsr.grid import Box
from geomedsr.tiling import Plan, plan, smallest_window


@st.composite
def axes(draw: st.DrawFn) -> tuple[int, int, int, int, int, int]:
    """length, factor, window, halo, chunk, multiple of one axis."""
    halo, multiple = draw(st.integers(0, 9)), draw(st.integers(1, 5))
    # Boundaries that are no multiples of the factor cost up to one lr voxel more.
    window = smallest_window(halo, multiple) + multiple + draw(st.integers(0, 60))
    return draw(st.integers(1, 150)), draw(st.integers(1, 4)), window, halo, draw(st.integers(1, 70)), multiple


def build(rows: list[tuple[int, int, int, int, int, int]]) -> Plan:
    length, factor, window, halo, chunk, multiple = zip(*rows, strict=True)
    return plan(length, factor, window, halo, chunk, multiple)


@given(st.lists(axes(), min_size=1, max_size=2))
def test_writes_partition_the_output(rows: list[tuple[int, int, int, int, int, int]]) -> None:
    seen = np.zeros([row[0] * row[1] for row in rows], np.int8)
    for tile in build(rows):
        assert tile.write.size > 0
        seen[tile.write.slices] += 1
    assert (seen == 1).all()


@given(st.lists(axes(), min_size=1, max_size=2))
def test_windows_are_one_shape_and_inside(rows: list[tuple[int, int, int, int, int, int]]) -> None:
    tiles = build(rows)
    for tile in tiles:
        assert tile.window == tiles.window
        assert Box.whole([row[0] for row in rows]).contains(tile.read)
        for (length, _, _, _, _, multiple), a, b, pad in zip(
            rows, tile.read.start, tile.read.stop, tile.pad, strict=True
        ):
            assert a % multiple == 0
            assert (b - a + pad) % multiple == 0
            assert 0 <= pad < multiple
            assert pad == 0 or b == length


@given(st.lists(axes(), min_size=1, max_size=2))
def test_halo_lies_around_what_is_kept_but_at_the_border(rows: list[tuple[int, int, int, int, int, int]]) -> None:
    for tile in build(rows):
        for (length, factor, _, halo, _, _), a, b, begin, end, kept in zip(
            rows, tile.read.start, tile.read.stop, tile.write.start, tile.write.stop, tile.keep.start, strict=True
        ):
            assert kept == begin - a * factor
            assert a == 0 or begin >= (a + halo) * factor
            assert b == length or end <= (b - halo) * factor


@given(axes())
def test_boundaries_follow_chunks_where_a_window_holds_one(row: tuple[int, int, int, int, int, int]) -> None:
    _, factor, window, halo, chunk, multiple = row
    if (window - 2 * halo - multiple + 1) * factor - factor + 1 < chunk:
        return
    for tile in build([row]):
        assert tile.write.start[0] % chunk == 0


@given(axes(), axes(), st.data())
def test_refitting_a_tile_partitions_it(
    one: tuple[int, int, int, int, int, int], two: tuple[int, int, int, int, int, int], data: st.DataObject
) -> None:
    coarse = build([one, two])
    smaller = [(n, f, smallest_window(h, m) + m, h, c, m) for n, f, _, h, c, m in (one, two)]
    fine = build(smaller)
    write = coarse[data.draw(st.integers(0, len(coarse) - 1))].write
    seen = np.zeros(write.shape, np.int8)
    assert fine.pieces(write) == len(list(fine.refit(write)))
    for tile in fine.refit(write):
        assert tile.window == fine.window
        seen[tile.write.relative_to(write.start).slices] += 1
        for row, a, b, begin, end in zip(
            smaller, tile.read.start, tile.read.stop, tile.write.start, tile.write.stop, strict=True
        ):
            assert a == 0 or begin >= (a + row[3]) * row[1]
            assert b == row[0] or end <= (b - row[3]) * row[1]
    assert (seen == 1).all()


def test_an_image_no_larger_than_the_window_is_one_tile() -> None:
    (tile,) = plan((30, 40), (2, 2), (64, 64), (9, 9))
    assert tile.read == Box.whole((30, 40))
    assert tile.keep == tile.write == Box.whole((60, 80))
    assert tile.pad == (0, 0)


def test_an_image_is_padded_at_its_far_end_only() -> None:
    (tile,) = plan((30, 41), (2, 2), (64, 64), (9, 9), multiple_of=(4, 4))
    assert tile.pad == (2, 3)
    assert tile.window == (32, 44)
    assert tile.keep == Box.whole((60, 82))


def test_a_plan_of_millions_of_tiles_costs_nothing() -> None:
    tiles = plan((1_000_000, 1_000_000), (2, 2), (100, 100), (8, 8), (128, 128))
    assert len(tiles) > 100_000_000
    assert tiles[-1].write.stop == (2_000_000, 2_000_000)
    assert tiles[-1] == tiles[len(tiles) - 1]


def test_tiles_come_last_axis_fastest() -> None:
    tiles = plan((50, 50), (1, 1), (20, 20), (2, 2))
    starts = [tile.write.start for tile in itertools.islice(tiles, 5)]
    assert starts == sorted(starts)
    assert [tile.write for tile in tiles[1:3]] == [tiles[1].write, tiles[2].write]


def test_redundancy_counts_what_the_network_sees() -> None:
    assert plan((100, 100), (2, 2), (100, 100), (8, 8)).redundancy == 1
    assert plan((100,), (1,), (60,), (10,)).redundancy == pytest.approx(1.2)


def test_a_window_without_room_is_refused_with_the_numbers() -> None:
    with pytest.raises(GridError, match="at least 17"):
        plan((100,), (2,), (16,), (8,))


def test_an_index_outside_is_refused() -> None:
    with pytest.raises(IndexError, match="none at 1"):
        plan((10,), (1,), (10,), (0,))[1]


def test_along_an_axis_each_tile_begins_where_the_one_before_ended() -> None:
    tiles = plan((60, 50, 40), (2, 1, 2), (20, 30, 22), (3, 2, 4), (8, 5, 8))
    for axis in range(3):
        row = list(tiles.along(axis))
        assert sorted(tile.write.start for tile in row) == sorted(tile.write.start for tile in tiles)
        for before, after in pairwise(row):
            assert after.write.start[axis] in (before.write.stop[axis], 0)
        assert sum(tile.write.start[axis] == 0 for tile in row) == len(tiles) // tiles.counts[axis]
