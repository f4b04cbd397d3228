from __future__ import annotations

import numpy as np
import pytest
import torch
from trust_models import unsettled

from geomedsr.data.intensity import IntensityRule
from geomedsr.grid import Shape
from geomedsr.image import Image
from geomedsr.inference.upscaler import Upscaler
from geomedsr.networks import edsr
from geomedsr.task import Task
from geomedsr.trust.uncertainty import Answers, Widening, Widths, fit_widening, turns_of
from geomedsr.trust.units import Unitless, Widened

PLANE, SPACE = Task(2, 1, (2, 2)), Task(3, 1, (1, 1, 2))
WIDENING = Widening(0.6, 0.4, 0.2, True)


@pytest.mark.parametrize(
    ("task", "quarter", "count"),
    [(PLANE, True, 8), (PLANE, False, 4), (Task(2, 1, (2, 1)), True, 4), (SPACE, True, 8)],
)
def test_turns_are_those_that_the_task_allows_and_can_be_undone(task: Task, quarter: bool, count: int) -> None:
    turns = turns_of(task, quarter)
    x = torch.arange(60.0).reshape(1, 1, *(3, 4, 5)[-task.ndim :], *(() if task.ndim == 3 else (3,)))[:, :, :, :4]
    x = x[..., 0] if task.ndim == 2 and x.ndim == 5 else x
    seen = {tuple(turn.apply(x).flatten().tolist()) for turn in turns}
    assert len(seen) == len(turns) == count
    assert torch.equal(turns[0].apply(x), x)
    for turn in turns:
        assert torch.equal(turn.undo(turn.apply(x)), x)


def test_a_network_that_is_sure_has_no_spread() -> None:
    network = edsr.build(PLANE, width=8, blocks=1).eval()  # untrained: an interpolation, the same for every turn
    with torch.no_grad():
        sure = Answers(network, True)(torch.rand(1, 1, 20, 20))[1][..., 0]
        unsure = Answers(unsettled(network), True)(torch.rand(1, 1, 20, 20))[1][..., 0]
    assert float(sure.exp().max()) == pytest.approx(1e-4, rel=0.01)
    assert float(unsure.exp().mean()) > 4 * float(sure.exp().mean())


@pytest.mark.parametrize(
    ("task", "shape", "tile"), [(PLANE, (1, 90, 77), (30,)), (SPACE, (1, 14, 50, 15), (14, 9, 15))]
)
def test_a_tile_gives_the_bits_of_the_whole(task: Task, shape: Shape, tile: Shape) -> None:
    network = Widths(unsettled(edsr.build(task, width=8, blocks=1)), WIDENING)
    image = Image.of(np.random.default_rng(0).gamma(2, 50, shape).astype(np.float32))
    rule = Widened(name="percentile", high=99)
    found = []
    for asked in (None, tile):
        sink = Image.empty(image.spec.upscaled(task.factor))
        outcome = Upscaler(network, rule, tile=asked).run(image, sink)
        assert (outcome.tiles > 1) == (asked is not None)
        found.append(sink.voxels)
    np.testing.assert_array_equal(found[1], found[0])


def test_widths_have_the_units_of_the_image_and_no_offset() -> None:
    image = Image.of(np.full((1, 4, 4), 300.0, np.float32))
    window = {"name": "window", "low": -1000.0, "high": 1000.0}
    x = np.float32([0.1])
    assert Widened(**window).fit(image).invert(x) == pytest.approx([200.0])
    assert Widened(**window).fit(image).apply(np.float32([-1000.0])) == pytest.approx([0.0])
    assert Unitless(**window).fit(image).invert(x) == pytest.approx([0.1])
    assert Widened().fit(image) != IntensityRule().fit(image)


def errors(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Features, and errors that grow with both."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(count, 2, generator=generator)
    spread = (0.7 * features[:, 0] + 0.2 * features[:, 1] - 1).exp()
    return features, spread * torch.randn(count, generator=generator).abs()


def test_the_interval_holds_as_often_as_it_says_on_the_held_out_and_on_others() -> None:
    features, found = errors(20_000, 0)
    widening = fit_widening(features, found, False)
    assert widening.spread == pytest.approx(0.7, abs=0.1)
    assert widening.gradient == pytest.approx(0.2, abs=0.1)
    held = (found <= widening.widths(features)).double().mean()
    assert 0.9 <= float(held) < 0.901
    features, found = errors(20_000, 1)
    inside = found <= widening.widths(features)
    assert float(inside.double().mean()) == pytest.approx(0.9, abs=0.01)
    for part in widening.widths(features).argsort().tensor_split(5):  # where it is wide and where it is narrow
        assert float(inside[part].double().mean()) == pytest.approx(0.9, abs=0.025)


def test_more_spread_never_means_less_error() -> None:
    features, found = errors(5000, 0)
    widening = fit_widening(features * torch.tensor([1.0, -1.0]), found, False)
    assert widening.gradient == 0.0
    assert widening.spread == pytest.approx(0.7, abs=0.1)


def test_the_numbers_survive_json() -> None:
    assert Widening.of(WIDENING.to_json()) == WIDENING
