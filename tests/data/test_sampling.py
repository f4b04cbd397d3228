"""Patches: by seed and step alone, aligned, never invalid, with the context that a degradation needs."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from support import shapes

from geomedsr.data.augment import Augment
from geomedsr.data.intensity import Intensity, IntensityRule
from geomedsr.data.pairs import PairSampler
from geomedsr.data.sampling import PatchSampler, Subject, planar_axes, prepare
from geomedsr.degradations.kspace import KSpace
from geomedsr.degradations.sensor import Sensor
from geomedsr.errors import RecipeError
from geomedsr.grid import Factor, Grid, Shape
from geomedsr.image import Image


def subject(image: Image, axes: tuple[int, ...]) -> Subject:
    return Subject("image", image, axes, Intensity())


def sampler(image: Image, axes: tuple[int, ...], patch: Shape, factor: Factor, margin: int | None) -> PatchSampler:
    return PatchSampler([subject(image, axes)], patch, factor, margin, 0.01)


@pytest.mark.parametrize("margin", [None, 0, 5])
def test_the_patch_lies_in_its_context(margin: int | None) -> None:
    image = shapes(0, (2, 31, 46))
    patches = sampler(image, (0, 1), (12, 8), (3, 2), margin)
    rng = np.random.default_rng(0)
    for _ in range(30):
        patch = patches.draw(rng)
        assert patch.inner.shape == (12, 8)
        assert all(a % f == 0 for a, f in zip(patch.inner.start, (3, 2), strict=True))
        assert all(n % f == 0 for n, f in zip(patch.context.shape[1:], (3, 2), strict=True))
        if margin is None:
            assert patch.context.shape == (2, 30, 46)


@pytest.mark.parametrize(("axes", "shape"), [((0, 1), (8, 10)), ((1, 2), (8, 10)), ((0, 2), (8, 10))])
def test_planes_of_a_volume_are_true_planes(axes: tuple[int, int], shape: Shape) -> None:
    voxels = np.random.default_rng(0).random((1, 14, 15, 16), np.float32)
    image = Image.of(voxels)
    patch = sampler(image, axes, shape, (2, 2), 0).draw(np.random.default_rng(1)).context
    planes = np.moveaxis(voxels[0], next(a for a in range(3) if a not in axes), 0)
    windows = np.lib.stride_tricks.sliding_window_view(planes, shape, axis=(1, 2))
    assert bool((windows == patch[0]).all(axis=(-1, -2)).any())


def test_volumes_are_read_whole_in_three_axes() -> None:
    patches = sampler(shapes(0, (1, 20, 22, 24)), (0, 1, 2), (8, 8, 8), (2, 2, 2), 4)
    assert patches.draw(np.random.default_rng(0)).inner.shape == (8, 8, 8)


def test_invalid_and_flat_places_are_drawn_again() -> None:
    image = shapes(0, (1, 64, 64))
    image.voxels[:, :, 30:] = np.nan
    image.voxels[:, 34:, :] = 7.0
    patches = sampler(image, (0, 1), (16, 16), (2, 2), 0)
    rng = np.random.default_rng(0)
    for _ in range(40):
        context = patches.draw(rng).context
        assert np.isfinite(context).all()
        assert context.std() > 0.01


def test_all_invalid_is_an_error() -> None:
    image = Image.of(np.full((1, 32, 32), np.nan))
    with pytest.raises(RecipeError, match="invalid"):
        sampler(image, (0, 1), (16, 16), (2, 2), 0).draw(np.random.default_rng(0))


def test_too_small_images_are_named() -> None:
    with pytest.raises(RecipeError, match=r"patch of 64x64: image 48x40"):
        sampler(shapes(0), (0, 1), (64, 64), (2, 2), 0)


def pairs(image: Image, margin: int | None, degradation: Sensor | KSpace) -> PairSampler:
    augment = Augment((2, 2), flips=True, turns=True, gain=0.2)
    return PairSampler(sampler(image, (0, 1), (16, 16), (2, 2), margin), degradation, augment, batch=6, seed=3)


def test_a_step_gives_the_same_batch_in_any_run() -> None:
    one, other = (pairs(shapes(0), None, KSpace(noise=0.02)) for _ in range(2))
    for step in (5, 1):
        for a, b in zip(one.batch(step), other.batch(step), strict=True):
            assert torch.equal(a, b)
    assert not torch.equal(one.batch(1)[1], one.batch(2)[1])


class Every:
    """Every second voxel and some noise: a degradation whose bits are the same on every machine."""

    reach: int | None = 3

    def __call__(self, hr: torch.Tensor, factor: Factor, rng: torch.Generator) -> torch.Tensor:
        lr = hr[..., :: factor[0], :: factor[1]]
        return lr + torch.randint(0, 4, lr.shape, generator=rng) / 4


@pytest.mark.parametrize(
    ("shape", "axes", "digest"),
    [((2, 40, 56), (0, 1), "a27b8bb87e4da7e7"), ((1, 20, 24, 30), (0, 2), "618bc3f733e3c162")],
)
def test_the_batches_of_a_seed_never_change(shape: tuple[int, ...], axes: tuple[int, int], digest: str) -> None:
    """A recipe that is trained again, or resumed by a later version, must see what it saw."""
    counted = np.arange(np.prod(shape), dtype=np.int64).reshape(shape)
    image = Image.of((counted * 7919 % 256).astype(np.float32))
    augment = Augment((2, 2), flips=True, turns=True, gain=0.25)
    pairs = PairSampler(sampler(image, axes, (16, 16), (2, 2), 3), Every(), augment, batch=3, seed=11)
    digests = hashlib.sha256()
    for step in (1, 2, 1000):
        for tensor in pairs.batch(step):
            digests.update(tensor.contiguous().numpy().tobytes())
    assert digests.hexdigest()[:16] == digest


def test_lr_and_hr_show_the_same_place() -> None:
    lr, hr = pairs(shapes(0, (2, 48, 48)), 16, Sensor(mtf=0.6)).batch(1)
    assert lr.shape == (6, 2, 8, 8)
    assert hr.shape == (6, 2, 16, 16)
    averaged = torch.nn.functional.avg_pool2d(hr, 2)
    for channel in range(2):
        both = torch.stack([lr[:, channel].flatten(), averaged[:, channel].flatten()])
        assert float(torch.corrcoef(both)[0, 1]) > 0.97


def test_a_patch_is_degraded_as_the_whole_image_is() -> None:
    image = shapes(0, (1, 120, 120))
    sensor = Sensor(mtf=0.3)
    plain = Augment((2, 2), flips=False, turns=False, gain=0)
    whole = PairSampler(sampler(image, (0, 1), (16, 16), (2, 2), None), sensor, plain, 4, 0)
    local = PairSampler(sampler(image, (0, 1), (16, 16), (2, 2), sensor.reach), sensor, plain, 4, 0)
    torch.testing.assert_close(whole.batch(1)[0], local.batch(1)[0], atol=1e-4, rtol=1e-5)


def test_turns_only_where_the_factors_are_equal() -> None:
    assert Augment((2, 1), True, True, 0).turns == []
    assert Augment((1, 4, 4), True, True, 0).turns == [(2, 1)]


@pytest.mark.parametrize(
    ("spacing", "axes"), [((1, 1, 1), (0, 1)), ((1, 1, 4), (0, 1)), ((4, 1, 1), (1, 2)), ((0.9, 3, 0.9), (0, 2))]
)
def test_slices_lie_across_the_coarsest_axis(spacing: tuple[float, ...], axes: tuple[int, int]) -> None:
    assert planar_axes(spacing, (4, 5, 6)) == axes
    image = Image.of(np.zeros((1, 4, 5, 6)), Grid.of((4, 5, 6), np.diag([*spacing, 1.0])))
    assert prepare("a", image, 2, IntensityRule(), None).axes == axes


def test_a_plane_has_too_few_axes_for_a_volume() -> None:
    with pytest.raises(RecipeError, match="3 numbers"):
        prepare("a", shapes(0), 3, IntensityRule(), None)


def test_an_offset_shifts_a_pair_alike_and_changes_nothing_else() -> None:
    lr, hr = torch.rand(2, 8, 8), torch.rand(2, 16, 16)
    augment = Augment((2, 2), flips=False, turns=False, gain=0, offset=0.2)
    shifts = []
    for seed in range(20):
        coarse, fine = augment(lr, hr, np.random.default_rng(seed))
        shifts.append(float((fine - hr).mean()))
        torch.testing.assert_close(coarse - lr, torch.full_like(lr, shifts[-1]))
        torch.testing.assert_close(fine - hr, torch.full_like(hr, shifts[-1]))
    assert min(shifts) < -0.1 < 0.1 < max(shifts) <= 0.2
