"""Means and paired differences of scores."""

from __future__ import annotations

import math

import numpy as np
import pytest

from geomedsr.trust.evaluation import Score
from geomedsr.trust.paired import interval, paired, summarised


def scores() -> list[Score]:
    rng = np.random.default_rng(0)
    base = rng.normal(30, 3, 12)
    gains = rng.normal(1, 0.3, 12)
    found = [Score(f"image {i}", "cubic", {"psnr": b, "mae": 2.0}, 1.0) for i, b in enumerate(base)]
    found += [
        Score(f"image {i}", "net", {"psnr": b + g, "mae": 1.5}, 1.0)
        for i, (b, g) in enumerate(zip(base, gains, strict=True))
    ]
    return found


def test_differences_are_paired_and_their_interval_is_narrow() -> None:
    found = {one.metric: one for one in paired(scores(), "cubic", {"psnr": "higher", "mae": "lower"})}
    psnr, mae = found["psnr"], found["mae"]
    assert psnr.interval is not None
    assert psnr.interval[0] < psnr.difference < psnr.interval[1]
    # The images differ by 3 dB, the gains by 0.3: unpaired, the interval would be ten times as wide.
    assert psnr.interval[1] - psnr.interval[0] < 0.6
    assert (psnr.better, psnr.images) == (12, 12)
    assert (mae.difference, mae.interval, mae.better) == (-0.5, (-0.5, -0.5), 12)


def test_the_interval_is_the_same_every_time_and_covers_the_mean_as_often_as_it_says() -> None:
    values = np.random.default_rng(1).exponential(1.0, 30)
    assert interval(values) == interval(values)
    rng, hits = np.random.default_rng(2), 0
    for _ in range(40):
        found = interval(rng.normal(1.0, 1.0, 20))
        assert found is not None
        hits += found[0] <= 1.0 <= found[1]
    assert hits >= 33  # 38 expected; fewer than 33 of 40 come once in a hundred times


def test_one_image_has_no_interval_and_infinite_scores_do_not_count() -> None:
    few = [Score("a", "cubic", {"psnr": 30.0}, 1.0), Score("a", "net", {"psnr": 31.0}, 1.0)]
    few += [Score("b", "cubic", {"psnr": 30.0}, 1.0), Score("b", "net", {"psnr": math.inf}, 1.0)]
    (one,) = paired(few, "cubic", {"psnr": "higher"})
    assert (one.images, one.interval, one.difference) == (1, None, 1.0)
    assert [(s.method, s.images, s.mean) for s in summarised(few)] == [("cubic", 2, 30.0), ("net", 1, 31.0)]


def test_methods_on_other_images_share_none() -> None:
    apart = [Score("a", "cubic", {"psnr": 30.0}, 1.0), Score("b", "net", {"psnr": 31.0}, 1.0)]
    assert paired(apart, "cubic", {"psnr": "higher"}) == ()
    assert paired(scores(), "cubic", {"psnr": "higher", "mae": "lower"})[0].difference == pytest.approx(1, abs=0.3)
