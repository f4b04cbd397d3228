"""Every degradation of the folder: shape, no shift, constants, determinism."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.special import sici

from geomedsr import registry
from geomedsr.degradations import _noise
from geomedsr.degradations._degradation import Degradation, Separable
from geomedsr.degradations._mtf import published
from geomedsr.degradations._noise import Noise
from geomedsr.degradations._range import Range
from geomedsr.degradations.mixture import Mixture
from geomedsr.degradations.sensor import gaussian_sigma
from geomedsr.errors import RecipeError

NAMES = registry.names("degradations")
FACTORS: list[tuple[int, ...]] = [(2, 2), (3, 3), (4, 1), (1, 1, 4), (2, 2, 2)]

# What the settings' defaults leave out: each is held to the same contract.
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("kspace", {"apodisation": [0.2, 0.9]}),
    ("sensor", {"mtf": [[0.2, 0.4]]}),
    ("slice_profile", {"profile": "box"}),
    ("slice_profile", {"profile": "box", "gap": [0.1, 0.6]}),
    ("slice_profile", {"profile": "gaussian", "thickness": 1.6}),
    ("slice_profile", {"profile": "sinc", "lobes": [1, 4], "thickness": [0.5, 1.2]}),
    ("blind", {"blur": 0.4, "mix": 0.3, "apodisation": 0.5}),
    ("blind", {"blur": [0, 1]}),
    ("mixture", {"of": [{"name": "sensor"}, {"name": "bicubic"}], "shares": [1, 2]}),
]
CASES: list[tuple[str, dict[str, Any]]] = [(name, {}) for name in NAMES] + VARIANTS


def make(name: str, **settings: Any) -> Degradation:
    degradation: Degradation = registry.load("degradations", name).build(**settings)
    return degradation


def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def blob(factor: tuple[int, ...]) -> torch.Tensor:
    """A Gaussian centred at 11.3 of 24 coarse voxels on each axis, 1.6 coarse voxels wide."""
    total = torch.ones(1, 1, *[24 * f for f in factor])
    for axis, f in enumerate(factor, start=2):
        place = (torch.arange(24 * f) + 0.5) / f
        view = [1] * total.ndim
        view[axis] = -1
        total = total * torch.exp(-0.5 * ((place - 11.3) / 1.6) ** 2).reshape(view)
    return total


@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize(("name", "settings"), CASES)
def test_a_blob_stays_where_it_is(name: str, settings: dict[str, Any], factor: tuple[int, ...]) -> None:
    lr = make(name, **settings)(blob(factor), factor, rng())[0, 0]
    for axis in range(len(factor)):
        profile = lr.sum([a for a in range(lr.ndim) if a != axis])
        world = torch.arange(profile.numel()) + 0.5
        assert float((profile * world).sum() / profile.sum()) == pytest.approx(11.3, abs=0.01)


@pytest.mark.parametrize(("name", "settings"), CASES)
def test_a_constant_stays_itself(name: str, settings: dict[str, Any]) -> None:
    lr = make(name, **settings)(torch.full((3, 2, 24, 24), 0.7), (3, 3), rng())
    assert lr.shape == (3, 2, 8, 8)
    torch.testing.assert_close(lr, torch.full_like(lr, 0.7))


@pytest.mark.parametrize("factor", [2, 5, 8])
@pytest.mark.parametrize(("name", "settings"), CASES)
def test_the_reach_is_true(name: str, settings: dict[str, Any], factor: int) -> None:
    degradation = make(name, **settings)
    if degradation.reach is None:
        return
    hr = torch.rand(1, 1, 240, 8, generator=rng())
    changed = hr.clone()
    changed[:, :, : 120 - degradation.reach] += 1
    one, other = (degradation(x, (factor, 1), rng())[:, :, 120 // factor :] for x in (hr, changed))
    assert torch.equal(one, other)


@pytest.mark.parametrize(("name", "settings"), CASES)
def test_the_matrix_of_an_axis_is_what_the_degradation_does(name: str, settings: dict[str, Any]) -> None:
    degradation = make(name, **settings)
    if not isinstance(degradation, Separable):
        return
    if any(setting.random for setting in degradation.ranges):
        with pytest.raises(ValueError, match="numbers instead of ranges"):
            degradation.matrix(24, 2)
        return
    with pytest.raises(ValueError, match="25 voxels is not divisible by 2"):
        degradation.matrix(25, 2)
    first, last = degradation.matrix(24, 2), degradation.matrix(30, 3)
    assert first.shape == (12, 24)
    assert torch.equal(degradation.matrix(5, 1), torch.eye(5, dtype=torch.float64))
    impulses = torch.eye(24)[None, None]
    torch.testing.assert_close(degradation(impulses, (2, 1), rng())[0, 0].double(), first, atol=1e-6, rtol=0)
    hr = torch.rand(24, 30, generator=rng())
    expected = first @ hr.double() @ last.T
    torch.testing.assert_close(degradation(hr[None, None], (2, 3), rng())[0, 0].double(), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("name", "settings"), CASES)
def test_an_image_comes_out_of_a_batch_as_it_does_alone(name: str, settings: dict[str, Any]) -> None:
    degradation = make(name, **settings)
    hr = torch.rand(3, 2, 24, 24, generator=rng())
    whole = degradation(hr, (4, 4), rng())
    if isinstance(degradation, Mixture):
        return  # which of its parts an image takes is drawn: see below
    if isinstance(degradation, Separable) and any(setting.random for setting in degradation.ranges):
        same = degradation(hr[:1].expand(3, -1, -1, -1), (4, 4), rng())
        assert not torch.allclose(same[0], same[1], atol=1e-4)
        return
    alone = torch.cat([degradation(image[None], (4, 4), rng()) for image in hr])
    torch.testing.assert_close(whole, alone)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize(("name", "settings"), CASES)
def test_a_device_gives_what_the_processor_gives(name: str, settings: dict[str, Any]) -> None:
    degradation = make(name, **settings)
    hr = torch.rand(2, 1, 24, 24, generator=rng())
    torch.testing.assert_close(
        degradation(hr.cuda(), (2, 2), rng()).cpu(), degradation(hr, (2, 2), rng()), atol=1e-5, rtol=0
    )
    there = torch.Generator("cuda").manual_seed(0)
    for kind in ({"name": "speckle", "looks": [1, 4]}, {"name": "poisson_gaussian", "gain": [0, 0.1], "sigma": 0.1}):
        lr = make(name, **settings, noise=kind)(hr.cuda(), (2, 2), there)
        assert lr.is_cuda
        assert bool(lr.isfinite().all())


@pytest.mark.parametrize("name", NAMES)
def test_noise_comes_from_the_generator_alone(name: str) -> None:
    degradation = make(name, noise=0.05)
    hr = torch.rand(1, 1, 24, 24)
    assert torch.equal(degradation(hr, (2, 2), rng()), degradation(hr, (2, 2), rng()))
    assert not torch.equal(degradation(hr, (2, 2), rng()), make(name)(hr, (2, 2), rng()))


@pytest.mark.parametrize("name", NAMES)
def test_a_range_of_noise_gives_each_image_its_own_level(name: str) -> None:
    hr = torch.full((2, 1, 48, 48), 0.5)
    spread = make(name, noise=[0, 0.2])(hr, (2, 2), rng()).std((1, 2, 3))
    assert abs(float(spread[0] - spread[1])) > 0.02
    point, number = (make(name, noise=noise)(hr, (2, 2), rng()) for noise in ([0.1, 0.1], 0.1))
    assert torch.equal(point, number)


@pytest.mark.parametrize("mtf", [0.2, 0.3, 0.5])
@pytest.mark.parametrize("factor", [2, 3, 4])
def test_the_sensor_has_the_stated_mtf_at_nyquist(mtf: float, factor: int) -> None:
    n = 96 * factor
    place = torch.arange(n) + 0.5
    wave = torch.cos(torch.pi * (place / factor - 0.5))[None, None, :, None].expand(1, 1, n, 4)
    lr = make("sensor", mtf=mtf)(wave, (factor, 1), rng())[0, 0, 20:-20, 0]
    assert float(lr.abs().mean()) == pytest.approx(mtf, abs=0.01)


def test_the_sensor_takes_a_value_for_each_channel() -> None:
    hr = torch.rand(1, 2, 32, 32)
    both = make("sensor", mtf=[0.2, 0.4])(hr, (2, 2), rng())
    torch.testing.assert_close(both[:, :1], make("sensor", mtf=0.2)(hr[:, :1], (2, 2), rng()))
    torch.testing.assert_close(both[:, 1:], make("sensor", mtf=0.4)(hr[:, 1:], (2, 2), rng()))


def test_kspace_keeps_low_frequencies_exactly() -> None:
    place = (torch.arange(64) + 0.5) / 64
    wave = torch.cos(2 * torch.pi * 5 * place)
    lr = make("kspace")(wave[None, None, :, None].expand(1, 1, 64, 4), (2, 1), rng())[0, 0, :, 0]
    torch.testing.assert_close(lr, torch.cos(2 * torch.pi * 5 * (torch.arange(32) + 0.5) / 32), atol=1e-5, rtol=0)


def test_kspace_apodisation_rings_less() -> None:
    step = (torch.arange(96) > 40).float()[None, None, :, None].expand(1, 1, 96, 4)
    plain, tapered = (make("kspace", apodisation=a)(step, (3, 1), rng()) for a in (0.0, 0.7))
    assert float(tapered.max()) < float(plain.max())


def test_a_range_of_apodisation_lies_between_its_ends() -> None:
    n = 64
    wave = torch.cos(2 * torch.pi * 12 * (torch.arange(n) + 0.5) / n)[None, None, :, None].expand(40, 1, n, 2)
    weak, strong = (float(make("kspace", apodisation=a)(wave, (2, 1), rng()).abs().max()) for a in (0.5, 1.0))
    drawn = make("kspace", apodisation=[0.5, 1.0])(wave, (2, 1), rng()).abs().amax((1, 2, 3))
    assert strong - 1e-5 <= float(drawn.min()) < strong + 0.1
    assert weak + 1e-5 >= float(drawn.max()) > weak - 0.1


def imresize(x: NDArray[np.float64], factor: int) -> NDArray[np.float64]:
    """The first axis by MATLAB's published rule, voxel by voxel and with its indices from 1."""
    n, result = x.shape[0], []
    for i in range(1, n // factor + 1):
        centre = i * factor + 0.5 * (1 - factor)
        left = int(np.floor(centre - 2 * factor))
        total = weights = 0.0
        for j in range(left, left + 4 * factor + 2):
            d = abs(centre - j) / factor
            near, far = 1.5 * d**3 - 2.5 * d**2 + 1, -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2
            weight = near if d <= 1 else far if d <= 2 else 0.0
            folded = (j - 1) % (2 * n)
            total = total + weight * x[folded if folded < n else 2 * n - 1 - folded]
            weights += weight
        result.append(total / weights)
    return np.array(result)


@pytest.mark.parametrize("factor", [2, 3, 4, 8])
def test_bicubic_is_matlabs_also_at_the_border(factor: int) -> None:
    hr = torch.rand(24, 48, generator=rng(), dtype=torch.float64)
    expected = imresize(imresize(hr.numpy(), factor).T, factor).T
    lr = make("bicubic")(hr[None, None], (factor, factor), rng())[0, 0]
    np.testing.assert_allclose(lr.numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_bicubic_is_pillows_inside(factor: int) -> None:
    hr = torch.rand(60, 48, generator=rng())
    other = Image.fromarray(hr.numpy()).resize((48 // factor, 60 // factor), Image.Resampling.BICUBIC)
    lr = make("bicubic")(hr[None, None], (factor, factor), rng())[0, 0].numpy()
    np.testing.assert_allclose(lr[3:-3, 3:-3], np.asarray(other)[3:-3, 3:-3], atol=1e-5)


def slices(**settings: object) -> Separable:
    degradation = make("slice_profile", **settings)
    assert isinstance(degradation, Separable)
    return degradation


def test_slices_that_touch_are_averages() -> None:
    hr = torch.rand(1, 1, 8, 8, 16, generator=rng())
    averages = hr.reshape(1, 1, 8, 8, 4, 4).mean(-1)
    for settings in ({}, {"gap": 0}, {"thickness": 1}):
        torch.testing.assert_close(slices(profile="box", **settings)(hr, (1, 1, 4), rng()), averages)


def test_a_gap_is_not_seen() -> None:
    row = slices(profile="box", gap=0.5).matrix(24, 4)[2]
    assert row.nonzero().flatten().tolist() == [9, 10]
    row = slices(profile="box", thickness=1.5).matrix(24, 4)[2]
    torch.testing.assert_close(row[7:13] * 6, torch.ones(6, dtype=torch.float64))


def test_the_gaussian_profile_has_its_thickness_at_half_its_height() -> None:
    row = slices(profile="gaussian", thickness=0.8).matrix(8 * 40, 8)[20]
    place = (torch.arange(320) + 0.5) / 8 - 20.5
    spread = float((row * place**2).sum()) - 1 / (12 * 64)  # the fine voxel's own width
    assert spread**0.5 * (8 * np.log(2)) ** 0.5 == pytest.approx(0.8, rel=0.01)


@pytest.mark.parametrize("lobes", [1, 3])
def test_the_sinc_profile_is_its_pulses_spectrum(lobes: int) -> None:
    """Sine integrals give the same spectrum; they are summed over each fine voxel here."""
    row = slices(profile="sinc", lobes=lobes, thickness=0.7).matrix(8 * 9, 8)[4].numpy()
    place = ((np.arange(72 * 40) + 0.5) / (8 * 40) - 4.5) / 0.7
    height = (sici(2 * np.pi * lobes * (place + 0.5))[0] - sici(2 * np.pi * lobes * (place - 0.5))[0]) / np.pi
    height[np.abs(place) > 2.2] = 0
    seen = row > np.abs(row).max() / 50
    expected = height.reshape(72, 40).sum(1)
    np.testing.assert_allclose(row[seen] / row.max(), expected[seen] / expected.max(), atol=2e-3)
    assert row.min() < 0


@pytest.mark.parametrize(
    ("name", "settings", "mean", "variance"),
    [
        ("gaussian", {"sigma": 0.1}, 0.5, 0.01),
        ("poisson_gaussian", {"gain": 0.02, "sigma": 0.1}, 0.5, 0.02 * 0.5 + 0.01),
        ("poisson_gaussian", {"gain": 0.02, "sigma": 0}, 0.5, 0.02 * 0.5),
        ("speckle", {"looks": 1}, 0.5, 0.25),
        ("speckle", {"looks": 4.4}, 0.5, 0.25 / 4.4),
    ],
)
def test_noise_has_its_mean_and_variance(name: str, settings: dict[str, float], mean: float, variance: float) -> None:
    noisy = Noise.of({"name": name, **settings}, "gaussian")(torch.full((1, 1, 300, 300), 0.5), rng())
    assert float(noisy.mean()) == pytest.approx(mean, rel=0.02)
    assert float(noisy.var()) == pytest.approx(variance, rel=0.03)


def test_speckle_of_one_look_is_exponential() -> None:
    noisy = _noise.speckle(torch.ones(1, 1, 300, 300), 1.0, rng())
    for level in (0.1, 0.7, 2.0):
        assert float((noisy < level).float().mean()) == pytest.approx(1 - np.exp(-level), abs=0.005)


def test_photons_leave_the_dark_alone() -> None:
    dark = torch.linspace(-1, 0, 50).reshape(1, 1, 50, 1)
    assert torch.equal(_noise.poisson_gaussian(dark, 0.1, 0.0, rng()), dark)
    assert torch.equal(_noise.poisson_gaussian(dark + 2, 0.0, 0.0, rng()), dark + 2)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"name": "pink"}, "no 'pink'; there are gaussian, poisson_gaussian, rician, speckle"),
        ({"looks": 2}, "no 'None'"),
        ({"name": "speckle"}, "takes looks"),
        ({"name": "poisson_gaussian", "sigma": 1}, "takes gain and sigma; got sigma"),
        ({"name": "speckle", "looks": 0.5}, "noise looks is at least 1"),
        (-0.1, "noise is at least 0"),
    ],
)
def test_impossible_noise_is_refused(setting: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Noise.of(setting, "gaussian")


@pytest.mark.parametrize("setting", ["0.1", [0.1], [0, 0.1, 0.2], [0.3, 0.1], [0, 1.5], True, None, float("nan")])
def test_what_is_no_range_is_refused(setting: object) -> None:
    with pytest.raises(ValueError, match=r"mix is (a number or|between)"):
        Range.of("mix", setting, 0, 1)


def test_a_number_leaves_the_generator_alone() -> None:
    generator = rng()
    assert Range.of("mix", 0.5, 0, 1).draw(4, generator) == 0.5
    assert torch.equal(generator.get_state(), rng().get_state())


def test_published_values_are_picked_by_band() -> None:
    assert published("sentinel2", ["B2", "b03", 4, "B08", "8A", "B11"]) == [0.26, 0.28, 0.24, 0.26, 0.33, 0.22]
    hr = torch.rand(1, 2, 32, 32, generator=rng())
    named = make("sensor", mtf="sentinel2", bands=["B8", "B4"])
    assert torch.equal(named(hr, (2, 2), rng()), make("sensor", mtf=[0.26, 0.24])(hr, (2, 2), rng()))
    assert isinstance(named, Separable)
    matrix = named.matrix(32, 2)
    assert matrix.shape == (2, 16, 32)
    expected = matrix @ hr[0].double() @ matrix.mT
    torch.testing.assert_close(named(hr, (2, 2), rng())[0].double(), expected, atol=1e-5, rtol=0)


def test_an_mtf_for_each_channel_needs_as_many_channels() -> None:
    with pytest.raises(RecipeError, match=r"2 values for 3 channels.*\[\[low, high\]\]"):
        make("sensor", mtf=[0.2, 0.4])(torch.rand(1, 3, 8, 8), (2, 2), rng())


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"mtf": "landsat", "bands": ["B2"]}, "nothing is known of 'landsat'"),
        ({"mtf": "sentinel2"}, "needs bands"),
        ({"mtf": "sentinel2", "bands": "B2"}, "needs bands, a list"),
        ({"mtf": "sentinel2", "bands": ["B10", "B2"]}, "no value for B10"),
        ({"mtf": 0.3, "bands": ["B2"]}, "name it"),
        ({"mtf": []}, "empty"),
    ],
)
def test_an_impossible_sensor_is_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make("sensor", **settings)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"profile": "cosine"}, "one of box, gaussian, sinc"),
        ({"thickness": 0.8, "gap": 0.2}, "give one of them"),
        ({"gap": 1}, "between 0 and 0.95"),
        ({"thickness": [0, 1]}, "between 0.05 and 4"),
    ],
)
def test_an_impossible_slice_is_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make("slice_profile", **settings)


