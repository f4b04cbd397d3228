"""Intensity maps: inverse, fitted once, robust to what an image holds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from geomedsr.data.intensity import Intensity, IntensityRule, sample_boxes
from geomedsr.grid import Box
from geomedsr.image import Image


@given(st.floats(-1e3, 1e3), st.floats(1e-3, 1e3))
def test_invert_undoes_apply(offset: float, scale: float) -> None:
    x = np.linspace(-100, 5000, 50, dtype=np.float32)
    intensity = Intensity(offset, scale)
    np.testing.assert_allclose(intensity.invert(intensity.apply(x)), x, rtol=1e-4, atol=1e-3 * max(1, abs(offset)))


def image(values: np.ndarray) -> Image:
    return Image.of(values.astype(np.float32)[None])


def test_percentile_is_that_of_the_foreground() -> None:
    head = np.zeros((40, 40))
    head[10:30, 10:30] = np.linspace(50, 150, 400).reshape(20, 20)
    intensity = IntensityRule(name="percentile", high=99).fit(image(head))
    assert intensity.offset == 0
    assert intensity.scale == pytest.approx(149, rel=0.01)
    wider = IntensityRule(name="percentile", high=99).fit(image(np.pad(head, 40)))
    assert wider.scale == pytest.approx(intensity.scale, rel=0.02), "more air is no other image"


def test_window_is_fixed() -> None:
    assert IntensityRule(name="window", low=-1000, high=1000).fit(image(np.ones((8, 8)))) == Intensity(-1000, 2000)


def test_reflectance_tells_digital_numbers_from_fractions() -> None:
    rule = IntensityRule(name="reflectance", high=0.5)
    assert rule.fit(image(np.full((8, 8), 0.2))).scale == 0.5
    assert rule.fit(image(np.full((8, 8), 2000))).scale == 5000


@pytest.mark.parametrize("values", [np.full((8, 8), np.nan), np.zeros((8, 8)), np.full((8, 8), -3.0)])
@pytest.mark.parametrize("name", ["percentile", "reflectance"])
def test_empty_and_constant_images_have_a_map(name: str, values: np.ndarray) -> None:
    intensity = IntensityRule.model_validate({"name": name, "high": 1}).fit(image(values))
    assert intensity.scale > 0
    assert np.isfinite(intensity.scale)


def test_invalid_voxels_do_not_count() -> None:
    values = np.linspace(1, 100, 400).reshape(20, 20)
    rule = IntensityRule(name="percentile", high=99)
    holes = np.pad(values, 5, constant_values=np.nan)
    assert rule.fit(image(holes)).scale == pytest.approx(rule.fit(image(values)).scale, rel=0.02)


@pytest.mark.parametrize("values", [{"low": 2, "high": 1}, {"name": "percentile", "high": 120}, {"name": "magic"}])
def test_impossible_rules_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        IntensityRule.model_validate(values)


@given(st.lists(st.integers(1, 3000), min_size=2, max_size=2).map(tuple))
def test_a_small_image_is_looked_at_whole(shape: tuple[int, ...]) -> None:
    assert sum(box.size for box in sample_boxes(shape)) == Box.whole(shape).size


def test_a_large_image_is_looked_at_evenly() -> None:
    boxes = list(sample_boxes((40_000, 40_000)))
    assert sum(box.size for box in boxes) < 1.2 * (1 << 24)
    middles = [((box.start[0] + box.stop[0]) // 20_000, (box.start[1] + box.stop[1]) // 40_000) for box in boxes]
    assert {row for row, _ in middles} == {0, 1, 2, 3}
    assert {column for _, column in middles} == {0, 1}


def test_a_long_series_is_looked_at_in_small_bites() -> None:
    boxes = list(sample_boxes((64, 64, 40), channels=300))
    assert max(box.size for box in boxes) * 300 <= 1 << 20
    assert sum(box.size for box in boxes) * 300 < 1.2 * (1 << 24)
