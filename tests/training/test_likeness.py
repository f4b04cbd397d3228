"""What tells results that look like true images from those that are only near them."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from geomedsr.encoders.domain import load, seeded
from geomedsr.training.likeness import frechet_distance, likeness, spectrum_distance


def texture(seed: int, shape: tuple[int, ...] = (1, 48, 48), spread: float = 0.2) -> Tensor:
    noise = torch.Generator().manual_seed(seed)
    return 0.5 + spread * torch.randn(shape, generator=noise)


def test_equal_images_are_alike_in_all_and_invalid_voxels_do_not_count() -> None:
    image = texture(0)
    holed = image.clone()
    holed[0, :5] = torch.nan
    found = likeness([holed], [image], seeded(2, 1, (4, 6), seed=0))
    assert found.perceptual == 0
    assert found.frechet == pytest.approx(0, abs=1e-9)
    assert found.spectrum == 0


def test_other_texture_of_the_same_kind_is_alike_though_no_voxel_agrees() -> None:
    encoder, true, other, flat = load("mri"), texture(0), texture(1), texture(0, spread=0.02)
    assert (other - true).square().mean() > (flat - true).square().mean()
    assert frechet_distance([other], [true], encoder) < 0.1 * frechet_distance([flat], [true], encoder)
    assert spectrum_distance([other], [true]) < 0.2 * spectrum_distance([flat], [true])


@pytest.mark.parametrize("shape", [(2, 40, 30), (1, 20, 16, 24)])
def test_the_spectral_distance_is_that_of_the_strengths(shape: tuple[int, ...]) -> None:
    image = texture(0, shape)
    assert spectrum_distance([0.5 * image + 3], [image]) == pytest.approx(20 * math.log10(2), abs=1e-6)
    assert spectrum_distance([image.flip(1)], [image]) == pytest.approx(0, abs=1e-9)


def test_the_frechet_distance_of_gaussians_is_its_formula() -> None:
    """Of an encoder that gives the image itself: means 0 and 3, spreads 1 and 2 are (3^2 + 1^2) / 1 apart."""

    class Itself(type(seeded(2, 1, (1,), 0))):  # type: ignore[misc]
        def forward(self, x: Tensor, layers: tuple[str, ...] = ()) -> dict[str, Tensor]:
            return {"1": x}

    values = texture(0, (1, 64, 64), spread=1.0)
    standard = (values - values.mean()) / values.std(correction=0)
    assert frechet_distance([2 * standard + 3], [standard], Itself(2, 1, (1,))) == pytest.approx(10, rel=1e-5)


def test_a_channel_that_is_empty_tells_nothing() -> None:
    image = torch.cat([texture(0), torch.zeros(1, 48, 48)])
    assert spectrum_distance([image], [image]) == 0
    assert spectrum_distance([image * 0], [image * 0]) == 0
