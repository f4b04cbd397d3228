"""What a page's pictures and figures are made of: previews, images computed while read, power by frequency."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report.support_report import block_means, shapes

from geomedsr.errors import GridError
from geomedsr.grid import Box, Grid
from geomedsr.image import Image, Voxels
from geomedsr.networks.interpolate import upsample
from geomedsr.report.derived import Cubic, Difference
from geomedsr.report.evidence import gather
from geomedsr.report.exhibit import exhibit
from geomedsr.report.layers import Companions, Levels, layers_of
from geomedsr.report.pair import Pair
from geomedsr.report.preview import preview
from geomedsr.report.spectrum import Power


class Counting(Image):
    """An image that remembers the most voxels that were asked for at once."""

    largest = 0

    def read(self, box: Box) -> Voxels:
        self.largest = max(self.largest, box.size * len(self.spec.channels))
        return super().read(box)


def pair(shape: tuple[int, ...] = (3, 96, 128), factor: tuple[int, ...] = (2, 2)) -> Pair:
    fine = Image.of(shapes(shape))
    coarse_grid = Grid.plain([n // f for n, f in zip(shape[1:], factor, strict=True)])
    coarse = Image(replace(fine.spec, grid=coarse_grid), block_means(fine.voxels, factor))
    return Pair.of(coarse, Image(replace(fine.spec, grid=coarse_grid.upscaled(factor)), fine.voxels))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 23), min_size=2, max_size=3), st.integers(1, 7), st.integers(1, 400))
def test_a_preview_holds_the_mean_of_each_block(sizes: list[int], step: int, budget: int) -> None:
    image = Image.of(np.random.default_rng(0).random((2, *sizes)))
    image.voxels[0].flat[0] = np.nan
    steps = tuple(min(step, n) for n in sizes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("geomedsr.report.preview._BUDGET", budget)
        found = preview(image, Box.whole(sizes), steps, (1, 0))
    for index in np.ndindex(*found.voxels.shape[1:]):
        block = tuple(slice(i * s, (i + 1) * s) for i, s in zip(index, steps, strict=True))
        for place, channel in enumerate((1, 0)):
            values = image.voxels[(channel, *block)]
            expected = np.nanmean(values) if np.isfinite(values).any() else np.nan
            np.testing.assert_allclose(found.voxels[(place, *index)], expected, rtol=1e-5)
    np.testing.assert_allclose(found.grid.matrix[:-1, -1], image.spec.grid.matrix[:-1, -1])
    assert found.grid.spacing == pytest.approx([float(s) for s in steps])


def test_a_large_image_is_read_in_parts() -> None:
    image = Counting.of(np.ones((2, 3000, 2500), np.float32))
    assert isinstance(image, Counting)
    found = preview(image, Box.whole((3000, 2500)), (7, 7), (0, 1))
    assert found.voxels.shape == (2, 429, 358)
    assert found.span == pytest.approx((429 * 7 / 3000, 358 * 7 / 2500))
    assert image.largest <= 1 << 23


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_cubic_of_a_box_is_the_box_of_cubic(data: st.DataObject) -> None:
    import torch

    factor = data.draw(st.tuples(st.integers(1, 3), st.integers(1, 4)))
    image = Image.of(np.random.default_rng(1).random((3, 9, 11)))
    whole = upsample(torch.from_numpy(image.voxels[[2, 0]][None]), "cubic", factor)[0].numpy()
    start = [data.draw(st.integers(0, n - 1)) for n in whole.shape[1:]]
    stop = [data.draw(st.integers(a + 1, n)) for a, n in zip(start, whole.shape[1:], strict=True)]
    box = Box(tuple(start), tuple(stop))
    cubic = Cubic(image, factor, (2, 0))
    np.testing.assert_array_equal(cubic.read(box), whole[(slice(None), *box.slices)])
    assert cubic.spec.shape == whole.shape
    assert not Difference(cubic, cubic).read(box).any()


def test_levels_keep_zero_for_what_is_invalid() -> None:
    found = pair()
    layer = layers_of(found, Companions(), (0,))[0]
    levels = Levels(((10.0, 20.0),)).apply(np.array([[[np.nan, 5, 10, 15, 20, 99]]], np.float32))
    assert levels.tolist() == [[[0, 1, 1, 128, 255, 255]]]
    assert layer.coarse


def test_a_wave_beyond_nyquist_is_found_there_and_one_below_is_not() -> None:
    x = np.arange(128) * 0.5
    for frequency, beyond in ((0.3, 0.0), (0.7, 1.0)):
        power = Power((0.5, 0.5), (0.5, 0.5), 1.0)
        assert power.add(np.tile(np.sin(2 * np.pi * frequency * x), (128, 1)).astype(np.float32))
        assert power.share_beyond == pytest.approx(beyond, abs=1e-3)
        assert max(power.curve, key=lambda point: point[1])[0] == pytest.approx(frequency, abs=0.02)
    assert not power.add(np.full((128, 128), np.nan, np.float32))
    assert not power.add(np.zeros((7, 128), np.float32))


def test_where_nothing_was_seen_there_is_no_share() -> None:
    assert Power((1.0, 1.0), (0.25, 0.25), 0.5).share_beyond is None


@pytest.mark.parametrize(("shape", "factor"), [((3, 96, 128), (2, 2)), ((1, 20, 48, 32), (1, 1, 4))])
def test_the_figures_of_a_pair(shape: tuple[int, ...], factor: tuple[int, ...]) -> None:
    found = pair(shape, factor)
    shown = exhibit(found, Companions(reference=found.after), 10**6)
    evidence = gather(found, shown.channels, shown.stretch, found.after, shown.first[0])
    assert len(evidence.histograms) == len(shown.channels)
    for one in evidence.histograms:
        assert sum(one.before) == pytest.approx(1)
        assert sum(one.after) == pytest.approx(1)
    assert evidence.scores["result"]["mae"] == 0
    assert evidence.scores["cubic"]["mae"] > 0
    assert evidence.spectrum is not None
    assert set(evidence.spectrum.curves) == {"input", "cubic", "result", "reference"}
    assert max(f for f, _ in evidence.spectrum.curves["input"]) <= evidence.spectrum.nyquist
    assert evidence.beyond is not None
    assert 0 < evidence.beyond < 1


def test_the_detail_is_where_it_was_asked_for() -> None:
    found = pair((1, 400, 600))
    shown = exhibit(found, Companions(), 10**5, at=(0, 299))
    assert [scene.key for scene in shown.scenes] == ["detail", "whole"]
    assert shown.detail.box.start[0] == 0
    assert shown.detail.box.stop[1] == 300
    assert not shown.detail.is_averaged
    assert sum(preview.voxels.size for preview in shown.detail.previews.values()) <= 10**5
    with pytest.raises(GridError, match="is not inside the input"):
        exhibit(found, Companions(), 10**5, at=(200, 0))
