"""Every metric: against other implementations, on equal images, on worse ones, and with invalid voxels."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest

from geomedsr.errors import GridError
from geomedsr.metrics import Compared, all_metrics, measured
from geomedsr.metrics.fourier import correlation
from geomedsr.metrics.ndvi import red_and_nir
from geomedsr.metrics.q2n import conjugate, product

ROOT = Path(__file__).parents[2]
BANDS = ("B02", "B03", "B04", "B08")
PERFECT = {"psnr": float("inf"), "ssim": 1, "ms_ssim": 1, "uqi": 1, "q2n": 1, "scc": 1, "fourier": 2}


def pair(shape: tuple[int, ...] = (4, 72, 80), noise: float = 0.05) -> Compared:
    rng = np.random.default_rng(3)
    hr = (0.3 + rng.random(shape)).astype(np.float32)
    sr = (hr + noise * rng.standard_normal(shape)).astype(np.float32)
    ndim = len(shape) - 1
    return Compared(sr, hr, 1.3, (1.0,) * ndim, "mm", (2,) * ndim, BANDS if shape[0] == 4 else ("image",))


def test_others_say_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT)
    rows = list(importlib.import_module("benchmarks.metrics").rows(seed=1))
    assert {row.metric for row in rows} == set(all_metrics())
    for row in rows:
        # torchmetrics computes PSNR in float32, scipy cuts its Laplacian without making it sum to zero.
        assert row.ours == pytest.approx(row.theirs, rel=1e-6, abs=1e-6), row


@pytest.mark.parametrize("name", all_metrics())
def test_equal_images_are_perfect_and_noisier_ones_are_worse(name: str) -> None:
    metric = all_metrics()[name]
    equal = metric.measure(pair(noise=0))
    assert equal == pytest.approx(PERFECT.get(name, 0), abs=1e-5)
    little, much = (metric.measure(pair(noise=noise)) for noise in (0.1, 3.0))
    assert little is not None
    assert much is not None
    assert much < little if metric.BETTER == "higher" else much > little


@pytest.mark.parametrize("name", sorted({*all_metrics()} - {"fourier"}))
def test_invalid_voxels_do_not_count(name: str) -> None:
    whole = pair((4, 64, 64))
    holed = whole.sr.copy()
    holed[:, :, 32:] = np.nan
    metric = all_metrics()[name]
    half = Compared(whole.sr[:, :, :32], whole.hr[:, :, :32], 1.3, (1.0, 1.0), "mm", (2, 2), BANDS)
    found = metric.measure(Compared(holed, whole.hr, 1.3, (1.0, 1.0), "mm", (2, 2), BANDS))
    assert found == pytest.approx(metric.measure(half), rel=1e-6)


def test_nothing_valid_gives_no_figure() -> None:
    whole = pair()
    assert measured(Compared(np.full_like(whole.sr, np.nan), whole.hr, 1.3, factor=(2, 2), channels=BANDS)) == {}


@pytest.mark.parametrize("shape", [(1, 4, 4), (1, 2, 3, 2), (1, 1, 1)])
def test_what_has_no_room_has_no_figure(shape: tuple[int, ...]) -> None:
    found = measured(pair(shape))
    assert {"psnr", "mae", "nrmse", "histogram"} <= set(found)
    assert not {"ssim", "ms_ssim", "hfen", "uqi", "q2n", "fourier"} & set(found)


def test_a_volume_is_measured_and_a_plane_kept_as_one_is_a_plane() -> None:
    volume = measured(pair((1, 20, 22, 24)))
    assert {"ssim", "hfen", "gmsd", "fourier", "scc", "uqi"} <= set(volume)
    assert not {"sam", "ergas", "rase", "q2n", "ndvi"} & set(volume)
    flat, plane = pair((1, 40, 44, 1)), pair((1, 40, 44, 1))
    plane = Compared(flat.sr[..., 0], flat.hr[..., 0], 1.3, (1.0, 1.0), "mm", (2, 2), ("image",))
    assert measured(flat) == pytest.approx(measured(plane))


def test_the_resolution_is_where_a_blurred_image_stops_agreeing() -> None:
    rng = np.random.default_rng(0)
    hr = rng.standard_normal((1, 256, 256)).astype(np.float32)
    spectrum = np.fft.fft2(hr)
    far = np.hypot(*np.meshgrid(np.fft.fftfreq(256), np.fft.fftfreq(256))) > 0.2
    noise = np.fft.fft2(rng.standard_normal((1, 256, 256)))
    sr = np.fft.ifft2(np.where(far, noise, spectrum)).real.astype(np.float32)
    found = correlation(Compared(sr, hr, 1.0, (0.5, 0.5), "mm"))
    assert found.resolution() == pytest.approx(0.5 / 0.2, rel=0.03)
    assert found.resolution(found.half_bit) == pytest.approx(0.5 / 0.2, rel=0.03)


def test_a_finer_axis_has_finer_rings() -> None:
    sr, hr = np.random.default_rng(1).standard_normal((2, 1, 32, 32, 32)).astype(np.float32)
    found = correlation(Compared(hr, hr, 1.0, (1.0, 1.0, 3.0), "mm"))
    assert found.resolution() == pytest.approx(2.0, rel=0.1)
    assert np.allclose(found.value, 1)
    assert abs(correlation(Compared(sr, hr, 1.0)).value[4:]).max() < 0.3


def test_hypercomplex_numbers_keep_their_length() -> None:
    a, b = np.random.default_rng(2).standard_normal((2, 8, 50))
    assert np.linalg.norm(product(a, b), axis=0) == pytest.approx(np.linalg.norm(a, axis=0) * np.linalg.norm(b, axis=0))
    assert product(a, conjugate(a))[0] == pytest.approx((a**2).sum(axis=0))


@pytest.mark.parametrize(
    ("names", "places"),
    [(("nir", "Red", "green"), (1, 0)), (("B4 (Red)", "B8A", "B08"), (0, 2)), (("red", "red", "nir"), None)],
)
def test_red_and_infrared_are_found_by_name(names: tuple[str, ...], places: tuple[int, int] | None) -> None:
    assert red_and_nir(names) == places


def test_images_to_compare_have_one_shape_and_a_range() -> None:
    with pytest.raises(GridError, match="one shape"):
        Compared(np.zeros((1, 4, 4), np.float32), np.zeros((1, 4, 5), np.float32), 1.0)
    with pytest.raises(GridError, match="above 0"):
        Compared(np.zeros((1, 4, 4), np.float32), np.zeros((1, 4, 4), np.float32), 0.0)