def test_rician_noise_is_never_negative_and_has_its_floor() -> None:
    noisy = _noise.rician(torch.zeros(200, 200), 0.1, rng())
    assert float(noisy.min()) >= 0
    assert float(noisy.mean()) == pytest.approx(0.1 * (torch.pi / 2) ** 0.5, rel=0.02)


@pytest.mark.parametrize(("name", "settings"), [("sensor", {"mtf": 1.5}), ("kspace", {"apodisation": 2})])
def test_impossible_settings_are_refused(name: str, settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="between"):
        make(name, **settings)


def test_a_box_softer_than_asked_needs_no_gaussian() -> None:
    assert gaussian_sigma(0.9, 2) == pytest.approx(0.05)


def test_a_mixture_gives_each_image_one_of_its_parts_by_their_shares() -> None:
    parts = [{"name": "kspace"}, {"name": "bicubic"}, {"name": "slice_profile", "profile": "box"}]
    hr = torch.rand(1, 1, 16, 16, generator=rng()).expand(2000, -1, -1, -1)
    lr = make("mixture", of=parts, shares=[2, 1, 1])(hr, (2, 2), rng())
    alone = [make(**part)(hr[:1], (2, 2), rng()) for part in parts]
    same = torch.stack([(lr - one).abs().amax((1, 2, 3)) < 1e-6 for one in alone])
    assert bool((same.sum(0) == 1).all())
    np.testing.assert_allclose(same.double().mean(1).numpy(), [0.5, 0.25, 0.25], atol=0.04)


def test_a_mixture_is_the_same_run_apart_and_together() -> None:
    mixture = make("mixture", of=[{"name": "kspace"}, {"name": "bicubic"}, {"name": "sensor"}])
    assert isinstance(mixture, Mixture)
    hr, drawn = torch.rand(9, 2, 16, 16, generator=rng()), torch.rand(9, generator=rng())
    apart, together = (run(hr, (2, 2), rng(), drawn) for run in (mixture._apart, mixture._together))
    torch.testing.assert_close(apart, together)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"of": []}, "one length"),
        ({"of": [{"name": "kspace"}], "shares": [1, 2]}, "one length"),
        ({"of": [{"name": "kspace"}], "shares": [0]}, "above 0"),
        ({"of": ["kspace"]}, "with its name and settings"),
        ({"of": [{"apodisation": 0.1}]}, "with its name and settings"),
    ],
)
def test_an_impossible_mixture_is_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make("mixture", **settings)
