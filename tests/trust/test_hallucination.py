from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from trust_models import pairs, recipe, unsettled

from geomedsr.degradations.sensor import Sensor
from geomedsr.image import Image
from geomedsr.inference.upscaler import Upscaler
from geomedsr.networks import edsr
from geomedsr.networks.interpolate import upsample
from geomedsr.task import Task
from geomedsr.trust.hallucination import Evidence, Habit, Habits, Surprise, fit_habits, split
from geomedsr.trust.instrument import Instrument, instrument_of
from geomedsr.trust.local import gradient
from geomedsr.trust.units import Unitless


def area(score: Tensor, label: Tensor) -> float:
    """The chance that a voxel inside scores higher than one outside."""
    inside, outside = score[label].sort().values, score[~label]
    return float(1 - torch.searchsorted(inside, outside).double().mean() / len(inside))


def planted(sr: Tensor) -> tuple[Tensor, Tensor]:
    """A disc that the instrument would have seen, and a checkerboard that it cannot see, four coarse voxels wide."""
    rows, columns = torch.meshgrid(torch.arange(sr.shape[2]), torch.arange(sr.shape[3]), indexing="ij")
    disc = ((rows - 12) ** 2 + (columns - 12) ** 2 < 16).float()
    board = ((rows - 34) ** 2 + (columns - 28) ** 2 < 16).float() * (1 - 2 * ((rows + columns) % 2))
    return sr + 0.3 * disc + 0.3 * board, ((disc + board.abs()) > 0).expand_as(sr)


def test_invented_detail_stands_out_where_a_gradient_map_misses_it() -> None:
    chosen = recipe()
    evidence = Evidence(instrument_of(chosen, chosen.factor))
    learnt, ours, plain = [], [], []
    for _, lr, _ in pairs(chosen, range(4)):
        learnt.append(evidence(upsample(lr, "cubic", chosen.factor), lr).flatten(0, -2))
    habits = fit_habits(torch.cat(learnt))
    for _, lr, _ in pairs(chosen, range(4, 8)):
        false, where = planted(upsample(lr, "cubic", chosen.factor))
        ours.append(area(habits.surprise(evidence(false, lr)), where))
        plain.append(area(gradient(false, 1.0), where))
    assert np.mean(ours) > 0.9
    assert np.mean(ours) > np.mean(plain) + 0.1


def test_surprise_is_in_standard_deviations_of_what_is_usual() -> None:
    generator = torch.Generator().manual_seed(0)
    busy = torch.randn(20_000, generator=generator)
    noise = torch.randn(20_000, 2, generator=generator)
    known = torch.stack([busy, 0.5 * busy - 1 + 0.2 * noise[:, 0], 0.1 * busy + 0.3 * noise[:, 1]], 1)
    habits = fit_habits(known)
    assert habits.unseen.slope == pytest.approx(0.5, abs=0.01)
    assert habits.unseen.deviation == pytest.approx(0.2, rel=0.05)
    found = habits.unseen.surprise(known[:, 0].double(), known[:, 1].double())
    assert float(found.mean()) == pytest.approx(0, abs=1e-6)
    assert float(found.std()) == pytest.approx(1, rel=1e-3)
    assert torch.equal(
        habits.surprise(known.double()), torch.maximum(found, habits.missing.surprise(*known.double().T[[0, 2]]))
    )


def test_a_tile_is_as_surprised_as_the_whole() -> None:
    instrument = Instrument("sensor", Sensor(mtf=0.27).matrix, (2, 2))
    network = unsettled(edsr.build(Task(2, 1, (2, 2)), width=8, blocks=1))
    surprise = Surprise(network, instrument, Habits(Habit(0.9, -1.2, 0.5), Habit(0.4, -4.4, 0.4)))
    image = Image.of(np.random.default_rng(0).gamma(2, 50, (1, 130, 121)).astype(np.float32))
    found = []
    for tile in (None, (30,)):
        sink = Image.empty(image.spec.upscaled((2, 2)))
        outcome = Upscaler(surprise, Unitless(name="percentile", high=99), tile=tile).run(image, sink)
        assert (outcome.tiles > 1) == (tile is not None)
        found.append(sink.voxels)
    np.testing.assert_allclose(found[1], found[0], rtol=0, atol=1e-3)  # the projection's weights beyond the halo


def test_habits_survive_json() -> None:
    habit = Habit(0.9, -1.0, 0.5)
    assert Habit.of(habit.to_json()) == habit
    assert Habits(habit, habit) == Habits(habit, Habit.of(habit.to_json()))


def test_what_improves_omits_and_invents_is_told_apart() -> None:
    rng = np.random.default_rng(0)
    hr = rng.normal(size=(3, 40, 40)).astype(np.float32)
    up = (hr * 0.2).astype(np.float32)
    for image, kind in (
        (hr, "improvement"),
        (up, "omission"),
        (hr + 9 * rng.choice([-1, 1], hr.shape), "hallucination"),
    ):
        shares, classes = split(up, image.astype(np.float32), hr)
        assert getattr(shares, kind) > 0.99
        assert shares.voxels == np.isfinite(classes).sum()


def test_invalid_voxels_and_calm_ones_do_not_count() -> None:
    hr = np.zeros((1, 8, 8), np.float32)
    hr[:, :, 4:] = 5.0
    up, sr = hr * 0.5, hr.copy()
    sr[:, 0, 7] = np.nan
    shares, classes = split(up, sr, hr, least=1.0)
    assert shares.voxels == 31
    assert np.isnan(classes[:, :4]).all()
    assert np.isnan(classes[0, 7])
    assert split(up * np.nan, sr, hr)[0].voxels == 0
