"""Every degradation of the folder: shape, no shift, constants, determinism."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from geomedsr import registry
from geomedsr.degradations import _noise
from geomedsr.degradations._degradation import Degradation
from geomedsr.degradations.sensor import gaussian_sigma

NAMES = registry.names("degradations")
FACTORS: list[tuple[int, ...]] = [(2, 2), (3, 3), (4, 1), (1, 1, 4), (2, 2, 2)]


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
@pytest.mark.parametrize("name", NAMES)
def test_a_blob_stays_where_it_is(name: str, factor: tuple[int, ...]) -> None:
    lr = make(name)(blob(factor), factor, rng())[0, 0]
    for axis in range(len(factor)):
        profile = lr.sum([a for a in range(lr.ndim) if a != axis])
        world = torch.arange(profile.numel()) + 0.5
        assert float((profile * world).sum() / profile.sum()) == pytest.approx(11.3, abs=0.01)


@pytest.mark.parametrize("name", NAMES)
def test_a_constant_stays_itself(name: str) -> None:
    lr = make(name)(torch.full((1, 2, 24, 24), 0.7), (3, 3), rng())
    torch.testing.assert_close(lr, torch.full_like(lr, 0.7))


@pytest.mark.parametrize("name", NAMES)
def test_the_reach_is_true(name: str) -> None:
    degradation = make(name)
    if degradation.reach is None:
        return
    hr = torch.rand(1, 1, 200, 40)
    changed = hr.clone()
    changed[:, :, : 100 - degradation.reach] += 1
    far = slice(100 // 4, None)
    assert torch.equal(degradation(hr, (4, 1), rng())[:, :, far], degradation(changed, (4, 1), rng())[:, :, far])


@pytest.mark.parametrize("name", NAMES)
def test_noise_comes_from_the_generator_alone(name: str) -> None:
    degradation = make(name, noise=0.05)
    hr = torch.rand(1, 1, 24, 24)
    assert torch.equal(degradation(hr, (2, 2), rng()), degradation(hr, (2, 2), rng()))
    assert not torch.equal(degradation(hr, (2, 2), rng()), make(name)(hr, (2, 2), rng()))


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
