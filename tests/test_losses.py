"""Every loss of the folder: zero on equal images, positive and differentiable elsewhere, in 2 and 3 axes.

A loss that learns is no distance, and has tests of its own.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from monai.metrics.regression import MultiScaleSSIMMetric, SSIMMetric
from skimage.metrics import structural_similarity

from geomedsr import registry
from geomedsr.losses._loss import Loss
from geomedsr.losses.ms_ssim import WEIGHTS

NEEDED = {"perceptual": {"encoder": "mri"}}
"""What a loss cannot be built without."""


def make(name: str, **settings: Any) -> Loss:
    loss: Loss = registry.load("losses", name).build(**NEEDED.get(name, {}), **settings)
    return loss


NAMES = [name for name in registry.names("losses") if not make(name).learns]


def pair(shape: tuple[int, ...], noise: float = 0.1) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    hr = torch.rand(shape, generator=generator)
    return (hr + noise * torch.randn(shape, generator=generator)).requires_grad_(), hr


@pytest.mark.parametrize("shape", [(2, 3, 24, 24), (1, 2, 16, 18, 20)])
@pytest.mark.parametrize("name", NAMES)
def test_contract(name: str, shape: tuple[int, ...]) -> None:
    loss = make(name)
    sr, hr = pair(shape)
    value = loss(sr, hr)
    assert value.shape == ()
    assert value.item() > 0
    value.backward()
    assert sr.grad is not None
    assert bool(sr.grad.isfinite().all())
    assert loss(hr, hr).item() == pytest.approx(0, abs=1e-5)
    assert loss.learn(sr, hr) == {}
    assert loss.learning_state() == {}
    loss.load_learning_state({})
    with pytest.raises(ValueError, match="learns nothing"):
        loss.load_learning_state({"critic": {}})


@pytest.mark.parametrize("name", NAMES)
def test_farther_costs_more(name: str) -> None:
    loss = make(name)
    near, hr = pair((1, 3, 24, 24), 0.02)
    far, _ = pair((1, 3, 24, 24), 0.2)
    assert loss(far, hr).item() > loss(near, hr).item()


@pytest.mark.parametrize("name", NAMES)
def test_equal_images_have_a_finite_gradient(name: str) -> None:
    hr = torch.rand(1, 2, 16, 16)
    sr = hr.clone().requires_grad_()
    make(name)(sr, hr).backward()
    assert sr.grad is not None
    assert bool(sr.grad.isfinite().all())


def test_values() -> None:
    sr, hr = torch.full((1, 1, 16, 16), 0.5), torch.zeros(1, 1, 16, 16)
    assert make("l1")(sr, hr).item() == pytest.approx(0.5)
    assert make("mse")(sr, hr).item() == pytest.approx(0.25)
    assert make("charbonnier", epsilon=0.1)(sr, hr).item() == pytest.approx(math.hypot(0.5, 0.1) - 0.1)
    assert make("gradient")(sr, hr).item() == 0
    assert make("total_variation")(sr, hr).item() == 0
    assert make("laplacian", levels=1)(sr, hr).item() == pytest.approx(0.5)


def test_a_step_has_the_gradient_of_its_height() -> None:
    sr = torch.zeros(1, 1, 4, 8)
    sr[..., 4:] = 2.0
    assert make("gradient")(sr, torch.zeros_like(sr)).item() == pytest.approx(2.0 / 7 / 2)


def test_opposite_spectra_spoil_no_gradient() -> None:
    hr, sr = torch.full((1, 1, 4, 4), 0.5), torch.full((1, 1, 4, 4), -0.2, requires_grad=True)
    torch.autograd.backward(make("spectral_angle")(sr, hr))
    assert sr.grad is not None
    assert bool(sr.grad.isfinite().all())


def test_the_spectral_angle_sees_colour_and_not_brightness() -> None:
    hr = torch.rand(1, 4, 8, 8) + 0.1
    assert make("spectral_angle")(3 * hr, hr).item() == pytest.approx(0, abs=1e-3)
    right, up = torch.zeros(1, 2, 4, 4), torch.zeros(1, 2, 4, 4)
    right[:, 0], up[:, 1] = 0.5, 2.0
    assert make("spectral_angle")(right, up).item() == pytest.approx(math.pi / 2, abs=1e-4)


def test_the_fourier_loss_is_parseval_on_one_frequency() -> None:
    place = torch.arange(16) / 16
    wave = torch.cos(2 * torch.pi * 3 * place)[None, None, None, :].expand(1, 1, 16, 16)
    # One of the 16 x 9 bins of a real transform holds 16 x 16 / 2 / 16 = 8.
    assert make("fourier")(wave, torch.zeros_like(wave)).item() == pytest.approx(8 / (16 * 9), abs=1e-5)


@pytest.mark.parametrize("shape", [(1, 3, 40, 36), (1, 1, 20, 22, 24)])
@pytest.mark.parametrize("data_range", [1.0, 2.5])
def test_ssim_equals_scikit_image(shape: tuple[int, ...], data_range: float) -> None:
    sr, hr = (x.detach() for x in pair(shape))
    theirs = structural_similarity(
        sr[0].numpy().astype(np.float64),
        hr[0].numpy().astype(np.float64),
        data_range=data_range,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        channel_axis=0,
    )
    assert 1 - make("ssim", data_range=data_range)(sr, hr).item() == pytest.approx(theirs, abs=1e-5)


@pytest.mark.parametrize("shape", [(2, 3, 40, 36), (2, 1, 20, 22, 24)])
def test_ssim_equals_monai(shape: tuple[int, ...]) -> None:
    sr, hr = (x.detach() for x in pair(shape))
    theirs = SSIMMetric(len(shape) - 2, data_range=1.0, win_size=11, kernel_sigma=1.5)(sr, hr)
    assert isinstance(theirs, torch.Tensor)
    assert 1 - make("ssim")(sr, hr).item() == pytest.approx(theirs.mean().item(), abs=1e-5)


@pytest.mark.parametrize(("shape", "octaves"), [((2, 2, 192, 180), 5), ((1, 2, 40, 36, 26), 2)])
def test_ms_ssim_equals_monai(shape: tuple[int, ...], octaves: int) -> None:
    sr, hr = (x.detach() for x in pair(shape))
    weights = [weight / sum(WEIGHTS[:octaves]) for weight in WEIGHTS[:octaves]]
    settings: dict[str, Any] = {"kernel_size": 11, "kernel_sigma": 1.5, "weights": weights}
    theirs = MultiScaleSSIMMetric(len(shape) - 2, data_range=1.0, **settings)(sr, hr)
    assert isinstance(theirs, torch.Tensor)
    assert 1 - make("ms_ssim")(sr, hr).item() == pytest.approx(theirs.mean().item(), abs=1e-5)


def test_ms_ssim_of_one_octave_is_ssim() -> None:
    sr, hr = pair((1, 1, 16, 16), 0.02)
    assert make("ms_ssim")(sr, hr).item() == pytest.approx(make("ssim")(sr, hr).item(), abs=1e-4)


def test_ssim_refuses_a_patch_smaller_than_its_window() -> None:
    with pytest.raises(ValueError, match="at least 11"):
        make("ssim")(torch.rand(1, 1, 8, 16), torch.rand(1, 1, 8, 16))


@pytest.mark.parametrize(
    ("name", "settings"),
    [("charbonnier", {"epsilon": 0}), ("ssim", {"data_range": 0}), ("laplacian", {"levels": 0})],
)
def test_impossible_settings_are_refused(name: str, settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=str(next(iter(settings)))):
        make(name, **settings)
