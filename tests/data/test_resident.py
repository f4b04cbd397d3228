"""Pairs made on the device: the same place in both, valid, turned and flipped alike, of any mixture of images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support import SMALL_RECIPE, shapes, subjects
from torch import Tensor

from geomedsr.data.augment import Augment
from geomedsr.data.intensity import Intensity
from geomedsr.data.resident import ResidentPairs
from geomedsr.data.row import gathered
from geomedsr.data.sampling import PatchSampler, Subject
from geomedsr.degradations._degradation import Degradation
from geomedsr.degradations.kspace import KSpace
from geomedsr.degradations.sensor import Sensor
from geomedsr.grid import Factor, Shape
from geomedsr.image import Image
from geomedsr.recipe import Recipe
from geomedsr.training.loop import Subjects, train

CPU = torch.device("cpu")


class Average:
    """The mean of each coarse voxel, which commutes with turns and flips to the last bit or so."""

    reach: int | None = 4

    def __call__(self, hr: Tensor, factor: Factor, rng: torch.Generator) -> Tensor:
        pool = torch.nn.functional.avg_pool2d if hr.ndim == 4 else torch.nn.functional.avg_pool3d
        return pool(hr, factor)


def noise(seed: int, shape: tuple[int, ...]) -> Image:
    return Image.of(np.random.default_rng(seed).random(shape, np.float32))


def subject(image: Image, axes: tuple[int, ...], name: str = "image") -> Subject:
    return Subject(name, image, axes, Intensity(0.0, 2.0))


def resident(
    images: list[Subject],
    patch: Shape,
    factor: Factor,
    degradation: Degradation,
    *,
    turn: bool = True,
    margin: int | None = 4,
    batch: int = 12,
    candidates: int = 1,
) -> ResidentPairs:
    patches = PatchSampler(images, patch, factor, margin, 0.0, candidates=candidates)
    return ResidentPairs(patches, degradation, Augment(factor, turn, turn, 0.2 * turn), batch, 3, CPU)


@pytest.mark.parametrize(
    ("shape", "axes", "patch", "factor"),
    [
        ((2, 40, 56), (0, 1), (16, 16), (2, 2)),
        ((1, 40, 56), (0, 1), (12, 24), (3, 2)),
        ((1, 30, 9, 34), (0, 2), (16, 16), (2, 2)),
        ((2, 20, 24, 32), (0, 1, 2), (8, 8, 16), (2, 2, 4)),
        ((1, 16, 16, 16), (0, 1, 2), (16, 16, 16), (2, 2, 2)),
    ],
)
def test_lr_and_hr_show_the_same_place_however_turned(
    shape: tuple[int, ...], axes: tuple[int, ...], patch: Shape, factor: Factor
) -> None:
    degradation = Average()
    pairs = resident([subject(noise(0, shape), axes)], patch, factor, degradation)
    for step in (1, 2):
        lr, hr = pairs.batch(step)
        assert hr.shape == (12, shape[0], *patch)
        torch.testing.assert_close(degradation(hr, factor, torch.Generator()), lr, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("turn", [False, True])
def test_patches_are_pieces_of_the_images(turn: bool) -> None:
    images = [noise(seed, (1, 26 + 4 * seed, 30)) for seed in range(3)]
    pairs = resident([subject(image, (0, 1)) for image in images], (16, 16), (2, 2), Average(), turn=turn)
    pairs.augment.gain = 0.0
    known = set()
    for image in images:
        for plane in (image.voxels[0] / 2, image.voxels[0].T / 2):
            for view in (plane, plane[::-1], plane[:, ::-1], plane[::-1, ::-1])[: 4 if turn else 1]:
                windows = np.lib.stride_tricks.sliding_window_view(view, (16, 16)).reshape(-1, 256)
                known |= {window.tobytes() for window in windows}
    _, hr = pairs.batch(1)
    assert all(patch.numpy().tobytes() in known for patch in hr[:, 0])


@pytest.mark.parametrize(("degradation", "margin"), [(Sensor(mtf=0.3), Sensor(mtf=0.3).reach), (KSpace(), None)])
def test_a_patch_is_degraded_as_the_whole_image_is(degradation: Degradation, margin: int | None) -> None:
    image = noise(0, (1, 120, 96))
    pairs = resident([subject(image, (0, 1))], (16, 16), (2, 2), degradation, turn=False, margin=margin)
    lr, hr = pairs.batch(1)
    whole = degradation(torch.from_numpy(image.voxels)[None] / 2, (2, 2), torch.Generator())[0, 0].numpy()
    windows = np.lib.stride_tricks.sliding_window_view(image.voxels[0] / 2, (16, 16))
    for coarse, fine in zip(lr[:, 0].numpy(), hr[:, 0].numpy(), strict=True):
        ((row, column),) = np.argwhere((windows == fine).all(axis=(2, 3)))
        expected = whole[row // 2 : row // 2 + 8, column // 2 : column // 2 + 8]
        np.testing.assert_allclose(coarse, expected, atol=1e-4)


def test_views_and_lists_of_places_take_the_same_voxels() -> None:
    row = torch.rand(4000, generator=torch.Generator().manual_seed(0))
    base, channel, steps = (
        torch.tensor([0, 1990, 7]),
        torch.tensor([600, 500, 0]),
        torch.tensor([[20, 1], [-1, -20], [0, 0]]),
    )
    found = gathered(row, base, channel, steps, 2, (5, 6))
    for box, first, apart, (down, along) in zip(found, base.tolist(), channel.tolist(), steps.tolist(), strict=True):
        places = [[[first + c * apart + i * down + j * along for j in range(6)] for i in range(5)] for c in range(2)]
        assert torch.equal(box, row[torch.tensor(places)])


def test_a_step_gives_the_same_batch_in_any_run() -> None:
    one, other = (resident([subject(noise(0, (1, 40, 40)), (0, 1))], (16, 16), (2, 2), KSpace()) for _ in range(2))
    for a, b in zip(one.batch(7), other.batch(7), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(one.batch(7)[1], one.batch(8)[1])


def test_planes_volumes_masks_and_true_pairs_mix() -> None:
    holes = noise(1, (1, 60, 60))
    holes.voxels[:, :, 40:] = np.nan
    masked = subject(noise(2, (1, 20, 40, 30)), (1, 2), "masked")
    mask = np.zeros((1, 20, 40, 30), np.float32)
    mask[:, 3:5, 20:] = 1
    masked.source.voxels[mask == 0] = 50.0  # type: ignore[attr-defined]
    fine = noise(3, (1, 32, 32))
    true = Image.of(torch.nn.functional.avg_pool2d(torch.from_numpy(fine.voxels), 2).numpy() + 10)
    paired = replace(subject(fine, (0, 1)), coarse=subject(true, (0, 1)))
    mixed = [subject(holes, (0, 1)), replace(masked, mask=Image.of(mask), weight=4000.0), paired]
    pairs = resident(mixed, (16, 16), (2, 2), Average(), batch=60)
    pairs.augment.gain = 0.0
    seen = 0
    for step in range(3):
        lr, hr = pairs.batch(step)
        assert bool(lr.isfinite().all() and hr.isfinite().all())
        assert float(hr.max()) < 20, "nothing outside the mask"
        difference = (lr - torch.nn.functional.avg_pool2d(hr, 2)).mean(dim=(1, 2, 3))
        from_pair = difference > 4
        seen += int(from_pair.sum())
        torch.testing.assert_close(difference[from_pair], torch.full_like(difference[from_pair], 5.0))
        torch.testing.assert_close(difference[~from_pair], torch.zeros_like(difference[~from_pair]), atol=1e-4, rtol=0)
    assert seen > 0


def test_content_is_drawn_more_often() -> None:
    image = noise(0, (1, 128, 128))
    image.voxels[:, :, 64:] *= 0.05

    def busy(candidates: int) -> float:
        pairs = resident([subject(image, (0, 1))], (16, 16), (2, 2), Average(), batch=100, candidates=candidates)
        return float((pairs.batch(1)[1].std(dim=(1, 2, 3)) > 0.03).float().mean())

    assert busy(8) > 0.95 > 0.75 > busy(1)


def test_flat_places_are_passed_over() -> None:
    image = shapes(0, (1, 64, 64))
    image.voxels[:, 34:, :] = 7.0
    patches = PatchSampler([subject(image, (0, 1))], (16, 16), (2, 2), 0, 0.01)
    pairs = ResidentPairs(patches, Average(), Augment((2, 2), False, False, 0), 40, 0, CPU)
    assert float(pairs.batch(1)[1].std(dim=(1, 2, 3)).min()) > 0.01


def test_a_batch_without_a_valid_place_is_a_lost_step() -> None:
    image, valid = noise(0, (1, 300, 300)), (0, slice(100, 124), slice(100, 124))
    kept = image.voxels[valid].copy()
    image.voxels[:] = np.nan
    image.voxels[valid] = kept
    pairs = resident([subject(image, (0, 1))], (16, 16), (2, 2), Average())
    found = [pairs.batch(step)[1] for step in range(1, 9)]
    assert any(bool(hr.isnan().all()) for hr in found)
    assert all(bool(hr.isnan().all()) or bool((hr > 0).all()) for hr in found)


def test_an_offset_shifts_each_pair_alike() -> None:
    patches = PatchSampler([subject(shapes(0, (1, 64, 64)), (0, 1))], (16, 16), (2, 2), 0, 0.0)
    plain, shifted = (
        ResidentPairs(patches, Average(), Augment((2, 2), False, False, 0, offset), 40, 0, CPU).batch(1)
        for offset in (0.0, 0.2)
    )
    shifts = [(after - before).flatten(1) for before, after in zip(plain, shifted, strict=True)]
    torch.testing.assert_close(shifts[0], shifts[0][:, :1].expand_as(shifts[0]))
    torch.testing.assert_close(shifts[1], shifts[0][:, :1].expand_as(shifts[1]))
    assert float(shifts[0].min()) < -0.1 < 0.1 < float(shifts[0].max()) <= 0.2


def test_a_recipe_trains_and_resumes_from_resident_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = Recipe.from_yaml(SMALL_RECIPE, "small", {"sampling.resident": "true"})
    images = Subjects(subjects(recipe, range(2)), subjects(recipe, range(2, 3)), [])
    straight = train(recipe, images, tmp_path / "straight", quiet=True)
    real = ResidentPairs.batch

    def stops(pairs: ResidentPairs, step: int) -> tuple[Tensor, Tensor]:
        if step == 5:
            raise KeyboardInterrupt
        return real(pairs, step)

    monkeypatch.setattr(ResidentPairs, "batch", stops)
    with pytest.raises(KeyboardInterrupt):
        train(recipe, images, tmp_path / "stopped", quiet=True)
    monkeypatch.setattr(ResidentPairs, "batch", real)
    resumed = train(recipe, images, tmp_path / "stopped", resume=True, quiet=True)
    pairs = zip(straight.network.state_dict().values(), resumed.network.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
